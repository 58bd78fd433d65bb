// The source form `files`: the files that a call reads, and the call's own command line in one step. UNTRUSTED: the checkout's files.
import { statSync } from "node:fs";
import { ascii, type ByteString, byteStringOf, bytesOf } from "../../base/byte-string.ts";
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Action, OutputFile, OutputKind } from "../../core/action/action.ts";
import { stepEnvironment } from "../../core/compile/grammar/environment.ts";
import { grammarOf } from "../../core/compile/grammar/gnu-grammar.ts";
import { isPseudoFile, parseLinemarker } from "../../core/compile/text/linemarkers.ts";
import { OUTPUT_FOLDER, toHostPath } from "../../core/compile/view/view.ts";
import type { Digest } from "../../core/digest/digest.ts";
import type { NamespaceRef } from "../../wire/launcher/messages.ts";
import { joinEnvironment } from "../call/environment-words.ts";
import type { PreparedCall } from "../call/prepared-call.ts";
import { includeSearch } from "../call/read-call.ts";
import type { Delivery, PreparedJob } from "../call/remote-job.ts";
import { collectSourceFiles, digestOf } from "../call/source-files.ts";
import { bypass, next, type Stage } from "../call/stage.ts";
import type { FileCache } from "../inputs/file-cache.ts";
import type { HeaderHints } from "../inputs/header-hints.ts";
import { SteadyPlaces } from "../inputs/steady-places.ts";
import { PINNED_EPOCH } from "../tiers/local-answer.ts";
import { type Gathered, gatherInputs, type InputCaches } from "./gather-inputs.ts";
import { listingKey } from "./kept-listings.ts";
import { type Listing, type ListingManner, listFiles } from "./list-files.ts";

export interface FilesFormOptions extends InputCaches {
  readonly headers: HeaderHints;
  readonly clock: Clock;
}

/** Where a guest writes the dependency file, of a call of which only the compile tells it. */
const DEPENDENCY_PATH = `${OUTPUT_FOLDER}/dependencies` as ByteString;
/** Where an output whose name nothing embeds is written. */
const OBJECT_PATH = `${OUTPUT_FOLDER}/object` as ByteString;
/**
 * A date that GCC refuses, and only where a source asks for one: with it a date is an error in whatever way a text spells it, and
 * whatever warnings are switched off.
 */
export const NO_DATE = ascii("dates-are-not-reproducible");
/** Times that a call starts again because a file changed while it was listed. */
const RESTARTS_MAX = 2;
const RESTART_AFTER_MS = 15;
const SETTLING_MS = 100;

/** Makes the job of a call from its files. */
export async function prepareFiles(prepared: PreparedCall, options: FilesFormOptions): Promise<Stage<PreparedJob>> {
  const key = readsOthers(prepared) ? listingKey(prepared) : null;
  const kept = key === null ? null : await fromKept(prepared, key, options);
  if (kept !== null) return kept;
  const steady = new SteadyPlaces(options.folders, options.names);
  steady.note(knownFolders(prepared));
  for (let restarts = 0; ; restarts++) {
    const made = await fromNew(prepared, { key, restarts, steady }, options);
    if (made.kind === "next" || made.reason !== "modified_input_file" || restarts >= RESTARTS_MAX) return made;
    await pause(options.clock);
  }
}

interface Attempt {
  /** Under which the list is kept; null where there is none. */
  readonly key: Digest | null;
  readonly restarts: number;
  readonly steady: SteadyPlaces;
}

/** A job of a list that is made now: by the image's stripped headers where that gives the same list, else by the headers as they are. */
async function fromNew(
  prepared: PreparedCall,
  attempt: Attempt,
  options: FilesFormOptions,
): Promise<Stage<PreparedJob>> {
  const { strippedUse } = options;
  const stripped = strippedUse.pays(prepared.project.root) ? await strippedNamespace(prepared) : null;
  if (stripped !== null) {
    const made = await fromListing(prepared, { ...attempt, stripped }, options);
    if (made !== null) return made;
  }
  return (await fromListing(prepared, { ...attempt, stripped: null }, options))!;
}

/** Null where a list by stripped headers may not be the list. */
async function fromListing(
  prepared: PreparedCall,
  { key, restarts, steady, stripped }: Attempt & Pick<ListingManner, "stripped">,
  options: FilesFormOptions,
): Promise<Stage<PreparedJob> | null> {
  const startedMs = options.clock.wallMs();
  const listing = await listed(prepared, { attempt: restarts, stripped }, options);
  if (listing.kind === "bypass") return stripped === null ? listing : null;
  const gathered = gatherInputs(prepared, listing.value.names, { startedMs, steady }, options);
  if (gathered.kind === "bypass") return gathered;
  if (stripped !== null) {
    const decided = gathered.value.codeDecides();
    options.strippedUse.note(prepared.project.root, !decided);
    if (decided) return null;
  }
  const basis = key !== null && listing.value.steady ? gathered.value.basis(startedMs) : null;
  if (key !== null && basis !== null) options.listings.set(key, { ...listing.value, basis }, prepared.project.root);
  return jobOf(prepared, { ...listing.value, keptList: false }, gathered.value);
}

/** Words of a command line by which code or other spellings may decide what directives do. */
const DECIDING_WORDS =
  /traditional|charset|trigraphs|modules|preprocessed|directives-only|_Pragma|__pragma|__COUNTER__/;

/** The namespace with the image's stripped headers, for a call that may be listed by them. */
async function strippedNamespace({ request: { mapped }, place }: PreparedCall): Promise<NamespaceRef | null> {
  if (mapped.language !== "c" && mapped.language !== "c++") return null;
  if (mapped.arguments.some(({ words }) => words.some((word) => DECIDING_WORDS.test(word)))) return null;
  try {
    return await place.listingNamespace();
  } catch (error) {
    // Where one more namespace cannot be made, the usual one is there.
    if (error instanceof HpccError) return null;
    throw error;
  }
}

/** A job of the list of an earlier call, while that would be the same; null to make one. */
async function fromKept(
  prepared: PreparedCall,
  key: Digest,
  options: FilesFormOptions,
): Promise<Stage<PreparedJob> | null> {
  const kept = await options.listings.get(key);
  if (kept === null) return null;
  for (let restarted = false; ; restarted = true) {
    const startedMs = options.clock.wallMs();
    const steady = new SteadyPlaces(options.folders, options.names);
    steady.note(knownFolders(prepared));
    const gathered = gatherInputs(prepared, kept.names, { startedMs, steady }, options);
    if (gathered.kind === "next") {
      const same = gathered.value.basis(null) === kept.basis;
      return same ? jobOf(prepared, { ...kept, keptList: true }, gathered.value) : null;
    }
    // Whatever else forbids a guest is found again with a list of now.
    const mayPass = gathered.reason === "modified_input_file" && isYoung(gathered.detail, startedMs);
    if (restarted || !mayPass) return null;
    await pause(options.clock);
  }
}

/** Whether a path is there and changed so shortly before that a moment later it counts as settled. */
function isYoung(path: ByteString | null, nowMs: number): boolean {
  const stat = path === null ? undefined : statSync(bytesOf(path), { throwIfNoEntry: false });
  return stat !== undefined && Math.abs(nowMs - stat.ctimeMs) < SETTLING_MS;
}

function pause(clock: Clock): Promise<void> {
  return new Promise((resolve) => void clock.after(RESTART_AFTER_MS, resolve));
}

/** Whether the source is preprocessed. */
function readsOthers({ request: { mapped } }: PreparedCall): boolean {
  const { language } = mapped;
  return language === "c" || language === "c++" || language === "assembler-with-cpp";
}

/** Folders of the host that a call names. */
function knownFolders({ request, place }: PreparedCall): ByteString[] {
  const { hostCwd, mapped, cwd } = request;
  const source = mapped.source.startsWith("/") ? mapped.source : (`${cwd}/${mapped.source}` as ByteString);
  const named = [...includeSearch(request).folders, source.slice(0, source.lastIndexOf("/")) as ByteString];
  return [hostCwd, ...named.flatMap((folder) => toHostPath(place.view, folder) ?? [])];
}

/** A source that is not preprocessed reads itself, and whatever its line markers name is quoted. */
async function listed(
  prepared: PreparedCall,
  manner: ListingManner,
  { headers, files }: FilesFormOptions,
): Promise<Stage<Listing>> {
  const { language, source } = prepared.request.mapped;
  if (readsOthers(prepared)) return listFiles(prepared, manner, headers);
  const quoted = language.endsWith("cpp-output") ? markedFiles(prepared, files) : [];
  return next({ names: [source, ...quoted], dependencyText: null, steady: false });
}

/** Files of the project that line markers of a preprocessed source name, where they are there. */
function markedFiles({ request, place }: PreparedCall, files: FileCache): ByteString[] {
  const { invocation, hostCwd } = request;
  const { source } = invocation;
  const bytes = files.read(source.startsWith("/") ? source : (`${hostCwd}/${source}` as ByteString));
  // It is gathered as all files are, and refused there.
  if (bytes === null) return [];
  const names = new Set<ByteString>();
  const text = byteStringOf(bytes);
  for (let start = text.indexOf("# "); start >= 0; start = text.indexOf("\n# ", start + 1)) {
    const from = text[start] === "\n" ? start + 1 : start;
    const end = text.indexOf("\n", from);
    const marker = parseLinemarker(text.slice(from, end < 0 ? text.length : end));
    if (marker !== null && !isPseudoFile(marker.file)) names.add(marker.file);
  }
  const inProject = (name: ByteString) =>
    !name.startsWith("/") || place.view.roots.some(({ guest }) => name.startsWith(`${guest}/`));
  return [...names].filter(
    (name) => inProject(name) && isFile(name.startsWith("/") ? name : (`${hostCwd}/${name}` as ByteString)),
  );
}

function isFile(path: ByteString): boolean {
  return statSync(bytesOf(path), { throwIfNoEntry: false })?.isFile() === true;
}

function jobOf(
  prepared: PreparedCall,
  { dependencyText: listed, keptList }: Pick<PreparedJob, "dependencyText" | "keptList">,
  gathered: Gathered,
): Stage<PreparedJob> {
  const { request, project, compiler, place } = prepared;
  const { mapped, invocation } = request;
  const { tree, files, aliases } = gathered;
  // With a precompiled header, the list knows more files than the compile reads.
  const told = gathered.precompiled && invocation.dependencies !== null;
  // Takes the folders of outputs into the tree, and the links that lead to them.
  const outputs = outputsOf(prepared, tree);
  if (outputs.kind === "bypass") return outputs;
  const { outputPath, declared, deliveries } = outputs.value;
  if (declared.some(({ path }) => tree.has(path))) return bypass("bad_output_file", invocation.output);
  const source = collectSourceFiles("files", {
    files,
    links: [...tree.links, ...aliases],
    folders: tree.folders,
  });
  const epoch = epochOf(prepared);
  const pinned = epoch !== null && epoch !== NO_DATE;
  const environment = stepEnvironment(request.plan, {
    includePaths: request.includePaths,
    ...(epoch !== null && { pinnedEpoch: epoch }),
  });
  const grammar = grammarOf(compiler);
  const action: Action = {
    imageDigest: project.imageDigest,
    argv: grammar.oneStepArgv(mapped, {
      compiler: compiler.path,
      outputPath,
      dependencyFile: told ? DEPENDENCY_PATH : null,
      randomSeed: takesSeed(prepared) ? source.randomSeed : null,
      injected: grammar.oneStepInjected({ ownPaths: place.paths === "own", pinned }),
    }),
    environment: joinEnvironment([
      ...environment,
      ...(request.pwd === request.cwd ? [] : ([[ascii("PWD"), request.pwd]] as const)),
    ]),
    cwd: request.cwd,
    outputs: told ? [...declared, { path: DEPENDENCY_PATH, required: true, kind: "listing" }] : declared,
    terminalColumns: request.terminalColumns,
    determinism: project.config.determinism,
  };
  const { precompiled, opened } = gathered;
  const evidence = () => ({
    inputs: [...opened].map(([path, { bytes, stamp }]) => ({ path, digest: digestOf(bytes), stamp })),
    absent: gathered.absent(),
    searched: gathered.searched,
  });
  const dependencyText = told ? null : listed;
  return next({
    action,
    source,
    deliveries,
    precompiled,
    dependencyText,
    keptList,
    evidence: precompiled ? null : evidence,
  });
}

/** With the project at its own path, an output shows no flag but where its compiler would draw a number; assemblers draw none. */
function takesSeed({ request: { invocation }, place }: PreparedCall): boolean {
  return invocation.language !== "assembler" && (place.paths === "shared" || invocation.random);
}

/** SOURCE_DATE_EPOCH of the guest: the caller's, the policy's, or one that makes a date an error; null for a compiler without it. */
function epochOf({ request, project, compiler }: PreparedCall): ByteString | null {
  const { determinism } = project.config;
  if (!grammarOf(compiler).habits.datesByEnvironment)
    return determinism === "pin" ? (request.plan.sourceDateEpoch ?? PINNED_EPOCH) : null;
  if (determinism === "strict") return NO_DATE;
  return request.plan.sourceDateEpoch ?? (determinism === "pin" ? PINNED_EPOCH : NO_DATE);
}

interface Outputs {
  readonly outputPath: ByteString;
  readonly declared: readonly OutputFile[];
  readonly deliveries: readonly Delivery[];
}

/** The outputs as the guest's compiler makes them, and where each goes. */
function outputsOf({ request }: PreparedCall, tree: Gathered["tree"]): Stage<Outputs> {
  const { invocation, mapper } = request;
  const manner = (kind: OutputKind) => grammarOf(invocation).manner(invocation, kind);
  const object: Delivery = { kind: "object", destination: invocation.output, manner: manner("object") };
  if (!invocation.keepsNames)
    return next({
      outputPath: OBJECT_PATH,
      declared: [{ path: OBJECT_PATH, required: true, kind: "object" }],
      deliveries: [object],
    });
  const declared: OutputFile[] = [];
  const deliveries: Delivery[] = [];
  let outputPath: ByteString | null = null;
  for (const { path, kind } of [{ path: invocation.output, kind: "object" as const }, ...invocation.sideOutputs]) {
    const slash = path.lastIndexOf("/");
    const folder = slash < 0 ? ascii(".") : ((path.slice(0, slash) || "/") as ByteString);
    const mapped = mapper.directory(folder);
    const found = mapped === null ? null : tree.add(mapped);
    if (mapped === null || found?.kind !== "folder") return bypass("outside_view", path);
    const base = path.slice(slash + 1);
    if (kind === "object") outputPath = (slash < 0 ? base : `${mapped}/${base}`) as ByteString;
    declared.push({ path: `${found.guest}/${base}` as ByteString, required: kind === "object", kind });
    deliveries.push({ kind, destination: path, manner: manner(kind) });
  }
  return next({ outputPath: outputPath!, declared, deliveries });
}
