// The form of a cached action on disk: tagged fields and a SHA-256 of them (docs/specs/store.md). Pure.
import { createHash } from "node:crypto";
import { HpccError } from "../../base/errors.ts";
import { FieldReader, FieldWriter } from "../../core/action/fields.ts";
import type { Digest } from "../../core/digest/digest.ts";
import { ISOLATION_NUMBERS } from "../../core/isolation.ts";
import { LIFE_NUMBERS } from "../../core/life.ts";
import type { CachedAction } from "../action-cache.ts";

const SCHEMA = "hpcc.cached.v3";
/** They do not say who made them, so nobody could take them back. */
const OLDER_SCHEMAS: readonly string[] = ["hpcc.cached.v1", "hpcc.cached.v2"];
const CHECKSUM_BYTES = 32;

export type DecodedAction =
  | { readonly t: "action"; readonly action: CachedAction }
  /** Whole, and of a schema that is not used any more. */
  | { readonly t: "older" }
  | { readonly t: "damaged"; readonly problem: string };

export function encodeCachedAction(key: Digest, action: CachedAction): Uint8Array {
  const writer = new FieldWriter()
    .ascii(1, SCHEMA)
    .digest(2, key)
    .bytes(3, action.result)
    .u32(4, ISOLATION_NUMBERS.numberOf(action.isolation))
    .u64(5, action.compileUs)
    .ascii(6, action.vm)
    .u32(7, LIFE_NUMBERS.numberOf(action.life))
    .ascii(8, action.worker)
    .ascii(9, action.principal)
    .digest(10, action.image)
    .u64(11, action.madeMs);
  if (action.row !== null) writer.digest(12, action.row);
  if (action.confirmedBy !== null) writer.ascii(13, action.confirmedBy);
  if (action.statement !== null) writer.bytes(14, action.statement);
  const fields = writer.finish();
  return Buffer.concat([fields, checksum(fields)]);
}

/** UNTRUSTED: `entry`, the disk. */
export function decodeCachedAction(key: Digest, entry: Buffer): DecodedAction {
  const body = entry.subarray(0, Math.max(0, entry.length - CHECKSUM_BYTES));
  if (!checksum(body).equals(entry.subarray(body.length))) return { t: "damaged", problem: "its checksum is wrong" };
  try {
    const fields = new FieldReader(body, "the cached action");
    const schema = fields.byteString(1);
    if (OLDER_SCHEMAS.includes(schema)) return { t: "older" };
    if (schema !== SCHEMA) return { t: "damaged", problem: "its schema is another" };
    if (fields.digest(2) !== key) return { t: "damaged", problem: "it belongs to another key" };
    return { t: "action", action: readAction(fields) };
  } catch (error) {
    if (error instanceof HpccError) return { t: "damaged", problem: error.message };
    throw error;
  }
}

function readAction(fields: FieldReader): CachedAction {
  const action = {
    result: Uint8Array.from(fields.bytes(3)),
    isolation: ISOLATION_NUMBERS.nameOf(fields.u32(4)) ?? fields.fail("has an isolation that is unknown"),
    compileUs: fields.u64(5),
    vm: String(fields.byteString(6)),
    life: LIFE_NUMBERS.nameOf(fields.u32(7)) ?? fields.fail("has a life that is unknown"),
    worker: String(fields.byteString(8)),
    principal: String(fields.byteString(9)),
    image: fields.digest(10),
    madeMs: fields.u64(11),
    row: fields.peek() === 12 ? fields.digest(12) : null,
    confirmedBy: fields.peek() === 13 ? String(fields.byteString(13)) : null,
    statement: fields.peek() === 14 ? Uint8Array.from(fields.bytes(14)) : null,
  };
  fields.end();
  return action;
}

function checksum(bytes: Uint8Array): Buffer {
  return createHash("sha256").update(bytes).digest();
}
