// Which facts hold a call's result: its inputs, compiler, configuration, and the names between them at which nothing may be.
// UNTRUSTED: the call's words and paths are a checkout's.
import { closeSync, constants, openSync, readFileSync, readlinkSync, readSync, statSync } from "node:fs";
import { type ByteString, byteStringOf, byteStringOfText, bytesOf } from "../../base/byte-string.ts";
import { withoutTrailingSlashes } from "../../base/trailing-slashes.ts";
import { PROJECT_CONFIG } from "../../config/client.ts";
import { IMAGE_LOCK } from "../../config/image-lock.ts";
import type { CallMessage } from "../../wire/launcher/messages.ts";
import { countsForReplay } from "../../wire/launcher/replay-environment.ts";
import type { PwdState } from "../../wire/launcher/replay-record.ts";
import type { AnsweredCall, CallCompiler } from "../call/answered-call.ts";
import { type FolderState, folderState } from "../call/folder-state.ts";
import { localePlaces } from "../call/locale-places.ts";
import { environmentOf } from "../call/read-call.ts";
import { type AbsentOptions, holdAbsent } from "./absent-names.ts";
import { type Evidence, look } from "./evidence.ts";

const VERSION_CONTROL = [".git", ".hg", ".svn"];
/** Options that name a folder in which the driver takes the newest of what it finds. */
const CHOOSING = /--gcc-(?:toolchain|install-dir)/;
/** What the processor is shows in no stamp, and a disk may be moved to another. */
const NATIVE = /-m(?:arch|cpu|tune)=native/;
const MISSING_FOLDERS = /missing-include-dirs/;
const NESTED_RESPONSE_FILE = /(?:^|[\s"'\\])@/;
const RESPONSE_FILE_BYTES_MAX = 1024 * 1024;
/** The folder with a target's versions of GCC. */
const GCC_INSTALLATION = /^(\/(?:[^/]+\/)*?lib[^/]*\/gcc[^/]*\/[^/]+)\/[^/]+\//;
const LINKS_MAX = 16;
const ELF_MAGIC = "\x7fELF";
const PATH_DEFAULT = "/bin:/usr/bin";
const LOADER_FOLDERS = "LD_LIBRARY_PATH";
/** Folders in those in which the loader seeks, too. */
const LOADER_SUBFOLDERS = ["glibc-hwcaps", "tls", "haswell", "x86_64"];
/** Programs that drivers seek on PATH where they have none of their own. */
const TOOLS = ["as", "objcopy"];
/** Parts beside which drivers seek what sets them up, and their tools. */
const GCC_PART = /\/cc1[^/]*$/;
const SPECS = "specs";
/** Read by the loader of every program. */
const LOADER_FILE = "/etc/ld.so.preload" as ByteString;

export interface EvidenceSources extends Omit<AbsentOptions, "written"> {
  /** Files of hpcc's configuration outside of projects, which need not exist. */
  readonly configurationFiles: readonly string[];
  /** The program that decides what a call means; null for none. */
  readonly program: string | null;
}

/** A variable's value in the caller's environment; null when it is not set. */
export function variable(message: Pick<CallMessage, "environment">, name: string): ByteString | null {
  const entry = message.environment.find((other) => other.startsWith(`${name}=`));
  return entry === undefined ? null : (entry.slice(name.length + 1) as ByteString);
}

/** Adds what the call depends on. */
export function gatherEvidence(call: AnsweredCall, evidence: Evidence, sources: EvidenceSources): void {
  const { message, compiler } = call;
  if (compiler === null || call.inputs.length === 0) return evidence.refuse("not_understood");
  for (const name of call.environment.keys()) if (!countsForReplay(name)) return evidence.refuse("environment");
  for (const { path, stamp } of call.inputs) evidence.stamp(path, stamp);
  holdWords(message, evidence);
  holdCompiler(message, compiler, evidence);
  holdInstallations(call, evidence);
  holdConfiguration(call, evidence, sources);
  holdPwd(message, evidence);
  holdLocale(call, evidence);
  holdSearched(call, evidence);
  if (evidence.doubt !== null) return;
  const written = new Set<string>();
  for (const folder of outputFolders(call)) {
    const found = look(folder);
    if (found !== null && found !== "doubt") written.add(`${found.dev}:${found.ino}`);
  }
  holdAbsent(call.absent, evidence, { ...sources, written });
}

/** Files that words of the command line stand for, and folders in which a driver chooses by what it finds. */
function holdWords({ argv, cwd }: CallMessage, evidence: Evidence): void {
  for (const word of argv.slice(1)) {
    if (CHOOSING.test(word)) return evidence.refuse("search_option");
    if (NATIVE.test(word)) return evidence.refuse("native");
    if (!word.startsWith("@")) continue;
    const path = absolutePath(cwd, word.slice(1) as ByteString);
    evidence.asItIs(path);
    const text = look(path) === null ? "" : textOf(path);
    // One within another is read by no rule of ours.
    if (text === null || NESTED_RESPONSE_FILE.test(text)) return evidence.refuse("response_file");
    if (NATIVE.test(text) || CHOOSING.test(text)) return evidence.refuse("response_file");
  }
}

function textOf(path: ByteString): string | null {
  try {
    const stat = statSync(bytesOf(path));
    return stat.isFile() && stat.size <= RESPONSE_FILE_BYTES_MAX ? readFileSync(bytesOf(path), "latin1") : null;
  } catch {
    return null;
  }
}

/**
 * Compilers say when a folder that they are to search is missing or none, and pass over it in silence when it appears. One that is there needs
 * to be held only where a warning asks for it, as what was read in it is held and build folders are made anew; and where it is searched under
 * two names, which GCC takes for one folder while they are.
 */
function holdSearched({ searched, words }: AnsweredCall, evidence: Evidence): void {
  const warns = words.some((word) => MISSING_FOLDERS.test(word));
  const names = new Map<FolderState, number>();
  for (const { state } of searched) names.set(state, (names.get(state) ?? 0) + 1);
  for (const { path, state } of searched) {
    if (folderState(path) !== state) return evidence.refuse("folder_changed");
    if (state === "nothing") evidence.nothingAt(path);
    else if (state === "no folder") evidence.asItIs(path);
    else if (warns || names.get(state)! > 1) evidence.place(path);
  }
}

/** Clang takes the headers of the newest GCC that it finds. */
function holdInstallations({ inputs, absent }: AnsweredCall, evidence: Evidence): void {
  const paths = [...inputs.map(({ path }) => path), ...new Set(absent.map(({ folder }) => folder))];
  for (const folder of new Set(paths.map((path) => GCC_INSTALLATION.exec(path)?.[1])))
    if (folder !== undefined) evidence.asItIs(folder as ByteString);
}

function outputFolders({ message, result }: AnsweredCall): Set<ByteString> {
  const folders = (result?.outputs ?? []).map(({ destination }) => folderOf(absolutePath(message.cwd, destination)));
  return new Set(folders);
}

export function absolutePath(cwd: ByteString, path: ByteString): ByteString {
  return path.startsWith("/") ? path : (`${cwd}/${path}` as ByteString);
}

function folderOf(path: ByteString): ByteString {
  return (path.slice(0, path.lastIndexOf("/")) || "/") as ByteString;
}

/** The compiler of this machine: the files that it is made of, and the way on which the launcher found it. */
function holdCompiler(message: CallMessage, { image, files, places = [] }: CallCompiler, evidence: Evidence): void {
  for (const path of places) evidence.asItIs(path);
  if (image !== null) return;
  for (const { path, stamp } of files) evidence.stamp(path, stamp);
  const { hostCompiler } = message;
  if (hostCompiler === null) return evidence.refuse("no_compiler");
  const path = absolutePath(message.cwd, hostCompiler);
  const found = look(path);
  const isKnown = ({ stamp }: CallCompiler["files"][number]) =>
    found !== null &&
    found !== "doubt" &&
    stamp.dev === found.dev &&
    stamp.ino === found.ino &&
    stamp.ctimeNs === found.ctimeNs;
  if (!files.some(isKnown)) return evidence.refuse("compiler_changed");
  // A script may read any variable and run anything.
  if (!isElf(path)) return evidence.refuse("compiler_is_script");
  evidence.asItIs(path);
  holdLinks(path, evidence);
  holdNeighbours(files, evidence);
  holdSearch(message, hostCompiler, files, evidence);
  holdLoader(message, evidence);
}

function isElf(path: ByteString): boolean {
  let fd = -1;
  try {
    fd = openSync(bytesOf(path), constants.O_RDONLY | constants.O_NONBLOCK);
    const magic = Buffer.alloc(ELF_MAGIC.length);
    return readSync(fd, magic) === magic.length && magic.toString("latin1") === ELF_MAGIC;
  } catch {
    return false;
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}

/** Drivers look for their parts from where their links lead: the links themselves count, not only what they lead to. */
function holdLinks(path: ByteString, evidence: Evidence): void {
  let at = path;
  for (let count = 0; count < LINKS_MAX; count++) {
    const link = readLink(at);
    if (link === null) return;
    evidence.link(at);
    at = absolutePath(folderOf(at), link);
  }
  evidence.refuse("links");
}

function readLink(path: ByteString): ByteString | null {
  try {
    return byteStringOf(readlinkSync(bytesOf(path), { encoding: "buffer" }));
  } catch {
    return null;
  }
}

/** What stands in PATH before a program that was found must go on not answering to its name. */
function holdSearch(message: CallMessage, hostCompiler: ByteString, files: CallCompiler["files"], evidence: Evidence) {
  const spelled = (variable(message, "PATH") ?? PATH_DEFAULT).split(":").map((folder) => folder || ".");
  const folders = spelled.map((folder) => withoutTrailingSlashes(absolutePath(message.cwd, folder as ByteString)));
  const name = hostCompiler.slice(hostCompiler.lastIndexOf("/") + 1);
  if (message.argv[0] !== hostCompiler) {
    const at = spelled.findIndex((folder) => `${folder}/${name}` === hostCompiler);
    if (at < 0) return evidence.refuse("compiler_not_on_path");
    // Others of its name there are launchers, or no programs.
    for (const folder of folders.slice(0, at)) evidence.asItIs(`${folder}/${name}` as ByteString);
  }
  for (const { path } of files) {
    const at = folders.indexOf(folderOf(path));
    const part = path.slice(path.lastIndexOf("/") + 1);
    if (part === name) continue;
    for (const folder of folders.slice(0, Math.max(at, 0))) evidence.nothingAt(`${folder}/${part}` as ByteString);
  }
  for (const tool of TOOLS)
    for (const folder of folders) {
      const path = `${folder}/${tool}` as ByteString;
      evidence.asItIs(path);
      if (look(path) !== null) break;
    }
}

/** Whether a part of a compiler is a driver of Clang, by whatever name, and no library. */
function isClangs(path: ByteString): boolean {
  const name = path.slice(path.lastIndexOf("/") + 1);
  return name.includes("clang") && !name.includes(".so");
}

/** What drivers would take instead of their own if it appeared beside their parts. */
function holdNeighbours(files: CallCompiler["files"], evidence: Evidence): void {
  for (const { path } of files) {
    if (GCC_PART.test(path)) {
      const folder = folderOf(path);
      for (const name of [SPECS, ...TOOLS]) evidence.asItIs(`${folder}/${name}` as ByteString);
      evidence.asItIs(`${folder.replace("/libexec/", "/lib/")}/${SPECS}` as ByteString);
    }
    // Clang reads files of many names beside itself.
    if (isClangs(path) && readLink(path) === null) evidence.asItIs(folderOf(path));
  }
}

/** What the caller's loader is told to load into compilers. */
function holdLoader(message: CallMessage, evidence: Evidence): void {
  evidence.asItIs(LOADER_FILE);
  for (const name of ["LD_PRELOAD", "LD_AUDIT"])
    for (const path of (variable(message, name) ?? "").split(/[: ]/)) {
      if (path === "") continue;
      if (!path.startsWith("/")) return evidence.refuse("loader");
      evidence.asItIs(path as ByteString);
    }
  const folders = variable(message, LOADER_FOLDERS);
  if (folders === null || folders === "") return;
  for (const spelled of folders.split(/[:;]/)) {
    const folder = absolutePath(message.cwd, (spelled === "" ? "." : spelled) as ByteString);
    // Any library may come to stand in it.
    evidence.asItIs(folder);
    for (const below of LOADER_SUBFOLDERS)
      if (look(`${folder}/${below}` as ByteString) !== null) return evidence.refuse("loader");
  }
}

/** The files that say what hpcc does with the call, and those that would if they appeared. */
function holdConfiguration(call: AnsweredCall, evidence: Evidence, sources: EvidenceSources): void {
  const { configuration, message, project } = call;
  const given = new Set<ByteString>();
  for (const { path, stamp } of configuration) {
    given.add(path);
    if (stamp === null) evidence.nothingAt(path);
    else evidence.stamp(path, stamp);
  }
  const hold = (path: ByteString) => {
    if (!given.has(path)) evidence.asItIs(path);
  };
  for (const file of sources.configurationFiles) hold(byteStringOfText(file));
  if (sources.program !== null) hold(byteStringOfText(sources.program));
  const folders = upwards(message.cwd);
  if (project !== null && !folders.includes(project)) return evidence.refuse("project_elsewhere");
  let isConfigured = false;
  for (const folder of folders) {
    const file = `${folder}/${PROJECT_CONFIG}` as ByteString;
    const isThere = look(file) !== null;
    isConfigured ||= isThere;
    hold(file);
    // It says which image the file's name for one is.
    if (isThere) hold(`${folder}/${IMAGE_LOCK}` as ByteString);
  }
  if (!isConfigured) holdMarkers(folders, evidence);
}

/** The folder under version control that is the project's root, if one is. */
function holdMarkers(folders: readonly ByteString[], evidence: Evidence): void {
  for (const folder of folders)
    for (const name of VERSION_CONTROL) {
      const marker = `${folder}/${name}` as ByteString;
      if (look(marker) !== null) return evidence.place(marker);
      evidence.nothingAt(marker);
    }
}

/** The folder and those above it, but for the root folder. */
function upwards(folder: ByteString): ByteString[] {
  const folders: ByteString[] = [];
  for (let at: string = folder; at !== "" && at !== "/"; at = at.slice(0, at.lastIndexOf("/")))
    folders.push(at as ByteString);
  return folders;
}

/** What compilers take PWD for. */
export function pwdState({ cwd, environment }: Pick<CallMessage, "cwd" | "environment">): PwdState {
  const pwd = variable({ environment }, "PWD");
  if (pwd === null || !pwd.startsWith("/")) return "none";
  if (pwd === cwd) return "leads";
  const [there, here] = [look(pwd), look(cwd)];
  if (there === null || here === null || there === "doubt" || here === "doubt") return "misleads";
  return there.dev === here.dev && there.ino === here.ino ? "leads" : "misleads";
}

/** What is installed of the caller's locale, on this machine. */
function holdLocale({ message, compiler }: AnsweredCall, evidence: Evidence): void {
  if (compiler?.image !== null) return;
  const { files, folders } = localePlaces(environmentOf(message.environment), message.cwd);
  for (const path of [...files, ...folders]) evidence.asItIs(path);
}

/** The links in PWD are to be those of the call: another target would give debug information another folder. */
function holdPwd(message: CallMessage, evidence: Evidence): void {
  const pwd = variable(message, "PWD");
  if (pwd === null || !pwd.startsWith("/") || pwd === message.cwd) return;
  for (const folder of upwards(pwd)) if (readLink(folder) !== null) evidence.link(folder);
}
