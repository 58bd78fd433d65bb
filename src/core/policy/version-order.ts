// Which policy may follow which: the rule against going back, on a worker and for who checks a file before it is handed out.
import type { Digest } from "../digest/digest.ts";

export interface SeenVersion {
  readonly version: number;
  readonly digest: Digest;
}

/** Why `next` may not follow `seen`; null when it may. */
export function refusalOf(next: SeenVersion, seen: SeenVersion | null): string | null {
  if (seen === null || next.version > seen.version) return null;
  if (next.version < seen.version)
    return `its version is ${next.version}, and version ${seen.version} has been seen; give it a higher one`;
  if (next.digest !== seen.digest)
    return `its version is ${next.version}, and another file with that version has been seen; give it a higher one`;
  return null;
}
