// Makes a call's source with the daemon's own stages, the image's real compiler and a real folder, and lets a test change files at each
// point between the list and the sending. The launcher is bubblewrap here.
import { spawn } from "node:child_process";
import { closeSync, lstatSync, mkdirSync, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ascii, type ByteString, byteStringOfText } from "../../src/base/byte-string.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import { loadClientConfig } from "../../src/config/client.ts";
import type { Digest } from "../../src/core/digest/digest.ts";
import { parseCall, readCall } from "../../src/daemon/call/read-call.ts";
import type { PreparedJob } from "../../src/daemon/call/remote-job.ts";
import type { LauncherCall } from "../../src/daemon/control/launcher-connection.ts";
import { KeptListings } from "../../src/daemon/files-form/kept-listings.ts";
import { prepareFiles } from "../../src/daemon/files-form/prepare-files.ts";
import { StrippedUse } from "../../src/daemon/files-form/stripped-use.ts";
import { FileCache } from "../../src/daemon/inputs/file-cache.ts";
import { FolderNamesCache } from "../../src/daemon/inputs/folder-names.ts";
import { HeaderHints } from "../../src/daemon/inputs/header-hints.ts";
import { ImageHeaders } from "../../src/daemon/inputs/image-headers.ts";
import { ImageScans } from "../../src/daemon/inputs/image-scans.ts";
import { FolderIdentities } from "../../src/daemon/inputs/steady-places.ts";
import type { ImageCompiler, Project, ProjectPlace } from "../../src/daemon/project.ts";
import { resolveInImage } from "../../src/image/image-path.ts";
import { ImageLocaleFiles } from "../../src/image/locales.ts";
import { listFolder } from "../../src/vm/namespace/folder-listing.ts";
import { imageOwnedNames } from "../../src/vm/namespace/mount-plan.ts";
import { PROTOCOL_VERSION } from "../../src/wire/launcher/limits.ts";
import { imageMounts } from "./sandbox-pool.ts";

/** Points at which a file may change: `list`, `listed`, `read 0`, `read 1`, ... */
export type Point = string;
export type AtPoint = (point: Point) => void;

/** Older than any clock's tick and any cache's margin. */
const SETTLED_MS = 80;

class WatchedFiles extends FileCache {
  at: AtPoint = () => {};
  reads = 0;

  override readFile(path: ByteString) {
    this.at(`read ${this.reads++}`);
    return super.readFile(path);
  }
}

export class PreparedRace implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), "hr-"));
  readonly root = join(this.folder, "up/project");
  readonly #rootfs: string;
  readonly #files = new WatchedFiles(1 << 26, SYSTEM_CLOCK);
  readonly #names = new FolderNamesCache(SYSTEM_CLOCK);
  readonly #images = new ImageScans();
  readonly #folders = new FolderIdentities(SYSTEM_CLOCK);
  #calls = 0;

  constructor(rootfs: string) {
    this.#rootfs = rootfs;
    mkdirSync(this.root, { recursive: true });
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Waits until nothing in the folder looks as if it had just changed. */
  async settle(): Promise<void> {
    const newest = () =>
      Math.max(
        ...[".", ...readdirSync(this.folder, { recursive: true, encoding: "utf8" })].map(
          (name) => lstatSync(join(this.folder, name)).ctimeMs,
        ),
      );
    while (Date.now() - newest() <= SETTLED_MS) await new Promise((resolve) => void setTimeout(resolve, 10));
  }

  /** The manifest and blobs that would be sent, as one text; or the reason of a local compile. */
  async prepare(
    argv: readonly string[],
    at: AtPoint,
  ): Promise<{ readonly job: PreparedJob } | { readonly local: string }> {
    this.#files.at = at;
    this.#files.reads = 0;
    const { project, place, compiler } = this.#bound(argv[0] ?? "");
    const call = this.#call(argv, at);
    const parsed = parseCall(call.message, compiler);
    if (parsed.kind === "bypass") return { local: parsed.reason };
    const request = readCall(call.message, parsed.value[0]!, project, place);
    if (request.kind === "bypass") return { local: request.reason };
    const folder = join(this.folder, `call-${this.#calls++}`);
    mkdirSync(folder);
    const job = await prepareFiles(
      { call, project, compiler, request: request.value, place, folder: byteStringOfText(folder) },
      {
        files: this.#files,
        names: this.#names,
        images: this.#images,
        imageHeaders: new ImageHeaders(),
        folders: this.#folders,
        // Each call lists its files: what happens meanwhile is the matter here.
        listings: new KeptListings(0),
        strippedUse: new StrippedUse(),
        headers: new HeaderHints({ logger: SILENT_LOGGER }),
        clock: SYSTEM_CLOCK,
      },
    );
    return job.kind === "bypass" ? { local: job.reason } : { job: job.value };
  }

  #call(argv: readonly string[], at: AtPoint): LauncherCall {
    return {
      message: {
        type: "call",
        protocolVersion: PROTOCOL_VERSION,
        launcherVersion: "0",
        mountNamespace: { dev: 0n, ino: 0n },
        argv: argv.map(byteStringOfText),
        cwd: byteStringOfText(this.root),
        environment: [],
        umask: 0o22,
        terminal: { stdin: false, stdout: false, stderr: false, columns: null },
        pid: 1,
        hostCompiler: null,
      },
      signal: new AbortController().signal,
      run: async (request) => {
        at("list");
        const code = await this.#inNamespace(request);
        at("listed");
        return {
          type: "ran",
          id: 1,
          outcome: { kind: "exited", code },
          usage: { userUs: 0, systemUs: 0, maxRssKiB: 0, wallUs: 0 },
        };
      },
      whenDone: () => {},
    };
  }

  async #inNamespace({ argv, environment, cwd, stderr }: Parameters<LauncherCall["run"]>[0]): Promise<number> {
    const mounts = await imageMounts(this.#rootfs);
    const bwrap = [...mounts, "--bind", this.folder, this.folder, "--chdir", cwd, "--", ...argv];
    const file = stderr.kind === "file" ? stderr.path : "/dev/null";
    const descriptor = openSync(file, "w");
    const env = Object.fromEntries(environment.map((entry) => entry.split(/=(.*)/s).slice(0, 2)));
    const child = spawn("bwrap", bwrap, { env, stdio: ["ignore", "ignore", descriptor] });
    try {
      return await new Promise((resolve, reject) => {
        child.on("error", reject);
        child.on("close", (code) => resolve(code ?? 1));
      });
    } finally {
      closeSync(descriptor);
    }
  }

  #bound(name: string): { project: Project; place: ProjectPlace; compiler: ImageCompiler } {
    const imageRoot = byteStringOfText(this.#rootfs);
    const root = byteStringOfText(this.root);
    const directories = { runtime: "/x", state: "/x", cache: "/x", images: "/x", userConfig: "/x", systemConfig: "/x" };
    const place: ProjectPlace = {
      paths: "own",
      view: { roots: [{ host: root, guest: root }] },
      callFiles: (folder) => folder,
      namespace: async () => ({ holderPid: 1, userNamespaceIno: null, mountNamespaceIno: 1n }),
      listingNamespace: async () => null,
    };
    const compiler: ImageCompiler = { path: ascii(`/usr/bin/${name}`), family: name === "clang" ? "clang" : "gcc" };
    const project: Project = {
      root,
      config: loadClientConfig({ env: {}, projectRoot: null, directories }).config,
      imageDigest: `sha256:${"0".repeat(64)}` as Digest,
      imageContents: null,
      imageRoot,
      imageEntries: new Set(imageOwnedNames({ listImage: (path) => listFolder((imageRoot + path) as ByteString) })),
      locales: new ImageLocaleFiles(imageRoot),
      searchPath: ascii("/usr/bin:/bin"),
      imageFile: (path) => {
        const inImage = resolveInImage(imageRoot, path);
        return inImage === null ? null : ((imageRoot + inImage) as ByteString);
      },
      places: { shared: place, own: place },
      callFolder: byteStringOfText(this.folder),
      compilerAt: () => null,
      compiler: () => compiler,
      program: () => null,
      localNamespace: () => place.namespace(),
      run: { namespace: () => place.namespace(), folders: [], environment: [], word: (path) => path },
      planWithoutMaps: async () => {},
      sandboxArgv: [],
    };
    return { project, place, compiler };
  }

  write(files: Readonly<Record<string, string>>): void {
    for (const [name, text] of Object.entries(files)) {
      const path = join(this.root, name);
      mkdirSync(join(path, ".."), { recursive: true });
      writeFileSync(path, text);
    }
  }
}
