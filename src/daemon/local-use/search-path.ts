// Where a call's compiler looks for the names of `#include`: the folders that the call and its environment name, and the compiler's own. Pure.
import { ascii, type ByteString } from "../../base/byte-string.ts";
import { withoutTrailingSlashes } from "../../base/trailing-slashes.ts";
import type { Environment } from "../../core/compile/grammar/environment.ts";
import type { GnuInvocation } from "../../core/compile/grammar/invocation.ts";

export interface SearchedFolder {
  /** Absolute, or relative to the call's working folder; without slashes at its end, "" for the root. */
  readonly path: ByteString;
  /** What is found there is a system header, which `-MMD` does not list. */
  readonly system: boolean;
}

const OWN_OPTIONS: Readonly<Record<string, "quote" | "own" | "system" | "after">> = {
  "-iquote": "quote",
  "-I": "own",
  "-isystem": "system",
  "-cxx-isystem": "system",
  "-isystem-after": "after",
  "-idirafter": "after",
};
const LANGUAGE_VARIABLES: Readonly<Record<string, string>> = {
  c: "C_INCLUDE_PATH",
  "c++": "CPLUS_INCLUDE_PATH",
  "assembler-with-cpp": "C_INCLUDE_PATH",
};

/** All folders, each once, in about the order in which they are searched. */
export function searchPath(
  { arguments: words, language }: Pick<GnuInvocation, "arguments" | "language">,
  environment: Environment,
  compilersOwn: readonly ByteString[],
): SearchedFolder[] {
  const named = (wanted: string) =>
    words.flatMap(({ option, value }) => (OWN_OPTIONS[option] === wanted && value !== null ? [value] : []));
  const variable = (name: string | undefined) => {
    const value = name === undefined ? undefined : environment.get(name);
    return value === undefined || value === "" ? [] : (value.split(":") as ByteString[]);
  };
  const own = [...named("quote"), ...named("own"), ...variable("CPATH")];
  const system = [...named("system"), ...variable(LANGUAGE_VARIABLES[language]), ...compilersOwn, ...named("after")];
  const folders = new Map<ByteString, SearchedFolder>();
  for (const [paths, isSystem] of [
    [own, false],
    [system, true],
  ] as const)
    for (const spelled of paths) {
      const path = spelled === "" ? ascii(".") : (withoutTrailingSlashes(spelled) as ByteString);
      const before = folders.get(path);
      // A folder of both kinds is searched as one of the system.
      if (before === undefined || isSystem) folders.set(path, { path, system: isSystem || before?.system === true });
    }
  return [...folders.values()];
}
