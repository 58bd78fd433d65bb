// Where the two results of an alarm differ: for `hpcc inspect` on a worker's state folder.
import { decodeEnvelope } from "../audit/envelope.ts";
import { decodeRow } from "../audit/row.ts";
import { decodeResultManifest, type ResultManifest } from "../core/action/result-manifest.ts";
import { type Digest, sha256 } from "../core/digest/digest.ts";
import { describeDifference, objectDifferences } from "../core/objects/object-differences.ts";

/** Reads a blob of a tenant, inflated; null when it is not there or larger. */
export type ReadBlob = (tenant: string, digest: Digest, sizeMax: number) => Promise<Uint8Array | null>;

const MANIFEST_BYTES_MAX = 16 * 1024 * 1024;
/** Larger files are not compared. */
const COMPARED_BYTES_MAX = 64 * 1024 * 1024;
/** No store has it. */
const EMPTY = sha256(new Uint8Array());

/** One line for each difference of the newest alarm among the rows; none where there is no alarm. UNTRUSTED: the blobs, guests. */
export async function alarmDifferences(
  rows: readonly string[],
  envelopes: readonly string[],
  readBlob: ReadBlob,
): Promise<string[]> {
  for (const [index, line] of envelopes.entries()) {
    const envelope = decodeEnvelope(line);
    if (envelope.kind !== "confirm" || envelope.outcome !== "different") continue;
    const { tenant } = decodeRow(rows[index] ?? "");
    const read = async (digest: Digest, sizeMax: number) => readBlob(tenant, digest, sizeMax);
    const first = await read(envelope.firstResultDigest, MANIFEST_BYTES_MAX);
    const second = await read(envelope.resultDigest, MANIFEST_BYTES_MAX);
    if (first === null || second === null) return ["one of the two results is not there any more"];
    return manifestDifferences(decodeResultManifest(first), decodeResultManifest(second), read);
  }
  return [];
}

async function manifestDifferences(
  first: ResultManifest,
  second: ResultManifest,
  read: (digest: Digest, sizeMax: number) => Promise<Uint8Array | null>,
): Promise<string[]> {
  const lines: string[] = [];
  if (first.exitCode !== second.exitCode) lines.push(`exit: ${first.exitCode} against ${second.exitCode}`);
  const others = blobsOf(second);
  for (const [name, digest] of blobsOf(first)) {
    const other = others.get(name);
    others.delete(name);
    if (other === digest) continue;
    if (other === undefined) lines.push(`${name}: only in the first`);
    else lines.push(...(await blobDifferences(name, [digest, other], read)));
  }
  for (const name of others.keys()) lines.push(`${name}: only in the second`);
  return lines.length === 0 ? ["what is executable differs, and no byte"] : lines;
}

async function blobDifferences(
  name: string,
  digests: readonly [Digest, Digest],
  read: (digest: Digest, sizeMax: number) => Promise<Uint8Array | null>,
): Promise<string[]> {
  const told = `${name}: ${digests[0]} against ${digests[1]}`;
  const [first, second] = await Promise.all(
    digests.map(async (digest) => (digest === EMPTY ? new Uint8Array() : read(digest, COMPARED_BYTES_MAX))),
  );
  if (!first || !second) return [told, `${name}: one of them is not there any more, or too large to be compared`];
  return [told, ...objectDifferences(first, second).map((difference) => `${name}: ${describeDifference(difference)}`)];
}

/** By a name for people; an empty one has the digest of nothing. */
function blobsOf({ outputs, stdout, stderr }: ResultManifest): Map<string, Digest> {
  const blobs = new Map<string, Digest>([
    ["stdout", stdout.digest],
    ["stderr", stderr.digest],
  ]);
  for (const { kind, index, digest } of outputs) blobs.set(`${kind} ${index}`, digest);
  return blobs;
}
