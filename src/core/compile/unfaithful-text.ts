// Tokens in preprocessed text whose meaning only a one-step compile keeps. Pure. Errs on the side of finding: a word in a
// comment counts too.
import { ascii, type ByteString } from "../../base/byte-string.ts";
import type { BypassReason } from "./bypass-reasons.ts";
import type { CompilerFamily } from "./invocation.ts";

export interface UnfaithfulText {
  readonly reason: BypassReason;
  /** What was found. */
  readonly detail: ByteString;
}

/** Why the text cannot be compiled apart from its files; null when it can. UNTRUSTED: a checkout's text. */
export function unfaithfulText(text: string, _family: CompilerFamily): UnfaithfulText | null {
  for (const word of ["__INCLUDE_LEVEL__", "__BASE_FILE__"])
    if (text.includes(word)) return { reason: "unfaithful_preprocessing", detail: ascii(word) };
  for (const word of ["__TIMESTAMP__"])
    if (text.includes(word)) return { reason: "date_time_macro", detail: ascii(word) };
  return null;
}
