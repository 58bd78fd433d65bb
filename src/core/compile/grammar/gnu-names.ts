// Names as GCC's and Clang's drivers derive them: the language of a suffix, the default output, the dependency file and its
// default target. Proven against the real drivers in gnu-names.test.ts.
import type { ByteString } from "../../../base/byte-string.ts";
import type { CompilerFamily, Language } from "./invocation.ts";

/** What the driver takes a file for by its name. */
export type InputKind =
  | { readonly kind: "source"; readonly language: Language }
  /** A header: the call makes a precompiled one. */
  | { readonly kind: "header" }
  /** A module interface. */
  | { readonly kind: "module" }
  /** Another language's source. */
  | { readonly kind: "foreign" }
  /** An unknown suffix: the linker's. */
  | { readonly kind: "linker" };

const COMMON_SOURCES: Readonly<Record<string, Language>> = {
  c: "c",
  i: "cpp-output",
  ii: "c++-cpp-output",
  cc: "c++",
  cp: "c++",
  cxx: "c++",
  cpp: "c++",
  "c++": "c++",
  C: "c++",
  CPP: "c++",
  s: "assembler",
  S: "assembler-with-cpp",
};
const SOURCES: Readonly<Record<CompilerFamily, Readonly<Record<string, Language>>>> = {
  gcc: { ...COMMON_SOURCES, sx: "assembler-with-cpp" },
  clang: { ...COMMON_SOURCES, CC: "c++", CXX: "c++", "C++": "c++" },
};
/** What one compiler alone takes for a header is the linker's for the other; neither is compiled remotely. */
const HEADERS = new Set(["h", "H", "hh", "hp", "hxx", "hpp", "HPP", "h++", "tcc", "pch", "gch"]);
const MODULES = new Set(["cppm", "ccm", "cxxm", "c++m", "iim", "ixx", "pcm"]);
const FOREIGN = new Set(
  "m M mm mi mii ads adb f for ftn F FOR fpp FPP FTN f90 f95 f03 f08 F90 F95 F03 F08 go d dd di brig mod def cu cui hip hipi cl clcpp rs r ll bc ast".split(
    " ",
  ),
);

export function baseName(path: ByteString): ByteString {
  return path.slice(path.lastIndexOf("/") + 1) as ByteString;
}

/** The last suffix without its dot; null when the name has none. */
function suffixOf(name: ByteString): string | null {
  const dot = name.lastIndexOf(".");
  return dot < 0 ? null : name.slice(dot + 1);
}

/** Whether argv[0] names a C++ driver (`g++-12`, `x86_64-linux-gnu-c++`, `clang++`), which takes `.c` and `.i` for C++. */
export function isCxxDriver(program: ByteString): boolean {
  return /(?:^|-)(?:g|c|clang)\+\+(?:-\d[\d.]*)?$/.test(baseName(program));
}

/** Targets for which Clang seeks quoted names as Microsoft's compiler does: beside the includers of their includers, too. */
export function seeksAboveIncluders(target: string): boolean {
  return /(?:^|-)(?:win(?:dows|32)|uefi)/.test(target) && !/gnu|cygnus|itanium|coreclr/.test(target);
}

/** What a driver takes an input for by its suffix, without `-x`. */
export function inputKindOf(family: CompilerFamily, cxxDriver: boolean, path: ByteString): InputKind {
  const suffix = suffixOf(baseName(path));
  // GCC wants something before the suffix: `.c` alone is the linker's, `./.c` is not.
  if (suffix === null || (family === "gcc" && path === `.${suffix}`)) return { kind: "linker" };
  const language = Object.hasOwn(SOURCES[family], suffix) ? SOURCES[family][suffix] : undefined;
  if (language !== undefined) {
    if (!cxxDriver) return { kind: "source", language };
    if (language === "c") return { kind: "source", language: "c++" };
    return { kind: "source", language: language === "cpp-output" ? "c++-cpp-output" : language };
  }
  if (HEADERS.has(suffix)) return { kind: "header" };
  if (MODULES.has(suffix)) return { kind: "module" };
  return FOREIGN.has(suffix) ? { kind: "foreign" } : { kind: "linker" };
}

/** The name with its last suffix replaced, or with one added when it has none. */
function withSuffix(name: ByteString, suffix: string, from = 0): ByteString {
  const dot = name.lastIndexOf(".");
  return ((dot < from ? name : name.slice(0, dot)) + suffix) as ByteString;
}

/** GCC's driver takes a leading dot for part of the name when it derives one from the source. */
function fromSource(family: CompilerFamily, source: ByteString, suffix: string): ByteString {
  return withSuffix(baseName(source), suffix, family === "gcc" ? 1 : 0);
}

/** Where a compile without `-o` writes: the source's base name in the working directory. */
export function defaultOutput(family: CompilerFamily, source: ByteString, produce: "object" | "assembler"): ByteString {
  return fromSource(family, source, produce === "object" ? ".o" : ".s");
}

/** Where `-MD` without `-MF` writes: beside the output of `-o`, else in the working directory. */
export function defaultDependencyFile(
  family: CompilerFamily,
  source: ByteString,
  explicitOutput: ByteString | null,
): ByteString {
  if (explicitOutput === null) return fromSource(family, source, ".d");
  const folder = explicitOutput.slice(0, explicitOutput.lastIndexOf("/") + 1);
  return (folder + withSuffix(baseName(explicitOutput), ".d")) as ByteString;
}

/** The target when none is given: the output of `-o`, else the object's default name (also with `-S`). */
export function defaultTarget(source: ByteString, explicitOutput: ByteString | null): ByteString {
  return explicitOutput ?? withSuffix(baseName(source), ".o");
}
