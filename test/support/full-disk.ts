// A small file system of its own that can be filled to the last byte and file, and emptied again. Needs root.
import { spawnSync } from "node:child_process";
import { closeSync, mkdirSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";

const BLOCK = Buffer.alloc(64 * 1024, 0x5a);
const SMALL = 512;

export class SmallDisk implements Disposable {
  readonly path: string;
  readonly #fillers: string[] = [];

  /** Mounted on a folder, which is made when it is missing. */
  constructor(path: string, { mebibytes, files = 4096 }: { mebibytes: number; files?: number }) {
    this.path = path;
    mkdirSync(path, { recursive: true });
    run(["mount", "-t", "tmpfs", "-o", `size=${mebibytes}m,nr_inodes=${files},mode=0700`, "tmpfs", path]);
  }

  /** Takes every byte that is left. */
  fillBytes(): void {
    const name = join(this.path, "filler");
    this.#fillers.push(name);
    const file = openSync(name, "w");
    try {
      for (let size = BLOCK.length; size >= SMALL; )
        try {
          if (writeSync(file, BLOCK, 0, size) < size) size /= 2;
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
          size /= 2;
        }
    } finally {
      closeSync(file);
    }
  }

  /** Takes every file that may still be made. */
  fillFiles(): void {
    for (let i = 0; ; i++) {
      const name = join(this.path, `filler-${i}`);
      try {
        writeFileSync(name, "");
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOSPC") return;
        throw error;
      }
      this.#fillers.push(name);
    }
  }

  /** Gives everything back. */
  free(): void {
    for (const name of this.#fillers.splice(0)) rmSync(name, { force: true });
  }

  [Symbol.dispose](): void {
    // Lazily: whoever still has a file open there is not this disk's matter.
    run(["umount", "-l", this.path]);
  }
}

function run([program, ...args]: readonly string[]): void {
  const ran = spawnSync(program!, args, { encoding: "utf8" });
  if (ran.status !== 0) throw new Error(`${program} ${args.join(" ")}: ${ran.stderr}`);
}
