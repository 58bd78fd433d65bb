// Makes the call of each random step through hpcc and with the image's own compiler, at the same path, and says in what they differ.
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type CallEnd, Differential, differences, outcomeOf } from "./differential.ts";
import { HPCC } from "./farm.ts";
import type { QuickFarm } from "./quick-farm.ts";
import type { Settings, Step } from "./random-project.ts";
import { imageMounts } from "./sandbox-pool.ts";

export type Paths = "own" | "shared";

export interface StepEnd {
  readonly outcome: string;
  readonly what: readonly string[];
}

const SCRIPT_TIMEOUT_MS = 60_000;

export class StepRunner {
  readonly #farm: QuickFarm;
  readonly #image: string;
  readonly #paths: Paths;
  readonly #calls: Differential;
  readonly #outside: string;

  constructor(farm: QuickFarm, image: string, { name, paths }: { readonly name: string; readonly paths: Paths }) {
    this.#farm = farm;
    this.#image = image;
    this.#paths = paths;
    this.#calls = new Differential(farm, image, name);
    this.#outside = join(farm.folder, `${name}-outside`);
    mkdirSync(this.#outside);
    writeFileSync(join(this.#calls.root, "hpcc.toml"), `image = "${image}"\npaths = "${paths}"\n`);
  }

  get root(): string {
    return this.#calls.root;
  }

  /** Runs a script in the project. What it says, and whether it fails, is nothing to a step. */
  script(script: string): void {
    const shell = this.#placed(script);
    const ran = spawnSync("/bin/sh", ["-c", shell], { cwd: this.root, stdio: "ignore", timeout: SCRIPT_TIMEOUT_MS });
    if (ran.error !== undefined) throw ran.error;
  }

  /** The call as it is now, through hpcc and plainly. */
  async compare(settings: Settings): Promise<StepEnd> {
    const { end, outcome } = await this.#through(settings);
    return { outcome, what: differences("hpcc", await this.#plain(settings), end) };
  }

  /** Runs a script while hpcc's call runs: what comes of it must be what a plain compile makes before it, or after it. */
  async compareDuring(settings: Settings, script: string, delayMs: number): Promise<StepEnd> {
    const before = await this.#plain(settings);
    const running = this.#through(settings);
    await new Promise((resolve) => void setTimeout(resolve, delayMs));
    this.script(script);
    const { end, outcome } = await running;
    const known = differences("before", before, end);
    if (known.length === 0) return { outcome, what: [] };
    const after = differences("after", await this.#plain(settings), end);
    return { outcome, what: after.length === 0 ? [] : [...known, ...after] };
  }

  async #through(settings: Settings): Promise<{ readonly end: CallEnd; readonly outcome: string }> {
    this.#emptyOutputs();
    await this.#calls.stats();
    const end = await this.#calls.call([HPCC, ...this.#words(settings)], this.#scenario(settings));
    return { end: outputsOf(end), outcome: outcomeOf(await this.#calls.stats()) };
  }

  async #plain(settings: Settings): Promise<CallEnd> {
    this.#emptyOutputs();
    const [compiler = "", ...rest] = this.#words(settings);
    const shared = [`-ffile-prefix-map=${this.root}=.`, ...(compiler === "clang" ? [] : ["-gno-record-gcc-switches"])];
    const mounts = await imageMounts(this.#farm.rootfs(this.#image));
    const scenario = this.#scenario(settings);
    const binds = [this.root, this.#outside].flatMap((path) => ["--dev-bind", path, path]);
    const cwd = scenario.cwd === undefined ? this.root : `${this.root}/${scenario.cwd}`;
    // Debug information spells the working directory as PWD does.
    const chdir = ["--chdir", cwd, "--setenv", "PWD", cwd];
    const words = [compiler, ...(this.#paths === "own" ? [] : shared), ...rest];
    return outputsOf(await this.#calls.call(["bwrap", ...mounts, ...binds, ...chdir, "--", ...words], scenario));
  }

  #words({ compiler, source, flags, cwd, absolute }: Settings): string[] {
    const place = absolute || cwd !== "." ? `${this.root}/` : "";
    return [compiler, ...flags, "-c", `${place}${source}`, "-o", `${place}out/o.o`].map((word) => this.#placed(word));
  }

  #scenario({ cwd, env }: Settings) {
    const placed = Object.entries(env).map(([name, value]) => [name, this.#placed(value)]);
    return { name: "step", argv: [], files: {}, env: Object.fromEntries(placed), ...(cwd !== "." && { cwd }) };
  }

  #emptyOutputs(): void {
    rmSync(join(this.root, "out"), { recursive: true, force: true });
    mkdirSync(join(this.root, "out"));
  }

  #placed(text: string): string {
    return text.replaceAll("@ROOT@", this.root).replaceAll("@OUTSIDE@", this.#outside);
  }
}

/** The end of a call with the files below the outputs' folder alone: inputs change under calls. */
function outputsOf(end: CallEnd): CallEnd {
  return {
    ...end,
    tree: new Map([...end.tree].filter(([path]) => path.startsWith("out/"))),
  };
}

/** The state that steps lead to. */
export function settingsAfter(first: Settings, steps: readonly Step[]): Settings {
  return steps.reduce(
    (settings, step) => (step.kind === "settings" ? { ...settings, ...step.change } : settings),
    first,
  );
}
