// Runs the machine's own gcc and clang as oracles in a temporary folder. Arguments must be UTF-8 here (Node's spawn); bytes
// that are not are covered by the end to end tests, where the launcher runs the compiler.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { CompilerFamily } from "../../src/core/compile/grammar/invocation.ts";

export const FAMILIES: readonly CompilerFamily[] = ["gcc", "clang"];

export interface CompilerRun {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A temporary folder of files, removed when disposed. */
export class CompilerFolder {
  readonly path: string;

  constructor(files: Readonly<Record<string, string>> = {}) {
    this.path = mkdtempSync(join(tmpdir(), "hpcc-grammar-"));
    for (const [name, text] of Object.entries(files)) this.write(name, text);
  }

  write(name: string, text: string | Uint8Array): void {
    mkdirSync(dirname(join(this.path, name)), { recursive: true });
    writeFileSync(join(this.path, name), text);
  }

  read(name: string): string {
    return readFileSync(join(this.path, name), "latin1");
  }

  /** Names of all files, relative, sorted. */
  files(): string[] {
    const entries = readdirSync(this.path, { recursive: true, withFileTypes: true });
    return entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(this.path.length + 1))
      .sort();
  }

  run(program: string, args: readonly string[], environment: Readonly<Record<string, string>> = {}): CompilerRun {
    const { PATH } = process.env;
    const result = spawnSync(program, args, {
      cwd: this.path,
      env: { PATH, LC_ALL: "C", ...environment },
      encoding: "latin1",
      stdio: ["ignore", "pipe", "pipe"],
      timeout: 60_000,
    });
    if (result.error !== undefined) throw result.error;
    return { status: result.status, stdout: result.stdout, stderr: result.stderr };
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
