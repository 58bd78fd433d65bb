// The options of GCC and Clang as a table: how each is spelled, which step it belongs to, what its value is, or why a call
// that holds it is compiled locally. An allow-list: what is neither here nor of a family of options that take part in the key
// whole (`-f`, `-m`, `-W` ...) is a bypass. It knows no order of options and no defaults: gnu-parse.ts does.
import { ascii, type ByteString } from "../../../base/byte-string.ts";
import type { BypassReason } from "../bypass-reasons.ts";
import type { ArgumentRole, CompilerFamily, ValueKind } from "./invocation.ts";

/** `switch`: no value; `joined`: in the same word; `separate`: the next word; `either`: joined if the word goes on. */
export type OptionForm = "switch" | "joined" | "separate" | "either";

export interface OptionRule {
  /** The canonical option: the words' text up to the value. */
  readonly name: ByteString;
  readonly form: OptionForm;
  readonly role: ArgumentRole;
  readonly valueKind: ValueKind;
  /** Why a call with this option is compiled locally; null when it need not be. */
  readonly bypass: BypassReason | null;
  /** Why preprocessed text cannot stand for the sources of a call with this option; null when it can. */
  readonly text: BypassReason | null;
  /** What the compiler writes besides object and dependency file. */
  readonly makes: SideOutputRule | null;
  /** The output holds paths or names that no prefix map reaches: it is made with the project at its own path. */
  readonly ownPaths: boolean;
  /** The compiler draws a random number unless it is given a seed. */
  readonly random: boolean;
  /** Names of the output go into outputs or inputs, so that it must be called as the caller calls it. */
  readonly keepsNames: boolean;
  /** The family that knows the option; null for both. */
  readonly family: CompilerFamily | null;
}

/** Side outputs by the rule of their names (gnu-side-outputs.ts). */
export type SideOutputRule =
  | "coverage-notes"
  | "split-debug"
  | "stack-usage"
  | "callgraph"
  | "temporaries"
  | "time-trace";

type Extra = Partial<Omit<OptionRule, "name" | "form">>;

function rules(form: OptionForm, role: ArgumentRole, names: string, extra: Extra = {}): OptionRule[] {
  return names
    .trim()
    .split(/\s+/)
    .map((name) => ({ ...PLAIN_RULE, name: ascii(name), form, role, ...extra }));
}

const PLAIN_RULE = {
  valueKind: "text",
  bypass: null,
  text: null,
  makes: null,
  ownPaths: false,
  random: false,
  keepsNames: false,
  family: null,
} as const;

function refused(form: OptionForm, bypass: BypassReason, names: string): OptionRule[] {
  return rules(form, "both", names, { bypass });
}

/** Options of a compile's own that must not act when files are only listed: they write files. */
const compiling = { role: "compile" } as const;

/** Options of which preprocessed text cannot keep the effect. */
function noText(form: OptionForm, text: BypassReason, names: string, extra: Extra = {}): OptionRule[] {
  return rules(form, "both", names, { text, ...extra });
}

const gcc = { family: "gcc" } as const;
const clang = { family: "clang" } as const;

const MODE = [
  ...rules("switch", "mode", "-c -S --compile --assemble"),
  ...rules("either", "mode", "-x"),
  ...rules("joined", "mode", "--language="),
  ...rules("either", "output", "-o", { valueKind: "file" }),
  ...rules("joined", "output", "--output=", { valueKind: "file" }),
];

const DEPENDENCIES = [
  ...rules("switch", "dependency", "-MD -MMD -MP -MG"),
  ...rules("either", "dependency", "-MF", { valueKind: "file" }),
  ...rules("either", "dependency", "-MT -MQ"),
];

const PREPROCESSING = [
  ...rules("either", "preprocess", "-D -U -A"),
  ...rules("either", "preprocess", "-I -iquote -isystem -idirafter -isysroot -F", { valueKind: "directory" }),
  ...rules("joined", "preprocess", "--sysroot=", { valueKind: "directory" }),
  ...rules("separate", "preprocess", "--sysroot", { valueKind: "directory" }),
  ...rules("either", "preprocess", "-isystem-after -cxx-isystem -iframework", { valueKind: "directory", ...clang }),
  ...rules("either", "preprocess", "-include -imacros", { valueKind: "include" }),
  ...rules("switch", "preprocess", "-nostdinc -nostdinc++"),
  ...rules("switch", "preprocess", "-nostdlibinc -nobuiltininc -ibuiltininc", clang),
  ...rules("joined", "both", "-fmacro-prefix-map= -ffile-prefix-map= -fdebug-prefix-map=", {
    valueKind: "prefix_map",
  }),
  ...rules("joined", "both", "-fcoverage-prefix-map= -fprofile-prefix-map=", { valueKind: "prefix_map" }),
  ...rules("joined", "both", "-fdebug-compilation-dir= -ffile-compilation-dir= -fcoverage-compilation-dir=", {
    valueKind: "directory",
    ...clang,
  }),
  ...rules("separate", "both", "-fdebug-compilation-dir", { valueKind: "directory", ...clang }),
];

const BOTH = [
  ...rules("switch", "both", "-ansi -trigraphs -pedantic -pedantic-errors -w -undef -pthread -pthreads -p -pg"),
  ...rules("switch", "both", "-static -shared -static-pie", gcc),
  ...rules("joined", "both", "--std= -std= --param= --target="),
  ...rules("joined", "both", "-frandom-seed="),
  ...rules("joined", "both", "-flto", { ownPaths: true, random: true }),
  ...rules("separate", "both", "--param"),
  ...rules("separate", "both", "-target -mllvm", clang),
  ...rules("joined", "both", "--gcc-toolchain= --gcc-install-dir=", { valueKind: "directory", ...clang }),
  ...rules("joined", "both", "-resource-dir=", { valueKind: "directory", ...clang }),
  ...rules("separate", "both", "-resource-dir", { valueKind: "directory", ...clang }),
  ...rules("joined", "both", "-stdlib= --stdlib= --driver-mode=", clang),
  ...rules("switch", "both", "-Qunused-arguments --no-default-config -no-canonical-prefixes", clang),
  ...rules("switch", "both", "--start-no-unused-arguments --end-no-unused-arguments", clang),
  ...rules("switch", "both", "-no-canonical-prefixes -posix -ansi", gcc),
  ...rules("either", "both", "-G"),
];

/** Single spellings of refused options that change nothing. */
const HARMLESS = rules("switch", "both", "-fdiagnostics-format=text -finput-charset=UTF-8 -finput-charset=utf-8");

const COMPILING = [
  ...rules("switch", "compile", "-pipe -pass-exit-codes -Qn -Qy"),
  ...rules("switch", "compile", "-integrated-as -no-integrated-as", clang),
];

/** Options that only linking reads. GCC ignores them; Clang says that they are unused, so they go where it can say it. */
const LINKING = [
  ...(["gcc", "clang"] as const).flatMap((family) => {
    const role = family === "gcc" ? "unused" : "compile";
    return [
      ...rules("separate", role, "-e", { family }),
      ...rules("either", role, "-L", { family, valueKind: family === "gcc" ? "text" : "directory" }),
      ...rules("either", role, "-l -u -z -T", { family }),
      ...rules("separate", role, "-Xlinker", { family }),
      ...rules("joined", role, "-Wl, -fuse-ld=", { family }),
      ...rules("switch", role, "-rdynamic -s -r -pie -no-pie -nopie -symbolic -nostdlib -nodefaultlibs", { family }),
      ...rules("switch", role, "-nostartfiles -nolibc -static-libgcc -shared-libgcc -static-libstdc++", { family }),
      ...rules("switch", role, "-static-libasan -static-libubsan -static-libtsan -static-liblsan", { family }),
    ];
  }),
  ...rules("switch", "compile", "-static -shared -static-pie -nostdlib++", clang),
  ...rules("joined", "compile", "-rtlib= --rtlib= -unwindlib= --unwindlib= --ld-path=", clang),
];

const QUERIES = [
  ...refused("switch", "compiler_query", "-v --version -version --verbose -### --help -help --target-help -cc1 -cc1as"),
  ...refused("joined", "compiler_query", "--help= -print- --print- --completion= --autocomplete= -dump -ccc-"),
  ...refused("switch", "compiler_report", "-Q -time -ftime-report -ftime-report-details -fmem-report -fstats -H"),
  ...refused("switch", "compiler_report", "-fmem-report-wpa -fpre-ipa-mem-report -fpost-ipa-mem-report -print-stats"),
  ...refused("joined", "compiler_report", "-ftime-report= -fproc-stat-report -fdbg-cnt-list"),
  ...noText("joined", "compiler_report", "-Rpass", { ...compiling, ...clang }),
];

const OTHER_MODES = [
  ...refused("switch", "called_for_preprocessing", "-E -M -MM --preprocess --dependencies --user-dependencies"),
  ...refused("switch", "syntax_only", "-fsyntax-only --syntax-only"),
  ...refused("switch", "preprocessing_control", "-remap -fdirectives-only -fpreprocessed -frewrite-includes"),
  ...noText("switch", "preprocessing_control", "-P -C -CC"),
  ...refused("switch", "preprocessing_control", "-frewrite-imports -fuse-line-directives -fminimize-whitespace"),
  ...refused("switch", "preprocessing_control", "-fkeep-system-includes -fdebug-cpp -fcpp-begin -save-temps-cpp"),
  ...noText("switch", "traditional_preprocessing", "-traditional -traditional-cpp --traditional --traditional-cpp"),
  ...noText("switch", "unused_macros_warning", "-Wunused-macros"),
  ...noText("switch", "macro_debug_info", "-fdebug-macro"),
  ...noText("switch", "unfaithful_preprocessing", "-Weverything"),
];

const SIDE_OUTPUTS = [
  ...noText("switch", "side_outputs", "-save-temps --save-temps -save-temps=obj -save-temps=cwd", {
    ...compiling,
    makes: "temporaries",
  }),
  ...noText("switch", "side_outputs", "--save-temps=obj --save-temps=cwd", { ...compiling, makes: "temporaries" }),
  ...noText("switch", "side_outputs", "-gsplit-dwarf -gsplit-dwarf=split", { ...compiling, makes: "split-debug" }),
  ...noText("switch", "side_outputs", "-gsplit-dwarf=single", clang),
  ...noText("switch", "side_outputs", "-ftime-trace", { ...compiling, makes: "time-trace", ownPaths: true, ...clang }),
  ...noText("switch", "side_outputs", "-fstack-usage", { ...compiling, makes: "stack-usage" }),
  ...noText("joined", "side_outputs", "-fcallgraph-info", { ...compiling, makes: "callgraph", ...gcc }),
  ...noText("switch", "side_outputs", "--coverage -coverage -ftest-coverage", {
    ...compiling,
    makes: "coverage-notes",
    ownPaths: true,
    random: true,
  }),
  ...noText("switch", "side_outputs", "-fprofile-arcs", { ...compiling, ownPaths: true, random: true }),
  ...noText("switch", "side_outputs", "-fopt-info", { ...compiling, ...gcc }),
  ...noText("switch", "profile_guided", "-fprofile-generate", { ...compiling, ownPaths: true, random: true }),
  ...noText("switch", "profile_guided", "-fprofile-instr-generate -fcoverage-mapping", {
    ...compiling,
    ownPaths: true,
    ...clang,
  }),
  ...refused("joined", "side_outputs", "-save-temps= --save-temps= -gsplit-dwarf= -fdump- -d -ftime-trace -fopt-info"),
  ...refused("joined", "side_outputs", "-fsave-optimization-record -foptimization-record- --analyze"),
  ...refused("joined", "side_outputs", "-fcrash-diagnostics -gen-reproducer -fdiagnostics-add-output="),
  ...refused("joined", "side_outputs", "-fdiagnostics-set-output= -fstack-usage= -fcompare-debug -time= -ftree-dump"),
  ...refused("switch", "side_outputs", "-fgnat- -fvtv-counts -fvtv-debug"),
  ...refused("switch", "side_outputs", "-fdiagnostics-generate-patch -fcondition-coverage -fpath-coverage"),
  ...refused("separate", "side_outputs", "-aux-info -MJ -gen-cdb-fragment-path -serialize-diagnostics"),
  ...refused("separate", "side_outputs", "--serialize-diagnostics -index-store-path -dependency-file -dependency-dot"),
  ...refused(
    "joined",
    "side_outputs",
    "-aux-info= -MJ --emit-static-lib -module-dependency-dir -fxray-instrumentation-bundle-out",
  ),
];

/** Files that name functions and sources to an instrumentation. */
const LISTS = [
  "-fsanitize-blacklist= -fsanitize-ignorelist= -fsanitize-coverage-allowlist= -fsanitize-coverage-ignorelist=",
  "-fsanitize-coverage-whitelist= -fsanitize-coverage-blacklist=",
  "-fxray-always-instrument= -fxray-never-instrument= -fxray-attr-list=",
];

const INPUTS = [
  ...noText("joined", "profile_guided", "-fprofile-instr-use=", { valueKind: "profile", ...clang }),
  ...noText("joined", "profile_guided", "-fprofile-use=", {
    ...compiling,
    valueKind: "profile",
    ownPaths: true,
    keepsNames: true,
    ...gcc,
  }),
  ...noText("joined", "profile_guided", "-fprofile-use=", { valueKind: "profile", ...clang }),
  ...noText("joined", "profile_guided", "-fauto-profile=", { ...compiling, valueKind: "file", ...gcc }),
  ...refused(
    "joined",
    "could_not_use_modules",
    "-fmodule -fcxx-modules -fimplicit-module -fprebuilt- -fbuiltin-module-map",
  ),
  ...refused("joined", "could_not_use_modules", "-fdeps- -gmodules --precompile -fc++-modules --modules -flang-info-"),
  ...refused("joined", "could_not_use_precompiled_header", "-include-pch -emit-pch -fpch- -pch- -relocatable-pch"),
  ...refused(
    "joined",
    "profile_guided",
    "-fprofile- -fauto-profile -fbranch-probabilities -fcs-profile- -fcoverage-mapping",
  ),
  ...refused("joined", "profile_guided", "-fmemory-profile -fpseudo-probe"),
  ...LISTS.flatMap((names) => noText("joined", "extra_input_file", names, { valueKind: "file", ...clang })),
  ...refused("joined", "extra_input_file", "-fsanitize-system-"),
  ...refused(
    "joined",
    "extra_input_file",
    "-fthinlto-index= -fembed- -frandomize-layout-seed-file= -vfsoverlay -fbasic-block-sections=list=",
  ),
  ...refused("joined", "extra_input_file", "--embed-dir= --warning-suppression-mappings= -foffload -fopenmp-targets="),
  ...refused("joined", "unsupported_source_language", "-ObjC --cuda- -fobjc-arc-cxxlib"),
  ...noText("joined", "unsupported_source_encoding", "-finput-charset="),
  ...noText("switch", "diagnostics_format", "-fdiagnostics-format=json -fdiagnostics-format=json-stderr", gcc),
  ...noText("switch", "diagnostics_format", "-fdiagnostics-format=sarif-stderr", gcc),
  ...noText(
    "switch",
    "diagnostics_format",
    "-fdiagnostics-format=clang -fdiagnostics-format=msvc -fdiagnostics-format=vi",
    clang,
  ),
  ...noText("switch", "diagnostics_format", "-fdiagnostics-print-source-range-info"),
  ...refused("joined", "diagnostics_format", "-fdiagnostics-format="),
  ...noText("switch", "native_architecture", "-march=native -mtune=native -mcpu=native"),
  ...refused("joined", "recorded_switches", "-frecord-gcc-switches -grecord- -frecord-command-line"),
  // CodeView holds the command line of the compiler proper.
  ...rules("joined", "both", "-gcodeview", { bypass: "recorded_switches", ...clang }),
];

/** Options that run programs, load code, read specs or change what other options mean. */
const UNSUPPORTED = [
  ...refused(
    "separate",
    "unsupported_compiler_option",
    "-wrapper -Xclang -Xanalyzer -arch -ivfsoverlay -filelist -undefined",
  ),
  ...refused("separate", "unsupported_compiler_option", "-working-directory -framework -ftrapv-handler -mthread-model"),
  ...refused("separate", "unsupported_compiler_option", "-meabi -fintrinsic-modules-path -gcc-toolchain -iprefix"),
  ...refused("separate", "unsupported_compiler_option", "-iwithprefix -iwithprefixbefore -imultilib -imultiarch"),
  ...refused(
    "separate",
    "unsupported_compiler_option",
    "-iwithsysroot -iframeworkwithsysroot -fmodules-user-build-path",
  ),
  ...rules("separate", "both", "-Tbss -Tdata -Ttext", { bypass: "unsupported_compiler_option", ...clang }),
  ...rules("joined", "both", "-object-file-name= -objcmt- -extract-api -emit-", {
    bypass: "unsupported_compiler_option",
    ...clang,
  }),
  ...refused(
    "joined",
    "unsupported_compiler_option",
    "-output-pch= -fdepfile-entry= -fbuild-session- -frewrite-map-file=",
  ),
  ...refused(
    "joined",
    "unsupported_compiler_option",
    "-fthin-link-bitcode= -gembed-source -fsycl -fhip- -forder-file-",
  ),
  ...refused("separate", "unsupported_compiler_option", "-fxray-instruction-threshold"),
  // Quoted names are then sought beside the includers of their includers, too.
  ...rules("switch", "preprocess", "-fms-compatibility", { bypass: "unsupported_compiler_option", ...clang }),
  ...refused("either", "unsupported_compiler_option", "-B -specs --specs"),
  ...refused("joined", "unsupported_compiler_option", "-fplugin -fpass-plugin= -iplugindir= -load -Xarch_ --config"),
  ...refused(
    "joined",
    "unsupported_compiler_option",
    "-no-integrated-cpp --no-integrated-cpp -mllvm= -fsystem-module -offload",
  ),
  ...refused("joined", "unsupported_compiler_option", "-mrelax-relocations-file= -fuse-cuid= -funwind-input"),
];

export const GNU_OPTIONS: readonly OptionRule[] = [
  ...MODE,
  ...DEPENDENCIES,
  ...PREPROCESSING,
  ...BOTH,
  ...HARMLESS,
  ...COMPILING,
  ...LINKING,
  ...QUERIES,
  ...OTHER_MODES,
  ...SIDE_OUTPUTS,
  ...INPUTS,
  ...UNSUPPORTED,
];
