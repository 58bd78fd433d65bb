// Finds the rule for a word of a GNU command line: an exact spelling first, then the longest joined prefix, then the families
// whose unknown members take part in the key as they are.
import type { ByteString } from "../../../base/byte-string.ts";
import type { BypassReason } from "../bypass-reasons.ts";
import { GNU_OPTIONS, type OptionRule } from "./gnu-options.ts";
import type { CompilerFamily } from "./invocation.ts";

interface Table {
  readonly exact: ReadonlyMap<string, OptionRule>;
  readonly joined: ReadonlyMap<string, OptionRule>;
  readonly joinedLengths: readonly number[];
}

function tableOf(family: CompilerFamily): Table {
  const exact = new Map<string, OptionRule>();
  const joined = new Map<string, OptionRule>();
  for (const rule of GNU_OPTIONS) {
    if (rule.family !== null && rule.family !== family) continue;
    if (rule.form !== "joined") exact.set(rule.name, rule);
    if (rule.form === "joined" || rule.form === "either") joined.set(rule.name, rule);
  }
  const lengths = [...new Set([...joined.keys()].map((name) => name.length))].sort((a, b) => b - a);
  return { exact, joined, joinedLengths: lengths };
}

const TABLES: Readonly<Record<CompilerFamily, Table>> = { gcc: tableOf("gcc"), clang: tableOf("clang") };

export type Match =
  /** `inWord`: the value within the word; null when there is none or when the next word is the value. */
  | {
      readonly kind: "rule";
      readonly rule: OptionRule;
      readonly inWord: ByteString | null;
      readonly takesNext: boolean;
    }
  /** Kept as it is; `text`: why preprocessed text cannot stand for the sources then. */
  | { readonly kind: "kept"; readonly text: BypassReason | null }
  | { readonly kind: "refused"; readonly reason: BypassReason };

/** `-g3`, `-ggdb3`: debug information with macros. `-gdwarf-3` is a version, not a level. */
const MACRO_DEBUG = /^-g(?:gdb|lldb|sce|dbx|stabs\+?|xcoff\+?|coff|vms)?[3-9]$/;
const OPEN_FAMILY = /^-[fmWOg]/;
/** Values of open-family options that cannot name a file. */
const PLAIN_VALUE = /^[A-Za-z0-9_+,:;%@{}!?*^~()<>=-]*$/;
/** Open-family options whose values hold dots and never files. */
const DOTTED_VALUE = /^-(?:m|W|fgnuc-version=|fms-compatibility-version=|fabi-|fclang-abi-compat=|fmessage-length=)/;

function matchOpenFamily(word: ByteString): Match {
  if (MACRO_DEBUG.test(word)) return { kind: "kept", text: "macro_debug_info" };
  const equals = word.indexOf("=");
  const value = equals < 0 ? "" : word.slice(equals + 1);
  const plain = PLAIN_VALUE.test(value) || (DOTTED_VALUE.test(word) && !value.includes("/"));
  return plain ? { kind: "kept", text: null } : { kind: "refused", reason: "unsupported_compiler_option" };
}

/** The rule for an option word, which begins with `-` and is longer than that. */
export function matchOption(family: CompilerFamily, word: ByteString): Match {
  const table = TABLES[family];
  const exact = table.exact.get(word);
  if (exact !== undefined)
    return { kind: "rule", rule: exact, inWord: null, takesNext: exact.form === "separate" || exact.form === "either" };
  for (const length of table.joinedLengths) {
    if (length > word.length) continue;
    const rule = table.joined.get(word.slice(0, length));
    if (rule !== undefined) return { kind: "rule", rule, inWord: word.slice(length) as ByteString, takesNext: false };
  }
  return OPEN_FAMILY.test(word) ? matchOpenFamily(word) : { kind: "refused", reason: "unsupported_compiler_option" };
}
