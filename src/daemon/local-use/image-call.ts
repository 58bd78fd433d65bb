// A call of an image's compiler that is compiled on this machine for want of a worker: how it runs in the image's namespace, and the keys of
// its results. An image never changes, so nothing of it is an input.
import { ascii, type ByteString } from "../../base/byte-string.ts";
import { FieldWriter } from "../../core/action/fields.ts";
import type { GnuInvocation } from "../../core/compile/grammar/invocation.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import { Remembered } from "../call/remembered.ts";
import { bypass, next, type Stage } from "../call/stage.ts";
import type { LauncherCall } from "../control/launcher-connection.ts";
import { imageAnswer, type LocalCompile } from "../tiers/local-answer.ts";
import { driverPlaces } from "./driver-places.ts";
import { askDriver, type HostCompiler, relevantWords } from "./host-compilers.ts";
import { foldersSearched, type KeyedCall, placedCall } from "./keyed-call.ts";
import { placeStamps } from "./loader-places.ts";
import { isMovable, placeNames } from "./moved-checkouts.ts";
import { callDigest, type LocalCall, readLocalCall } from "./read-local-call.ts";
import type { ForeignFiles } from "./seen-names.ts";

const COMPILERS_MAX = 256;
/** What they name is not known to be in the image. */
const LOADER_VARIABLES = /^LD_(?:PRELOAD|LIBRARY_PATH|AUDIT)=/;
/** Tells a launcher that a program of the image calls that it is not to seek the image again. */
const WRAPPED = ascii("HPCC_WRAPPED=");
/** Debug information in it cannot be searched for names of the place. */
const HIDES = /^-gz/;

/** Folders of `#include` beside those that a call names, and those of this machine whose names decided that. */
type Told = Pick<HostCompiler, "folders" | "places">;

/** What an image's compilers say of themselves, kept by the daemon. */
export class ImageFolders {
  readonly #known = new Remembered<{ readonly told: Told; readonly stamps: string }>(COMPILERS_MAX);

  /** Null when the compiler does not tell. */
  async find({
    call,
    compile,
    invocation,
    folder,
  }: Omit<ImageCallParts, "folders"> & { readonly invocation: GnuInvocation }): Promise<Told | null> {
    const { project, compiler } = compile;
    const named = invocation.arguments.some(({ isPath, value }) => isPath && value?.startsWith("/") !== true);
    const words = relevantWords(invocation);
    const place = named && words.length > 0 ? call.message.cwd : "";
    const key = JSON.stringify([project.imageDigest, compiler.path, words, invocation.language, place]);
    const known = this.#known.get(key);
    if (known !== undefined && placeStamps(known.told.places) === known.stamps) return known.told;
    const namespace = await project.localNamespace();
    const { path } = compiler;
    const report = await askDriver({ call, folder, namespace }, invocation, { path, calledAs: path });
    if (report === null || report.family !== compiler.family) return null;
    const { cwd } = call.message;
    const all = driverPlaces(invocation, report, { cwd, driver: path, path: [] });
    if (all === null) return null;
    const told = { folders: report.folders, places: all.filter((folder) => !imageFiles(compile).has(folder)) };
    this.#known.set(key, { told, stamps: placeStamps(told.places) });
    return told;
  }
}

export interface ImageCallParts {
  readonly call: LauncherCall;
  readonly compile: LocalCompile;
  readonly folders: ImageFolders;
  /** An empty folder of the call's own. */
  readonly folder: ByteString;
}

export async function imageCall(parts: ImageCallParts): Promise<Stage<KeyedCall>> {
  const { call, compile, folder } = parts;
  const { message } = call;
  const { project, compiler } = compile;
  const loader = message.environment.find((entry) => LOADER_VARIABLES.test(entry));
  if (loader !== undefined) return bypass("unsupported_environment_variable", loader.split("=", 1)[0] as ByteString);
  const read = readLocalCall(message, compiler.family);
  if (read.kind === "bypass") return read;
  const { invocation } = read.value;
  const told = await parts.folders.find({ ...parts, invocation });
  if (told === null) return bypass("unknown_compiler", compiler.path);
  const run = await imageAnswer(message, compile, true);
  const environment = run.environment ?? message.environment;
  const image: HostCompiler = {
    family: compiler.family,
    identity: identityOf(compile, told.folders),
    files: [],
    ...told,
  };
  const found = foldersSearched({ message, call: read.value, compiler: image }, imageFiles(compile));
  if (found.kind === "bypass") return found;
  const searched = found.value;
  return next(
    placedCall(
      { message, call: read.value, compiler: image, project: project.root, folder },
      {
        ...keysOf(parts, read.value, {
          identity: image.identity,
          argv: run.argv ?? message.argv,
          searched: searched.kinds,
        }),
        hasEpoch: environment.some((entry) => entry.startsWith("SOURCE_DATE_EPOCH=")),
        command: {
          program: compiler.path,
          argv: run.argv ?? message.argv,
          environment: environment.some((entry) => entry.startsWith(WRAPPED)) ? environment : [...environment, WRAPPED],
          namespace: run.namespace,
        },
        foreign: imageFiles(compile),
        states: searched.states,
        compiler: { identity: project.imageDigest, image: project.imageDigest, files: [], places: told.places },
      },
    ),
  );
}

function imageFiles({ project }: LocalCompile): ForeignFiles {
  const { roots } = project.places.shared.view;
  return {
    has: (path) => {
      if (roots.some(({ host }) => path === host || path.startsWith(`${host}/`))) return false;
      return project.imageEntries.has(path.split("/", 2)[1] ?? "");
    },
    find: (path) => project.imageFile(path),
  };
}

/** Everything of the compiler and of what the project's configuration makes of a call. */
function identityOf({ project, compiler, paths }: LocalCompile, folders: readonly ByteString[]): Digest {
  const fields = new FieldWriter()
    .ascii(1, "hpcc.image-compiler.v1")
    .digest(2, project.imageDigest)
    .byteString(3, compiler.path)
    .ascii(4, paths)
    .ascii(5, project.config.determinism);
  for (const folder of folders) fields.byteString(6, folder);
  return sha256(fields.finish());
}

/** With shared paths debug information is relative to the project's root, so that moved checkouts share that, too. */
function keysOf(
  { call: { message }, compile: { project, paths } }: ImageCallParts,
  call: LocalCall,
  {
    identity,
    argv,
    searched,
  }: { readonly identity: Digest; readonly argv: readonly ByteString[]; readonly searched: string },
): Pick<KeyedCall, "keys" | "placeNames"> {
  const { cwd } = message;
  const pwd = call.environment.get("PWD");
  const names = placeNames(cwd, pwd, project.root);
  const own = callDigest({ ...call, words: argv }, identity, { place: [cwd, pwd ?? ascii("")], folders: searched });
  const isShared = paths === "shared" && cwd.startsWith(project.root) && !call.words.some((word) => HIDES.test(word));
  if (!isMovable(call, names, isShared)) return { keys: [own], placeNames: names };
  const below = isShared ? (`.${cwd.slice(project.root.length)}` as ByteString) : ascii("");
  const words = [...call.words, ascii(paths), below];
  return {
    keys: [callDigest({ ...call, words }, identity, { place: null, folders: searched }), own],
    placeNames: names,
  };
}
