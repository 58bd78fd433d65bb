// GCC's and Clang's command lines behind the port.
import { ascii, type ByteString } from "../../../base/byte-string.ts";
import { diagnosticsRefusal } from "../text/diagnostics-refusal.ts";
import { injectedFlags, twoStepRefusal } from "../text/two-step.ts";
import { readDependencies, rewriteDependencies } from "../view/dependency-file.ts";
import { failedOutput } from "./gnu-failed-output.ts";
import { baseName } from "./gnu-names.ts";
import { nativeQuestion, withNative } from "./gnu-native.ts";
import {
  enteredHeaders,
  hasForcedIncludes,
  listingArgv,
  listsBoth,
  oneStepArgv,
  oneStepInjected,
} from "./gnu-one-step.ts";
import { parseGnu } from "./gnu-parse.ts";
import { withoutSuffix } from "./gnu-side-outputs.ts";
import type { Grammar, Habits } from "./grammar.ts";
import type { CompilerFamily } from "./invocation.ts";

const HABITS: Readonly<Record<CompilerFamily, Habits>> = {
  gcc: {
    readsEqualFilesOnce: true,
    readsHardLinksOnce: false,
    quotesNamedFiles: true,
    listsRealPaths: true,
    pragmasChangeMacros: true,
    readsPrecompiled: /\.gch$/,
    takesPrecompiled: true,
    datesByEnvironment: true,
    includesFirst: ascii("stdc-predef.h"),
    assemblerLists: true,
    describesRoot: null,
    readsHeaderMaps: false,
    driver: {
      saysItsName: true,
      compilesItself: false,
      seeksRoots: false,
      setUpBy: { beside: "compiler", names: [ascii("specs")] },
    },
  },
  clang: {
    readsEqualFilesOnce: false,
    readsHardLinksOnce: true,
    quotesNamedFiles: false,
    listsRealPaths: false,
    pragmasChangeMacros: false,
    readsPrecompiled: /\.(?:gch|pch)$/,
    takesPrecompiled: false,
    datesByEnvironment: false,
    includesFirst: null,
    assemblerLists: false,
    describesRoot: ascii("SDKSettings.json"),
    readsHeaderMaps: true,
    driver: {
      saysItsName: false,
      compilesItself: true,
      seeksRoots: true,
      setUpBy: { beside: "driver", names: ["clang.cfg", "clang++.cfg"].map(ascii) },
    },
  },
};

/** GCC would record the maps as the producer's options. */
const UNRECORDED: Readonly<Record<CompilerFamily, readonly ByteString[]>> = {
  gcc: [ascii("-gno-record-gcc-switches")],
  clang: [],
};

/** A profile is called after the output or the source, with or without its suffix; releases put more before that. */
function profilesOf(path: ByteString): string[] {
  const base = baseName(path);
  return [base, ...withoutSuffix(base)].map((name) => `${name}.gcda`);
}

function gnuGrammar(family: CompilerFamily): Grammar {
  return {
    habits: HABITS[family],
    parse: (argv, readResponseFile) => parseGnu(argv, { family, readResponseFile }),
    listing: {
      argv: listingArgv,
      listsBoth,
      hasForcedIncludes,
      entered: enteredHeaders,
      read: (text, request) => readDependencies(text, request, family),
      rewrite: (text, request, map) => rewriteDependencies(text, request, family, map),
    },
    text: {
      refusal: twoStepRefusal,
      injected: (pinned) => injectedFlags(family, pinned),
      diagnosticsRefusal,
    },
    native: { question: nativeQuestion, expand: withNative },
    profileNames: ({ source, output }) =>
      family === "clang" ? ["default.profdata"] : [source, output].flatMap(profilesOf),
    oneStepArgv,
    oneStepInjected: (options) => oneStepInjected({ family, ...options }),
    localInjected: (maps) => [...maps, ...UNRECORDED[family]],
    manner({ produce }, kind) {
      if (family === "clang") return "clang";
      return kind === "object" && produce === "object" ? "assembler" : "text";
    },
    failedOutput,
  };
}

const GRAMMARS: Readonly<Record<CompilerFamily, Grammar>> = { gcc: gnuGrammar("gcc"), clang: gnuGrammar("clang") };

/** The grammar of a compiler's family. */
export function grammarOf({ family }: { readonly family: CompilerFamily }): Grammar {
  return GRAMMARS[family];
}
