// A project in a temporary folder whose image is this machine: for tests of the daemon's parts with the machine's own compilers, without
// namespaces. Listings run where the project stands at its own path; with shared paths there are only the view's names.
import { spawnSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { ascii, type ByteString, byteStringOf, byteStringOfText, bytesOf } from "../../src/base/byte-string.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import { type ClientConfig, loadClientConfig } from "../../src/config/client.ts";
import type { CompilerFamily } from "../../src/core/compile/grammar/invocation.ts";
import { strippedHeader } from "../../src/core/compile/view/stripped-header.ts";
import { CALL_FILES, EXTRA_ROOTS, PROJECT_ROOT, type View } from "../../src/core/compile/view/view.ts";
import { digestHex, sha256 } from "../../src/core/digest/digest.ts";
import type { PreparedCall } from "../../src/daemon/call/prepared-call.ts";
import { parseCall, readCall } from "../../src/daemon/call/read-call.ts";
import type { Stage } from "../../src/daemon/call/stage.ts";
import type { LauncherCall } from "../../src/daemon/control/launcher-connection.ts";
import type { InputCaches } from "../../src/daemon/files-form/gather-inputs.ts";
import { KeptListings } from "../../src/daemon/files-form/kept-listings.ts";
import { StrippedUse } from "../../src/daemon/files-form/stripped-use.ts";
import { FileCache } from "../../src/daemon/inputs/file-cache.ts";
import { FolderNamesCache } from "../../src/daemon/inputs/folder-names.ts";
import { ImageHeaders } from "../../src/daemon/inputs/image-headers.ts";
import { ImageScans } from "../../src/daemon/inputs/image-scans.ts";
import { FolderIdentities } from "../../src/daemon/inputs/steady-places.ts";
import type { ImageCompiler, Project, ProjectPlace } from "../../src/daemon/project.ts";
import { PROTOCOL_VERSION } from "../../src/wire/launcher/limits.ts";
import type { NamespaceRef, RunMessage } from "../../src/wire/launcher/messages.ts";

const NAMESPACE: NamespaceRef = { holderPid: 1, userNamespaceIno: null, mountNamespaceIno: 1n };
/** In which the image's headers are stripped. */
const STRIPPED: NamespaceRef = { ...NAMESPACE, holderPid: 2 };
const IMAGE_ENTRIES = new Set(["bin", "etc", "lib", "lib64", "usr"]);
const CACHE_BYTES = 1024 * 1024;

export interface HostProjectOptions {
  readonly config?: Partial<ClientConfig>;
  readonly family?: CompilerFamily;
  /** Text of a script in the compiler's place. */
  readonly script?: string;
  /** Names of folders beside the project that compiles may see. */
  readonly extraRoots?: readonly string[];
  /** Headers that the image has in `imageFolder`; lists may then be made by stripped ones. */
  readonly imageHeaders?: Readonly<Record<string, string>>;
}

/** A call in hand, with what was run for it. */
export interface HeldCall extends LauncherCall {
  readonly ran: RunMessage["argv"][];
  /** The launcher has all that it needs. */
  finish(): Promise<void>;
}

export class HostProject implements Disposable {
  /** Holds the project's folder `p` and whatever stands beside it. */
  readonly base = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-project-")));
  readonly root = join(this.base, "p");
  readonly project: Project;
  /** Compilers that plans are to give no prefix maps. */
  readonly withoutMaps: ByteString[] = [];
  readonly compiler: ImageCompiler;
  readonly caches: InputCaches = {
    files: new FileCache(CACHE_BYTES, SYSTEM_CLOCK),
    names: new FolderNamesCache(SYSTEM_CLOCK),
    images: new ImageScans(),
    imageHeaders: new ImageHeaders(),
    folders: new FolderIdentities(SYSTEM_CLOCK),
    listings: new KeptListings(CACHE_BYTES),
    strippedUse: new StrippedUse(),
  };

  /** Beside the project. */
  readonly imageFolder = join(this.base, "image");

  constructor({ config = {}, family = "gcc", script, extraRoots = [], imageHeaders }: HostProjectOptions = {}) {
    mkdirSync(this.root);
    if (imageHeaders !== undefined) {
      for (const [name, text] of Object.entries(imageHeaders)) {
        const bytes = Buffer.from(text);
        writeBelow(this.imageFolder, { [name]: text });
        const stripped = strippedHeader(bytes, digestHex(sha256(bytes)));
        writeBelow(join(this.base, "stripped"), { [name]: stripped ?? bytes });
      }
    }
    mkdirSync(join(this.base, "calls"));
    for (const name of extraRoots) mkdirSync(join(this.base, name));
    if (script !== undefined) writeFileSync(join(this.base, family), script, { mode: 0o755 });
    this.compiler = { path: ascii(script === undefined ? `/usr/bin/${family}` : join(this.base, family)), family };
    const shared: View = {
      roots: [
        { host: byteStringOfText(this.root), guest: PROJECT_ROOT },
        ...extraRoots.map((name) => ({
          host: byteStringOfText(join(this.base, name)),
          guest: `${EXTRA_ROOTS}/${name}` as ByteString,
        })),
      ],
    };
    this.project = this.#project(shared, { ...this.#configuration(), ...config }, imageHeaders !== undefined);
  }

  /** Writes files, names relative to the project. */
  write(files: Readonly<Record<string, string>>): void {
    writeBelow(this.root, files);
  }

  /** A call from the project's folder, or one below it; what it has run runs on this machine. */
  call(argv: readonly string[], environment: readonly string[] = [], below = ""): HeldCall {
    const { ino, dev } = statSync("/proc/self/ns/mnt", { bigint: true });
    const ran: RunMessage["argv"][] = [];
    const releases: (() => Promise<void>)[] = [];
    return {
      ran,
      message: {
        type: "call",
        protocolVersion: PROTOCOL_VERSION,
        launcherVersion: "test",
        mountNamespace: { ino, dev },
        argv: argv.map(byteStringOfText),
        cwd: byteStringOfText(join(this.root, below)),
        environment: environment.map(byteStringOfText),
        umask: 0o022,
        terminal: { stdin: false, stdout: false, stderr: false, columns: null },
        pid: process.pid,
        hostCompiler: null,
      },
      signal: new AbortController().signal,
      run: async (request) => {
        ran.push(request.argv);
        return runHere({ ...request, argv: [...this.#shown(request.namespace), ...request.argv] });
      },
      whenDone: (release) => void releases.push(release),
      finish: async () => {
        for (const release of releases.splice(0)) await release();
      },
    };
  }

  /** Reads a call and places it. */
  prepare(call: LauncherCall, paths: ProjectPlace["paths"] = "own"): Stage<PreparedCall> {
    const { project, compiler } = this;
    const parsed = parseCall(call.message, compiler);
    if (parsed.kind === "bypass") return parsed;
    const place = project.places[paths]!;
    const request = readCall(call.message, parsed.value[0]!, project, place);
    if (request.kind === "bypass") return request;
    const folder = `${project.callFolder}/${this.#calls++}` as ByteString;
    mkdirSync(bytesOf(folder));
    return { kind: "next", value: { call, project, compiler, request: request.value, place, folder } };
  }

  [Symbol.dispose](): void {
    rmSync(this.base, { recursive: true, force: true });
  }

  #calls = 0;

  /** What runs a program where the image's headers are seen. */
  #shown(namespace: NamespaceRef | null): ByteString[] {
    if (namespace !== STRIPPED) return [];
    const stripped = join(this.base, "stripped");
    return ["bwrap", "--dev-bind", "/", "/", "--ro-bind", stripped, this.imageFolder, "--"].map(byteStringOfText);
  }

  #configuration(): ClientConfig {
    const none = join(this.base, "none.toml");
    const directories = {
      runtime: this.base,
      state: this.base,
      cache: this.base,
      images: this.base,
      userConfig: none,
      systemConfig: none,
    };
    return loadClientConfig({ env: {}, projectRoot: null, directories }).config;
  }

  #project(view: View, config: ClientConfig, hasHeaders: boolean): Project {
    const own: View = { roots: view.roots.map(({ host }) => ({ host, guest: host })) };
    const namespace = async () => NAMESPACE;
    const listingNamespace = async () => (hasHeaders ? STRIPPED : null);
    return {
      root: byteStringOfText(this.root),
      config,
      imageDigest: sha256(Buffer.from("this machine")),
      imageContents: null,
      imageRoot: ascii(""),
      // A path of the project is the project's first.
      imageEntries: hasHeaders ? new Set([...IMAGE_ENTRIES, this.base.split("/", 2)[1]!]) : IMAGE_ENTRIES,
      locales: { hasLocale: () => false, translates: () => false },
      searchPath: ascii("/usr/bin:/bin"),
      imageFile: (path) =>
        existsSync(bytesOf(path)) ? byteStringOf(realpathSync.native(bytesOf(path), { encoding: "buffer" })) : null,
      places: {
        shared: {
          paths: "shared",
          view,
          callFiles: (folder) => `${CALL_FILES}${folder.slice(folder.lastIndexOf("/"))}` as ByteString,
          namespace,
          listingNamespace,
        },
        own: { paths: "own", view: own, callFiles: (folder) => folder, namespace, listingNamespace },
      },
      callFolder: byteStringOfText(join(this.base, "calls")),
      compilerAt: () => null,
      compiler: () => this.compiler,
      program: () => null,
      localNamespace: namespace,
      run: { namespace: async () => NAMESPACE, folders: [], environment: [], word: (path) => path },
      planWithoutMaps: async ({ path }) => void this.withoutMaps.push(path),
      sandboxArgv: [],
    };
  }
}

function writeBelow(folder: string, files: Readonly<Record<string, string | Buffer>>): void {
  for (const [name, text] of Object.entries(files)) {
    const path = join(folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
}

function runHere({ argv, environment, cwd, stdout, stderr }: Omit<RunMessage, "type" | "id">) {
  const [program = "", ...words] = argv;
  const streams = [stdout, stderr].map((stream) =>
    stream.kind === "file" || stream.kind === "terminal" ? openSync(bytesOf(stream.path), "wx", 0o600) : "ignore",
  );
  const env = Object.fromEntries(environment.map((entry) => entry.split(/=(.*)/s).slice(0, 2)));
  const ran = spawnSync(program, words, { cwd, env, stdio: ["ignore", ...streams], timeout: 60_000 });
  for (const stream of streams) if (typeof stream === "number") closeSync(stream);
  if (ran.error !== undefined) throw ran.error;
  const outcome = { kind: "exited", code: ran.status ?? 255 } as const;
  return { type: "ran", id: 1, outcome, usage: { userUs: 0, systemUs: 0, maxRssKiB: 0, wallUs: 0 } } as const;
}
