// Parses a GCC or Clang command line into a GnuInvocation, or says why it is not compiled remotely. Never throws, reads no disk
// but response files through its argument, and guesses nothing: what it does not know is a bypass. UNTRUSTED: the caller's argv.
import { ascii, type ByteString } from "../../../base/byte-string.ts";
import type { BypassReason } from "../bypass-reasons.ts";
import { Bypass, bypass } from "./gnu-bypass.ts";
import { matchOption } from "./gnu-match.ts";
import {
  defaultDependencyFile,
  defaultOutput,
  defaultTarget,
  inputKindOf,
  isCxxDriver,
  seeksAboveIncluders,
} from "./gnu-names.ts";
import type { SideOutputRule } from "./gnu-options.ts";
import { checkDistinct, checkOutputName } from "./gnu-output-checks.ts";
import { assemblerWords, classifyAssemblerWords, PassThroughPreprocessor } from "./gnu-pass-through.ts";
import { dumpFile, sideOutputs } from "./gnu-side-outputs.ts";
import type {
  Argument,
  ArgumentRole,
  CompilerFamily,
  DependencyRequest,
  Language,
  ParseResult,
  Refusal,
  SideOutput,
  ValueKind,
} from "./invocation.ts";
import { expandResponseFiles, type ReadResponseFile } from "./response-file.ts";

export interface ParseContext {
  readonly family: CompilerFamily;
  /** The file's bytes, relative to the call's working directory. */
  readResponseFile: ReadResponseFile;
}

const LANGUAGES = new Set<string>(["c", "c++", "cpp-output", "c++-cpp-output", "assembler", "assembler-with-cpp"]);

interface Target {
  readonly text: ByteString;
  readonly quoted: boolean;
}

/** Sources of one call that are compiled one after the other. */
const SOURCES_MAX = 64;

/** Options of LLVM itself that neither read nor write files. */
const LLVM_OPTION = /^-(?:asan|hwasan|msan|tsan|sanitizer-coverage)-[a-z0-9-]+(?:=[A-Za-z0-9]+)?$/;

/** What a call asks for counts before what it asks it with: a link with `-g3` is a link. */
const DECIDING = new Set<BypassReason>(["compiler_query", "called_for_preprocessing", "syntax_only"]);

class Scan {
  readonly family: CompilerFamily;
  readonly cxxDriver: boolean;
  readonly args: Argument[] = [];
  readonly passThrough = new PassThroughPreprocessor();
  modeWords = new Set<string>();
  language: Language | null = null;
  languageUsed = true;
  sources: { path: ByteString; language: Language | null }[] = [];
  output: ByteString | null = null;
  outputs = 0;
  dependencyKinds = new Set<"MD" | "MMD">();
  dependencyFile: ByteString | null = null;
  targets: Target[] = [];
  phony = false;
  dependencyOptions = false;
  readonly refusals: Bypass[] = [];
  readonly makes = new Set<SideOutputRule>();
  readonly sideFiles: SideOutput[] = [];
  keepsNames = false;
  textRefusal: Refusal | null = null;
  ownPaths = false;
  random = false;

  constructor(family: CompilerFamily, program: ByteString) {
    this.family = family;
    this.cxxDriver = isCxxDriver(program);
  }

  /** Notes a reason and goes on: a later option may name a better one. */
  refuse(reason: BypassReason, detail: ByteString | null): void {
    this.refusals.push(new Bypass(reason, detail));
  }

  /** Notes why preprocessed text will not do; the first reason counts. */
  refuseText(reason: BypassReason | null, detail: ByteString | null): void {
    if (reason !== null) this.textRefusal ??= { reason, detail };
  }

  add(
    role: ArgumentRole,
    words: ByteString[],
    option: ByteString,
    value: ByteString | null,
    valueKind: ValueKind,
  ): void {
    const isPath = value !== null && valueKind !== "text" && valueKind !== "prefix_map";
    this.args.push({ role, words, option, value, valueKind, isPath });
  }

  scan(words: readonly ByteString[]): void {
    let optionsEnded = false;
    for (let index = 0; index < words.length; ) {
      const word = words[index] as ByteString;
      if (!optionsEnded && word === "--") {
        optionsEnded = true;
        // GCC has no such option.
        if (this.family === "gcc") this.refuse("bad_compiler_arguments", word);
        this.add("mode", [word], word, null, "text");
        index++;
      } else if (!optionsEnded && word.startsWith("-") && word !== "-") index += this.option(word, words[index + 1]);
      else {
        this.input(word);
        index++;
      }
    }
  }

  /** Takes an option and says how many words it was. */
  option(word: ByteString, next: ByteString | undefined): number {
    if (word === "-Xpreprocessor" || word === "-Xassembler") {
      if (next === undefined) {
        this.refuse("bad_compiler_arguments", word);
        return 1;
      }
      if (word === "-Xassembler") this.assembler([word, next], ascii("-Xassembler"), [next]);
      else this.preprocessor([word, next], ascii("-Xpreprocessor"), [next]);
      return 2;
    }
    if (word.startsWith("-Wa,")) {
      this.assembler([word], ascii("-Wa,"), assemblerWords(word));
      return 1;
    }
    if (word.startsWith("-Wp,")) {
      this.preprocessor([word], ascii("-Wp,"), word.slice(4).split(",") as ByteString[]);
      return 1;
    }
    const dump = this.family === "gcc" ? dumpFile(word) : null;
    if (dump !== null) return this.dump(word, dump);
    const match = matchOption(this.family, word);
    if (match.kind === "refused") this.refuse(match.reason, word);
    if (match.kind === "kept") this.refuseText(match.text, word);
    if (match.kind !== "rule") {
      this.add("both", [word], word, null, "text");
      return 1;
    }
    const { rule } = match;
    if (rule.bypass !== null) this.refuse(rule.bypass, word);
    this.refuseText(rule.text, word);
    if (rule.makes !== null) this.makes.add(rule.makes);
    this.ownPaths ||= rule.ownPaths;
    this.random ||= rule.random;
    this.keepsNames ||= rule.keepsNames;
    if (match.takesNext && next === undefined) {
      this.refuse("bad_compiler_arguments", word);
      return 1;
    }
    const value = match.takesNext ? (next as ByteString) : match.inWord;
    const own = match.takesNext ? [word, next as ByteString] : [word];
    this.effect(rule.name, value, word);
    this.add(rule.role, own, rule.name, value, rule.valueKind);
    return own.length;
  }

  /** One pass of GCC's, told on a file that the option names. */
  dump(word: ByteString, file: ByteString): number {
    this.sideFiles.push({ path: file, kind: "dump" });
    this.ownPaths = true;
    this.refuseText("side_outputs", word);
    this.add("compile", [word], word, null, "text");
    return 1;
  }

  effect(option: string, value: ByteString | null, word: ByteString): void {
    switch (option) {
      case "-x":
      case "--language=":
        this.setLanguage(value ?? ascii(""), word);
        break;
      case "-o":
      case "--output=":
        this.output = value;
        this.outputs++;
        break;
      case "-MD":
      case "-MMD":
        this.dependencyKinds.add(option === "-MD" ? "MD" : "MMD");
        break;
      case "-MF":
        this.dependencyFile = value;
        this.dependencyOptions = true;
        break;
      case "-MT":
      case "-MQ":
        this.targets.push({ text: value ?? ascii(""), quoted: option === "-MQ" });
        this.dependencyOptions = true;
        break;
      case "-MP":
        this.phony = true;
        this.dependencyOptions = true;
        break;
      case "-MG":
        // Both compilers allow it with -M and -MM alone.
        this.refuse("bad_compiler_arguments", word);
        break;
      case "-c":
      case "--compile":
        this.modeWords.add("-c");
        break;
      case "-S":
      case "--assemble":
        this.modeWords.add("-S");
        break;
      case "-I":
      case "-iquote":
      case "-isystem":
      case "-idirafter":
        // `-I-`, and paths relative to a system root.
        if (value === "-" || value?.startsWith("=") === true || value?.startsWith("$SYSROOT") === true)
          this.refuse("unsupported_compiler_option", word);
        break;
      case "-mllvm":
        if (value === null || !LLVM_OPTION.test(value)) this.refuse("unsupported_compiler_option", value);
        break;
      case "--target=":
      case "-target":
        if (value !== null && seeksAboveIncluders(value)) this.refuse("unsupported_compiler_option", word);
        break;
      case "--driver-mode=":
        // Others read other command lines.
        if (value === null || !/^(?:gcc|g\+\+|cpp)$/.test(value)) this.refuse("unsupported_compiler_option", word);
        break;
      default:
        break;
    }
  }

  setLanguage(name: ByteString, word: ByteString): void {
    this.languageUsed = false;
    if (name === "none") {
      this.language = null;
      this.languageUsed = true;
    } else if (LANGUAGES.has(name)) this.language = name as string as Language;
    else if (name.endsWith("-header")) this.refuse("could_not_use_precompiled_header", word);
    else if (name.endsWith("-module") || name.includes("header-unit")) this.refuse("could_not_use_modules", word);
    else this.refuse("unsupported_source_language", word);
  }

  input(word: ByteString): void {
    // Whoever asks what a compiler understands lets it compile nothing, as kernels' makefiles do a hundred times.
    if (word === "-" || word.startsWith("/dev/")) this.refuse("standard_input", word);
    if (word === "") this.refuse("bad_compiler_arguments", word);
    this.languageUsed = true;
    this.sources.push({ path: word, language: this.language });
    this.add("input", [word], ascii(""), word, "file");
  }

  assembler(words: ByteString[], option: ByteString, values: readonly ByteString[]): void {
    const { reason, lists, listings } = classifyAssemblerWords(values);
    if (reason !== null) this.refuse(reason, words[0] ?? null);
    if (lists) this.refuseText("side_outputs", words[0] ?? null);
    for (const path of listings) this.sideFiles.push({ path, kind: "listing" });
    this.add("compile", words, option, words[words.length - 1]?.slice(option === "-Wa," ? 4 : 0) as ByteString, "text");
  }

  preprocessor(words: ByteString[], option: ByteString, values: readonly ByteString[]): void {
    // Clang's driver rewrites `-Wp,-MD,file` itself and knows no other dependency options in this form.
    const known = values[0] === "-MD" || values[0] === "-MMD";
    if (this.family === "clang" && known && (option !== "-Wp," || values.length !== 2))
      this.refuse("unsupported_compiler_option", words[0] ?? null);
    this.passThrough.take(this.args.length, values);
    this.add(
      "dependency",
      words,
      option,
      words[words.length - 1]?.slice(option === "-Wp," ? 4 : 0) as ByteString,
      "text",
    );
  }
}

function mergePassThrough(scan: Scan): void {
  const result = scan.passThrough.finish(scan.family);
  if (result.kind === "refused") bypass("unsupported_compiler_option", result.word);
  for (const [index, role] of result.roles) scan.args[index] = { ...(scan.args[index] as Argument), role };
}

/** Leaves with the reason that says most, if there is any. */
function checkRefusals(scan: Scan): void {
  const deciding = scan.refusals.find((refusal) => DECIDING.has(refusal.reason));
  // oxlint-disable-next-line typescript/only-throw-error -- as in bypass()
  if (deciding !== undefined) throw deciding;
  if (scan.sources.length > 0 && !scan.modeWords.has("-c") && !scan.modeWords.has("-S")) bypass("called_for_link");
  // oxlint-disable-next-line typescript/only-throw-error -- as in bypass()
  if (scan.refusals[0] !== undefined) throw scan.refusals[0];
}

function chooseSource(scan: Scan): { path: ByteString; language: Language } {
  const [source] = scan.sources;
  if (source === undefined) return bypass("no_input_file");
  if (!scan.languageUsed) return bypass("bad_compiler_arguments", ascii("-x"));
  if (source.language !== null) return { path: source.path, language: source.language };
  const kind = inputKindOf(scan.family, scan.cxxDriver, source.path);
  switch (kind.kind) {
    case "source":
      return { path: source.path, language: kind.language };
    case "header":
      return bypass("could_not_use_precompiled_header", source.path);
    case "module":
      return bypass("could_not_use_modules", source.path);
    case "foreign":
      return bypass("unsupported_source_language", source.path);
    case "linker":
      return bypass("no_input_file", source.path);
  }
}

function dependenciesOf(scan: Scan, source: ByteString): DependencyRequest | null {
  const through = scan.passThrough.request;
  if (scan.dependencyKinds.size + (through === null ? 0 : 1) > 1) bypass("bad_compiler_arguments", ascii("-MD"));
  const [own] = scan.dependencyKinds;
  const kind = own ?? through?.kind ?? null;
  if (kind === null) {
    if (scan.dependencyOptions || scan.passThrough.targets.length > 0) bypass("bad_compiler_arguments", ascii("-MF"));
    return null;
  }
  if (scan.outputs > 1) bypass("bad_compiler_arguments", ascii("-o"));
  // Which of two files or which order of targets wins depends on the driver's own order.
  if (through !== null && (scan.dependencyFile !== null || scan.passThrough.file !== null))
    bypass("bad_compiler_arguments", ascii("-MF"));
  if (scan.targets.length > 0 && scan.passThrough.targets.length > 0) bypass("bad_compiler_arguments", ascii("-MT"));
  const file =
    through?.file ??
    scan.passThrough.file ??
    scan.dependencyFile ??
    defaultDependencyFile(scan.family, source, scan.output);
  checkOutputName(file);
  const given = [...scan.targets, ...scan.passThrough.targets];
  // With -Wp,-MD GCC's driver names no target, and the front end takes the source's name.
  const forDriver = own !== undefined || scan.family === "clang";
  const targets =
    given.length > 0 ? given : [{ text: defaultTarget(source, forDriver ? scan.output : null), quoted: true }];
  return { kind, file, targets, phony: scan.phony || scan.passThrough.phony };
}

/** A call with several sources is one call for each, where no option names a file for all of them. */
function parseSeveral(program: ByteString, scan: Scan): ParseResult {
  const several = (): never => bypass("multiple_source_files", scan.sources[1]?.path);
  const forAll = scan.outputs + scan.targets.length + scan.sideFiles.length;
  const through = scan.args.some(({ option }) => option === "-Wp," || option === "-Xpreprocessor");
  if (scan.sources.length > SOURCES_MAX || forAll > 0 || scan.dependencyFile !== null || through) return several();
  const inputs = scan.args.flatMap(({ role }, index) => (role === "input" ? [index] : []));
  const invocations = inputs.map((wanted) => {
    // A language counts for the sources after it.
    const isOthers = ({ role, option }: Argument, index: number) =>
      (role === "input" && index !== wanted) || ((option === "-x" || option === "--language=") && index > wanted);
    const kept = scan.args.filter((argument, index) => !isOthers(argument, index));
    const words = kept.flatMap((argument) => argument.words);
    const parsed = attempt(() => parseWords(program, words, scan.family));
    return parsed.kind === "compile" ? parsed.invocation : several();
  });
  const made = invocations.flatMap(({ output, dependencies, sideOutputs: side }) => [
    output,
    ...(dependencies === null ? [] : [dependencies.file]),
    ...side.map(({ path }) => path),
  ]);
  return new Set(made).size < made.length ? several() : { kind: "several", invocations };
}

function sideOutputsOf(scan: Scan, source: ByteString, output: ByteString): SideOutput[] {
  const named = sideOutputs({ rules: scan.makes, source, output, isNamed: scan.output !== null });
  return [...named, ...scan.sideFiles];
}

function parse(argv: readonly ByteString[], context: ParseContext): ParseResult {
  const program = argv[0] ?? ascii("");
  const expansion = expandResponseFiles(argv.slice(1), (path) => context.readResponseFile(path));
  if (expansion.kind === "refused") return bypass("unsupported_response_file", expansion.file);
  return parseWords(program, expansion.words, context.family);
}

function parseWords(program: ByteString, words: readonly ByteString[], family: CompilerFamily): ParseResult {
  const scan = new Scan(family, program);
  scan.scan(words);
  checkRefusals(scan);
  if (scan.sources.length > 1) return parseSeveral(program, scan);
  const produce = scan.modeWords.has("-S") ? "assembler" : "object";
  const source = chooseSource(scan);
  if (source.language.startsWith("assembler")) scan.refuseText("assembler_source", source.path);
  if (source.language.endsWith("cpp-output")) {
    scan.refuseText("preprocessed_source", source.path);
    // Its line markers name the files of the machine that made it.
    scan.ownPaths = true;
  }
  // Some drivers refuse it, and text is compiled with one.
  if (scan.outputs > 1) scan.refuseText("bad_compiler_arguments", ascii("-o"));
  if (produce === "assembler" && scan.args.some((arg) => arg.option === "-fverbose-asm"))
    bypass("recorded_switches", ascii("-fverbose-asm"));
  mergePassThrough(scan);
  const output = scan.output ?? defaultOutput(scan.family, source.path, produce);
  checkOutputName(output);
  for (const { path } of scan.sideFiles) checkOutputName(path);
  const dependencies = dependenciesOf(scan, source.path);
  const isPreprocessed = source.language === "assembler" || source.language.endsWith("cpp-output");
  // It says of each such option that it is unused; GCC says nothing, and neither writes the file.
  if (isPreprocessed && dependencies !== null && scan.family === "clang")
    bypass("bad_compiler_arguments", ascii("-MD"));
  const side = sideOutputsOf(scan, source.path, output);
  const written = [...(dependencies === null ? [] : [dependencies.file]), ...side.map(({ path }) => path)];
  checkDistinct(source.path, output, written);
  return {
    kind: "compile",
    invocation: {
      family,
      program,
      language: source.language,
      source: source.path,
      output,
      produce,
      arguments: scan.args,
      dependencies,
      sideOutputs: side,
      keepsNames: side.length > 0 || scan.random || scan.keepsNames,
      ownPaths: scan.ownPaths,
      random: scan.random,
      textRefusal: scan.textRefusal,
    },
  };
}

/** Parses a whole command line, argv[0] included. */
export function parseGnu(argv: readonly ByteString[], context: ParseContext): ParseResult {
  return attempt(() => parse(argv, context));
}

function attempt(parsing: () => ParseResult): ParseResult {
  try {
    return parsing();
  } catch (thrown) {
    if (thrown instanceof Bypass) return { kind: "bypass", reason: thrown.reason, detail: thrown.detail };
    throw thrown;
  }
}
