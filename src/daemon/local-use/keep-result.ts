// Keeps what a compile in place has left, with all that it depended on; or says why it may not be kept. UNTRUSTED: files of a checkout, which
// may change at any time.

import { statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import type { ByteString } from "../../base/byte-string.ts";
import { bytesOf } from "../../base/byte-string.ts";
import type { Logger } from "../../base/log.ts";
import type { LocalStore } from "../../store/local/local-store.ts";
import type { AnsweredCall, KeptOutput } from "../call/answered-call.ts";
import { sameStamp, stampOf } from "../call/file-stamp.ts";
import { type Bypass, bypass, next, type Stage } from "../call/stage.ts";
import { processWayOf, waysTo } from "../call/ways.ts";
import type { FolderNamesCache } from "../inputs/folder-names.ts";
import type { SteadyPlaces } from "../inputs/steady-places.ts";
import { assembledNames, type CompiledInPlace, listedNames } from "./compile-in-place.ts";
import type { FileDigests } from "./file-digests.ts";
import { type FoundInputs, findInputs, type TextScans } from "./find-inputs.ts";
import { existing, type KeyedCall } from "./keyed-call.ts";
import { encodeRecord, VARIANTS_MAX } from "./local-record.ts";
import { readVariants } from "./look-up.ts";
import { isBelowPlace, namesPlace } from "./moved-checkouts.ts";
import { sameFiles } from "./same-files.ts";
import type { SeenNames } from "./seen-names.ts";
import type { OutputsBefore, WrittenOutput } from "./written-outputs.ts";

export interface Finished {
  readonly keyed: KeyedCall;
  readonly compiled: CompiledInPlace;
  readonly before: OutputsBefore;
  readonly steady: SteadyPlaces;
  readonly startedMs: number;
  readonly flight: { readonly disturbed: boolean };
}

export interface KeepParts {
  readonly store: LocalStore;
  readonly files: FileDigests;
  readonly scans: TextScans;
  readonly names: FolderNamesCache;
  readonly logger: Logger;
}

/** What is then known of the call. */
export type KeptCall = Pick<AnsweredCall, "callDigest" | "inputs" | "absent" | "result">;

/** More words than these make no record. */
const WORDS_BYTES_MAX = 1024 * 1024;

export async function keepResult(finished: Finished, parts: KeepParts): Promise<Stage<KeptCall>> {
  const { keyed, compiled, flight } = finished;
  if (compiled.exitCode !== 0) return bypass("compile_failed");
  if (compiled.stdout.length + compiled.stderr.length > WORDS_BYTES_MAX) return bypass("source_too_large");
  const written = finished.before.written();
  if ("kind" in written) return written;
  // First of all: whoever called may change its outputs once it has its answer.
  const outputs: KeptOutput[] = [];
  for (const output of written) {
    const kept = await keepOutput(output, parts.store);
    if (kept === null) return bypass("overlapping_outputs", output.destination);
    outputs.push(kept);
  }
  const found = await inputsOf(finished, parts);
  if (found.kind === "bypass") return found;
  if (flight.disturbed) return bypass("overlapping_outputs", keyed.invocation.output);
  const { inputs, absent } = found.value;
  // GCC lists system headers by their real paths where these are shorter.
  const isBound = keyed.keys.length === 1 || inputs.some(({ path }) => isBelowPlace(path, keyed.placeNames));
  const key = isBound || (await showsPlace(finished, outputs)) ? keyed.keys.at(-1)! : keyed.keys[0]!;
  const variant = {
    files: inputs.map(({ path, digest }) => ({ path, digest })),
    absent,
    same: sameFiles(inputs),
    stdout: compiled.stdout,
    stderr: compiled.stderr,
    outputs: outputs.map(({ destination, digest, manner }) => ({ destination, digest, manner })),
  };
  const before = await readVariants(key, parts);
  const record = [variant, ...before].slice(0, VARIANTS_MAX);
  const digests = new Set(record.flatMap((one) => one.outputs.map(({ digest }) => digest)));
  await parts.store.writeRecord(key, encodeRecord(record), keyed.project, [...digests]);
  return next({
    callDigest: key,
    ...keyed.placed(inputs, absent),
    result: { stdout: compiled.stdout, stderr: compiled.stderr, outputs },
  });
}

async function inputsOf({ keyed, steady, startedMs }: Finished, parts: KeepParts): Promise<Stage<FoundInputs>> {
  const { invocation, folder, searched, hasEpoch } = keyed;
  const listed = await listedNames(keyed, invocation, folder);
  if (listed.kind === "bypass") return listed;
  const seen = keyed.seen(parts.names);
  const question = {
    invocation,
    listed: listed.value,
    listsAll: invocation.dependencies?.kind !== "MMD",
    folders: searched,
    seen,
    startedMs,
    datesAreKnown: hasEpoch,
  };
  const found = findInputs(question, parts.files, parts.scans);
  if (found.kind === "bypass") return found;
  const unseen = await unseenName({ invocation, folder, seen }, found.value);
  if (unseen !== null) return bypass("unsupported_code_directive", unseen);
  const moved = movedMeanwhile(found.value, keyed, { seen, names: parts.names, steady, startedMs });
  return moved ?? found;
}

/** A file that an assembler read by a name which only it could tell; null when there is none. */
async function unseenName(
  { invocation, folder, seen }: Pick<KeyedCall, "invocation" | "folder"> & { readonly seen: SeenNames },
  { inputs }: FoundInputs,
): Promise<ByteString | null> {
  const known = new Set(inputs.map(({ stamp: { dev, ino } }) => `${dev}:${ino}`));
  const made = new Set(invocation.sideOutputs.map(({ path }) => seen.absolute(path)));
  for (const name of await assembledNames(invocation, folder)) {
    const path = seen.absolute(name);
    const stat = statSync(bytesOf(path), { bigint: true, throwIfNoEntry: false });
    if (stat !== undefined && !known.has(`${stat.dev}:${stat.ino}`) && !made.has(path)) return name;
  }
  return null;
}

/** Whether a folder or link on the way to an input, or the lack of a name, may be newer than the compile. */
function movedMeanwhile(
  { inputs, absent }: FoundInputs,
  { searched }: Pick<KeyedCall, "searched">,
  {
    seen,
    names,
    steady,
    startedMs,
  }: Pick<Finished, "steady" | "startedMs"> & Pick<KeepParts, "names"> & { readonly seen: SeenNames },
): Bypass | null {
  const read = inputs.map(({ path }) => seen.absolute(path));
  const looked = searched.flatMap(({ path }) => {
    if (seen.isForeign(path)) return [];
    const { folder, rest } = existing(seen.absolute(path));
    return rest === "" ? [`${folder}/.` as ByteString] : [];
  });
  const ways = waysTo([...read, ...looked], names);
  const own = processWayOf(ways);
  if (own !== null) return bypass("modified_input_file", own);
  const { folders, links } = ways;
  const missing = absent.map(({ folder, names }) => {
    const { folder: place, rest } = existing(seen.absolute(folder));
    return { folder: place, names: rest === "" ? names : names.map((name) => `${rest}/${name}` as ByteString) };
  });
  // A link may have led to a folder that has the name. A path that ends in the folder itself: links on the way to it, its last name's
  // too, are followed.
  const sought = new Set(missing.map(({ folder }) => `${folder}/.` as ByteString));
  for (const { folder, names } of missing)
    for (const name of names) {
      const slash = name.lastIndexOf("/");
      if (slash >= 0) sought.add(`${folder}/${name.slice(0, slash)}/.` as ByteString);
    }
  const allLinks = [...links, ...waysTo([...sought], names).links];
  const moved = steady.moved({ folders, links: allLinks, absent: missing }, startedMs);
  return moved === null ? null : bypass("modified_input_file", moved);
}

/** Keeps a file that stays as it is meanwhile; null when it does not. */
async function keepOutput(output: WrittenOutput, store: LocalStore): Promise<KeptOutput | null> {
  const { destination, path, manner, stamp } = output;
  const kept = await store.keepFile(path);
  const now = stampOf(path);
  if (now === null || !sameStamp(now, stamp)) return null;
  return { destination, digest: kept.digest, path: kept.path, executable: false, manner };
}

async function showsPlace({ keyed, compiled }: Finished, outputs: readonly KeptOutput[]): Promise<boolean> {
  if (namesPlace(compiled.stdout, keyed.placeNames) || namesPlace(compiled.stderr, keyed.placeNames)) return true;
  for (const { path } of outputs)
    if (path === null || namesPlace(await readFile(bytesOf(path)), keyed.placeNames)) return true;
  return false;
}
