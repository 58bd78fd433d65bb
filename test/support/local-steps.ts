// Makes the call of each random step through hpcc without an image and by the compiler itself, in the same place, and says in what they differ.
// hpcc has a store, a daemon and replay records of its own, which steps may damage.
import { spawnSync } from "node:child_process";
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { withoutDrawnNames } from "../../src/reproduce/drawn-names.ts";
import { HPCC } from "./farm.ts";
import type { Dice, Settings } from "./random-project.ts";

/** After which hpcc gives up on its daemon: long runs are made beside other work. */
const DAEMON_TIMEOUT_MS = 60_000;
const TIMEOUT_MS = 5 * DAEMON_TIMEOUT_MS;
const GONE_POLLS_MAX = 1_000;
const STATS_TRIES_MAX = 3;

/** Whether a process that was killed still has its sockets. */
function listens(pid: number): boolean {
  try {
    return !/^State:\t[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}
/** So small that results have to go. */
const STORE_SIZE_MAX = "1MiB";
const STDERR_BYTES_MAX = 16 * 1024 * 1024;

interface End {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly tree: ReadonlyMap<string, string>;
}

/** What may happen to hpcc itself between two calls. */
export const TROUBLES = [
  "truncate",
  "overwrite",
  "remove",
  "kill",
  "clean",
  "evict",
  "compiler",
  "move",
  "umask",
  "config",
] as const;
export type Trouble = (typeof TROUBLES)[number];

export class LocalSteps implements Disposable {
  readonly folder = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-steps-")));
  root = join(this.folder, "project-0");
  readonly #outside = join(this.folder, "outside");
  readonly #home = join(this.folder, "home");
  /** First on PATH: the compilers as links, so that one can become another. */
  readonly #tools = join(this.folder, "tools");
  #moves = 0;
  #umask = "022";

  constructor() {
    for (const path of [this.root, this.#outside, this.#home, this.#tools]) mkdirSync(path);
    for (const name of ["gcc", "clang"]) symlinkSync(`/usr/bin/${name}`, join(this.#tools, name));
  }

  [Symbol.dispose](): void {
    this.hpcc(["daemon", "stop"]);
    for (const place of mountsBelow(this.folder)) spawnSync("umount", ["-l", place]);
    rmSync(this.folder, { recursive: true, force: true });
  }

  get #environment(): Record<string, string> {
    return {
      PATH: `${this.#tools}:/usr/bin:/bin`,
      HOME: this.#home,
      LC_ALL: "C.UTF-8",
      HPCC_RUNTIME_DIR: join(this.#home, "run"),
      HPCC_STATE_DIR: join(this.#home, "state"),
      HPCC_CACHE_DIR: join(this.#home, "cache"),
      HPCC_LOCAL_SIZE_MAX: STORE_SIZE_MAX,
      HPCC_DAEMON_TIMEOUT_MS: String(DAEMON_TIMEOUT_MS),
    };
  }

  hpcc(argv: readonly string[]): string {
    return this.#hpcc(argv).stdout;
  }

  #hpcc(argv: readonly string[]): { readonly stdout: string; readonly stderr: string } {
    return spawnSync(HPCC, argv, { env: this.#environment, encoding: "utf8", timeout: TIMEOUT_MS });
  }

  /** Counts of `hpcc stats`. */
  stats(): { readonly outcomes: Readonly<Record<string, number>>; readonly reasons: Readonly<Record<string, number>> } {
    // Calls that were replayed have not started a daemon. One whose map of the history a trouble truncated ends when it next looks there.
    for (let tries = 1; ; tries += 1) {
      this.hpcc(["gcc", "--version"]);
      const { stdout, stderr } = this.#hpcc(["stats", "--json"]);
      if (stdout !== "") return JSON.parse(stdout);
      if (tries === STATS_TRIES_MAX) throw new Error(`no stats: ${stderr}`);
    }
  }

  /** Runs a script in the project. What it says, and whether it fails, is nothing to a step. */
  script(script: string): void {
    const ran = spawnSync("/bin/sh", ["-c", this.#placed(script)], {
      cwd: this.root,
      stdio: "ignore",
      timeout: TIMEOUT_MS,
    });
    if (ran.error !== undefined) throw ran.error;
  }

  /** A call through hpcc while a script runs. What it leaves is of before, of after or a mixture, as the compiler's own would be. */
  during(settings: Settings, script: string, delayMs: number): void {
    const turn = `sleep ${delayMs / 1000}; cd ${this.root} && { ${this.#placed(script)}\n}`;
    this.#call(
      ["/bin/sh", "-c", `{ ${turn}; } > /dev/null 2>&1 & "$@"; code=$?; wait; exit $code`, "sh", HPCC],
      settings,
    );
  }

  /** Differences of a call through hpcc, made `times` times, to the compiler's own. */
  compare(settings: Settings, times: number): string[] {
    const plain = this.#call([], settings);
    for (let turn = 1; turn <= times; turn += 1) {
      const what = differences(plain, this.#call([HPCC], settings));
      if (what.length > 0) return what.map((line) => `call ${turn}: ${line}`);
    }
    return [];
  }

  trouble(kind: Trouble, dice: Dice): void {
    switch (kind) {
      case "truncate":
      case "overwrite":
      case "remove":
        return this.#damage(kind, dice);
      case "kill":
        return this.#kill();
      case "clean":
        this.hpcc(["clean"]);
        return;
      case "evict":
        this.hpcc(["clean", "--project", this.root]);
        return;
      case "compiler":
        return this.#otherCompiler(dice);
      case "move": {
        const place = join(this.folder, `project-${(this.#moves += 1) % 3}`);
        if (place === this.root) return;
        renameSync(this.root, place);
        this.root = place;
        return;
      }
      case "umask":
        this.#umask = dice.of(["022", "077", "002"]);
        return;
      case "config":
        if (dice.chance(50)) rmSync(join(this.root, "hpcc.toml"), { force: true });
        else writeFileSync(join(this.root, "hpcc.toml"), `paths = "${dice.of(["own", "shared"])}"\n`);
    }
  }

  /** Damages a few files of the store or of the records. */
  #damage(kind: "truncate" | "overwrite" | "remove", dice: Dice): void {
    const places = [join(this.#home, "cache"), join(this.#home, "state")];
    const files = places.flatMap((place) => filesBelow(place)).filter((path) => !/\.(?:log|lock|sock)$/.test(path));
    for (let left = 1 + dice.below(4); left > 0 && files.length > 0; left -= 1) {
      const path = dice.of(files);
      try {
        const { size } = statSync(path);
        if (kind === "remove") rmSync(path, { force: true });
        else if (kind === "truncate") truncateSync(path, dice.below(size + 1));
        else writeFileSync(path, Buffer.alloc(size, dice.below(256)), { flag: "r+" });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
      }
    }
  }

  #kill(): void {
    const status = this.hpcc(["daemon", "status", "--json"]);
    try {
      const { pid } = JSON.parse(status) as { pid?: number };
      if (typeof pid !== "number" || pid <= 1) return;
      process.kill(pid, "SIGKILL");
      // Until it is gone its socket takes calls, which then run the compiler alone and start no other daemon.
      for (let polls = 0; polls < GONE_POLLS_MAX && listens(pid); polls += 1) spawnSync("sleep", ["0.01"]);
    } catch {
      // There was none.
    }
  }

  /** `gcc` becomes another compiler of the same name and size, or itself again. */
  #otherCompiler(dice: Dice): void {
    const link = join(this.#tools, "gcc");
    rmSync(link);
    if (dice.chance(50)) symlinkSync("/usr/bin/gcc", link);
    else writeFileSync(link, `#!/bin/sh\nexec /usr/bin/gcc -DTOOL=${dice.below(4)} "$@"\n`, { mode: 0o755 });
  }

  #call(launcher: readonly string[], settings: Settings): End {
    const out = join(this.root, "out");
    rmSync(out, { recursive: true, force: true });
    mkdirSync(out);
    const cwd = settings.cwd === "." ? this.root : join(this.root, settings.cwd);
    const placed = Object.fromEntries(Object.entries(settings.env).map(([name, value]) => [name, this.#placed(value)]));
    const env = { ...this.#environment, PWD: cwd, ...placed };
    const place = settings.absolute || settings.cwd !== "." ? `${this.root}/` : "";
    const { compiler, flags, source } = settings;
    const words = [compiler, ...flags, "-c", `${place}${source}`, "-o", `${place}out/o.o`].map((word) =>
      this.#placed(word),
    );
    const script = `umask ${this.#umask}; exec "$@"`;
    const ran = spawnSync("/bin/sh", ["-c", script, "sh", ...launcher, ...words], {
      cwd,
      env,
      encoding: "latin1",
      timeout: TIMEOUT_MS,
      maxBuffer: STDERR_BYTES_MAX,
    });
    if (ran.error !== undefined && (ran.error as NodeJS.ErrnoException).code !== "ENOENT") throw ran.error;
    return {
      code: ran.status,
      stdout: ran.stdout ?? "",
      stderr: withoutDrawnNames(ran.stderr ?? ""),
      tree: treeOf(out),
    };
  }

  #placed(text: string): string {
    return text.replaceAll("@ROOT@", this.root).replaceAll("@OUTSIDE@", this.#outside);
  }
}

/** Whether a folder can be mounted over another: root can, but not everywhere. */
export function canMount(): boolean {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-mount-"));
  const mounted = spawnSync("mount", ["--bind", folder, folder]).status === 0;
  if (mounted) spawnSync("umount", [folder]);
  rmSync(folder, { recursive: true, force: true });
  return mounted;
}

/** The newest first. */
function mountsBelow(folder: string): string[] {
  const places = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
  return places
    .map((line) => line.split(" ")[4] ?? "")
    .filter((place) => place.startsWith(`${folder}/`))
    .toReversed();
}

function filesBelow(folder: string): string[] {
  try {
    return readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name));
  } catch {
    return [];
  }
}

function treeOf(folder: string): Map<string, string> {
  const entries = readdirSync(folder, { recursive: true, encoding: "utf8" }).toSorted();
  return new Map(
    entries.map((name) => {
      const path = join(folder, name);
      const stat = lstatSync(path);
      const mode = (stat.mode & 0o7777).toString(8);
      if (stat.isSymbolicLink()) return [name, `link ${readlinkSync(path)}`];
      return [name, stat.isFile() ? `file ${mode} ${readFileSync(path).toString("base64")}` : `folder ${mode}`];
    }),
  );
}

function differences(plain: End, ours: End): string[] {
  const names = [...new Set([...plain.tree.keys(), ...ours.tree.keys()])];
  return [
    ...(plain.code === ours.code ? [] : [`exit code ${ours.code}, plain ${plain.code}: ${ours.stderr}`]),
    ...(plain.stdout === ours.stdout
      ? []
      : [`stdout ${JSON.stringify(ours.stdout)}, plain ${JSON.stringify(plain.stdout)}`]),
    ...(plain.stderr === ours.stderr
      ? []
      : [`stderr ${JSON.stringify(ours.stderr)}, plain ${JSON.stringify(plain.stderr)}`]),
    ...names.flatMap((name) => {
      const [expected, found] = [plain.tree.get(name), ours.tree.get(name)];
      if (expected === found) return [];
      const brief = (text: string | undefined) =>
        text === undefined ? "absent" : `${text.slice(0, 60)}... ${text.length}`;
      return [`${name}: ${brief(found)}, plain ${brief(expected)}`];
    }),
  ];
}
