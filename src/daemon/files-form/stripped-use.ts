// Which projects are worth listing by stripped headers: where most such lists must be made again by the headers as they are, each call would
// pay for two. Counts, by a project's root.
import type { ByteString } from "../../base/byte-string.ts";

interface Count {
  made: number;
  vain: number;
}

const PROJECTS_MAX = 256;
/** Lists in vain beside which a project's lists need not pay yet. */
const VAIN_MIN = 4;

export class StrippedUse {
  readonly #projects = new Map<ByteString, Count>();

  /** Whether at most a quarter of a project's lists was made in vain. */
  pays(project: ByteString): boolean {
    const count = this.#projects.get(project);
    return count === undefined || count.vain <= VAIN_MIN || count.vain * 4 <= count.made;
  }

  /** `good`: whether a list that was made so was the list. */
  note(project: ByteString, good: boolean): void {
    const count = this.#projects.get(project) ?? { made: 0, vain: 0 };
    count.made += 1;
    if (!good) count.vain += 1;
    if (this.#projects.size >= PROJECTS_MAX) this.#projects.clear();
    this.#projects.set(project, count);
  }
}
