// Finds the project of a call, reads its configuration, binds it to its image, and writes the plan from which the launcher can go
// on without us. UNTRUSTED: the call's environment and folders; a checkout's hpcc.toml (the configuration layer checks it).
import { randomUUID } from "node:crypto";
import { existsSync, realpathSync, statSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ascii, type ByteString, byteStringOf, byteStringOfText, bytesOf, displayText } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { type ClientConfig, loadClientConfig } from "../config/client.ts";
import type { Directories } from "../config/directories.ts";
import { bindingProject, findProjectRoot, projectsAround } from "../config/project-root.ts";
import { isJobPath } from "../core/action/guest-path.ts";
import { CALL_FILES, EXTRA_ROOTS, PROJECT_ROOT, type View, type ViewRoot } from "../core/compile/view/view.ts";
import type { Digest } from "../core/digest/digest.ts";
import type { ImageName } from "../core/image/image-name.ts";
import { resolveInImage } from "../image/image-path.ts";
import type { ImageStore } from "../image/image-store.ts";
import { ImageLocaleFiles } from "../image/locales.ts";
import type { StrippedHeaders } from "../image/stripped-headers.ts";
import { ImageToolchain } from "../image/toolchain.ts";
import { listFolder } from "../vm/namespace/folder-listing.ts";
import type { HeldNamespace } from "../vm/namespace/holder.ts";
import { imageOwnedNames, type RunMounts } from "../vm/namespace/mount-plan.ts";
import type { KeptNamespaces, NamespaceKeeper } from "../vm/namespace/namespace-keeper.ts";
import type { CallMessage, NamespaceRef } from "../wire/launcher/messages.ts";
import {
  encodePlan,
  type Plan,
  type PlanCompiler,
  type PlannedConfiguration,
  planFileName,
} from "../wire/launcher/plan-file.ts";
import type { LongWork } from "./call/long-work.ts";
import type { ImagePulls, RunningPull } from "./image-pulls.ts";
import { plannedCompilers } from "./planned-compilers.ts";
import type { Project, ProjectPlace } from "./project.ts";
import { configFile, lockFile, plannedConfiguration, readFile, unlocked } from "./project-files.ts";
import { calledWord, imageVariables, launcherPlaces } from "./run/run-place.ts";

/** What is known of the folder in which a call was made. */
export type ProjectState =
  /** No project, or one that names no image: the host's compiler is the real one. */
  | { readonly kind: "unbound" }
  /** An image is bound and cannot be used, or cannot be known; the message says why and the way out. */
  | {
      readonly kind: "unusable";
      readonly message: string;
      readonly fallback: ClientConfig["fallback"];
      /** What brings the image, and how long a call may wait for it. */
      readonly coming?: { readonly pull: RunningPull; readonly waitMs: number };
      /** Who changed the unpacked image may have changed its compiler: nobody may run it. */
      readonly isAltered?: boolean;
    }
  | { readonly kind: "bound"; readonly project: Project; readonly plan: () => Plan };

/** Unpacking that takes longer is spoken of. */
const UNPACKED_MS = 1_000;

export interface ProjectRegistryOptions {
  readonly directories: Directories;
  readonly images: ImageStore;
  /** Null where images are brought by hand alone. */
  readonly pulls: ImagePulls | null;
  readonly namespaces: NamespaceKeeper;
  readonly longWork: LongWork;
  readonly logger: Logger;
}

/** What a namespace of `hpcc run` was made for. */
export interface RunNamespace {
  readonly root: ByteString;
  readonly imageDigest: Digest;
}

interface Known {
  readonly stamp: string;
  readonly state: Promise<ProjectState>;
}

const PROJECTS_MAX = 256;
/** A word that is an absolute path, or an include folder's. */
const ABSOLUTE_PATH = /^(?:-I|-iquote|-isystem)?(\/.*)$/s;
/** How often a project's image is looked at. */
const LOOK_AGAIN_MS = 5 * 60_000;
const EMPTY_FILE = "/dev/null";
/** The launcher looks for the same where it has no daemon. */
const IMAGE_KEY = /^[ \t]*image[ \t]*=/m;
const CONFIG_VARIABLE = /^(HPCC_[A-Z_]+|HOME|XDG_[A-Z_]+)=/;

export class ProjectRegistry {
  readonly #options: ProjectRegistryOptions;
  readonly #known = new Map<string, Known>();
  readonly #looked = new Map<Digest, number>();
  readonly #headers = new Map<Digest, StrippedHeaders | null>();
  readonly #plans = new Map<ByteString, string>();
  /** Projects of build trees in extra roots, as calls there have named them. */
  readonly #buildTrees = new Map<ByteString, ByteString>();
  /** Projects in which commands were run, by their roots, with the launcher that ran them. */
  readonly #launchers = new Map<ByteString, ByteString>();

  constructor(options: ProjectRegistryOptions) {
    this.#options = options;
  }

  /** The namespace of `hpcc run` with this number; null for any other. */
  runNamespace(mountNamespace: bigint): RunNamespace | null {
    const request = this.#options.namespaces.runRequest(mountNamespace);
    return request === null ? null : { root: request.project, imageDigest: request.image };
  }

  /** The project of a call: of one from a namespace of `hpcc run`, the namespace's. */
  async find(
    call: Pick<CallMessage, "argv" | "cwd" | "environment">,
    run: RunNamespace | null = null,
  ): Promise<ProjectState> {
    const cwd = realPath(call.cwd);
    const variables = call.environment.filter((entry) => CONFIG_VARIABLE.test(entry)).sort();
    const own = run?.root ?? rootOf(cwd);
    try {
      const root = own ?? this.#projectOfBuildTree(cwd, call.argv, variables);
      if (root === null) return { kind: "unbound" };
      const state = await this.#bound(root, variables);
      if (state.kind === "bound") void this.#goOnWith(state.project.imageDigest);
      if (run !== null) return state;
      // Launchers in a build tree, or in a project that an outer one has taken in, know that folder alone.
      const planned = own ?? cwd;
      // Without a daemon they run what the plan says.
      if (state.kind === "unusable" && state.isAltered === true) await this.#removePlan(planned);
      if (state.kind === "bound" && state.project.root !== planned)
        await this.#writePlan({ ...state.plan(), projectRoot: planned });
      return state;
    } catch (error) {
      if (!(error instanceof HpccError) || error.code !== "config.invalid") throw error;
      this.#options.logger.warn("config.invalid", { message: error.message });
      return { kind: "unusable", message: error.message, fallback: this.#fallbackWithout(own, variables) };
    }
  }

  /** Holds an image that is used, and looks at it again now and then: who changed it meanwhile is found out. Never rejects. */
  async #goOnWith(digest: Digest): Promise<void> {
    const { images, logger } = this.#options;
    const nowMs = performance.now();
    if (nowMs - (this.#looked.get(digest) ?? Number.NEGATIVE_INFINITY) < LOOK_AGAIN_MS) return;
    const isFirst = !this.#looked.has(digest);
    this.#looked.set(digest, nowMs);
    await images.renew(digest);
    if (isFirst) return;
    try {
      await images.contents(digest);
      if (this.#headers.has(digest)) this.#stripHeaders(digest);
    } catch (error) {
      this.#headers.delete(digest);
      logger.warn("daemon.image.altered", { image: digest, message: String(error) });
      // The next call of each project says so.
      this.#known.clear();
    }
  }

  /** What may run when the configuration cannot be read: as much of it as can. */
  #fallbackWithout(root: ByteString | null, variables: readonly ByteString[]): ClientConfig["fallback"] {
    const { directories } = this.#options;
    const env = environmentOf(variables);
    const files = [directories.userConfig, directories.systemConfig];
    const isBound =
      (root !== null && existsSync(bytesOf(configFile(root)))) ||
      (env["HPCC_IMAGE"] ?? "") !== "" ||
      files.some((file) => IMAGE_KEY.test(readFile(file)?.toString("latin1") ?? ""));
    // Plain use goes on: nothing says that the host's compiler is not the one.
    if (!isBound) return "host";
    const none = { ...directories, userConfig: EMPTY_FILE, systemConfig: EMPTY_FILE };
    for (const readFrom of [directories, none])
      try {
        return loadClientConfig({ env, projectRoot: null, directories: readFrom }).config.fallback;
      } catch (error) {
        if (!(error instanceof HpccError)) throw error;
      }
    return "image";
  }

  /**
   * The project of a folder in an extra root: the one that the call names by an absolute path, as CMake does, or that an earlier call
   * there has named.
   */
  #projectOfBuildTree(
    cwd: ByteString,
    argv: readonly ByteString[],
    variables: readonly ByteString[],
  ): ByteString | null {
    const { config } = loadClientConfig({
      env: environmentOf(variables),
      projectRoot: null,
      directories: this.#options.directories,
    });
    const isBelow = (host: ByteString) => cwd === host || cwd.startsWith(`${host}/`);
    if (!config.extraRoots.some(({ host }) => isBelow(realPath(host)))) return null;
    for (const word of argv.slice(1)) {
      const path = ABSOLUTE_PATH.exec(word)?.[1];
      const root = path === undefined ? null : rootOf(realPath((path.replace(/\/[^/]*$/s, "") || "/") as ByteString));
      if (root === null) continue;
      if (this.#buildTrees.size >= PROJECTS_MAX) this.#buildTrees.clear();
      this.#buildTrees.set(cwd, root);
      return root;
    }
    return this.#buildTrees.get(cwd) ?? null;
  }

  async #bound(root: ByteString, variables: readonly ByteString[]): Promise<ProjectState> {
    const key = JSON.stringify([root, variables]);
    const stamp = this.#configStamp(root);
    const before = this.#known.get(key);
    if (before?.stamp === stamp) return before.state;
    const state = this.#load(root, variables);
    this.#known.delete(key);
    this.#known.set(key, { stamp, state });
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= PROJECTS_MAX) break;
      this.#known.delete(oldest);
    }
    // What failed is tried again at the next call: an image may have been built meanwhile.
    const forget = () => {
      if (this.#known.get(key)?.state === state) this.#known.delete(key);
    };
    state.then((loaded) => {
      if (loaded.kind === "unusable") forget();
    }, forget);
    return state;
  }

  #configStamp(root: ByteString): string {
    const { userConfig, systemConfig } = this.#options.directories;
    const projects = [root, ...projectsAround(root, exists)].flatMap((project) =>
      [configFile(project), lockFile(project)].map(bytesOf),
    );
    const files = [...projects, userConfig, systemConfig];
    return files
      .map((file) => {
        const stat = statSync(file, { bigint: true, throwIfNoEntry: false });
        return stat === undefined ? "-" : `${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`;
      })
      .join(" ");
  }

  async #load(root: ByteString, variables: readonly ByteString[]): Promise<ProjectState> {
    const { directories } = this.#options;
    const load = (projectRoot: ByteString) =>
      loadClientConfig({ env: environmentOf(variables), projectRoot, directories }).config;
    const outer = bindingProject(root, exists, (around) => readable(() => load(around)));
    if (outer !== root) return this.#bound(outer, variables);
    // Before it is read: a change meanwhile makes the plan void, not wrong.
    const configuration = plannedConfiguration(root);
    const config = load(root);
    switch (config.image.kind) {
      case "none":
        await this.#writePlan({ kind: "host", projectRoot: root, configuration });
        return { kind: "unbound" };
      case "unlocked":
        return { kind: "unusable", fallback: config.fallback, message: unlocked(root, config.image.name) };
      case "forbidden": {
        if (config.image.pull === true) return this.#coming(config, config.image);
        const message = config.image.why ?? this.#forbidden(root, config.image.digest);
        return { kind: "unusable", fallback: config.fallback, message };
      }
      case "allowed":
        if (config.image.pull === true && !(await this.#options.images.isHere(config.image.digest)))
          return this.#coming(config, config.image);
        return this.#bind(root, config, { digest: config.image.digest, configuration });
    }
  }

  /** An image that may run, but for what comes with it, and that is not here. */
  #coming(
    config: ClientConfig,
    { name, digest }: { readonly name: ImageName | null; readonly digest: Digest },
  ): ProjectState {
    const { pulls } = this.#options;
    const { fallback, deadlineMs: waitMs, trust, imageBytesMax: bytesMax } = config;
    const missing = `image ${digest} is not on this machine`;
    if (pulls === null || name === null)
      return { kind: "unusable", fallback, message: `${missing}: run hpcc image pull` };
    try {
      const pull = pulls.pull({ name, digest, trust, bytesMax });
      return { kind: "unusable", fallback, message: `${missing} yet: ${pull.progress()}`, coming: { pull, waitMs } };
    } catch (error) {
      if (!(error instanceof HpccError)) throw error;
      return {
        kind: "unusable",
        fallback,
        message: `${missing}, and cannot be pulled: ${error.message}. ${error.hint}`,
      };
    }
  }

  #forbidden(root: ByteString, digest: Digest): string {
    const [around] = projectsAround(root, exists);
    const inner =
      around === undefined
        ? ""
        : `, or, to compile what lies below ${displayText(around)} in that project's image, ` +
          `add this line to ${displayText(configFile(around))}: nested_projects = "outer"`;
    return (
      `${displayText(configFile(root))} names the image ${digest}, which you have not allowed; ` +
      `add it to images.allowed in ${this.#options.directories.userConfig}${inner}`
    );
  }

  async #bind(
    root: ByteString,
    config: ClientConfig,
    { digest, configuration }: { readonly digest: Digest; readonly configuration: PlannedConfiguration },
  ): Promise<ProjectState> {
    const { images, directories } = this.#options;
    const ended = this.#options.longWork.begin(`unpacking the image ${digest}, once on this machine`, UNPACKED_MS);
    const unpacked = await unpack(images, digest).finally(ended);
    if ("message" in unpacked) return { kind: "unusable", fallback: config.fallback, ...unpacked };
    const { rootfs, contents } = unpacked;
    const imageRoot = byteStringOfText(rootfs);
    const environment = (await images.open(digest)).environment;
    const callFolder = byteStringOfText(join(directories.runtime, "calls"));
    await mkdir(bytesOf(callFolder), { recursive: true, mode: 0o700 });
    const extraRoots = config.extraRoots.map(({ name, host }) => ({ name: ascii(name), host: realPath(host) }));
    const view: View = {
      roots: [
        { host: root, guest: PROJECT_ROOT },
        ...extraRoots.map(({ name, host }) => ({ host, guest: `${EXTRA_ROOTS}/${name}` as ByteString })),
      ],
    };
    const toolchain = new ImageToolchain(rootfs, environment);
    let compilers = plannedCompilers(config, toolchain, view);
    let plan: Plan;
    const namespaces = async () => {
      const kept = await this.#options.namespaces.get({
        image: digest,
        rootfs,
        project: root,
        extraRoots,
        callFiles: callFolder,
        run: this.#runMounts(root, launcherPlaces(toolchain)),
      });
      plan = {
        kind: "image",
        projectRoot: root,
        configuration,
        imageDigest: digest,
        namespace: namespaceRef(kept.local),
        sandboxArgv: [...kept.localCommand, ascii("--")],
        compilers,
        fallback: config.fallback,
        imageRoot,
        programFolders: toolchain.folders,
      };
      await this.#writePlan(plan);
      return kept;
    };
    const first = await namespaces();
    // Without a digest nobody has checked what they would be made of.
    if (contents !== null && !this.#headers.has(digest)) this.#stripHeaders(digest);
    const listing = async (base: "strict" | "local") => {
      const shown = this.#headers.get(digest) ?? null;
      return shown === null ? null : namespaceRef(await (await namespaces()).listing(base, shown));
    };
    const imageEntries = new Set<string>(
      imageOwnedNames({ listImage: (path) => listFolder((imageRoot + path) as ByteString) }),
    );
    const project: Project = {
      root,
      config,
      imageDigest: digest,
      imageContents: contents,
      imageRoot,
      imageEntries,
      places: {
        shared: {
          paths: "shared",
          view,
          callFiles: (folder) => `${CALL_FILES}${folder.slice(folder.lastIndexOf("/"))}` as ByteString,
          namespace: async () => namespaceRef((await namespaces()).strict),
          listingNamespace: () => listing("strict"),
        },
        own: ownPlace(view, imageEntries, {
          namespace: async () => namespaceRef((await namespaces()).local),
          listingNamespace: () => listing("local"),
        }),
      },
      callFolder,
      locales: new ImageLocaleFiles(imageRoot),
      sandboxArgv: first.localCommand,
      searchPath: toolchain.folders.join(":") as ByteString,
      compiler: (name) => toolchain.find(name) ?? toolchain.find(baseName(name)),
      compilerAt: (path) => (path.startsWith("/") ? toolchain.find(path) : null),
      program: (name) => toolchain.program(baseName(name)),
      imageFile: (path) => {
        const inImage = resolveInImage(imageRoot, path);
        return inImage === null ? null : ((imageRoot + inImage) as ByteString);
      },
      localNamespace: async () => namespaceRef((await namespaces()).local),
      run: {
        namespace: async (launcher) => namespaceRef(await this.#withLauncher(root, launcher, namespaces)),
        folders: toolchain.folders,
        environment: imageVariables(environment),
        word: (path) => calledWord(toolchain, path),
      },
      planWithoutMaps: async ({ path }) => {
        const own = plannedCompilers({ ...config, paths: "own" }, toolchain, view);
        const at = (one: PlanCompiler) => toolchain.find(one.path)?.resolved;
        const resolved = toolchain.find(path)?.resolved;
        compilers = compilers.map((one, index) => (at(one) === resolved ? own[index]! : one));
        await namespaces();
      },
    };
    return { kind: "bound", project, plan: () => plan };
  }

  /** Looks for an image's headers for lists, and has them made; calls are listed by the headers as they are until then. */
  #stripHeaders(digest: Digest): void {
    this.#headers.set(digest, this.#headers.get(digest) ?? null);
    this.#options.images.strippedHeaders(digest).then(
      (headers) => void this.#headers.set(digest, headers),
      (error: unknown) => {
        this.#headers.delete(digest);
        this.#options.logger.warn("image.headers_not_stripped", { image: digest, message: String(error) });
      },
    );
  }

  #runMounts(root: ByteString, compilers: readonly ByteString[]): RunMounts | null {
    const launcher = this.#launchers.get(root);
    if (launcher === undefined) return null;
    const { runtime, state, cache } = this.#options.directories;
    return { launcher, compilers, folders: [runtime, state, cache].map(byteStringOfText).map(realPath).filter(exists) };
  }

  /** From now on the project's namespaces are such that one of `hpcc run` is among them; not so if it cannot be made. */
  async #withLauncher(
    root: ByteString,
    launcher: ByteString,
    namespaces: () => Promise<KeptNamespaces>,
  ): Promise<HeldNamespace> {
    const before = this.#launchers.get(root);
    this.#launchers.set(root, launcher);
    try {
      const { run } = await namespaces();
      if (run !== null) return run;
      throw new HpccError("namespace.unavailable", "the namespace is being made anew; run the command again");
    } catch (error) {
      if (before === undefined) this.#launchers.delete(root);
      else this.#launchers.set(root, before);
      throw error;
    }
  }

  #planFile(root: ByteString): string {
    return join(this.#options.directories.state, "plans", planFileName(root));
  }

  async #removePlan(root: ByteString): Promise<void> {
    this.#plans.delete(root);
    await rm(this.#planFile(root), { force: true }).catch((error: unknown) =>
      this.#options.logger.warn("daemon.plan.not_removed", { message: String(error) }),
    );
  }

  /** Replaces the plan file when it says something else than before. Calls go on without one, as on a full disk. */
  async #writePlan(plan: Plan): Promise<void> {
    const bytes = encodePlan(plan);
    const content = bytes.toString("latin1");
    if (this.#plans.get(plan.projectRoot) === content) return;
    const file = this.#planFile(plan.projectRoot);
    const temporary = `${file}.${randomUUID()}`;
    try {
      await mkdir(dirname(file), { recursive: true, mode: 0o700 });
      await writeFile(temporary, bytes, { mode: 0o600 });
      await rename(temporary, file);
      this.#plans.set(plan.projectRoot, content);
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => undefined);
      this.#options.logger.warn("daemon.plan.not_written", { message: String(error) });
    }
  }
}

/** The project and its extra roots at their own paths; null where a guest has something of the image there. */
function ownPlace(
  shared: View,
  imageEntries: ReadonlySet<string>,
  namespaces: Pick<ProjectPlace, "namespace" | "listingNamespace">,
): ProjectPlace | null {
  const roots = shared.roots.map(({ host }) => ({ host, guest: host }));
  const isFree = ({ host }: ViewRoot) =>
    isJobPath(`${host}/x` as ByteString) && !imageEntries.has(host.split("/", 2)[1] ?? "");
  return roots.every(isFree) ? { paths: "own", view: { roots }, callFiles: (folder) => folder, ...namespaces } : null;
}

function exists(path: ByteString): boolean {
  return existsSync(bytesOf(path));
}

function rootOf(folder: ByteString): ByteString | null {
  return findProjectRoot(folder, exists);
}

/** What a configuration says; null when it cannot be understood. */
function readable(read: () => ClientConfig): ClientConfig | null {
  try {
    return read();
  } catch (error) {
    if (error instanceof HpccError && error.code === "config.invalid") return null;
    throw error;
  }
}

function environmentOf(variables: readonly ByteString[]): Record<string, string> {
  return Object.fromEntries(variables.map((entry) => displayText(entry).split(/=(.*)/s).slice(0, 2)));
}

function realPath(path: ByteString): ByteString {
  try {
    return byteStringOf(realpathSync.native(bytesOf(path), { encoding: "buffer" }));
  } catch {
    return path;
  }
}

/** A compiler called by a path that the image has not (`/usr/local/bin/gcc`) means the image's of that name. */
function baseName(name: ByteString): ByteString {
  return name.slice(name.lastIndexOf("/") + 1) as ByteString;
}

function namespaceRef(held: HeldNamespace): NamespaceRef {
  return {
    holderPid: held.pid,
    userNamespaceIno: held.userNamespaceInode === null ? null : BigInt(held.userNamespaceInode),
    mountNamespaceIno: BigInt(held.mountNamespaceInode),
  };
}

/** The image's root file system, or why it cannot be had and the way out. */
async function unpack(
  images: ImageStore,
  digest: Digest,
): Promise<
  | { readonly rootfs: string; readonly contents: Digest | null }
  | { readonly message: string; readonly isAltered: boolean }
> {
  try {
    const rootfs = await images.rootfs(digest);
    return { rootfs, contents: await images.contents(digest) };
  } catch (error) {
    if (!(error instanceof HpccError)) throw error;
    const missing = error.code === "image.missing";
    const isAltered = error.code === "image.altered";
    const tellsAll = missing || isAltered;
    return { isAltered, message: tellsAll ? `${error.message}. ${error.hint}` : `${error.message} (image ${digest})` };
  }
}
