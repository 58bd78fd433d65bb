// What travels with an audit row: its kind, when, and what each kind says (rows/bodies.ts), between its number in the log and
// the hash of the record before. One line of JSON with its keys in one order. Pure.
import { HpccError } from "../base/errors.ts";
import type { Digest } from "../core/digest/digest.ts";
import { type EnvelopeBody, SHAPES } from "./rows/bodies.ts";
import { count, digest, readShape, type Shape, type Values, writeShape } from "./rows/field.ts";

export type AuditEnvelope = EnvelopeBody & {
  /** Number of the record in its log, from 1. */
  readonly sequence: number;
  /** Leaf hash of the record before; 64 zeros for the first. */
  readonly previous: Digest;
};

export const FIRST_PREVIOUS = `sha256:${"0".repeat(64)}` as Digest;

/** First key of each envelope; logs of other forms are not read. */
const FORM = 2;
const PLACE = { sequence: count, previous: digest } as const;

/** One line of printable ASCII, without line end. */
export function encodeEnvelope(envelope: AuditEnvelope): string {
  return placedEnvelope(encodeBody(envelope), envelope);
}

/** The envelope's line but for its place in the log, which `placedEnvelope` adds. */
export function encodeBody(body: EnvelopeBody): string {
  const event = "event" in body ? body.event : null;
  const shape: Shape | undefined = shapeOf(body.kind, event);
  if (shape === undefined) throw new Error(`bug: an audit row of no known kind, ${body.kind} ${event}`);
  const { kind } = body;
  const json = { kind, ...(event !== null && { event }), ...writeShape(shape, body as unknown as Values<Shape>) };
  return JSON.stringify(json).replace(/[^ -~]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

export function placedEnvelope(body: string, place: Values<typeof PLACE>): string {
  return `${placeOf(place)}${body.slice(1)}`;
}

/** How the envelope of a place begins: all before its kind. */
export function placeOf({ sequence, previous }: Values<typeof PLACE>): string {
  return `{"v":${FORM},"sequence":${sequence},"previous":"${previous}",`;
}

/** Throws `audit.corrupt` for anything that `encodeEnvelope` does not write. UNTRUSTED: a log, a worker. */
export function decodeEnvelope(line: string): AuditEnvelope {
  const json = parse(line);
  if (json["v"] !== FORM) throw otherForm(json["v"]);
  const { kind, event = null } = json;
  const shape = shapeOf(kind, event);
  if (shape === undefined) throw corrupt("is of no known kind");
  const envelope = {
    ...readShape(PLACE, json, "an audit envelope"),
    kind,
    ...(event !== null && { event }),
    ...readShape(shape, json, "an audit envelope"),
  } as unknown as AuditEnvelope;
  if (encodeEnvelope(envelope) !== line) throw corrupt("is not in its canonical form");
  return envelope;
}

const WORD = /^[a-z-]+$/;

function shapeOf(kind: unknown, event: unknown): Shape | undefined {
  const words = event === null ? [kind] : [kind, event];
  const name = words.every((word) => typeof word === "string" && WORD.test(word)) ? words.join(" ") : "";
  return Object.hasOwn(SHAPES, name) ? SHAPES[name as keyof typeof SHAPES] : undefined;
}

function parse(line: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw corrupt("is no JSON");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw corrupt("is no JSON object");
  return value as Record<string, unknown>;
}

function otherForm(form: unknown): HpccError {
  const hint = "Move the worker's `audit` folder aside and start the worker again: it begins a new log.";
  if (form === undefined)
    return new HpccError("audit.corrupt", "the audit log was written by an older version of hpcc", { hint });
  return corrupt(`is of form ${typeof form === "number" ? form : "?"}, and this version of hpcc reads form ${FORM}`);
}

function corrupt(problem: string): HpccError {
  return new HpccError("audit.corrupt", `an audit envelope ${problem}`);
}
