// A call of a known compiler with the keys under which its results may lie: one that checkouts at any place share, where nothing of the
// place is in the call, and one of its own place.
import { statSync } from "node:fs";
import { ascii, type ByteString, bytesOf } from "../../base/byte-string.ts";
import { grammarOf } from "../../core/compile/grammar/gnu-grammar.ts";
import type { GnuInvocation } from "../../core/compile/grammar/invocation.ts";
import type { Digest } from "../../core/digest/digest.ts";
import type { CallMessage } from "../../wire/launcher/messages.ts";
import type { AbsentNames, AnsweredCall, CallCompiler, CallInput, SearchedState } from "../call/answered-call.ts";
import { folderState } from "../call/folder-state.ts";
import { localeState } from "../call/locale-places.ts";
import { bypass, next, type Stage } from "../call/stage.ts";
import { comparedWords } from "../call/told-call.ts";
import { processWay } from "../call/ways.ts";
import type { FolderNamesCache } from "../inputs/folder-names.ts";
import { type FolderIdentities, SteadyPlaces } from "../inputs/steady-places.ts";
import type { Command } from "./compile-in-place.ts";
import { type FoundInput, plainPath } from "./find-inputs.ts";
import type { HostCompiler } from "./host-compilers.ts";
import type { RecordedNames } from "./local-record.ts";
import { isMovable, placeNames } from "./moved-checkouts.ts";
import { callDigest, type LocalCall } from "./read-local-call.ts";
import { folderKinds } from "./same-files.ts";
import { type SearchedFolder, searchPath } from "./search-path.ts";
import { type ForeignFiles, SeenNames } from "./seen-names.ts";

export interface KeyedCall {
  readonly invocation: GnuInvocation;
  readonly cwd: ByteString;
  readonly project: ByteString | null;
  /** An empty folder of the call's own. */
  readonly folder: ByteString;
  /** Where `#include` is answered from. */
  readonly searched: readonly SearchedFolder[];
  readonly hasEpoch: boolean;
  readonly command: Command;
  /** In the order of looking up; the last one is the call's own place. */
  readonly keys: readonly Digest[];
  /** Spellings of the place, which a shared result must not hold. */
  readonly placeNames: readonly ByteString[];
  readonly known: Pick<
    AnsweredCall,
    "compiler" | "searched" | "source" | "output" | "words" | "environment" | "callDigest"
  >;
  /** The names that the call sees, fresh. */
  seen(names: FolderNamesCache): SeenNames;
  /** What is known of the folders that the call names, before it is compiled. */
  placesBefore(identities: FolderIdentities, names: FolderNamesCache): SteadyPlaces;
  /** Inputs and absent names by their absolute paths. */
  placed(
    inputs: readonly FoundInput[],
    absent: readonly RecordedNames[],
  ): { readonly inputs: readonly CallInput[]; readonly absent: readonly AbsentNames[] };
}

export interface KeyedCallParts {
  readonly message: CallMessage;
  readonly call: LocalCall;
  readonly compiler: HostCompiler;
  readonly project: ByteString | null;
  readonly folder: ByteString;
}

/** A call of the caller's own compiler. */
export function keyedCall(parts: KeyedCallParts): Stage<KeyedCall> {
  const { message, call, compiler, project } = parts;
  const pwd = call.environment.get("PWD");
  const names = placeNames(message.cwd, pwd, project);
  const found = foldersSearched(parts, null);
  if (found.kind === "bypass") return found;
  const searched = found.value;
  const { kinds: folders } = searched;
  const place = [message.cwd, mayLeadTo(pwd, message.cwd) ? pwd! : ("" as ByteString)] as const;
  const locale = localeState(call.environment, message.cwd);
  const own = callDigest(call, compiler.identity, { place, folders, locale });
  const shared = isMovable(call, names) ? [callDigest(call, compiler.identity, { place: null, folders, locale })] : [];
  const placed = placedCall(parts, {
    placeNames: names,
    keys: [...shared, own],
    hasEpoch: call.environment.has("SOURCE_DATE_EPOCH"),
    command: {
      program: message.hostCompiler!,
      argv: message.argv,
      environment: message.environment,
      namespace: null,
    },
    foreign: null,
    states: searched.states,
    compiler: { identity: compiler.identity, image: null, files: compiler.files, places: compiler.places },
  });
  return next(placed);
}

export interface FoldersSearched {
  /** Part of the key. */
  readonly kinds: string;
  /** Without those that are not this machine's. */
  readonly states: readonly SearchedState[];
}

/** What stands at the folders that a call searches; a bypass for a file that may say itself where headers are. */
export function foldersSearched(
  { message: { cwd }, call, compiler }: Pick<KeyedCallParts, "message" | "call" | "compiler">,
  foreign: ForeignFiles | null,
): Stage<FoldersSearched> {
  const folders = searchPath(call.invocation, call.environment, compiler.folders).map(({ path }) => {
    const spelled = path === "" ? ascii("/") : path;
    const absolute = spelled === "." ? cwd : spelled.startsWith("/") ? spelled : (`${cwd}/${spelled}` as ByteString);
    const isForeign = foreign?.has(absolute) === true;
    return {
      path: absolute,
      state: folderState(isForeign ? (foreign.find(absolute) ?? absolute) : absolute),
      isForeign,
    };
  });
  const file = folders.find(({ state }) => state === "no folder");
  if (file !== undefined && grammarOf(call.invocation).habits.readsHeaderMaps)
    return bypass("extra_input_file", file.path);
  return next({
    kinds: folderKinds(folders.map(({ state }) => state)),
    states: folders.flatMap(({ path, state, isForeign }) => (isForeign ? [] : [{ path, state }])),
  });
}

type Placing = Pick<KeyedCall, "keys" | "placeNames" | "hasEpoch" | "command"> & {
  readonly foreign: ForeignFiles | null;
  readonly states: readonly SearchedState[];
  readonly compiler: CallCompiler;
};

export function placedCall(
  { message, call, compiler, project, folder }: KeyedCallParts,
  { foreign, states, compiler: told, ...placing }: Placing,
): KeyedCall {
  const { invocation, environment } = call;
  const { cwd } = message;
  const searched = searchPath(invocation, environment, compiler.folders);
  const absolute = (path: ByteString) => (path.startsWith("/") ? path : (`${cwd}/${path}` as ByteString));
  const place = (path: ByteString) => (path === "." ? cwd : path === "" ? path : absolute(path));
  return {
    ...placing,
    invocation,
    cwd,
    project,
    folder,
    searched,
    known: {
      compiler: told,
      searched: states,
      source: absolute(invocation.source),
      output: absolute(invocation.output),
      words: comparedWords(invocation),
      environment: call.variables,
      callDigest: placing.keys.at(-1)!,
    },
    seen: (names) => new SeenNames(names, { cwd, foreign }),
    placesBefore: (identities, names) => {
      const steady = new SteadyPlaces(identities, names);
      const own = searched.map(({ path }) => place(path)).filter((path) => foreign?.has(path) !== true);
      // Objects are often written beside their sources, where quoted names are sought.
      const beside = absolute(plainPath(invocation.source)).replace(/\/[^/]*$/, "") as ByteString;
      steady.note([cwd, ...[beside, ...own].map((path) => existing(path).folder).filter((path) => path !== "")]);
      return steady;
    },
    placed: (inputs, absent) => ({
      inputs: inputs.map(({ path, digest, stamp }) => ({ path: absolute(path), digest, stamp })),
      absent: absent.map(({ folder, names }) => ({ folder: place(folder) || ascii("/"), names })),
    }),
  };
}

/** Whether a compiler may believe PWD; of the way of a process, as /proc/self/cwd is one, only it can tell. */
function mayLeadTo(pwd: ByteString | undefined, cwd: ByteString): boolean {
  return leadsTo(pwd, cwd) || (pwd?.startsWith("/") === true && pwd !== cwd && processWay([pwd]) !== null);
}

/** Compilers believe PWD only where it is the working folder. */
export function leadsTo(pwd: ByteString | undefined, cwd: ByteString): boolean {
  if (pwd === undefined || !pwd.startsWith("/")) return false;
  const [a, b] = [pwd, cwd].map((path) => statSync(bytesOf(path), { bigint: true, throwIfNoEntry: false }));
  return a !== undefined && a.ino === b?.ino && a.dev === b.dev;
}

/** The nearest folder that is there, from an absolute path upwards, and the way on from it. */
export function existing(path: ByteString): { readonly folder: ByteString; readonly rest: string } {
  let folder: string = path;
  while (folder !== "" && statSync(bytesOf(folder as ByteString), { throwIfNoEntry: false })?.isDirectory() !== true)
    folder = folder.slice(0, folder.lastIndexOf("/"));
  return { folder: folder as ByteString, rest: path.slice(folder.length + 1) };
}
