// The caller's own compilers, known by content: driver, compiler proper, assembler, the libraries that these load, and the files that set
// them up. Asked once for each way to call them, and again when a stamp differs. UNTRUSTED: the caller's PATH and what is on it.

import { createHash, randomUUID } from "node:crypto";
import { closeSync, openSync, readSync, statSync } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { ascii, type ByteString, byteStringOf, bytesOf } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import { FieldWriter } from "../../core/action/fields.ts";
import { isPlainConfiguration } from "../../core/compile/grammar/clang-configuration.ts";
import type { Environment } from "../../core/compile/grammar/environment.ts";
import { grammarOf } from "../../core/compile/grammar/gnu-grammar.ts";
import type { CompilerFamily, GnuInvocation, Language } from "../../core/compile/grammar/invocation.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import type { NamespaceRef } from "../../wire/launcher/messages.ts";
import type { CallInput, FileStamp } from "../call/answered-call.ts";
import { sameStamp, stampKey, stampOf } from "../call/file-stamp.ts";
import { realPath } from "../call/real-path.ts";
import { Remembered } from "../call/remembered.ts";
import { bypass, next, type Stage } from "../call/stage.ts";
import { processWay } from "../call/ways.ts";
import type { LauncherCall } from "../control/launcher-connection.ts";
import { driverPlaces } from "./driver-places.ts";
import { loaderPlaces, loaderVariables, placeStamps } from "./loader-places.ts";
import { type CompilerReport, readLoaded, readReport } from "./read-probe.ts";

export interface HostCompiler {
  readonly family: CompilerFamily;
  readonly identity: Digest;
  /** All that it is made of, and what says where its libraries are. */
  readonly files: readonly CallInput[];
  /** Folders of `#include` beside those that a call names, in their order, as the compiler spells them. */
  readonly folders: readonly ByteString[];
  /** Folders whose names decided that, absolute; they need not be there. */
  readonly places: readonly ByteString[];
}

interface Known {
  readonly compiler: HostCompiler;
  /** What must not be there: it would be taken instead. */
  readonly absent: readonly ByteString[];
  /** Programs that were found on PATH, by name. */
  readonly found: ReadonlyMap<ByteString, ByteString>;
  readonly installations: string;
}

/** What a call asks of a compiler. */
export interface CompilerQuestion {
  readonly call: LauncherCall;
  readonly invocation: Pick<GnuInvocation, "arguments" | "language">;
  readonly environment: Environment;
  /** An empty folder of the call's own. */
  readonly folder: ByteString;
}

const COMPILERS_MAX = 256;
const PROGRAMS_MAX = 1000;
const ASK_MS = 60_000;
const WORDS_BYTES_MAX = 4 * 1024 * 1024;
const CHUNK_BYTES = 1024 * 1024;
const HEADER_MAP = / \((?:headermap|framework directory)\)$/;
const LOADER_CACHE = ascii("/etc/ld.so.cache");
/** What no other program holds: specs of GCC's driver, a mode of Clang's. */
const MARKS: Readonly<Record<CompilerFamily, string>> = { gcc: "%(cc1_options)", clang: "cc1as" };
/** Options that change neither which programs run nor where they look. */
const NO_MATTER =
  /^-(?:[DUAIO]|iquote|isystem|idirafter|include|imacros|M|W|g(?!split)|std=|-std=|f(?!(?:no-)?integrated|openmp|sanitize|offload|lto)|w$|pedantic|ansi|pipe|save-temps|-save-temps|l|L|u$|z$|T|e$|Xlinker|r$|s$|rdynamic|pie|no-pie|static|shared|-param|x|-language|c$|S$|o$|-output|-compile|-assemble|-$|trigraphs|undef)/;

export class HostCompilers {
  readonly #known = new Remembered<Known>(COMPILERS_MAX);
  readonly #asked = new Map<string, Promise<Stage<Known>>>();
  readonly #digests = new Remembered<{ readonly stamp: FileStamp; readonly digest: Digest; readonly marks: string }>(
    PROGRAMS_MAX,
  );

  /** Libraries that a program loads, by its stamp and what else decides that. */
  readonly #loads = new Remembered<readonly ByteString[]>(PROGRAMS_MAX);

  /** The compiler that answers a call; a bypass when it cannot be known. */
  async find(question: CompilerQuestion): Promise<Stage<HostCompiler>> {
    const { call } = question;
    const path = call.message.hostCompiler;
    if (path === null) return bypass("unknown_compiler", call.message.argv[0]);
    const key = keyOf(path, question);
    const known = this.#known.get(key);
    if (known !== undefined && holds(known, question)) return next(known.compiler);
    for (;;) {
      const asked = this.#asked.get(key);
      const answer = asked ?? this.#ask(path, question);
      if (asked === undefined) this.#asked.set(key, answer);
      try {
        const stage = await answer;
        if (stage.kind === "bypass") return stage;
        this.#known.set(key, stage.value);
        return next(stage.value.compiler);
      } catch (error) {
        // The launcher that another call was asked through has left: this call asks itself.
        const othersEnd = asked !== undefined && error instanceof HpccError && error.code === "job.cancelled";
        if (!othersEnd) throw error;
      } finally {
        if (this.#asked.get(key) === answer) this.#asked.delete(key);
      }
    }
  }

  async #ask(path: ByteString, question: CompilerQuestion): Promise<Stage<Known>> {
    const { call, folder, invocation } = question;
    const unknown = bypass("unknown_compiler", path);
    if (isScript(path)) return bypass("unknown_compiler", path, "a script may do anything before it compiles");
    // The daemon would find its own.
    if (processWay([path, ...searchedFolders(question)]) !== null) return unknown;
    const calledAs = call.message.argv[0]!;
    const report = await askDriver({ call, folder, namespace: null }, invocation, { path, calledAs });
    if (report === null) return unknown;
    // A file that says itself where headers are, as a configuration may name one.
    if (report.folders.some((path) => HEADER_MAP.test(path))) return unknown;
    const { driver } = grammarOf(report).habits;
    if (driver.saysItsName && report.calledAs !== calledAs) return unknown;
    const found = new Map<ByteString, ByteString>();
    const programs = new Set<ByteString>([path]);
    for (const name of report.programs) {
      const program = name.includes("/") ? absolute(name, call) : onPath(name, question);
      // It may read anything, and its text does not say what.
      if (program === null || isScript(program)) return unknown;
      if (!name.includes("/")) found.set(name, program);
      programs.add(program);
    }
    if (driver.compilesItself && !sameFile(path, [...programs][1] ?? path)) return unknown;
    const libraries = await this.#libraries(question, [...programs]);
    if (libraries === null) return unknown;
    const files: CallInput[] = [];
    const told = [...report.setUpBy, ...report.checkLists].map((file) => absolute(file, call));
    const parts = [...new Set([...programs, ...libraries, ...told])];
    if (processWay(parts) !== null) return unknown;
    for (const part of parts) {
      const file = await this.#digest(part);
      if (file === null) return unknown;
      if (part === path && !file.marks.includes(report.family)) return unknown;
      files.push({ path: part, digest: file.digest, stamp: file.stamp });
    }
    const around = { cwd: call.message.cwd, driver: realPath(path), path: searchedFolders(question) };
    const places = driverPlaces(invocation, report, around);
    if (places === null) return bypass("unsupported_compiler_option", path, "the folders that it names hold too many");
    if (driver.setUpBy.beside === "driver")
      for (const file of report.setUpBy) if (!isPlainConfiguration(await textOf(absolute(file, call)))) return unknown;
    const compiler: HostCompiler = {
      family: report.family,
      identity: identityOf(report.folders, files),
      files: [...files, ...(await this.#loaderCache())],
      folders: report.folders,
      places,
    };
    return next({
      compiler,
      found,
      installations: installationsOf(compiler) + loaderPlaces(question.environment, question.call.message.cwd),
      absent: tookInstead(report.family, [...programs], [...found.keys()]),
    });
  }

  async #loaderCache(): Promise<CallInput[]> {
    const cache = await this.#digest(LOADER_CACHE);
    return cache === null ? [] : [{ path: LOADER_CACHE, digest: cache.digest, stamp: cache.stamp }];
  }

  /** Libraries of all programs; null when the loader does not tell. */
  async #libraries(question: CompilerQuestion, programs: readonly ByteString[]): Promise<Set<ByteString> | null> {
    const all = new Set<ByteString>();
    for (const program of programs) {
      const told = [
        stampKey(program),
        stampKey(LOADER_CACHE),
        loaderPlaces(question.environment, question.call.message.cwd),
        ...loaderVariables(question.environment),
      ];
      const key = [program, ...told].join("\0");
      let loaded = this.#loads.get(key);
      if (loaded === undefined) {
        const trace = hasInterpreter(program) ? [ascii("LD_TRACE_LOADED_OBJECTS=1")] : null;
        const traced =
          trace === null
            ? { stdout: ascii("") }
            : await runQuietly({ ...question, namespace: null }, program, [program], trace);
        if (traced === null) return null;
        loaded = readLoaded(traced.stdout);
        this.#loads.set(key, loaded);
      }
      for (const library of loaded) all.add(library);
    }
    return all;
  }

  async #digest(path: ByteString) {
    const before = stampOf(path);
    if (before === null) return null;
    const known = this.#digests.get(path);
    if (known !== undefined && sameStamp(known.stamp, before)) return known;
    const { digest, marks } = await digestInParts(path);
    const stamp = stampOf(path);
    if (stamp === null || !sameStamp(before, stamp)) return null;
    const read = { stamp, digest, marks };
    this.#digests.set(path, read);
    return read;
  }
}

const LANGUAGES: Readonly<Record<Language, string>> = {
  c: "c",
  "c++": "c++",
  "cpp-output": "c",
  "c++-cpp-output": "c++",
  assembler: "assembler-with-cpp",
  "assembler-with-cpp": "assembler-with-cpp",
};

/** Words of a call that decide which programs run and where they look. */
export function relevantWords({ arguments: words }: Pick<GnuInvocation, "arguments">): ByteString[] {
  return words.flatMap(({ role, words: own }) =>
    role === "input" || role === "output" || role === "dependency" || NO_MATTER.test(own[0] ?? "") ? [] : own,
  );
}

function keyOf(path: ByteString, { call, invocation, environment }: CompilerQuestion): string {
  const { argv, cwd } = call.message;
  const words = relevantWords(invocation);
  const variables = [environment.get("PATH"), ...loaderVariables(environment)];
  const named = invocation.arguments.some(
    ({ isPath, value, words: [word = ""] }) =>
      isPath && value?.startsWith("/") !== true && words.includes(word as ByteString),
  );
  const place = named || isRelative(environment.get("PATH")) || !path.startsWith("/") ? cwd : "";
  return JSON.stringify([path, argv[0], words, LANGUAGES[invocation.language], place, variables]);
}

function isRelative(path: ByteString | undefined): boolean {
  return (path ?? "").split(":").some((folder) => !folder.startsWith("/"));
}

/**
 * What changes when a compiler that was not there before would be taken, or its parts: folders of versions of GCC, of whose headers Clang
 * takes the newest, and the folder beside a driver that reads files of many names there.
 */
function installationsOf({ family, files, folders, places }: HostCompiler): string {
  const above = folders.flatMap((folder) => {
    const parts = folder.split("/");
    const at = parts.findIndex((part, index) => part.startsWith("gcc") && parts[index - 1]?.startsWith("lib") === true);
    return at < 0 || parts.length <= at + 2 ? [] : [parts.slice(0, at + 2).join("/")];
  });
  const { beside } = grammarOf({ family }).habits.driver.setUpBy;
  const driver = beside === "driver" ? files.slice(0, 1) : [];
  const own = driver.flatMap(({ path }) => [folderOf(path), folderOf(realPath(path))]);
  return placeStamps([...new Set([...above, ...own, ...places])]);
}

function holds({ compiler, absent, found, installations }: Known, question: CompilerQuestion): boolean {
  for (const { path, stamp } of compiler.files) {
    const now = stampOf(path);
    if (now === null || !sameStamp(now, stamp)) return false;
  }
  if (installationsOf(compiler) + loaderPlaces(question.environment, question.call.message.cwd) !== installations)
    return false;
  for (const [name, path] of found) if (onPath(name, question) !== path) return false;
  return absent.every((path) => statSync(bytesOf(path), { throwIfNoEntry: false }) === undefined);
}

/** Files that a driver would take before those that it took. */
function tookInstead(
  family: CompilerFamily,
  programs: readonly ByteString[],
  names: readonly ByteString[],
): ByteString[] {
  const [driver, proper] = programs;
  const { beside, names: setUpFiles } = grammarOf({ family }).habits.driver.setUpBy;
  const folder = folderOf(beside === "driver" ? realPath(driver!) : (proper ?? driver!));
  if (beside === "driver") return setUpFiles.map((name) => `${folder}/${name}` as ByteString);
  const [, triple, version] = /\/([^/]+)\/([^/]+)$/.exec(folder) ?? [];
  const tools = `${folder}/../../../../${triple}/bin`;
  const places = [folder, `${folder}/..`, `${folder}/../..`, tools, `${tools}/${triple}/${version}`];
  return [...setUpFiles, ...places.flatMap((place) => names.map((name) => `${place}/${name}`))].map(
    (path) => (path.startsWith("/") ? path : `${folder}/${path}`) as ByteString,
  );
}

function identityOf(folders: readonly ByteString[], files: readonly CallInput[]): Digest {
  const fields = new FieldWriter().ascii(1, "hpcc.host-compiler.v1");
  for (const { path, digest } of files) fields.byteString(2, path).digest(3, digest);
  for (const folder of folders) fields.byteString(4, folder);
  return sha256(fields.finish());
}

function absolute(path: ByteString, { message }: LauncherCall): ByteString {
  return path.startsWith("/") ? path : (`${message.cwd}/${path}` as ByteString);
}

function searchedFolders({ call, environment }: Pick<CompilerQuestion, "call" | "environment">): ByteString[] {
  const folders = (environment.get("PATH") ?? "").split(":");
  return folders.map((folder) => absolute((folder === "" ? "." : folder) as ByteString, call));
}

/** The program that execvp would run; null when there is none. */
function onPath(name: ByteString, { call, environment }: CompilerQuestion): ByteString | null {
  for (const folder of searchedFolders({ call, environment })) {
    const path = `${folder}/${name}` as ByteString;
    const stat = statSync(bytesOf(path), { throwIfNoEntry: false });
    if (stat?.isFile() === true && (stat.mode & 0o111) !== 0) return path;
  }
  return null;
}

function sameFile(a: ByteString, b: ByteString): boolean {
  const [one, other] = [stampOf(a), stampOf(b)];
  return one !== null && other !== null && one.ino === other.ino && one.dev === other.dev;
}

async function textOf(path: ByteString): Promise<ByteString> {
  return byteStringOf(await readFile(bytesOf(path)));
}

function folderOf(path: ByteString): ByteString {
  return path.slice(0, path.lastIndexOf("/")) as ByteString;
}

function firstBytes(path: ByteString, count: number): Buffer {
  const bytes = Buffer.alloc(count);
  let fd = -1;
  try {
    fd = openSync(bytesOf(path), "r");
    return bytes.subarray(0, readSync(fd, bytes, 0, count, 0));
  } catch {
    return bytes.subarray(0, 0);
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

function isScript(path: ByteString): boolean {
  return !firstBytes(path, 4).equals(Buffer.from("\x7fELF", "latin1"));
}

const ELF_HEADERS_BYTES = 64 * 1024;
const PT_INTERP = 3;

/** Whether a program of this machine's kind is started through the loader, which can say what it loads. */
function hasInterpreter(path: ByteString): boolean {
  const bytes = firstBytes(path, ELF_HEADERS_BYTES);
  const is64 = bytes[4] === 2;
  if (bytes.length < 64 || bytes.toString("latin1", 1, 4) !== "ELF" || bytes[5] !== 1) return false;
  const start = is64 ? Number(bytes.readBigUInt64LE(32)) : bytes.readUInt32LE(28);
  const size = bytes.readUInt16LE(is64 ? 54 : 42);
  const count = bytes.readUInt16LE(is64 ? 56 : 44);
  for (let at = start, left = count; left > 0 && at + 4 <= bytes.length; at += size, left -= 1)
    if (bytes.readUInt32LE(at) === PT_INTERP) return true;
  return false;
}

/** Reads in parts, so that the daemon goes on meanwhile: a compiler has a hundred megabytes. */
async function digestInParts(path: ByteString): Promise<{ digest: Digest; marks: string }> {
  await using handle = await open(bytesOf(path), "r");
  const hash = createHash("sha256");
  const marks = new Set<string>();
  const buffer = Buffer.alloc(CHUNK_BYTES + 64);
  for (let kept = 0; ; ) {
    const { bytesRead } = await handle.read(buffer, kept, CHUNK_BYTES);
    if (bytesRead === 0) break;
    hash.update(buffer.subarray(kept, kept + bytesRead));
    const end = kept + bytesRead;
    for (const [family, mark] of Object.entries(MARKS)) if (buffer.subarray(0, end).includes(mark)) marks.add(family);
    const rest = Math.min(end, 32);
    buffer.copyWithin(0, end - rest, end);
    kept = rest;
  }
  return { digest: `sha256:${hash.digest("hex")}` as Digest, marks: [...marks].join(" ") };
}

/** Variables that change the language of a report, or the folders in it that a call's own key holds. */
const UNTOLD = /^(?:LC_ALL|LANGUAGE|LANG|CPATH|[A-Z_]*INCLUDE_PATH|LD_TRACE_LOADED_OBJECTS)=/;

interface Asking {
  readonly call: LauncherCall;
  readonly folder: ByteString;
  readonly namespace: NamespaceRef | null;
}

/** Asks a driver about itself, as it would compile a call; null when it does not answer. */
export async function askDriver(
  asking: Asking,
  invocation: CompilerQuestion["invocation"],
  { path, calledAs }: { readonly path: ByteString; readonly calledAs: ByteString },
): Promise<CompilerReport | null> {
  const output = `${asking.folder}/asked.o` as ByteString;
  const words = ["-v", "-c", "-x", LANGUAGES[invocation.language], "/dev/null", "-o"].map(ascii);
  const said = await runQuietly(asking, path, [calledAs, ...relevantWords(invocation), ...words, output]);
  return said === null ? null : readReport(said.stderr);
}

/** Runs a program as the launcher's child; null when it does not end well. */
async function runQuietly(
  { call, folder, namespace }: Asking,
  program: ByteString,
  argv: readonly ByteString[],
  variables: readonly ByteString[] = [],
): Promise<{ stdout: ByteString; stderr: ByteString } | null> {
  const name = `${folder}/${randomUUID()}`;
  const files = { stdout: `${name}.out` as ByteString, stderr: `${name}.err` as ByteString };
  const ran = await call.run({
    program,
    argv,
    environment: [...call.message.environment.filter((entry) => !UNTOLD.test(entry)), ascii("LC_ALL=C"), ...variables],
    cwd: call.message.cwd,
    namespace,
    stdin: "null",
    stdout: { kind: "file", path: files.stdout },
    stderr: { kind: "file", path: files.stderr },
    timeLimitMs: ASK_MS,
  });
  if (ran.outcome.kind !== "exited" || ran.outcome.code !== 0) return null;
  const [stdout, stderr] = await Promise.all([files.stdout, files.stderr].map((file) => readFile(bytesOf(file))));
  if (stdout!.length > WORDS_BYTES_MAX || stderr!.length > WORDS_BYTES_MAX) return null;
  return { stdout: byteStringOf(stdout!), stderr: byteStringOf(stderr!) };
}
