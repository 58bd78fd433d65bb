// Two namespaces on one machine that stand for client and guest: the host's own toolchain read-only, a folder at the project's
// path, nothing else. Needs bubblewrap; knows no compiler.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ByteString, bytesOf } from "../../src/base/byte-string.ts";

const IMAGE_ENTRIES = ["/usr", "/etc"];
const IMAGE_LINKS = ["bin", "lib", "lib64", "sbin"];
const OUTPUT_BYTES_MAX = 256 * 1024 * 1024;
const RUN_TIMEOUT_MS = 120_000;

export interface Ran {
  readonly exit: number | null;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

/** A root with the image's entries, a project folder, and folders for the daemon's files and for outputs. */
export class Sandbox implements Disposable {
  readonly base = mkdtempSync(join(tmpdir(), "hpcc-fidelity-"));
  readonly project: string;
  readonly callFiles = join(this.base, "tmp");
  readonly outputs = join(this.base, "out");

  /** `project` is a host folder to use; without it an empty one is made. */
  constructor(project?: string) {
    this.project = project ?? join(this.base, "project");
    for (const folder of [this.project, this.callFiles, this.outputs]) mkdirSync(folder, { recursive: true });
  }

  /** Host path of an absolute path of the view. */
  hostPath(path: ByteString): Buffer {
    for (const [guest, host] of [
      ["/hpcc/project", this.project],
      ["/hpcc/tmp", this.callFiles],
      ["/hpcc/out", this.outputs],
    ] as const)
      if (path === guest || path.startsWith(`${guest}/`))
        return Buffer.concat([Buffer.from(host), bytesOf(path.slice(guest.length) as ByteString)]);
    return bytesOf(path);
  }

  run(argv: readonly ByteString[], cwd: ByteString, locale: string): Ran {
    const mounts = [
      "--unshare-all",
      "--die-with-parent",
      "--tmpfs",
      "/",
      ...IMAGE_ENTRIES.flatMap((path) => ["--ro-bind", path, path]),
      ...IMAGE_LINKS.flatMap((name) => ["--symlink", `usr/${name}`, `/${name}`]),
      ...words("--dev /dev --proc /proc --dir /tmp"),
      "--bind",
      this.project,
      "/hpcc/project",
      "--bind",
      this.callFiles,
      "/hpcc/tmp",
      "--bind",
      this.outputs,
      "/hpcc/out",
    ];
    const environment = { LC_ALL: locale, TZ: "UTC", PATH: "/usr/bin:/bin", HOME: "/nonexistent" };
    // Node hands arguments over as UTF-8, so bytes travel through the shell's printf.
    const script = `cd ${shellWord(cwd)} && exec ${argv.map(shellWord).join(" ")}`;
    const ran = spawnSync("bwrap", [...mounts, "--", "/bin/sh", "-c", script], {
      env: environment,
      maxBuffer: OUTPUT_BYTES_MAX,
      timeout: RUN_TIMEOUT_MS,
      stdio: ["ignore", "pipe", "pipe"],
    });
    if (ran.error !== undefined) throw ran.error;
    return { exit: ran.status, stdout: ran.stdout, stderr: ran.stderr };
  }

  [Symbol.dispose](): void {
    rmSync(this.base, { recursive: true, force: true });
  }
}

function words(text: string): string[] {
  return text.split(" ");
}

function shellWord(word: ByteString): string {
  if (/^[\x20-\x7e]*$/.test(word)) return `'${word.replaceAll("'", "'\\''")}'`;
  const escaped = Array.from(bytesOf(word), (byte) => `\\${byte.toString(8).padStart(3, "0")}`).join("");
  return `"$(printf '${escaped}')"`;
}
