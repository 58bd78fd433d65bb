// Where replay records lie below the state folder; the launcher looks in the same places (docs/specs/replay.md).
import { join } from "node:path";
import { type Digest, digestHex } from "../../core/digest/digest.ts";

export const HIT_LOG = "hits.log";
/** A folder of records: the first two digits of their names. */
export const SHARD = /^[0-9a-f]{2}$/;
export const RECORD = /^[0-9a-f]{64}$/;
/** A record that is being written. */
export const TEMPORARY = /^[0-9a-f]{64}\.[0-9a-f-]{36}\.tmp$/;
/** A log that was taken to be counted. */
export const TAKEN = /^hits\.[0-9a-f-]{36}\.log$/;

export function recordPath(folder: string, name: Digest): string {
  const hex = digestHex(name);
  return join(folder, hex.slice(0, 2), hex);
}
