// What a compiler cache must get right, in 64 points, and by which rows of pitfall-rows.ts, or else by which other tests, each is held. A row's
// name stands here with its points, so that a new row says what it is for.

export interface Pitfall {
  readonly what: string;
  /** Names of rows; each runs with a worker, without an image, and with an image and no worker. */
  readonly rows?: readonly string[];
  /** Tests elsewhere: a file, and words that stand in it where the point is tested. */
  readonly tests?: readonly (readonly [file: string, words: string])[];
  /** Why it is not tested by running it. */
  readonly not?: string;
}

const PARSE = "src/core/compile/grammar/gnu-parse.test.ts";
const ENVIRONMENT = "src/core/compile/grammar/environment.test.ts";
const INPUTS = "src/daemon/files-form/gather-inputs.test.ts";
const LOCAL = "test/e2e/local-use.test.ts";
const MSVC = "Calls of Microsoft's compiler are none of hpcc's yet: they run as they are.";

export const PITFALLS: Readonly<Record<number, Pitfall>> = {
  1: { what: "dates", rows: ["a date", "a date under the policy that pins it"] },
  2: {
    what: "__TIMESTAMP__",
    tests: [
      [INPUTS, "a time stamp"],
      ["src/daemon/local-use/find-inputs.test.ts", "__TIMESTAMP__"],
    ],
  },
  3: {
    what: "dates that macros make",
    rows: ["a date by -D, without warnings"],
    tests: [[INPUTS, "-DNOW=__TIMESTAMP__"]],
  },
  4: {
    what: "SOURCE_DATE_EPOCH",
    tests: [
      ["src/daemon/local-use/moved-checkouts.test.ts", "SOURCE_DATE_EPOCH=1"],
      [ENVIRONMENT, "SOURCE_DATE_EPOCH=5"],
    ],
  },
  5: { what: "__COUNTER__", rows: ["__COUNTER__"] },
  6: { what: "__has_include", rows: ["what __has_include asks for appears", "a macro that stands for __has_include"] },
  7: { what: "#embed", tests: [[INPUTS, "names of #embed"]] },
  8: {
    what: ".incbin",
    rows: [".incbin in two literals", "a macro that builds .incbin"],
    tests: [[LOCAL, "a blob changes"]],
  },
  9: {
    what: ".include of the assembler",
    rows: ["an assembler source", "a preprocessed assembler source"],
    tests: [[LOCAL, "an included assembler file changes"]],
  },
  10: { what: "a header that appears earlier", rows: ["a header appears before it on the path"] },
  11: { what: "a folder that appears", rows: ["a folder of the path appears", "a folder is replaced"] },
  12: { what: "#pragma once", rows: ["#pragma once and equal files", "#pragma once in copies", "a link to a header"] },
  13: {
    what: "__FILE__",
    rows: [
      "-fmacro-prefix-map=@ROOT@=/src",
      "-fmacro-prefix-map=@ROOT@/src=S",
      "-ffile-prefix-map=@ROOT@=/src",
      "-DNOW=__BASE_FILE__",
    ],
  },
  14: {
    what: "paths of debug information",
    rows: [
      "-fdebug-prefix-map=@ROOT@=/src",
      "-fdebug-prefix-map=@ROOT@/src=S",
      "-fdebug-prefix-map=src=S",
      "-g3",
      "-g with the newest DWARF",
    ],
  },
  15: { what: "-gsplit-dwarf", rows: ["split debug information"] },
  16: { what: "--coverage", rows: ["coverage", "a failure over coverage notes"] },
  17: {
    what: "profiles",
    rows: [
      "a profile in a folder",
      "a profile of another output",
      "a folder of profiles that is not there",
      "a file in the place of a folder of profiles",
      "an automatic profile of another kind",
    ],
  },
  18: { what: "-fprofile-generate and a change", rows: ["an instrumented source goes on"] },
  19: {
    what: "inputs that options name",
    rows: [
      "a sanitizer's list",
      "response files",
      "-include by an absolute name",
      "-include that includes",
      "-imacros",
    ],
    tests: [[PARSE, "gcc -c -specs=x a.c"]],
  },
  20: {
    what: "another compiler by the same name",
    tests: [
      [LOCAL, "sees that the compiler was replaced, and which one PATH leads to"],
      ["test/launcher/replay.test.ts", "a compiler that is a link is another one"],
    ],
  },
  21: {
    what: "another helper of the compiler",
    tests: [["test/e2e/local-loader.test.ts", "a library that comes to stand where the loader seeks"]],
  },
  22: { what: "-march=native", rows: ["this machine's processor", "this machine's processor, tuned for"] },
  23: { what: "variables", rows: ["DEPENDENCIES_OUTPUT"], tests: [[ENVIRONMENT, "GCC_COLORS"]] },
  24: { what: "languages", rows: ["messages in C"] },
  25: {
    what: "-D, -U and -I",
    rows: ["macros with quotes", "-Wp,-D", "-Wp,-U"],
    tests: [["test/e2e/explain.test.ts", "flag added: -DNEW"]],
  },
  26: { what: "the order of options", rows: ["-Werror"] },
  27: {
    what: "words of the compiler",
    rows: ["warnings in order", "bytes that are not UTF-8"],
    tests: [["test/launcher/outputs.test.ts", "words on both streams keep their order"]],
  },
  28: {
    what: "words of preprocessed text",
    rows: [
      "-Wunused-macros",
      "-Weverything",
      "misleading indentation is an error",
      "an empty body is a warning",
      "-traditional-cpp",
      "-C",
      "#pragma GCC target",
      "#pragma GCC optimize, and headers of other systems and of the image in branches",
      "a pragma made of an argument",
      "a pragma that sets optimization",
      "-fopenmp",
    ],
  },
  29: { what: "warnings on other lines", rows: ["warnings move to other lines", "#line with a path of the host"] },
  30: {
    what: "colours and forms of diagnostics",
    rows: ["colours", "diagnostics in JSON", "fix-its for machines", "absolute diagnostics"],
  },
  31: { what: "names of outputs", rows: ["no -o", "two -o", "-S and two -o"] },
  32: { what: "outputs that are no files", rows: ["-MF /dev/null"], tests: [[PARSE, "gcc -c a.c -o /dev/stdout"]] },
  33: {
    what: "outputs that are there",
    rows: [
      "read-only outputs",
      "linked outputs",
      "links to nothing",
      "hard-linked outputs",
      "side outputs through a link",
      "-o is the source by another name",
      "-o is a link to the source",
    ],
  },
  34: {
    what: "folders of outputs",
    rows: ["a folder for an output", "no folder for an output", "a failure without the folder"],
  },
  35: { what: "modes", rows: ["umask 077", "empty outputs of another mode"] },
  36: { what: "times of outputs", tests: [["test/launcher/replay.test.ts", "make compares times"]] },
  37: { what: "targets of dependency files", rows: ["-MD -MT a$b -MQ a$b", "-MD -MQ a#b -MT x -MT y"] },
  38: { what: "paths in dependency files", rows: ["absolute names from a build folder"] },
  39: { what: "names of dependency files", rows: ["-MD", "an odd name for the object"] },
  40: {
    what: "odd dependency files",
    rows: ["-MF /dev/null", "-MF is -o by another name"],
    tests: [[PARSE, "gcc -c a.c -MD -MF -"]],
  },
  41: { what: "-MP, -MG, -MMD", rows: ["-MMD -MP -MF x.d"], tests: [[PARSE, "gcc -c a.c -MD -MG"]] },
  42: { what: "-Wp,-MD", rows: ["-Wp,-MMD,w.d -MP"] },
  43: {
    what: "dependency files without objects",
    rows: [
      "-MD where nothing is preprocessed",
      "-MD where nothing is preprocessed, of which Clang speaks",
      "a failure with -MD",
    ],
    tests: [[PARSE, "gcc -MM -c a.c"]],
  },
  44: { what: "/showIncludes", not: MSVC },
  45: { what: "/Zi", not: MSVC },
  46: { what: "other outputs of cl", not: MSVC },
  47: { what: "response files", rows: ["response files"] },
  48: { what: "options with an operand of their own", tests: [[PARSE, "clang -Xclang -load -c a.c"]] },
  49: { what: "languages of sources", rows: ["-x c -x none", "a preprocessed source", "the other driver"] },
  50: {
    what: "calls that compile nothing",
    tests: [
      [PARSE, "compiler_query: ["],
      [PARSE, "called_for_preprocessing: ["],
    ],
  },
  51: {
    what: "probes of configure scripts",
    tests: [
      ["test/e2e/local-projects.test.ts", "configure"],
      ["test/e2e/guides.test.ts", "AC_INIT"],
    ],
  },
  52: { what: "standard input", rows: ["stdin"] },
  53: {
    what: "side outputs",
    rows: [
      "stack usage",
      "a call graph",
      "-save-temps",
      "-save-temps=obj",
      "-S and -save-temps",
      "a listing in a folder",
      "-Wa,-g names a temporary file",
      "dumps of single passes",
      "two dumps in one file",
      "a failure with -save-temps",
    ],
  },
  54: { what: "-flto", rows: ["-flto"] },
  55: { what: "seeds", rows: ["the seed of the caller"] },
  56: {
    what: "precompiled headers",
    rows: [
      "a precompiled header",
      "a precompiled header that knows what it was made of",
      "a precompiled header in a folder that is searched",
      "an absolute precompiled header",
      "a precompiled header for other options",
      "a precompiled header of which the compiler speaks",
      "a precompiled header in a failing call",
    ],
  },
  57: {
    what: "objects and precompiled headers of one source",
    tests: [[PARSE, "could_not_use_precompiled_header: ["]],
    not: "Calls that make a precompiled header are compiled by the compiler alone, and nothing of them is kept.",
  },
  58: { what: "modules", tests: [[PARSE, "could_not_use_modules: ["]] },
  59: { what: "CUDA", tests: [[PARSE, "unsupported_source_language: ["]] },
  60: {
    what: "files that change while they are compiled",
    rows: ["another content of the same size and time", "the source goes on"],
    tests: [["test/e2e/changed-while-listed.test.ts", "test("]],
  },
  61: {
    what: "ends in the middle",
    rows: [
      "a failure over an object",
      "a failure over an object, with a pipe",
      "a failure of the assembler",
      "a failure over a text",
      "a failure over a link",
      "a failure over a second name",
    ],
    tests: [
      ["test/launcher/signals.test.ts", "ends child, grandchild and call"],
      ["test/e2e/local-chaos.test.ts", "one that kills the daemon"],
    ],
  },
  62: {
    what: "many at once",
    rows: ["several sources", "several sources, one of which fails"],
    tests: [["src/store/local/many-processes.test.ts", "see whole files alone"]],
  },
  63: {
    what: "damage",
    rows: ["a large object"],
    tests: [
      ["src/store/local/disk-local-store.test.ts", "is removed, missed and kept anew"],
      ["src/store/local/disk-local-store.test.ts", "a full disk fails the write"],
    ],
  },
  64: {
    what: "names",
    rows: ["a line end in a name", "a source that is a link", "-finput-charset"],
    tests: [[LOCAL, "names that are no UTF-8"]],
  },
};

/** Rows that hold none of the points. */
export const FURTHER_ROWS: readonly string[] = ["address sanitizer", "undefined behaviour sanitizer"];
