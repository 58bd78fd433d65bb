// Finds the project of a call, reads its configuration, binds it to its image, and writes the plan from which the launcher can go
// on without us. UNTRUSTED: the call's environment and folders; a checkout's hpcc.toml (the configuration layer checks it).
import { randomUUID } from "node:crypto";
import { existsSync, readdirSync, realpathSync, statSync } from "node:fs";
import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ascii, type ByteString, byteStringOf, byteStringOfText, bytesOf, displayText } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { type ClientConfig, loadClientConfig, PROJECT_CONFIG } from "../config/client.ts";
import type { Directories } from "../config/directories.ts";
import { findProjectRoot } from "../config/project-root.ts";
import { isJobPath } from "../core/action/guest-path.ts";
import { CALL_FILES, EXTRA_ROOTS, PROJECT_ROOT, type View, type ViewRoot } from "../core/compile/view/view.ts";
import type { Digest } from "../core/digest/digest.ts";
import { resolveInImage } from "../image/image-path.ts";
import type { ImageStore } from "../image/image-store.ts";
import { ImageLocaleFiles } from "../image/locales.ts";
import { familyOfProgram, ImageToolchain } from "../image/toolchain.ts";
import { listFolder } from "../vm/namespace/folder-listing.ts";
import type { HeldNamespace } from "../vm/namespace/holder.ts";
import { imageOwnedNames } from "../vm/namespace/mount-plan.ts";
import type { KeptNamespaces, NamespaceKeeper } from "../vm/namespace/namespace-keeper.ts";
import type { CallMessage, NamespaceRef } from "../wire/launcher/messages.ts";
import { encodePlan, type Plan, type PlanCompiler, planFileName } from "../wire/launcher/plan-file.ts";
import type { Project, ProjectPlace } from "./project.ts";
import { localInjectedFlags } from "./tiers/local-answer.ts";

/** What is known of the folder in which a call was made. */
export type ProjectState =
  /** No project, or one that names no image: the host's compiler is the real one. */
  | { readonly kind: "unbound" }
  /** An image is bound and cannot be used; the message says why and the way out. */
  | { readonly kind: "unusable"; readonly message: string; readonly fallback: ClientConfig["fallback"] }
  | { readonly kind: "bound"; readonly project: Project; readonly plan: () => Plan };

export interface ProjectRegistryOptions {
  readonly directories: Directories;
  readonly images: ImageStore;
  readonly namespaces: NamespaceKeeper;
  readonly logger: Logger;
}

interface Known {
  readonly stamp: string;
  readonly state: Promise<ProjectState>;
}

const PROJECTS_MAX = 256;
const PLAN_COMPILERS_LISTED_MAX = 256;
const IMAGE_PROGRAM_FOLDERS = ["/usr/local/bin", "/usr/bin", "/bin"];
/** A word that is an absolute path, or an include folder's. */
const ABSOLUTE_PATH = /^(?:-I|-iquote|-isystem)?(\/.*)$/s;
const CONFIG_VARIABLE = /^(HPCC_[A-Z_]+|HOME|XDG_[A-Z_]+)=/;

export class ProjectRegistry {
  readonly #options: ProjectRegistryOptions;
  readonly #known = new Map<string, Known>();
  readonly #plans = new Map<ByteString, string>();
  /** Projects of build trees in extra roots, as calls there have named them. */
  readonly #buildTrees = new Map<ByteString, ByteString>();

  constructor(options: ProjectRegistryOptions) {
    this.#options = options;
  }

  /** The project of a call. Throws `config.invalid` for a configuration that cannot be read. */
  async find(call: Pick<CallMessage, "argv" | "cwd" | "environment">): Promise<ProjectState> {
    const cwd = realPath(call.cwd);
    const variables = call.environment.filter((entry) => CONFIG_VARIABLE.test(entry)).sort();
    const root = rootOf(cwd);
    if (root !== null) return this.#bound(root, variables);
    const named = this.#projectOfBuildTree(cwd, call.argv, variables);
    if (named === null) return { kind: "unbound" };
    const state = await this.#bound(named, variables);
    if (state.kind === "bound") await this.#writePlan({ ...state.plan(), projectRoot: cwd });
    return state;
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
    const files = [bytesOf(`${root}/${PROJECT_CONFIG}` as ByteString), userConfig, systemConfig];
    return files
      .map((file) => {
        const stat = statSync(file, { bigint: true, throwIfNoEntry: false });
        return stat === undefined ? "-" : `${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`;
      })
      .join(" ");
  }

  async #load(root: ByteString, variables: readonly ByteString[]): Promise<ProjectState> {
    const { directories } = this.#options;
    const { config } = loadClientConfig({ env: environmentOf(variables), projectRoot: root, directories });
    switch (config.image.kind) {
      case "none":
        await this.#writePlan({ kind: "host", projectRoot: root });
        return { kind: "unbound" };
      case "forbidden":
        return {
          kind: "unusable",
          fallback: config.fallback,
          message:
            `${displayText(root)}/${PROJECT_CONFIG} names the image ${config.image.digest}, which you have not allowed; ` +
            `add it to images.allowed in ${directories.userConfig}`,
        };
      case "allowed":
        return this.#bind(root, config, config.image.digest);
    }
  }

  async #bind(root: ByteString, config: ClientConfig, digest: Digest): Promise<ProjectState> {
    const { images, directories } = this.#options;
    let rootfs: string;
    try {
      rootfs = await images.rootfs(digest);
    } catch (error) {
      if (!(error instanceof HpccError)) throw error;
      const message =
        error.code === "image.missing" ? `${error.message}. ${error.hint}` : `${error.message} (image ${digest})`;
      return { kind: "unusable", fallback: config.fallback, message };
    }
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
    let plan: Plan;
    const namespaces = async () => {
      const kept = await this.#options.namespaces.get({
        rootfs,
        project: root,
        extraRoots,
        callFiles: callFolder,
      });
      plan = imagePlan(root, config, digest, kept, imageRoot, toolchain, view);
      await this.#writePlan(plan);
      return kept;
    };
    const first = await namespaces();
    const imageEntries = new Set<string>(
      imageOwnedNames({ listImage: (path) => listFolder((imageRoot + path) as ByteString) }),
    );
    const project: Project = {
      config,
      imageDigest: digest,
      imageRoot,
      imageEntries,
      places: {
        shared: {
          paths: "shared",
          view,
          callFiles: (folder) => `${CALL_FILES}${folder.slice(folder.lastIndexOf("/"))}` as ByteString,
          namespace: async () => namespaceRef((await namespaces()).strict),
        },
        own: ownPlace(view, imageEntries, async () => namespaceRef((await namespaces()).local)),
      },
      callFolder,
      locales: new ImageLocaleFiles(imageRoot),
      sandboxArgv: first.localCommand,
      compiler: (name) => toolchain.find(baseCompilerName(name)),
      imageFile: (path) => {
        const inImage = resolveInImage(imageRoot, path);
        return inImage === null ? null : ((imageRoot + inImage) as ByteString);
      },
      localNamespace: async () => namespaceRef((await namespaces()).local),
    };
    return { kind: "bound", project, plan: () => plan };
  }

  /** Replaces the plan file when it says something else than before. */
  async #writePlan(plan: Plan): Promise<void> {
    const bytes = encodePlan(plan);
    const content = bytes.toString("latin1");
    if (this.#plans.get(plan.projectRoot) === content) return;
    const folder = join(this.#options.directories.state, "plans");
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const file = join(folder, planFileName(plan.projectRoot));
    const temporary = `${file}.${randomUUID()}`;
    await writeFile(temporary, bytes, { mode: 0o600 });
    await rename(temporary, file);
    this.#plans.set(plan.projectRoot, content);
  }
}

/** The project and its extra roots at their own paths; null where a guest has something of the image there. */
function ownPlace(
  shared: View,
  imageEntries: ReadonlySet<string>,
  namespace: () => Promise<NamespaceRef>,
): ProjectPlace | null {
  const roots = shared.roots.map(({ host }) => ({ host, guest: host }));
  const isFree = ({ host }: ViewRoot) =>
    isJobPath(`${host}/x` as ByteString) && !imageEntries.has(host.split("/", 2)[1] ?? "");
  return roots.every(isFree) ? { paths: "own", view: { roots }, callFiles: (folder) => folder, namespace } : null;
}

function rootOf(folder: ByteString): ByteString | null {
  return findProjectRoot(folder, (path) => existsSync(bytesOf(path)));
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

/** A compiler called by a path of the host (`/usr/bin/gcc`) means the image's of that name. */
function baseCompilerName(name: ByteString): ByteString {
  return name.slice(name.lastIndexOf("/") + 1) as ByteString;
}

function namespaceRef(held: HeldNamespace): NamespaceRef {
  return {
    holderPid: held.pid,
    userNamespaceIno: held.userNamespaceInode === null ? null : BigInt(held.userNamespaceInode),
    mountNamespaceIno: BigInt(held.mountNamespaceInode),
  };
}

function imagePlan(
  projectRoot: ByteString,
  config: ClientConfig,
  imageDigest: Digest,
  kept: KeptNamespaces,
  imageRoot: ByteString,
  toolchain: ImageToolchain,
  view: View,
): Plan {
  const compilers = new Map<string, PlanCompiler>();
  for (const folder of IMAGE_PROGRAM_FOLDERS)
    for (const name of listNames(`${imageRoot}${folder}` as ByteString)) {
      if (compilers.size >= PLAN_COMPILERS_LISTED_MAX || compilers.has(name)) continue;
      const compiler = familyOfProgram(name) === null ? null : toolchain.find(ascii(name));
      if (compiler === null) continue;
      const injected = localInjectedFlags(
        { view, paths: config.paths, determinism: config.determinism },
        compiler.family,
      );
      compilers.set(name, { name: ascii(name), path: compiler.path, arguments: injected });
    }
  return {
    kind: "image",
    projectRoot,
    imageDigest,
    namespace: namespaceRef(kept.local),
    sandboxArgv: [...kept.localCommand, ascii("--")],
    compilers: [...compilers.values()],
    fallback: config.fallback === "host" ? "host" : "image",
  };
}

function listNames(folder: ByteString): string[] {
  try {
    return readdirSync(bytesOf(folder), "latin1").sort();
  } catch {
    return [];
  }
}
