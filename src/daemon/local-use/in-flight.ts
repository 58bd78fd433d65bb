// Which calls write which files at this moment. Of two calls that write one file at a time, neither can be sure what stands in it.
import type { ByteString } from "../../base/byte-string.ts";

export interface Flight {
  /** Whether another call wrote one of its files meanwhile. */
  readonly disturbed: boolean;
  end(): void;
}

interface Held {
  disturbed: boolean;
}

export class FlightsOfOutputs {
  readonly #held = new Map<ByteString, Set<Held>>();

  /** Paths are absolute; the same file is to have the same path. */
  begin(paths: readonly ByteString[]): Flight {
    const own: Held = { disturbed: false };
    for (const path of paths) {
      const others = this.#held.get(path) ?? new Set();
      for (const other of others) {
        other.disturbed = true;
        own.disturbed = true;
      }
      this.#held.set(path, others.add(own));
    }
    return {
      get disturbed() {
        return own.disturbed;
      },
      end: () => {
        for (const path of paths) {
          const others = this.#held.get(path);
          others?.delete(own);
          if (others?.size === 0) this.#held.delete(path);
        }
      },
    };
  }
}
