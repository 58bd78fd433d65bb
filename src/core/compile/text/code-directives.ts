// Finds, in preprocessed text, what may read a file that preprocessing did not: `.incbin` and `.include` of the assembler, `#embed`,
// `#pragma dependency`. It errs towards finding. What still escapes it fails in the guest, where the file is not. UNTRUSTED: source text.
import { type ByteString, bytesOf } from "../../../base/byte-string.ts";
import { scanSource } from "../view/source-scan.ts";

/** What was found first, for people; null when nothing may read a file behind the preprocessor's back. */
export function findCodeDirective(text: ByteString): string | null {
  const { assemblerReads, computedAssemblerRead, embeds, computedEmbed, pragmaDependency } = scanSource(
    bytesOf(text),
    "c",
  );
  const read = assemblerReads[0];
  if (read !== undefined) return `.${read.directive}`;
  if (computedAssemblerRead) return "computed assembler directive";
  if (embeds.length > 0 || computedEmbed || text.includes("__has_embed")) return "#embed";
  return pragmaDependency ? "#pragma dependency" : null;
}

/** Whether preprocessed text may read files at compile or assembly; then the call is compiled locally. */
export function mentionsIncbin(text: ByteString): boolean {
  return findCodeDirective(text) !== null;
}
