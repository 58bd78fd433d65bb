// How the grammar leaves a command line that it does not take: thrown, and turned into a value by parseGnu.
import type { ByteString } from "../../../base/byte-string.ts";
import type { BypassReason } from "../bypass-reasons.ts";

/** Thrown inside the grammar alone. */
export class Bypass {
  readonly reason: BypassReason;
  readonly detail: ByteString | null;
  constructor(reason: BypassReason, detail: ByteString | null) {
    this.reason = reason;
    this.detail = detail;
  }
}

export function bypass(reason: BypassReason, detail: ByteString | null = null): never {
  // oxlint-disable-next-line typescript/only-throw-error -- control flow of the grammar, not an error
  throw new Bypass(reason, detail);
}
