// Names of the files that GCC's and Clang's drivers write besides object and dependency file. Where releases name one differently, each
// name is a candidate: a declared output that a compile does not leave is no fault, one that is not declared would be lost.
import { ascii, type ByteString } from "../../../base/byte-string.ts";
import type { OutputKind } from "../../action/action.ts";
import { baseName } from "./gnu-names.ts";
import type { SideOutputRule } from "./gnu-options.ts";
import type { SideOutput } from "./invocation.ts";

export interface SideOutputQuestion {
  readonly rules: ReadonlySet<SideOutputRule>;
  readonly source: ByteString;
  readonly output: ByteString;
  /** Whether `-o` names the output. */
  readonly isNamed: boolean;
}

const SUFFIXES: Readonly<Record<Exclude<SideOutputRule, "temporaries">, readonly [suffix: string, kind: OutputKind]>> =
  {
    "coverage-notes": [".gcno", "gcno"],
    "split-debug": [".dwo", "dwo"],
    "stack-usage": [".su", "stack-usage"],
    callgraph: [".ci", "callgraph"],
    "time-trace": [".json", "time-trace"],
  };
const TEMPORARY_SUFFIXES = [".i", ".ii", ".s", ".bc"];

/** A single pass: what several tell goes to one file, each from its beginning or from its end. Graphs go to another file besides. */
const DUMP = /^-fdump-(?:tree|rtl|ipa|lang)-([a-z0-9_]+)(?:-(?!graph[-=])[a-z]+)*=(.+)$/s;
const DUMP_STREAMS = new Set(["-", "stderr", "stdout"]);

/** The file of `-fdump-tree-PASS=FILE`; null for other words, and for dumps whose names depend on the compiler. */
export function dumpFile(word: ByteString): ByteString | null {
  const [, pass, file] = DUMP.exec(word) ?? [];
  return file === undefined || pass === "all" || DUMP_STREAMS.has(file) ? null : (file as ByteString);
}

/** A path without its suffix: to Clang a leading dot begins one, to GCC it is part of the name. */
export function withoutSuffix(path: string): string[] {
  const base = baseName(path as ByteString);
  const dot = base.lastIndexOf(".");
  const cut = path.slice(0, path.length - base.length + dot);
  return dot < 0 ? [path] : dot === 0 ? [path, cut] : [cut];
}

/** The side outputs that a call may leave, each name once. */
export function sideOutputs({ rules, source, output, isNamed }: SideOutputQuestion): SideOutput[] {
  const ownBases = withoutSuffix(baseName(source));
  const bases = isNamed ? withoutSuffix(output) : ownBases;
  const found = new Map<string, OutputKind>();
  for (const rule of rules) {
    if (rule !== "temporaries") {
      const [suffix, kind] = SUFFIXES[rule];
      for (const base of bases) found.set(`${base}${suffix}`, kind);
      continue;
    }
    const folder = isNamed ? output.slice(0, output.lastIndexOf("/") + 1) : "";
    const names = [...bases, ...bases.map((base) => baseName(base as ByteString)), ...ownBases];
    for (const name of [...names, ...ownBases.map((own) => folder + own)])
      for (const suffix of TEMPORARY_SUFFIXES) found.set(`${name}${suffix}`, "temporary");
  }
  found.delete(output);
  found.delete(source);
  return [...found].map(([path, kind]) => ({ path: ascii(path), kind }));
}
