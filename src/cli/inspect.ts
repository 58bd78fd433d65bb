// `hpcc inspect HASH`: what a worker's audit log and store know of a hash. This module asks a worker and prints; what is
// read from a worker's own state folder comes from the program.
import { create } from "@bufbuild/protobuf";
import { decodeEnvelope } from "../audit/envelope.ts";
import { decodeFlags } from "../audit/flags.ts";
import { decodeRow } from "../audit/row.ts";
import { noteOf } from "../audit/rows/bodies.ts";
import { displayText } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import { decodeResultManifest } from "../core/action/result-manifest.ts";
import { decodeSourceManifest, type SourceEntry, type SourceForm } from "../core/action/source-manifest.ts";
import { partArguments } from "../core/compile/text/injected.ts";
import { isDigest } from "../core/digest/digest.ts";
import { type HostPort } from "../core/identity/host-port.ts";
import { type Identity, sameTrustDomain } from "../core/identity/spiffe.ts";
import { InspectRequestSchema, WorkerService } from "../gen/hpcc/worker/v1/worker_pb.js";
import { RpcClient } from "../wire/grpc/client.ts";
import type { OwnCredentials } from "../wire/grpc/tls-files.ts";
import { printable, table } from "./output.ts";
import { size } from "./stats.ts";

/** What is known of a hash; the shape of the worker's answer. */
export interface Inspection {
  readonly kind: string;
  readonly digest: string;
  /** Audit rows that name it, newest first. */
  readonly rows: readonly string[];
  readonly envelopes: readonly string[];
  /** Of the one source or result that all rows share; empty when there is none. */
  readonly sourceManifest: Uint8Array;
  readonly resultManifest: Uint8Array;
  /** Where the two results of a second compile differ; only a state folder's reader knows. */
  readonly differences?: readonly string[];
}

const HASH = /^(sha256:)?[0-9a-f]{8,64}$/;

/** Checks what was given as a hash, before anybody is asked. */
export function checkHash(hash: string): string {
  if (!HASH.test(hash)) throw new HpccError("argument.invalid", "a hash is at least 8 lower-case hex digits");
  return hash;
}

/** A worker that may be asked. */
export interface InspectedWorker {
  readonly address: HostPort;
  /** Whom its certificate must name; null for any worker of the own trust domain. */
  readonly identity: Identity | null;
}

/** Asks workers in turn until one knows the hash. */
export async function inspectRemote(
  hash: string,
  workers: readonly InspectedWorker[],
  credentials: OwnCredentials,
): Promise<Inspection> {
  let last: unknown = new HpccError("peer.unavailable", "there is no worker to ask");
  for (const worker of workers) {
    const accept = (server: Identity) =>
      server.kind === "worker" &&
      sameTrustDomain(server, credentials.identity) &&
      (worker.identity?.kind !== "worker" || worker.identity.name === server.name);
    const client = new RpcClient({ address: worker.address, tls: credentials.tls, accept });
    try {
      return await client.unary(WorkerService.method.inspect, create(InspectRequestSchema, { hash: checkHash(hash) }));
    } catch (error) {
      if (!(error instanceof HpccError)) throw error;
      // That a worker does not know it says more than that another cannot be reached.
      if (!(last instanceof HpccError && last.code === "hash.unknown")) last = error;
    } finally {
      client.close();
    }
  }
  throw last;
}

const ROWS_SHOWN = 10;

/** The inspection for a person. UNTRUSTED: the worker. */
export function printInspection(inspection: Inspection): string {
  const parts = [`${printable(inspection.kind)} ${printable(inspection.digest)}\n`];
  const shown = inspection.rows.slice(0, ROWS_SHOWN);
  const source = inspection.sourceManifest;
  const form = source.length === 0 ? null : decodeSourceManifest(source).form;
  for (const [index, line] of shown.entries())
    parts.push(`\n${printRow(line, inspection.envelopes[index] ?? null, form)}`);
  if (inspection.rows.length > shown.length)
    parts.push(`\n... and ${inspection.rows.length - shown.length} older rows\n`);
  parts.push(printSource(source), printResult(inspection.resultManifest), printDifferences(inspection));
  return parts.join("");
}

function printDifferences({ differences = [] }: Inspection): string {
  if (differences.length === 0) return "";
  return `\ntwo compiles gave different results (first, second):\n${differences.map((line) => `  ${printable(line)}\n`).join("")}`;
}

function printRow(line: string, envelopeLine: string | null, form: SourceForm | null): string {
  const row = decodeRow(line);
  const rows: [string, string][] = [
    ["image_digest", row.imageDigest ?? "-"],
    ["source_digest", row.sourceDigest ?? "-"],
    ["output_digest", row.outputDigest ?? "-"],
    ["tenant", row.tenant],
    ["worker", row.worker],
    ["vm", row.vm ?? "-"],
    ["duration", `${(row.durationUs / 1000).toFixed(1)} ms`],
    ["exit", row.exit === null ? "-" : String(row.exit)],
  ];
  if (envelopeLine !== null) {
    const envelope = decodeEnvelope(envelopeLine);
    const note = noteOf(envelope);
    rows.unshift(
      ["row", `${envelope.sequence}, ${envelope.kind}${note === "" ? "" : ` (${note})`}`],
      ["start", new Date(envelope.startMs).toISOString()],
    );
    rows.push(...factsOf(envelopeLine));
  }
  return table([...rows, ...flagRows(row.flags, form)].map(([name, value]) => [name, printable(value)]));
}

/** What a row's heading says already. */
const HEADING = new Set(["v", "sequence", "previous", "kind", "start"]);

/** What the row's kind says, by the names that the log uses. */
function factsOf(envelopeLine: string): [string, string][] {
  const facts = Object.entries(JSON.parse(envelopeLine) as Record<string, unknown>);
  return facts.filter(([name]) => !HEADING.has(name)).flatMap(([name, value]) => factRows(name, value));
}

function factRows(name: string, value: unknown): [string, string][] {
  if (Array.isArray(value)) return value.flatMap((element) => factRows(name, element));
  if (typeof value !== "object" || value === null) return [[name, String(value)]];
  const { name: about, status, found, ...others } = value as Record<string, unknown>;
  if (typeof about === "string" && Object.keys(others).length === 0)
    return [[about, `${String(status)}: ${String(found)}`]];
  return Object.entries(value).map(([key, text]) => [key, String(text)]);
}

function flagRows(flags: string | null, form: SourceForm | null): [string, string][] {
  if (flags === null) return [];
  if (isDigest(flags)) return [["flags", `in blob ${flags}`]];
  const { cwd, environment, argv } = decodeFlags(flags);
  const words = (list: readonly string[]) => list.map((word) => printable(word)).join(" ");
  const parted = partArguments(argv, form);
  const [own, injected] = [parted.own.map(displayText), parted.injected.map(displayText)];
  return [
    ["command", words(own)],
    ["injected", words(injected) || "-"],
    ["cwd", displayText(cwd)],
    ["environment", words(environment.map(displayText))],
  ];
}

function printSource(bytes: Uint8Array): string {
  if (bytes.length === 0) return "";
  const { form, entries } = decodeSourceManifest(bytes);
  const counts = (["file", "link", "folder"] as const)
    .map((kind) => ({ kind, count: entries.filter((entry) => entry.kind === kind).length }))
    .filter(({ kind, count }) => kind === "file" || count > 0)
    .map(({ kind, count }) => `${count} ${kind}${count === 1 ? "" : "s"}`);
  return `\nsource in the form of ${form}: ${counts.join(", ")}\n${table(entries.map(sourceRow))}`;
}

function sourceRow(entry: SourceEntry): string[] {
  const path = `  ${printable(displayText(entry.path))}`;
  switch (entry.kind) {
    case "file":
      return [path, size(entry.size), entry.digest];
    case "link":
      return [path, "link", `to ${printable(displayText(entry.target))}`];
    case "folder":
      return [path, "folder", "empty"];
  }
}

function printResult(bytes: Uint8Array): string {
  if (bytes.length === 0) return "";
  const { exitCode, outputs, stdout, stderr } = decodeResultManifest(bytes);
  const rows = [
    ...outputs.map((output) => [`  ${output.kind}`, size(output.size), output.digest]),
    ["  stdout", size(stdout.size), stdout.digest],
    ["  stderr", size(stderr.size), stderr.digest],
  ];
  return `\nresult with exit code ${exitCode}\n${table(rows)}`;
}
