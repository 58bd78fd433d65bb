// A user without images and workers: a daemon in this process, and a checkout in which a call is made plainly, as a miss, as a hit, and as a
// hit after the checkout has moved. Says in what the ends differ. Knows no list of calls.
import { mkdirSync, mkdtempSync, realpathSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type ByteString, bytesOf } from "../../src/base/byte-string.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import { loadClientConfig } from "../../src/config/client.ts";
import type { Directories } from "../../src/config/directories.ts";
import { sha256 } from "../../src/core/digest/digest.ts";
import type { AnsweredCall } from "../../src/daemon/call/answered-call.ts";
import { type RunningDaemon, startDaemon } from "../../src/daemon/control/daemon.ts";
import { type CallEnd, differences, outcomeOf, run, treeOf, zeroedStats } from "./differential.ts";
import { HPCC } from "./farm.ts";
import { shellWord } from "./one-step.ts";

export interface LocalScenario {
  readonly name: string;
  /** argv from the compiler's name on; `@ROOT@` stands for the checkout. Bytes as latin1. */
  readonly argv: readonly string[];
  readonly files: Readonly<Record<string, string>>;
  /** Below the checkout. */
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** A script of sh that is run in the checkout before each call. */
  readonly prepare?: string;
  readonly umask?: string;
  /** Redirections and the like, after the command. */
  readonly shell?: string;
  /** Run in a terminal of so many columns. */
  readonly columns?: number;
}

export interface Step {
  readonly outcome: string;
  /** Empty when all is as plainly compiled. */
  readonly what: readonly string[];
}

/** A clock of file systems ticks this often at least, and so much may pass between a file's change and a compile that trusts it. */
const SETTLED_MS = 30;
const LONG_AGO = new Date("2020-01-01T00:00:00Z");

/** With a macro of its own, so that no other scenario's result is a hit. */
function wordsOf({ argv: [compiler = "", ...rest], name }: LocalScenario): string[] {
  return [compiler, `-DHPCC_CASE_${sha256(Buffer.from(name)).slice(-12)}`, ...rest];
}

export class LocalUser {
  readonly folder = realpathSync(mkdtempSync(join(tmpdir(), "hl-")));
  readonly env: Readonly<Record<string, string>>;
  readonly answered: AnsweredCall[] = [];
  root = join(this.folder, "checkout");
  #daemon: RunningDaemon | null = null;

  private constructor() {
    this.env = {
      PATH: "/usr/bin:/bin",
      HOME: this.folder,
      LANG: "C.UTF-8",
      HPCC_RUNTIME_DIR: join(this.folder, "run"),
      HPCC_STATE_DIR: join(this.folder, "state"),
      HPCC_CACHE_DIR: join(this.folder, "cache"),
      HPCC_CONFIG: join(this.folder, "none.toml"),
    };
  }

  static async start(): Promise<LocalUser> {
    const user = new LocalUser();
    mkdirSync(user.root);
    mkdirSync(join(user.folder, "run"), { mode: 0o700 });
    writeFileSync(join(user.folder, "none.toml"), "");
    await user.startDaemon();
    return user;
  }

  async startDaemon(): Promise<void> {
    const none = join(this.folder, "none.toml");
    const directories: Directories = {
      runtime: join(this.folder, "run"),
      state: join(this.folder, "state"),
      cache: join(this.folder, "cache"),
      images: join(this.folder, "images"),
      userConfig: none,
      systemConfig: none,
    };
    const { config } = loadClientConfig({ env: {}, projectRoot: null, directories });
    const observers = [{ answered: (call: AnsweredCall) => void this.answered.push(call) }];
    this.#daemon = await startDaemon({
      config,
      directories,
      logger: SILENT_LOGGER,
      clock: SYSTEM_CLOCK,
      version: "0.1.0",
      observers,
    });
  }

  async stopDaemon(): Promise<void> {
    await this.#daemon?.close();
    this.#daemon = null;
  }

  async close(): Promise<void> {
    await this.stopDaemon();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** A fresh checkout, compiled plainly. */
  async plain(scenario: LocalScenario, change = "true"): Promise<CallEnd> {
    await this.#checkOut(scenario);
    await this.script(change, scenario);
    return this.#run(scenario, wordsOf(scenario));
  }

  /** A fresh checkout, compiled through hpcc, held against a plain compile. */
  async step(name: string, scenario: LocalScenario, plain: CallEnd, change = "true"): Promise<Step> {
    await this.#checkOut(scenario);
    await this.script(change, scenario);
    return this.again(name, scenario, plain);
  }

  /** The same in the checkout as it is. */
  async again(name: string, scenario: LocalScenario, plain: CallEnd): Promise<Step> {
    await this.#settle();
    await zeroedStats(this.env["HPCC_RUNTIME_DIR"]!);
    const end = await this.#run(scenario, [HPCC, ...wordsOf(scenario)]);
    const outcome = outcomeOf(await zeroedStats(this.env["HPCC_RUNTIME_DIR"]!));
    return { outcome, what: differences(name, plain, end) };
  }

  /** Where the checkout stands from now on. */
  moveTo(name: string): void {
    const root = join(this.folder, name);
    rmSync(root, { recursive: true, force: true });
    renameSync(this.root, root);
    this.root = root;
  }

  async script(script: string, scenario?: LocalScenario): Promise<void> {
    const { code, stderr } = await run(`cd '${this.root}' && set -e; ${script}`, { ...this.env, ...scenario?.env });
    if (code !== 0) throw new Error(`${script}: ${stderr}`);
    await this.#settle();
  }

  async #run(scenario: LocalScenario, argv: readonly string[]): Promise<CallEnd> {
    const words = argv.map((word) => shellWord(word.replaceAll("@ROOT@", this.root))).join(" ");
    const cwd = scenario.cwd === undefined ? this.root : `${this.root}/${scenario.cwd}`;
    const script = `umask ${scenario.umask ?? "022"}; cd ${shellWord(cwd)} && exec ${words} ${scenario.shell ?? ""}`;
    const inTerminal = `exec script -qec ${shellWord(`stty cols ${scenario.columns} rows 30; ${script}`)} /dev/null < /dev/null`;
    const ended = await run(scenario.columns === undefined ? script : inTerminal, { ...this.env, ...scenario.env });
    return { ...ended, tree: treeOf(this.root) };
  }

  async #checkOut(scenario: LocalScenario): Promise<void> {
    rmSync(this.root, { recursive: true, force: true });
    mkdirSync(scenario.cwd === undefined ? this.root : join(this.root, scenario.cwd), { recursive: true });
    for (const [name, text] of Object.entries(scenario.files)) {
      const path = bytesOf(`${this.root}/${name}` as ByteString);
      mkdirSync(bytesOf(dirname(`${this.root}/${name}`) as ByteString), { recursive: true });
      writeFileSync(path, bytesOf(text.replaceAll("@ROOT@", this.root) as ByteString));
      utimesSync(path, LONG_AGO, LONG_AGO);
    }
    await this.script(scenario.prepare ?? "true", scenario);
  }

  /** Goes on once the file system's clock has: what was changed just now could change again and look the same. */
  async #settle(): Promise<void> {
    const probe = join(this.folder, "probe");
    const time = () => {
      writeFileSync(probe, "x");
      return statSync(probe).ctimeMs;
    };
    for (const start = time(); time() < start + SETTLED_MS; ) await new Promise(setImmediate);
  }
}
