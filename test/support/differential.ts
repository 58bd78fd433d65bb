// Makes one call three ways in the same project: through hpcc twice, a miss and a hit, and with the image's own compiler; and says in what
// they differ: exit code, streams, and every file with its mode, kind and links. Knows no list of calls.
import { spawn } from "node:child_process";
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { type ByteString, bytesOf } from "../../src/base/byte-string.ts";
import { sha256 } from "../../src/core/digest/digest.ts";
import { withoutDrawnNames } from "../../src/reproduce/drawn-names.ts";
import { decodeMessage } from "../../src/wire/launcher/decode.ts";
import { encodeMessage } from "../../src/wire/launcher/encode.ts";
import { FrameReader } from "../../src/wire/launcher/frame-reader.ts";
import { PROTOCOL_VERSION } from "../../src/wire/launcher/limits.ts";
import { type CallStats, HPCC } from "./farm.ts";
import { shellWord } from "./one-step.ts";
import type { QuickFarm } from "./quick-farm.ts";
import { imageMounts } from "./sandbox-pool.ts";

export interface Scenario {
  readonly name: string;
  /** argv from the compiler's name on; `@ROOT@` stands for the project's root. Bytes as latin1. */
  readonly argv: readonly string[];
  /** Contents by name; `@ROOT@` as above. */
  readonly files: Readonly<Record<string, string>>;
  /** Below the project. */
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** A script of sh that is run in the project before each call. */
  readonly prepare?: string;
  /** Redirections and the like, after the command. */
  readonly shell?: string;
  readonly umask?: string;
  /** Kinds of prefix maps that hpcc adds to a call with maps of its own; they stand before these. */
  readonly maps?: readonly ("debug" | "macro")[];
  /** True when no other scenario makes the same call, so that it needs no macro of its own. */
  readonly distinct?: boolean;
}

export interface CallEnd {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
  /** What stands in the project, by path. */
  readonly tree: ReadonlyMap<string, string>;
}

export interface Difference {
  readonly outcomes: readonly [string, string];
  /** Empty when all is equal. */
  readonly what: readonly string[];
  readonly plain: CallEnd;
  readonly miss: CallEnd;
  /** What the plain call was given of what the guest's had. */
  readonly injected: InjectedWords;
}

export interface Moved {
  readonly outcome: string;
  readonly what: readonly string[];
}

/** Before any test ran: no input looks as if it had changed during a compile. */
const LONG_AGO = new Date("2020-01-01T00:00:00Z");

export class Differential {
  readonly root: string;
  readonly #farm: QuickFarm;
  readonly #image: string;
  readonly #paths: "own" | "shared";

  constructor(farm: QuickFarm, image: string, name: string, paths: "own" | "shared" = "shared") {
    this.#farm = farm;
    this.#image = image;
    this.#paths = paths;
    this.root = join(farm.folder, name);
    mkdirSync(this.root, { recursive: true });
  }

  /** The first two calls are hpcc's, so that the plain one can have the seed of theirs. */
  async compare(scenario: Scenario): Promise<Difference> {
    const before = this.#farm.pool?.executed.length ?? 0;
    const [miss, first] = await this.#through(scenario);
    const [hit, second] = await this.#through(scenario);
    const injected = injectedWords(this.#farm.pool?.executed.at(before)?.argv);
    const plain = await this.plain(scenario, injected);
    const what = [
      ...differences("miss", plain, miss),
      ...(/^(?:remote_compiled|local)/.test(first) ? [] : [`first call: ${first}`]),
      ...differences("hit", plain, hit),
      // Failures are not kept.
      ...(first === "remote_compiled" && second !== (plain.code === 0 ? "remote_hit" : first)
        ? [`second call: ${second}`]
        : []),
    ];
    return { outcomes: [first, second], what, plain, miss, injected };
  }

  /** One call through hpcc, as a miss, and the image's compiler: without any flag of hpcc's if the project stands at its own path. */
  async compareMiss(scenario: Scenario, paths: "own" | "shared"): Promise<Difference> {
    const before = this.#farm.pool?.executed.length ?? 0;
    const own = { "hpcc.toml": `image = "${this.#image}"\npaths = "${paths}"\n` };
    const placed = { ...scenario, files: { ...scenario.files, ...own } };
    const [miss, outcome] = await this.#through(placed);
    // The last one: outputs with a path of the shared place are not given, and the call is executed again at its own path.
    const executed = injectedWords(this.#farm.pool?.executed.slice(before).at(-1)?.argv);
    const injected = paths === "own" ? { seed: [], ownPaths: true } : executed;
    const plain = await this.plain(placed, injected);
    return { outcomes: [outcome, outcome], what: differences("miss", plain, miss), plain, miss, injected };
  }

  /** Compiles through hpcc, runs a script in the project, and compiles again: that must be what a plain compile then makes. */
  async compareAfter(scenario: Scenario, mutation: string): Promise<Difference> {
    await this.#through(scenario);
    const before = this.#farm.pool?.executed.length ?? 0;
    await this.#script(mutation);
    await this.stats();
    const again = await this.call([HPCC, ...this.#words(scenario)], scenario);
    const outcome = outcomeOf(await this.stats());
    const injected = injectedWords(this.#farm.pool?.executed.at(before)?.argv);
    const plain = await this.plain(scenario, injected, mutation);
    return { outcomes: [outcome, outcome], what: differences("again", plain, again), plain, miss: again, injected };
  }

  /** One call of this checkout, which another one has made before: its results may be answers here. */
  async compareMoved(scenario: Scenario, { injected: before }: Difference): Promise<Moved> {
    const count = this.#farm.pool?.executed.length ?? 0;
    const [moved, outcome] = await this.#through(scenario);
    const executed = this.#farm.pool?.executed.at(count);
    const plain = await this.plain(scenario, executed === undefined ? before : injectedWords(executed.argv));
    return { outcome, what: differences("moved", plain, moved) };
  }

  async #through(scenario: Scenario): Promise<[CallEnd, string]> {
    await this.stats();
    this.#reset(scenario);
    await this.#prepare(scenario);
    const end = await this.call([HPCC, ...this.#words(scenario)], scenario);
    return [end, outcomeOf(await this.stats())];
  }

  /** The image's own compiler in one step, the project at its own path. */
  async plain(scenario: Scenario, { seed, ownPaths }: InjectedWords, mutation = "true"): Promise<CallEnd> {
    this.#reset(scenario);
    await this.#prepare(scenario);
    await this.#script(mutation);
    const [compiler = "", ...rest] = this.#words(scenario);
    const clang = compiler.startsWith("clang");
    const maps = scenario.maps ?? ["file"];
    const shared = [
      ...maps.map((kind) => `-f${kind}-prefix-map=${this.root}=.`),
      ...(clang ? [] : ["-gno-record-gcc-switches"]),
    ];
    const injected = ownPaths || this.#paths === "own" ? [] : shared;
    const mounts = await imageMounts(this.#farm.rootfs(this.#image));
    const sandbox = ["bwrap", ...mounts, "--bind", this.root, this.root, "--chdir", this.#cwd(scenario), "--"];
    return this.call([...sandbox, compiler, ...injected, ...rest, ...seed], scenario);
  }

  async call(argv: readonly string[], scenario: Scenario): Promise<CallEnd> {
    const words = argv.map(shellWord).join(" ");
    const script = `umask ${scenario.umask ?? "022"}; cd ${shellWord(this.#cwd(scenario))} && exec ${words} ${scenario.shell ?? ""}`;
    const env = { ...this.#farm.env, PATH: "/usr/bin:/bin", ...scenario.env };
    const ended = await run(script, env);
    return { ...ended, tree: treeOf(this.root) };
  }

  /** What was counted since the last time. */
  stats(): Promise<CallStats> {
    return quickStats(this.#farm);
  }

  #cwd({ cwd }: Scenario): string {
    return cwd === undefined ? this.root : `${this.root}/${cwd}`;
  }

  /** With a macro of its own, so that no other scenario's result is a hit. */
  #words({ argv, name, distinct }: Scenario): string[] {
    const [compiler = "", ...rest] = argv.map((word) => word.replaceAll("@ROOT@", this.root));
    if (distinct === true) return [compiler, ...rest];
    return [compiler, `-DHPCC_CASE_${sha256(Buffer.from(name)).slice(-12)}`, ...rest];
  }

  async #prepare(scenario: Scenario): Promise<void> {
    if (scenario.prepare !== undefined) await this.#script(scenario.prepare);
  }

  async #script(script: string): Promise<void> {
    const { code, stderr } = await run(`cd '${this.root}' && set -e; ${script}`, this.#farm.env);
    if (code !== 0) throw new Error(`${script}: ${stderr}`);
  }

  /** The folder itself stays. */
  #reset(scenario: Scenario): void {
    for (const name of readdirSync(this.root)) rmSync(join(this.root, name), { recursive: true, force: true });
    const own = this.#paths === "own" ? 'paths = "own"\n' : "";
    const files = { "hpcc.toml": `image = "${this.#image}"\n${own}`, ...scenario.files };
    for (const [name, text] of Object.entries(files)) {
      const path = bytesOf(`${this.root}/${name}` as ByteString);
      mkdirSync(bytesOf(dirname(`${this.root}/${name}`) as ByteString), { recursive: true });
      writeFileSync(path, bytesOf(text.replaceAll("@ROOT@", this.root) as ByteString));
      utimesSync(path, LONG_AGO, LONG_AGO);
    }
    mkdirSync(this.#cwd(scenario), { recursive: true });
  }
}

/** What a farm's first user's daemon counted since the last time. */
export function quickStats(farm: QuickFarm): Promise<CallStats> {
  return zeroedStats(join(farm.folder, "run"));
}

/** What the daemon of a runtime folder counted since the last time. */
export function zeroedStats(runtime: string): Promise<CallStats> {
  const socket = connect(join(runtime, "daemon.sock"));
  const reader = new FrameReader();
  return new Promise((resolve, reject) => {
    socket.on("error", reject);
    socket.on("data", (chunk) => {
      for (const frame of reader.push(chunk)) {
        const message = decodeMessage(frame);
        if (message.type !== "reply") continue;
        socket.destroy();
        resolve(message.reply as CallStats);
      }
    });
    socket.write(
      encodeMessage({
        type: "control",
        protocolVersion: PROTOCOL_VERSION,
        request: { command: "stats", zero: true },
      }),
    );
  });
}

interface InjectedWords {
  readonly seed: readonly string[];
  /** The project stood at its own path: no flag but the seed shows in an output. */
  readonly ownPaths: boolean;
}

/** What the guest's command line had that the plain one must have, too. */
function injectedWords(executed: readonly string[] = []): InjectedWords {
  return {
    seed: executed.filter((word) => word.startsWith("-frandom-seed=")),
    ownPaths: executed.length > 0 && !executed.some((word) => word.includes("=/hpcc/project")),
  };
}

export function run(script: string, env: NodeJS.ProcessEnv): Promise<Omit<CallEnd, "tree">> {
  const child = spawn("/bin/sh", ["-c", script], { env, stdio: ["ignore", "pipe", "pipe"] });
  const out = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk: Buffer) => (out.stdout += chunk.toString("latin1")));
  child.stderr.on("data", (chunk: Buffer) => (out.stderr += chunk.toString("latin1")));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    const end = () => ({ stdout: out.stdout, stderr: withoutDrawnNames(out.stderr) });
    child.on("close", (code, signal) => resolve({ code, signal, ...end() }));
  });
}

/** Kind, mode, links and content of all that stands in a folder. */
export function treeOf(root: string): Map<string, string> {
  const tree = new Map<string, string>();
  const walk = (folder: Buffer, prefix: string) => {
    for (const name of readdirSync(folder, { encoding: "buffer" })) {
      const path = Buffer.concat([folder, Buffer.from("/"), name]);
      const shown = prefix + name.toString("latin1");
      const stat = lstatSync(path);
      const mode = (stat.mode & 0o7777).toString(8);
      if (stat.isSymbolicLink()) tree.set(shown, `link to ${readlinkSync(path, "latin1")}`);
      else if (stat.isDirectory()) {
        tree.set(shown, `folder ${mode}`);
        walk(path, `${shown}/`);
      } else if (stat.isFile()) {
        const bytes = readFileSync(path);
        const text = bytes.length < 4000 && !bytes.includes(0) ? bytes.toString("latin1") : "";
        tree.set(shown, `file ${mode} links ${stat.nlink} ${sha256(bytes)} ${text}`);
      } else tree.set(shown, `other ${mode}`);
    }
  };
  walk(Buffer.from(root), "");
  return tree;
}

export function differences(name: string, plain: CallEnd, other: CallEnd): string[] {
  const what: string[] = [];
  for (const key of ["code", "signal", "stdout", "stderr"] as const)
    if (plain[key] !== other[key]) what.push(`${name} ${key}: plain ${plain[key]}, hpcc ${other[key]}`);
  for (const path of new Set([...plain.tree.keys(), ...other.tree.keys()]))
    if (plain.tree.get(path) !== other.tree.get(path))
      what.push(`${name} ${path}: plain ${plain.tree.get(path)}, hpcc ${other.tree.get(path)}`);
  return what;
}

export function outcomeOf({ outcomes, reasons, launcher_fallbacks: fallbacks }: CallStats): string {
  const names = Object.entries(outcomes).flatMap(([name, count]) =>
    count === 0 ? [] : [count === 1 ? name : `${count} ${name}`],
  );
  const why = [...Object.keys(reasons), ...Object.keys(fallbacks).map((reason) => `launcher ${reason}`)];
  return [names.join(", "), ...why].join(": ");
}
