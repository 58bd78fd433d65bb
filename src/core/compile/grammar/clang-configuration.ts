// Whether a configuration file of Clang's changes nothing but what a compiler's own report and the file's text tell. The options in it are no
// part of a call: what they would read or write is not known of it. Pure. UNTRUSTED: whoever wrote the file.
import type { ByteString } from "../../../base/byte-string.ts";
import { matchOption } from "./gnu-match.ts";
import { splitResponseFile } from "./response-file.ts";

const COMMENT = /^[ \t]*#/;
/** Words for assembler and preprocessor, debug information that hides names, the processor of this machine. */
const HIDING = /^-(?:W[ap],|X|gz|m(?:arch|tune|cpu)=native$)/;
/** What a text is asked for where a macro stands in it: names of files, dates. */
const FOUND_IN_TEXTS = /["<]|\.h|__(?:DATE|TIME|TIMESTAMP|has_)/;

export function isPlainConfiguration(text: ByteString): boolean {
  const lines = text.replace(/\\\r?\n/g, "").split("\n");
  const words = splitResponseFile(lines.filter((line) => !COMMENT.test(line)).join("\n") as ByteString);
  if (words === null) return false;
  for (let index = 0; index < words.length; index++) {
    const word = words[index]!;
    // Another file, or a source.
    if (!word.startsWith("-") || word === "-" || HIDING.test(word)) return false;
    const match = matchOption("clang", word);
    if (match.kind === "refused" && word.includes("/")) return false;
    if (match.kind !== "rule") continue;
    const { rule, takesNext } = match;
    if (takesNext) index++;
    const value = takesNext ? words[index] : match.inWord;
    const isOwn =
      rule.role === "preprocess" || rule.role === "both" || rule.role === "compile" || rule.role === "unused";
    const isPlain = rule.bypass === null && rule.makes === null && !rule.ownPaths && !rule.random && !rule.keepsNames;
    if (!isOwn || !isPlain || value === undefined) return false;
    if (rule.valueKind !== "text" && rule.valueKind !== "directory" && rule.valueKind !== "prefix_map") return false;
    if (rule.name === "-mllvm" || (rule.name === "-D" && FOUND_IN_TEXTS.test(value ?? ""))) return false;
  }
  return true;
}
