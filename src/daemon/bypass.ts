// How the compile pipeline is left for a local compile. Thrown and caught inside the daemon, never an error to a person.
import type { ByteString } from "../base/byte-string.ts";
import type { BypassReason } from "../core/compile/bypass-reasons.ts";

export class Bypass extends Error {
  readonly reason: BypassReason;
  /** What it was about: a path, a variable, an option. */
  readonly detail: ByteString | null;

  constructor(reason: BypassReason, detail: ByteString | null = null) {
    super(reason);
    this.reason = reason;
    this.detail = detail;
  }
}
