// Whether what a hit's row will name is kept here: retention may have removed it with the rows that needed it, and the result is still an
// answer. A row keeps its evidence as long as it stays, so a hit without it is none. Looking is also what keeps it from being swept.
import type { Clock } from "../../base/clock.ts";
import { encodeResultManifest } from "../../core/action/result-manifest.ts";
import { filesOf, sourceDigest } from "../../core/action/source-manifest.ts";
import type { OpenResult } from "../cached-result.ts";
import type { Job } from "./layer.ts";

/** What was seen is not looked at again for so long; much shorter than what is unused must be before it is swept. */
const SEEN_MS = 10 * 60 * 1000;
const SEEN_MAX = 65_536;

export class KeptEvidence {
  readonly #clock: Clock;
  /** When each was seen, oldest first. */
  readonly #seen = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** True where the job's source is whole here; keeps the result's manifest. `sourceElsewhere`: the worker that made it has the source. */
  async isWhole(job: Job, { recorded }: OpenResult, sourceElsewhere: boolean): Promise<boolean> {
    const { principal, encodedSource, source, store } = job;
    const digest = sourceDigest(encodedSource);
    const name = `${principal.tenant} ${digest} ${recorded.resultDigest}`;
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - (this.#seen.get(name) ?? Number.NEGATIVE_INFINITY) < SEEN_MS) return true;
    const { blobs } = store;
    if (!sourceElsewhere) {
      const files = filesOf(source).filter(({ size }) => size > 0);
      const sizes = await Promise.all(
        [digest, ...files.map((file) => file.digest)].map((one) => blobs.frameSize(one, "kept")),
      );
      if (sizes.includes(null)) return false;
    }
    if ((await blobs.frameSize(recorded.resultDigest, "kept")) === null) {
      const encoded = encodeResultManifest(recorded.manifest);
      await blobs.putBytes(encoded, "kept", encoded.length);
    }
    this.#see(name, nowMs);
    return true;
  }

  #see(name: string, nowMs: number): void {
    this.#seen.delete(name);
    this.#seen.set(name, nowMs);
    for (const oldest of this.#seen.keys()) {
      if (this.#seen.size <= SEEN_MAX) break;
      this.#seen.delete(oldest);
    }
  }
}
