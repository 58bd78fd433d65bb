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
  /** The output of `-o`; null when there is none. */
  readonly explicitOutput: ByteString | null;
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

function withoutSuffix(path: string): string {
  const base = baseName(path as ByteString);
  const dot = base.lastIndexOf(".");
  return dot <= 0 ? path : path.slice(0, path.length - base.length + dot);
}

/** The side outputs that a call may leave, each name once. */
export function sideOutputs({ rules, source, explicitOutput }: SideOutputQuestion): SideOutput[] {
  const ownBase = withoutSuffix(baseName(source));
  const base = explicitOutput === null ? ownBase : withoutSuffix(explicitOutput);
  const found = new Map<string, OutputKind>();
  for (const rule of rules) {
    if (rule === "temporaries") {
      const folder = base.slice(0, base.lastIndexOf("/") + 1);
      for (const name of [base, baseName(base as ByteString), ownBase, `${folder}${ownBase}`])
        for (const suffix of TEMPORARY_SUFFIXES) found.set(`${name}${suffix}`, "temporary");
      continue;
    }
    const [suffix, kind] = SUFFIXES[rule];
    found.set(`${base}${suffix}`, kind);
  }
  found.delete(explicitOutput ?? "");
  found.delete(source);
  return [...found].map(([path, kind]) => ({ path: ascii(path), kind }));
}
