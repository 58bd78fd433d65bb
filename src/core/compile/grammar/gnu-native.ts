// `-march=native` and its like, which mean the processor that a compiler runs on: what to ask the compiler on this machine, and the call
// with its answer in their place. Held against the real compilers in gnu-native.test.ts. Pure. UNTRUSTED: the answer is an image's program's.
import { ascii, type ByteString } from "../../../base/byte-string.ts";
import type { Argument, GnuInvocation } from "./invocation.ts";

/** Words that say what is compiled for; the compiler resolves them together. */
const TARGET = /^-m(?!llvm)[A-Za-z0-9]|^--?target=?$/;
const NATIVE = /^-m(?:arch|tune|cpu)=native$/;
const MACHINE_WORD = /^-m[A-Za-z0-9_.=+,-]+$/;
const PARAMETER = /^[a-z0-9-]+=\d+$/;
const NAME = /^[A-Za-z0-9_.-]+$/;
const FEATURE = /^[+-][A-Za-z0-9_.-]+$/;

function isTarget({ option }: Argument): boolean {
  return TARGET.test(option);
}

/** Options under which GCC's outputs hold all others, in their order. */
const RECORDS = /^-(?:g|flto)/;

/** The words behind the compiler's name that make it say what native means; null when the call does not mean it. */
export function nativeQuestion({ arguments: all }: GnuInvocation): ByteString[] | null {
  if (!all.some(({ option }) => NATIVE.test(option))) return null;
  const target = all.filter(isTarget).flatMap(({ words }) => words);
  return [...target, ascii("-###"), ascii("-E"), ascii("-x"), ascii("c"), ascii("/dev/null")];
}

export interface NativeAnswer {
  /** What the compiler said. */
  readonly said: ByteString;
  /** Whether the project stands at its own path, where outputs hold what a plain compile's do. */
  readonly ownPaths: boolean;
}

/** The call with the processor's name and features; null where they cannot be told, or would show in another order. */
export function withNative(invocation: GnuInvocation, { said, ownPaths }: NativeAnswer): GnuInvocation | null {
  const words = compilerWords(said);
  if (words === null) return null;
  const expanded = invocation.family === "gcc" ? gccWords(words) : clangWords(invocation, words);
  if (expanded === null || expanded.flat().some((word) => word.includes("native"))) return null;
  // GCC's driver puts parameters behind the machine's options, where for itself it puts them between.
  const recorded = ownPaths && invocation.arguments.some(({ option }) => RECORDS.test(option));
  if (recorded && expanded.some(([word]) => word?.startsWith("--param") === true)) return null;
  const first = invocation.arguments.findIndex(isTarget);
  const kept = invocation.arguments.filter((argument) => !isTarget(argument));
  const added = expanded.map(
    (own): Argument => ({ role: "both", words: own, option: own[0]!, value: null, valueKind: "text", isPath: false }),
  );
  return { ...invocation, arguments: [...kept.slice(0, first), ...added, ...kept.slice(first)] };
}

/** The words with which the driver would call the compiler proper; null when it does not say so. */
function compilerWords(said: ByteString): ByteString[] | null {
  const line = said.split("\n").find((text) => /\/cc1(?:plus)? |"-cc1" /.test(text));
  if (line === undefined || line.includes("\\")) return null;
  const words: ByteString[] = [];
  for (const [part, text] of line.split('"').entries())
    words.push(...((part % 2 === 1 ? [text] : text.split(" ").filter((word) => word !== "")) as ByteString[]));
  return words;
}

/** Words of arguments in the place of the call's own: GCC's compiler proper has the driver's -m options in the driver's order. */
function gccWords(words: readonly ByteString[]): ByteString[][] | null {
  const expanded: ByteString[][] = [];
  for (const [at, word] of words.entries()) {
    const value = words[at + 1] ?? ("" as ByteString);
    if (word === "--param") {
      if (!PARAMETER.test(value)) return null;
      expanded.push([`--param=${value}` as ByteString]);
    } else if (word.startsWith("-m")) {
      if (!MACHINE_WORD.test(word)) return null;
      expanded.push([word]);
    }
  }
  return expanded;
}

/** Clang's driver adds the processor's features by itself for `native` alone: they are passed on one by one, behind all others. */
function clangWords({ arguments: all }: GnuInvocation, words: readonly ByteString[]): ByteString[][] | null {
  const after = (name: string) => words.flatMap((word, at) => (word === name ? [words[at + 1] ?? ascii("")] : []));
  const [cpu] = after("-target-cpu");
  const [tune] = after("-tune-cpu");
  const features = after("-target-feature");
  const known = { "-march=native": cpu, "-mtune=native": tune, "-mcpu=native": undefined } as const;
  const expanded: ByteString[][] = [];
  for (const { option, words: own } of all.filter(isTarget)) {
    if (!NATIVE.test(option)) {
      expanded.push([...own]);
      continue;
    }
    const name = known[option as keyof typeof known];
    if (name === undefined || !NAME.test(name)) return null;
    expanded.push([option.replace("native", name) as ByteString]);
  }
  if (!features.every((feature) => FEATURE.test(feature))) return null;
  const passed = (word: string) => [ascii("-Xclang"), ascii(word)];
  return [...expanded, ...features.map((feature) => [...passed("-target-feature"), ...passed(feature)])];
}
