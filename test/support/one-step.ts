// What the image's own compiler makes in one step: the reference that every remote compile is held against. A root of the image's
// entries, the project at its place in the view, nothing of the host. Knows nothing of hpcc's own two steps but the injected flags.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ByteString, bytesOf } from "../../src/base/byte-string.ts";
import { IMAGE_FOLDER } from "./farm.ts";

const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;
const RUN_TIMEOUT_MS = 300_000;
/** Top-level names that the view makes anew. */
const MADE_ANEW = new Set(["dev", "hpcc", "proc", "run", "sys", "tmp"]);

export interface OneStepRan {
  readonly code: number | null;
  /** Bytes as latin1. */
  readonly stdout: string;
  readonly stderr: string;
}

export interface OneStepOptions {
  /** Absolute in the view. */
  readonly cwd: string;
  /** LC_ALL of the compiler. */
  readonly locale?: "C" | "C.UTF-8";
  readonly env?: Readonly<Record<string, string>>;
}

export class OneStep implements Disposable {
  readonly #mounts: string[];
  readonly #scratch: string;

  /** Host folders by the absolute paths at which they are bound, `/hpcc/project` among them as a rule. */
  constructor(imageDigest: string, binds: Readonly<Record<string, string>>) {
    const rootfs = join(IMAGE_FOLDER, "rootfs", imageDigest.slice("sha256:".length));
    this.#scratch = mkdtempSync(join(tmpdir(), "h1-"));
    const entries = readdirSync(rootfs, { withFileTypes: true }).filter(({ name }) => !MADE_ANEW.has(name));
    this.#mounts = [
      "--unshare-all",
      "--die-with-parent",
      "--tmpfs",
      "/",
      ...entries.flatMap((entry) => {
        const path = join(rootfs, entry.name);
        return entry.isSymbolicLink()
          ? ["--symlink", readlinkSync(path), `/${entry.name}`]
          : ["--ro-bind", path, `/${entry.name}`];
      }),
      ..."--dev /dev --proc /proc --dir /tmp".split(" "),
      ...Object.entries(binds).flatMap(([path, host]) => ["--bind", host, path]),
      "--bind",
      this.#scratch,
      "/hpcc/out",
    ];
  }

  /** Runs a program of the image; words are bytes as latin1. */
  run(argv: readonly string[], { cwd, locale = "C.UTF-8", env = {} }: OneStepOptions): OneStepRan {
    // Node hands arguments over as UTF-8, so bytes travel through the shell's printf.
    const script = `cd ${shellWord(cwd)} && exec ${argv.map(shellWord).join(" ")}`;
    const ran = spawnSync("bwrap", [...this.#mounts, "--", "/bin/sh", "-c", script], {
      env: { PATH: "/usr/bin:/bin", HOME: "/nonexistent", TZ: "UTC", LANG: locale, LC_ALL: locale, ...env },
      maxBuffer: OUTPUT_BYTES_MAX,
      timeout: RUN_TIMEOUT_MS,
      stdio: ["ignore", "pipe", "pipe"],
    });
    if (ran.error !== undefined) throw ran.error;
    return { code: ran.status, stdout: ran.stdout.toString("latin1"), stderr: ran.stderr.toString("latin1") };
  }

  [Symbol.dispose](): void {
    rmSync(this.#scratch, { recursive: true, force: true });
  }
}

/** A word for sh that stands for these bytes. */
export function shellWord(word: string): string {
  if (/^[\x20-\x7e]*$/.test(word)) return `'${word.replaceAll("'", "'\\''")}'`;
  const escaped = Array.from(bytesOf(word as ByteString), (byte) => `\\${byte.toString(8).padStart(3, "0")}`).join("");
  return `"$(printf '${escaped}')"`;
}
