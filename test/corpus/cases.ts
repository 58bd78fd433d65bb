// The corpus: small C and C++ programs that warn or fail, each with the command lines to compile it with and what a remote
// compile must come to. The fidelity tests run it in two namespaces, the VM tests through the product.
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type ByteString, byteStringOfText } from "../../src/base/byte-string.ts";
import type { CompilerFamily } from "../../src/core/compile/grammar/invocation.ts";
import { LAYOUTS } from "./layout.ts";
import type { FilesExpectation, Row, TextExpectation } from "./rows.ts";
import { SURROUNDINGS } from "./surroundings.ts";
import { TEXT_FORM } from "./text-form.ts";
import { WARNINGS } from "./warnings.ts";

export interface CorpusFile {
  /** Relative to the project's root. */
  readonly path: ByteString;
  readonly bytes: Uint8Array;
}

/** Stands in argv for the absolute path of the project's root. */
export const ROOT = "@ROOT@";

export interface CorpusCase {
  /** Unique: `tabs gcc`, `tabs clang -w`. */
  readonly name: string;
  readonly family: CompilerFamily;
  readonly files: readonly CorpusFile[];
  /** argv[0] is a compiler's plain name; words may hold `ROOT`. */
  readonly argv: readonly ByteString[];
  /** Working directory, relative to the project's root; empty for the root itself. */
  readonly cwd: string;
  /** Of a call in the default form. */
  readonly comesTo: FilesExpectation;
  /** Of a call in the text form. */
  readonly text: TextExpectation;
  /** False for the few cases of which the compiler says nothing. */
  readonly speaks: boolean;
  /** True for a case that differs from another in its options only. */
  readonly variant: boolean;
}

const SOURCES = join(import.meta.dirname, "sources");
const USUAL: Readonly<Record<CompilerFamily, string>> = {
  gcc: "-O2 -g -Wall -Wextra -Wconversion",
  clang: "-O2 -gdwarf-4 -Wall -Wextra -Wconversion",
};
const COMPILERS: Readonly<Record<"c" | "c++", readonly [gcc: string, clang: string]>> = {
  c: ["gcc", "clang"],
  "c++": ["g++", "clang++"],
};

/** What the folders of `sources/` come to with the usual flags, where that is not `equal`. */
const FOLDERS: Readonly<Record<string, Omit<Row, "folder">>> = {
  absolute: { flags: `-I${ROOT}/inc`, source: `${ROOT}/src/main.c` },
  "assert-directive": { gcc: "preprocessor_output", clang: "preprocessor_error" },
  "base-file": { gcc: "unfaithful_preprocessing", clang: "unfaithful_preprocessing" },
  "block-comments": { clang: "preprocessor_output" },
  "clang-two-spellings": { clang: "listed" },
  "command-line-macro": { flags: '-DVALUE="s" -DCALL(x)=((x)*2) -D EMPTY -UNOT' },
  "comment-within-comment": { clang: "preprocessor_output" },
  "counter-in-condition": { gcc: "preprocessor_error", clang: "unfaithful_preprocessing" },
  "cxx-operators": { clang: "preprocessor_output" },
  "cxx-raw-strings": { clang: "preprocessor_error" },
  date: { gcc: "date_time_macro", clang: "date_time_macro", local: "date_time_macro" },
  "defined-in-expansion": { gcc: "preprocessor_output", clang: "preprocessor_output" },
  digraphs: { gcc: "unfaithful_preprocessing" },
  "directive-after-comment": { gcc: "unfaithful_preprocessing" },
  "error-directive": { gcc: "preprocessor_error", clang: "preprocessor_error" },
  "fall-through": { quiet: "clang" },
  "forced-include": { flags: "-include forced.h" },
  format: { gcc: "unfaithful_diagnostics" },
  "format-overflow": { gcc: "unfaithful_diagnostics" },
  "generated-parser": { clang: "unfaithful_preprocessing" },
  imacros: { flags: "-imacros taken.h", clang: "unfaithful_preprocessing" },
  "include-level": { gcc: "unfaithful_preprocessing", clang: "unfaithful_preprocessing" },
  "include-missing": { gcc: "preprocessor_error", clang: "preprocessor_error", local: "preprocessor_error" },
  "include-next": { flags: "-I inc", gcc: "unfaithful_diagnostics" },
  "include-order": { flags: "-Iinc" },
  "inline-asm-incbin": { gcc: "unsupported_code_directive", clang: "unsupported_code_directive" },
  "line-absolute": { clang: "unfaithful_preprocessing" },
  "line-directive": { clang: "unfaithful_preprocessing" },
  "line-in-step": { clang: "unfaithful_preprocessing" },
  "line-macro": { clang: "unfaithful_preprocessing", local: { gcc: "unsupported_code_directive" } },
  "out-of-tree": { flags: "-I../inc -I .", source: "../src/main.c", cwd: "build" },
  "pragma-dependency": { clang: "unfaithful_preprocessing", local: "unsupported_code_directive" },
  "pragma-message": { gcc: "preprocessor_error", clang: "preprocessor_output" },
  "pragma-message-last": { gcc: "unfaithful_preprocessing", clang: "preprocessor_output" },
  "pragma-once-main": { gcc: "preprocessor_output", clang: "preprocessor_output" },
  "pragma-poison": { clang: "preprocessor_error" },
  "pragma-push-macro-operator": { gcc: "unfaithful_preprocessing" },
  "pragma-target": { gcc: "unfaithful_preprocessing" },
  "predefined-macros": { gcc: "unfaithful_diagnostics" },
  "raw-strings-c": { clang: "preprocessor_output" },
  "redefined-macro": { gcc: "preprocessor_output", clang: "preprocessor_output" },
  "system-include-dir": { flags: "-isystem vendor" },
  timestamp: { gcc: "date_time_macro", clang: "date_time_macro", local: "date_time_macro" },
  trigraphs: { gcc: "unfaithful_preprocessing", clang: "preprocessor_output" },
  unterminated: { gcc: "preprocessor_error", clang: "preprocessor_output" },
  "unused-macros": { flags: "-Wunused-macros", gcc: "unused_macros_warning", clang: "unused_macros_warning" },
  "warning-directive": { gcc: "preprocessor_output", clang: "preprocessor_output" },
};

/** Sources whose bytes an editor or a checkout might change. */
const BYTES: readonly Row[] = [
  {
    folder: "byte-order-mark",
    files: {
      "main.c": '\xef\xbb\xbfint x = "y";\n#include "m.h"\n',
      "m.h": '\xef\xbb\xbf#define  M  1\nint z = M "q";\n',
    },
    clang: "unfaithful_preprocessing",
  },
  {
    folder: "crlf",
    files: {
      "main.c":
        '#define A(x) \\\r\n  ((x) * "s")\r\nint a = A(1);\r\n#pragma GCC diagnostic push\r\nint f(int u) { }\r\n',
    },
  },
  {
    folder: "nul-bytes",
    files: { "main.c": 'int x = 1;\0 int y = "s"; /* \0 */\n#define Z \0 3\nint z = Z "";\n' },
    gcc: "preprocessor_output",
    clang: "preprocessor_output",
  },
  {
    folder: "no-line-end",
    files: { "main.c": '#include "h.h"\nint x = "y";\n#define LAST 1', "h.h": 'int h = "i"' },
  },
  {
    folder: "latin1-bytes",
    files: { "main.c": 'const char *s = "gr\xfc\xdfe"; int x = "\xff"; /* \xe4 */ int \xe9 = 1;\n' },
  },
  { folder: "form-feeds", files: { "main.c": '\f\nint x = "y";\n\v#define  A \f 1\nint y\f= A "";\n' } },
  { folder: "empty", files: { "main.c": "" }, flags: "-pedantic", clang: "unfaithful_diagnostics" },
  { folder: "lone-carriage-returns", files: { "main.c": 'int a;\rint b = "x";\n#define C 1\r\nint c = C "";\n' } },
  {
    folder: "latin1-source",
    files: { "main.c": 'const char *s = "gr\xfc\xdfe"; int x = "\xff"; /* \xe4 */\n' },
    flags: "-finput-charset=ISO-8859-1",
    gcc: "unsupported_source_encoding",
    clang: "unsupported_source_encoding",
  },
];

/** Options that change what is said, or what is made, over sources that have much of either. */
const VARIANTS: readonly Row[] = [
  ...over("macro-expansion tabs utf8 include-chain fix-its", [
    { flags: "-fdiagnostics-color=always" },
    { flags: "-Werror" },
    { flags: "-S -O0" },
    { flags: "-Wsystem-headers" },
    { flags: "-fmessage-length=60" },
  ]),
  ...over("macro-expansion fix-its", [
    { flags: "-fno-diagnostics-show-caret", clang: null },
    { flags: "-fno-diagnostics-show-option" },
    { flags: "-std=c11 -pedantic-errors" },
    { flags: "-ftrack-macro-expansion=0", clang: null },
    { flags: "-fno-show-column" },
    { flags: "-fdiagnostics-parseable-fixits", clang: "diagnostics_format" },
    { flags: "-fdiagnostics-column-unit=byte", clang: null },
    { flags: "-ftabstop=3" },
  ]),
  ...over("optimizer-warnings file-macro cxx-counter-static", [
    { flags: "-flto -frandom-seed=abc" },
    { flags: "-fsanitize=address" },
    { flags: "-fsanitize=undefined" },
    { flags: "-S" },
    { flags: "-fPIC -pg" },
    { flags: "-Wa,--noexecstack" },
    { flags: "-g1" },
    { flags: "-ggdb" },
    { flags: "-gdwarf-3" },
    { flags: "-gz" },
    { flags: "-finstrument-functions" },
    { flags: "-ffile-prefix-map=/hpcc=/x", local: "outside_view" },
    { flags: "-fmacro-prefix-map=/hpcc/project=/y", local: "outside_view" },
    { flags: "-frandom-seed=abc" },
    { flags: "-fno-working-directory", clang: null },
    { flags: "-D_FORTIFY_SOURCE=2" },
    { flags: "-march=x86-64-v3" },
    { flags: "-fopenmp" },
    { flags: "-Os -pipe" },
    { flags: "-g -gdwarf-5", clang: "debug_file_checksums" },
  ]),
  { folder: "pedantic", flags: "-std=c89 -pedantic" },
  { folder: "c89", flags: "-std=c89 -pedantic" },
  { folder: "optimizer-warnings", flags: "-fanalyzer", clang: null },
  { folder: "pedantic", flags: "-Wundef -Wcomment -Wc++-compat -Wunused -Wshadow" },
  { folder: "pragma-openmp", flags: "-fopenmp", gcc: "unfaithful_preprocessing" },
  { folder: "pragma-openmp", flags: "-fopenmp-simd", gcc: "unfaithful_preprocessing" },
  { folder: "forced-include", flags: "-include stddef.h -include forced.h" },
  { folder: "system-include-dir", flags: "-isystem vendor -Wsystem-headers" },
  { folder: "system-include-dir", flags: "-idirafter vendor" },
  { folder: "cxx-concepts", flags: "-std=c++20" },
  { folder: "cxx-templates", flags: "-std=c++98" },
  { folder: "cxx-raw-strings", flags: "-std=c++98", gcc: "preprocessor_error", clang: "preprocessor_output" },
  { folder: "cxx-warnings", flags: "-std=c++20 -Weffc++ -Wold-style-cast", clang: null },
  { folder: "raw-strings-c", flags: "-std=c99", gcc: "preprocessor_error", clang: "preprocessor_output" },
  { folder: "trigraphs", flags: "-trigraphs", gcc: "unfaithful_preprocessing", clang: "preprocessor_output" },
  { folder: "max-errors", flags: "-fmax-errors=2", clang: null },
  { folder: "max-errors", flags: "-Wfatal-errors" },
  { folder: "utf8", flags: "-fexec-charset=ISO-8859-1", clang: null },
  { folder: "macro-expansion", flags: "-g3", gcc: "macro_debug_info", clang: "macro_debug_info" },
  {
    folder: "macro-expansion",
    flags: "-traditional-cpp",
    gcc: "traditional_preprocessing",
    clang: "traditional_preprocessing",
  },
  { folder: "macro-expansion", flags: "-C", gcc: "preprocessing_control", clang: "preprocessing_control" },
  { folder: "date", flags: "-w", gcc: "date_time_macro", clang: "date_time_macro", local: "date_time_macro" },
  { folder: "fix-its", flags: "-fdiagnostics-format=json", gcc: "diagnostics_format", clang: "diagnostics_format" },
  { folder: "format", flags: "-fno-diagnostics-show-option", gcc: "unfaithful_diagnostics" },
];

const ROWS: readonly Row[] = [
  ...globSync("*", { cwd: SOURCES })
    .sort()
    .map((folder) => ({ folder, ...FOLDERS[folder] })),
  ...BYTES,
  ...[...WARNINGS, ...SURROUNDINGS, ...LAYOUTS].map((row) => ({ ...TEXT_FORM[row.folder], ...row })),
  ...VARIANTS.map((row) => ({ ...row, variant: true })),
];

function over(folders: string, rows: readonly Omit<Row, "folder">[]): Row[] {
  return rows.flatMap((row) => folders.split(" ").map((folder) => ({ folder, ...row })));
}

/** Whether a source names a path of the view itself, which the shared place gives back as the project's. */
export function namesTheView({ files }: CorpusCase): boolean {
  return files.some(({ bytes }) => Buffer.from(bytes).includes("/hpcc/"));
}

/** Every case of the corpus. */
export function corpusCases(): CorpusCase[] {
  return ROWS.flatMap((row) => [...casesOf(row, "gcc"), ...casesOf(row, "clang")]);
}

const MAIN_FILE = /(?:^|\/)main\.(?:c|cc|i|s|S)$/;

function casesOf(row: Row, family: CompilerFamily): CorpusCase[] {
  const text = row[family] === undefined ? "equal" : row[family];
  if (text === null) return [];
  const files = row.files === undefined ? readFolder(row.folder) : inlineFiles(row.files);
  const source = row.source ?? files.map(({ path }) => path as string).find((path) => MAIN_FILE.test(path));
  if (source === undefined) throw new Error(`corpus case ${row.folder} has no main file`);
  const flags = row.flags ?? "";
  const words = flags.split(" ").filter((word) => word !== "");
  const output = words.includes("-S") ? [source, "-o", "main.s"] : ["-c", source, "-o", "main.o"];
  const local = typeof row.local === "string" ? row.local : row.local?.[family];
  return [
    {
      name: `${row.folder} ${family}${flags === "" ? "" : ` ${flags}`}`,
      family,
      files,
      argv: [driverOf(row, family, source), ...USUAL[family].split(" "), ...words, ...output].map(byteStringOfText),
      cwd: row.cwd ?? "",
      comesTo: local ?? "remote",
      text,
      speaks: row.quiet !== family && row.quiet !== "both",
      variant: row.variant === true,
    },
  ];
}

function driverOf({ drivers }: Row, family: CompilerFamily, source: string): string {
  const [gcc, clang] = drivers ?? COMPILERS[source.endsWith(".cc") ? "c++" : "c"];
  return family === "gcc" ? gcc : clang;
}

function readFolder(folder: string): CorpusFile[] {
  return globSync("**", { cwd: join(SOURCES, folder), withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
    .map((path) => ({
      path: byteStringOfText(path.slice(SOURCES.length + folder.length + 2)),
      bytes: readFileSync(path),
    }));
}

function inlineFiles(files: Readonly<Record<string, string>>): CorpusFile[] {
  return Object.entries(files).map(([path, text]) => ({
    path: byteStringOfText(path),
    bytes: Buffer.from(text, "latin1"),
  }));
}
