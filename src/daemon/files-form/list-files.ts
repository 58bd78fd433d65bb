// Which files a call reads, asked of the image's own compiler as the launcher's child, in a namespace that shows the view.
// UNTRUSTED: the lists and words name a checkout's files.
import { readFile, stat } from "node:fs/promises";
import { ascii, type ByteString, byteStringOf, bytesOf } from "../../base/byte-string.ts";
import { stepEnvironment } from "../../core/compile/grammar/environment.ts";
import { grammarOf } from "../../core/compile/grammar/gnu-grammar.ts";
import type { DependencyRequest } from "../../core/compile/grammar/invocation.ts";
import { failureOf } from "../../core/compile/view/failure.ts";
import type { NamespaceRef } from "../../wire/launcher/messages.ts";
import { joinEnvironment } from "../call/environment-words.ts";
import type { PreparedCall } from "../call/prepared-call.ts";
import { bypass, next, type Stage } from "../call/stage.ts";
import type { HeaderHints } from "../inputs/header-hints.ts";

export interface Listing {
  /** Names as the compiler spells them, the source first. */
  readonly names: readonly ByteString[];
  /** The dependency file that the call asks for, with the paths of the view; null when it asks for none. */
  readonly dependencyText: ByteString | null;
  /** Whether the call's next list is the same while the files say the same: not one of a call that cannot be preprocessed. */
  readonly steady: boolean;
}

const LISTING_BYTES_MAX = 16 * 1024 * 1024;
const UNASKED: DependencyRequest = {
  kind: "MD",
  file: ascii("listing"),
  targets: [{ text: ascii("listing"), quoted: false }],
  phony: false,
};

/** How a list is made. */
export interface ListingManner {
  /** Counts a call's lists in one place. */
  readonly attempt: number;
  /** Where the image's headers are stripped; null to list by the headers as they are. */
  readonly stripped: NamespaceRef | null;
}

/** Lists the files of a call of C or C++, or of assembler that is preprocessed. */
export async function listFiles(
  prepared: PreparedCall,
  { attempt, stripped }: ListingManner,
  headers: HeaderHints,
): Promise<Stage<Listing>> {
  const by = stripped === null ? "" : "-stripped";
  const list = (wanted: Omit<Wanted, "file" | "stripped">, name: string) =>
    runListing(prepared, { ...wanted, stripped, file: `${name}${by}-${prepared.place.paths}-${attempt}` }, headers);
  const { mapped } = prepared.request;
  const own = mapped.dependencies?.kind === "MMD";
  const twice = own && !grammarOf(mapped).listing.listsBoth(mapped);
  const first = await list({ headers: own ? "own" : "all", tree: own && !twice }, "listing");
  if (first.kind === "bypass")
    return first.reason === "preprocessor_error" && stripped === null ? listFailing(prepared, attempt, first) : first;
  const names = new Set([...first.value.names, ...first.value.entered]);
  if (twice) {
    const all = await list({ headers: "all", tree: false }, "listing-all");
    if (all.kind === "bypass") return all;
    for (const name of all.value.names) names.add(name);
  }
  return next({
    names: [...names],
    dependencyText: mapped.dependencies === null ? null : first.value.text,
    steady: true,
  });
}

interface Ran {
  readonly text: ByteString;
  readonly names: readonly ByteString[];
  readonly entered: readonly ByteString[];
}

interface Wanted {
  readonly file: string;
  readonly headers: "all" | "own";
  readonly tree: boolean;
  readonly stripped: NamespaceRef | null;
}

async function runListing(prepared: PreparedCall, wanted: Wanted, headers: HeaderHints): Promise<Stage<Ran>> {
  const { mapped } = prepared.request;
  const files = { list: onHost(prepared, wanted.file), said: onHost(prepared, `${wanted.file}.stderr`) };
  if ((await runCompiler(prepared, wanted)) !== 0)
    // What fails by stripped headers is listed again, and told of then.
    return bypass("preprocessor_error", null, wanted.stripped === null ? await headers.look(files.said) : null);
  const text = await readBounded(files.list);
  const said = wanted.tree ? await readBounded(files.said) : ascii("");
  if (text === null || said === null) return bypass("source_too_large");
  const listed = grammarOf(mapped).listing.read(text, mapped.dependencies ?? UNASKED);
  if (listed === null) return bypass("unsupported_dependency_file");
  return next({ text, names: listed.names, entered: grammarOf(mapped).listing.entered(said) });
}

/**
 * Lists a call whose preprocessing fails: GCC then writes no list, but both compilers name what they enter. A compile of these files
 * fails alike. `otherwise`: what becomes of a call of which this does not tell.
 */
async function listFailing(prepared: PreparedCall, attempt: number, otherwise: Stage<never>): Promise<Stage<Listing>> {
  const { mapped } = prepared.request;
  if (mapped.dependencies !== null || grammarOf(mapped).listing.hasForcedIncludes(mapped)) return otherwise;
  const file = `listing-failing-${prepared.place.paths}-${attempt}`;
  const code = await runCompiler(prepared, { file, headers: "all", tree: true, stripped: null });
  const said = await readBounded(onHost(prepared, `${file}.stderr`));
  // Where there is no space, a compiler says nothing.
  const spoke = said?.includes("error: ") === true;
  if (code === null || said === null || !spoke || failureOf(code, said) !== "ordinary") return otherwise;
  const names = [mapped.source, ...grammarOf(mapped).listing.entered(said)];
  return next({ names, dependencyText: null, steady: false });
}

function onHost({ folder }: PreparedCall, name: string): ByteString {
  return `${folder}/${name}` as ByteString;
}

/** The exit code of a listing; null when a signal ended it. */
async function runCompiler(prepared: PreparedCall, wanted: Wanted): Promise<number | null> {
  const { call, compiler, request, place, folder, project } = prepared;
  const grammar = grammarOf(compiler);
  const ran = await call.run({
    program: compiler.path,
    argv: grammar.listing.argv(request.mapped, {
      compiler: compiler.path,
      file: `${place.callFiles(folder)}/${wanted.file}` as ByteString,
      headers: wanted.headers,
      tree: wanted.tree,
      injected: grammar.oneStepInjected({ ownPaths: place.paths === "own", pinned: true }),
    }),
    environment: joinEnvironment([
      ...stepEnvironment(request.plan, { includePaths: request.includePaths }),
      [ascii("PWD"), request.pwd],
    ]),
    cwd: request.cwd,
    namespace: wanted.stripped ?? (await place.namespace()),
    stdin: "null",
    stdout: { kind: "discard" },
    stderr: { kind: "file", path: onHost(prepared, `${wanted.file}.stderr`) },
    timeLimitMs: project.config.deadlineMs,
  });
  if (ran.outcome.kind === "failed") throw new Error(`the launcher could not list files: ${ran.outcome.failure}`);
  return ran.outcome.kind === "signaled" ? null : ran.outcome.code;
}

async function readBounded(path: ByteString): Promise<ByteString | null> {
  const { size } = await stat(bytesOf(path));
  return size > LISTING_BYTES_MAX ? null : byteStringOf(await readFile(bytesOf(path)));
}
