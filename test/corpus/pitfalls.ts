// What a compiler cache must get right, in 64 points, and by which rows of pitfall-rows.ts, or else by which other tests, each is held. A row's
// name stands here with its points, so that a new row says what it is for.

export interface Pitfall {
  readonly what: string;
  /** What hpcc does, for docs/pitfalls.md. */
  readonly does: string;
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
  1: {
    what: "dates",
    does: "A call whose text has a date is compiled by the compiler alone (`date_time_macro`), unless `SOURCE_DATE_EPOCH` or the policy `pin` fixes it.",
    rows: ["a date", "a date under the policy that pins it"],
  },
  2: {
    what: "__TIMESTAMP__",
    does: "Compiled by the compiler alone (`date_time_macro`).",
    tests: [
      [INPUTS, "a time stamp"],
      ["src/daemon/local-use/find-inputs.test.ts", "__TIMESTAMP__"],
    ],
  },
  3: {
    what: "dates that macros make",
    does: "Definitions on the command line are read for dates, too (`date_time_macro`).",
    rows: ["a date by -D, without warnings"],
    tests: [[INPUTS, "-DNOW=__TIMESTAMP__"]],
  },
  4: {
    what: "SOURCE_DATE_EPOCH",
    does: "It is part of the key where the compiler reads it.",
    tests: [
      ["src/daemon/local-use/moved-checkouts.test.ts", "SOURCE_DATE_EPOCH=1"],
      [ENVIRONMENT, "SOURCE_DATE_EPOCH=5"],
    ],
  },
  5: {
    what: "__COUNTER__",
    does: "The source itself is compiled in one step, so the numbers are the compiler's.",
    rows: ["__COUNTER__"],
  },
  6: {
    what: "__has_include",
    does: "A name that is asked for is an input if it is there, and must stay absent if it is not. A name that only the compiler can tell refuses the call.",
    rows: ["what __has_include asks for appears", "a macro that stands for __has_include"],
  },
  7: { what: "#embed", does: "The file is an input.", tests: [[INPUTS, "names of #embed"]] },
  8: {
    what: ".incbin",
    does: "The file is an input, also where the directive stands in adjoining literals. A name that cannot be told refuses the call.",
    rows: [".incbin in two literals", "a macro that builds .incbin"],
    tests: [[LOCAL, "a blob changes"]],
  },
  9: {
    what: ".include of the assembler",
    does: "The file is an input, in sources of the assembler and in `asm`.",
    rows: ["an assembler source", "a preprocessed assembler source"],
    tests: [[LOCAL, "an included assembler file changes"]],
  },
  10: {
    what: "a header that appears earlier",
    does: "Each name that was sought in vain is kept with the result; a file there is a miss.",
    rows: ["a header appears before it on the path"],
  },
  11: {
    what: "a folder that appears",
    does: "What stands at each folder of the include path is part of the key.",
    rows: ["a folder of the path appears", "a folder is replaced"],
  },
  12: {
    what: "#pragma once",
    does: "Which paths lead to one file, and which files are equal, is kept with the result.",
    rows: ["#pragma once and equal files", "#pragma once in copies", "a link to a header"],
  },
  13: {
    what: "__FILE__",
    does: "Paths are part of the key, unless they are mapped or no output shows them.",
    rows: [
      "-fmacro-prefix-map=@ROOT@=/src",
      "-fmacro-prefix-map=@ROOT@/src=S",
      "-ffile-prefix-map=@ROOT@=/src",
      "-DNOW=__BASE_FILE__",
    ],
  },
  14: {
    what: "paths of debug information",
    does: "As for `__FILE__`: the working folder and the caller's maps are part of the key.",
    rows: [
      "-fdebug-prefix-map=@ROOT@=/src",
      "-fdebug-prefix-map=@ROOT@/src=S",
      "-fdebug-prefix-map=src=S",
      "-g3",
      "-g with the newest DWARF",
    ],
  },
  15: {
    what: "-gsplit-dwarf",
    does: "The `.dwo` file is kept and put back; its name is part of the key.",
    rows: ["split debug information"],
  },
  16: {
    what: "--coverage",
    does: "The `.gcno` file is kept and put back; paths are part of the key.",
    rows: ["coverage", "a failure over coverage notes"],
  },
  17: {
    what: "profiles",
    does: "Profiles are inputs by their content, those in folders too. Those that no option names refuse the call (`profile_guided`).",
    rows: [
      "a profile in a folder",
      "a profile of another output",
      "a folder of profiles that is not there",
      "a file in the place of a folder of profiles",
      "an automatic profile of another kind",
    ],
  },
  18: {
    what: "-fprofile-generate and a change",
    does: "An edit is a miss; the option is part of the key.",
    rows: ["an instrumented source goes on"],
  },
  19: {
    what: "inputs that options name",
    does: "The files that options name are inputs. Those that are not followed refuse the call.",
    rows: [
      "a system root describes itself, sdk",
      "a system root describes itself, @ROOT@/sdk",
      "a system root describes itself anew",
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
    does: "A compiler is known by the content of its files, and the links and folders that lead to it are held.",
    tests: [
      [LOCAL, "sees that the compiler was replaced, and which one PATH leads to"],
      ["test/launcher/replay.test.ts", "a compiler that is a link is another one"],
    ],
  },
  21: {
    what: "another helper of the compiler",
    does: "Assembler, `cc1` and the libraries that they load are part of the compiler's identity.",
    tests: [["test/e2e/local-loader.test.ts", "a library that comes to stand where the loader seeks"]],
  },
  22: {
    what: "-march=native",
    does: "It is replaced in the key by what it means on this processor.",
    rows: ["this machine's processor", "this machine's processor, tuned for"],
  },
  23: {
    what: "variables",
    does: "Variables that compilers read are part of the key; those with an effect beside the outputs refuse the call (`unsupported_environment_variable`).",
    rows: ["DEPENDENCIES_OUTPUT"],
    tests: [[ENVIRONMENT, "GCC_COLORS"]],
  },
  24: {
    what: "languages",
    does: "The language of messages is part of the key; with one other than that of C the call may be left to the compiler (`unsupported_locale`).",
    rows: ["messages in C"],
  },
  25: {
    what: "-D, -U and -I",
    does: "All options are part of the key.",
    rows: ["macros with quotes", "-Wp,-D", "-Wp,-U"],
    tests: [["test/e2e/explain.test.ts", "flag added: -DNEW"]],
  },
  26: {
    what: "the order of options",
    does: "Options stay in their order, in the key and in the call.",
    rows: ["-Werror"],
  },
  27: {
    what: "words of the compiler",
    does: "Both streams are kept byte for byte, and said again in order.",
    rows: ["warnings in order", "bytes that are not UTF-8"],
    tests: [["test/launcher/outputs.test.ts", "words on both streams keep their order"]],
  },
  28: {
    what: "words of preprocessed text",
    does: "Sources are compiled, not preprocessed text, so warnings are those of one step.",
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
  29: {
    what: "warnings on other lines",
    does: "A change of lines is a change of content: a miss.",
    rows: ["warnings move to other lines", "#line with a path of the host"],
  },
  30: {
    what: "colours and forms of diagnostics",
    does: "Form, colours and kind of terminal are part of the key.",
    rows: ["colours", "diagnostics in JSON", "fix-its for machines", "absolute diagnostics"],
  },
  31: {
    what: "names of outputs",
    does: "Outputs are found by the compiler's own rules of naming.",
    rows: ["no -o", "two -o", "-S and two -o"],
  },
  32: {
    what: "outputs that are no files",
    does: "Compiled by the compiler alone (`bad_output_file`, `output_to_stdout`); nothing is ever renamed over a device.",
    rows: ["-MF /dev/null"],
    tests: [[PARSE, "gcc -c a.c -o /dev/stdout"]],
  },
  33: {
    what: "outputs that are there",
    does: "Files are replaced or written in place as the compiler would do it; kept files are never linked.",
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
    does: "A call without its folder fails as the compiler does, and leaves nothing.",
    rows: ["a folder for an output", "no folder for an output", "a failure without the folder"],
  },
  35: {
    what: "modes",
    does: "The caller's umask and the modes of files that are there count.",
    rows: ["umask 077", "empty outputs of another mode"],
  },
  36: {
    what: "times of outputs",
    does: "An output is as new as its call, so `make` never finds it older than an input.",
    tests: [["test/launcher/replay.test.ts", "make compares times"]],
  },
  37: {
    what: "targets of dependency files",
    does: "Targets are part of the key.",
    rows: ["-MD -MT a$b -MQ a$b", "-MD -MQ a#b -MT x -MT y"],
  },
  38: {
    what: "paths in dependency files",
    does: "A dependency file names paths as the call spells them; one that names the checkout's place answers no other place.",
    rows: ["absolute names from a build folder"],
  },
  39: {
    what: "names of dependency files",
    does: "Named by the compiler's rule.",
    rows: ["-MD", "an odd name for the object"],
  },
  40: {
    what: "odd dependency files",
    does: "A device as dependency file is left to the compiler (`bad_output_file`); standard output too (`output_to_stdout`).",
    rows: ["-MF /dev/null", "-MF is -o by another name"],
    tests: [[PARSE, "gcc -c a.c -MD -MF -"]],
  },
  41: {
    what: "-MP, -MG, -MMD",
    does: "As the compiler does it; `-MG` is left to it.",
    rows: ["-MMD -MP -MF x.d"],
    tests: [[PARSE, "gcc -c a.c -MD -MG"]],
  },
  42: { what: "-Wp,-MD", does: "Understood as the options that it passes on.", rows: ["-Wp,-MMD,w.d -MP"] },
  43: {
    what: "dependency files without objects",
    does: "Made where the compiler makes them; calls that only list are left to it (`called_for_preprocessing`).",
    rows: [
      "-MD where nothing is preprocessed",
      "-MD where nothing is preprocessed, of which Clang speaks",
      "a failure with -MD",
    ],
    tests: [[PARSE, "gcc -MM -c a.c"]],
  },
  44: { what: "/showIncludes", does: "Microsoft's compiler is not supported.", not: MSVC },
  45: { what: "/Zi", does: "Microsoft's compiler is not supported.", not: MSVC },
  46: { what: "other outputs of cl", does: "Microsoft's compiler is not supported.", not: MSVC },
  47: {
    what: "response files",
    does: "Read by the compiler's rules; one that compilers read differently refuses the call (`unsupported_response_file`).",
    rows: ["response files"],
  },
  48: {
    what: "options with an operand of their own",
    does: "Each option is known with its operands; an unknown one refuses the call (`unsupported_compiler_option`).",
    tests: [[PARSE, "clang -Xclang -load -c a.c"]],
  },
  49: {
    what: "languages of sources",
    does: "The language is part of the key.",
    rows: ["-x c -x none", "a preprocessed source", "the other driver"],
  },
  50: {
    what: "calls that compile nothing",
    does: "Left to the compiler (`called_for_link`, `called_for_preprocessing`, `compiler_query`, `syntax_only`).",
    tests: [
      [PARSE, "compiler_query: ["],
      [PARSE, "called_for_preprocessing: ["],
    ],
  },
  51: {
    what: "probes of configure scripts",
    does: "Answered as the compiler does.",
    tests: [
      ["test/e2e/local-projects.test.ts", "configure"],
      ["test/e2e/guides.test.ts", "AC_INIT"],
    ],
  },
  52: {
    what: "standard input",
    does: "Left to the compiler, with the caller's own input (`standard_input`).",
    rows: ["stdin"],
  },
  53: {
    what: "side outputs",
    does: "All outputs are kept and put back. A call with one whose name cannot be told is left to the compiler (`side_outputs`).",
    rows: [
      "stack usage",
      "a call graph",
      "-save-temps",
      "-save-temps=obj",
      "-S and -save-temps",
      "a listing in a folder",
      "a listing quotes a source, a.s",
      "a listing quotes a source, q.c",
      "counts of verified tables",
      "-Wa,-g names a temporary file",
      "dumps of single passes",
      "two dumps in one file",
      "a failure with -save-temps",
    ],
  },
  54: { what: "-flto", does: "The objects are those of the compiler.", rows: ["-flto"] },
  55: {
    what: "seeds",
    does: "A seed of the caller is part of the key; in an image one is given where the compiler would draw it.",
    rows: ["the seed of the caller"],
  },
  56: {
    what: "precompiled headers",
    does: "GCC's are inputs by their content. Calls that use Clang's are left to the compiler (`could_not_use_precompiled_header`).",
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
    does: "Calls that make a precompiled header are left to the compiler (`could_not_use_precompiled_header`).",
    tests: [[PARSE, "could_not_use_precompiled_header: ["]],
    not: "Calls that make a precompiled header are compiled by the compiler alone, and nothing of them is kept.",
  },
  58: {
    what: "modules",
    does: "Left to the compiler (`could_not_use_modules`).",
    tests: [[PARSE, "could_not_use_modules: ["]],
  },
  59: {
    what: "CUDA",
    does: "Left to the compiler (`unsupported_source_language`).",
    tests: [[PARSE, "unsupported_source_language: ["]],
  },
  60: {
    what: "files that change while they are compiled",
    does: "Inputs are looked at again after the compile; what changed meanwhile is not kept (`modified_input_file`).",
    rows: ["another content of the same size and time", "the source goes on"],
    tests: [["test/e2e/changed-while-listed.test.ts", "test("]],
  },
  61: {
    what: "ends in the middle",
    does: "Outputs appear whole or not at all; the signal reaches the compiler and the caller sees it.",
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
    does: "Kept files are written whole under another name first; several processes may share a store.",
    rows: ["several sources", "several sources, one of which fails"],
    tests: [["src/store/local/many-processes.test.ts", "see whole files alone"]],
  },
  63: {
    what: "damage",
    does: "What is damaged is found by its digest, removed and compiled again. A full disk or quota costs hits, never a build.",
    rows: ["a large object"],
    tests: [
      ["src/store/local/disk-local-store.test.ts", "is removed, missed and kept anew"],
      ["src/store/local/disk-local-store.test.ts", "a full disk fails the write"],
      ["test/e2e/quota.test.ts", "a quota that is used up"],
    ],
  },
  64: {
    what: "names",
    does: "Words and paths are bytes from end to end.",
    rows: ["a line end in a name", "a source that is a link", "-finput-charset"],
    tests: [[LOCAL, "names that are no UTF-8"]],
  },
};

/** Rows that hold none of the points. */
export const FURTHER_ROWS: readonly string[] = [
  "address sanitizer",
  "undefined behaviour sanitizer",
  "CodeView, which holds the command line",
];
