// Projects of a few small C files and a makefile, whose contents are all their own: nothing of one is a hit for another. One file
// may take long to compile, so that something can happen meanwhile.
import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { injectedFlags } from "../../src/core/compile/text/two-step.ts";
import { type CommandOptions, type CommandResult, HPCC, type User } from "./farm.ts";
import { OneStep } from "./one-step.ts";

const FLAGS = "-O1";

export interface SmallProjectOptions {
  readonly name: string;
  readonly imageDigest: string;
  /** Files that compile at once. */
  readonly quick: number;
  /** Functions of slow.c, about 6 ms each on this machine and fifteen times that in an emulated one; none for no such file. */
  readonly slow?: number;
  readonly folder?: string;
}

export class SmallProject {
  readonly root: string;
  readonly objects: readonly string[];
  readonly #options: SmallProjectOptions;
  readonly #user: User;
  #expected: ReadonlyMap<string, Buffer> | null = null;

  constructor(user: User, options: SmallProjectOptions) {
    this.#user = user;
    this.#options = options;
    const { name, imageDigest, quick, slow = 0 } = options;
    this.root = join(options.folder ?? user.folder, name);
    mkdirSync(this.root, { recursive: true });
    writeFileSync(join(this.root, "hpcc.toml"), `image = "${imageDigest}"\n`);
    const sources = new Map<string, string>();
    if (slow > 0) sources.set("slow", slowSource(`${name.replaceAll("-", "_")}_slow`, slow));
    for (let i = 0; i < quick; i++) sources.set(`q${i}`, `const char *const of_${i} = "${name} ${i}";\n`);
    for (const [base, text] of sources) writeFileSync(join(this.root, `${base}.c`), text);
    this.objects = [...sources.keys()].map((base) => `${base}.o`);
    writeFileSync(
      join(this.root, "Makefile"),
      `all: ${this.objects.join(" ")}\n%.o: %.c\n\t$(CC) ${FLAGS} -c -o $@ $<\n`,
    );
  }

  make(jobs = 2, options: CommandOptions = {}): Promise<CommandResult> {
    return this.#user.run(this.makeArgv(jobs), options);
  }

  makeArgv(jobs = 2): string[] {
    return ["make", "-C", this.root, `-j${jobs}`, `CC=${HPCC} gcc`];
  }

  clean(): void {
    for (const object of this.objects) rmSync(join(this.root, object), { force: true });
  }

  /** Every object is there and is what the image's own compiler makes in one step; nothing else was left behind. */
  assertRight(): void {
    for (const [object, bytes] of this.#reference())
      assert.ok(readFileSync(join(this.root, object)).equals(bytes), `${object} is the image's own compiler's`);
    const strange = readdirSync(this.root).filter((name) => !/^(?:[\w-]+\.[co]|Makefile|hpcc\.toml)$/.test(name));
    assert.deepEqual(strange, []);
  }

  /** An object that is there is a right one. */
  assertNothingWrong(): void {
    for (const [object, bytes] of this.#reference()) {
      const path = join(this.root, object);
      if (existsSync(path)) assert.ok(readFileSync(path).equals(bytes), `${object} is whole`);
    }
  }

  #reference(): ReadonlyMap<string, Buffer> {
    this.#expected ??= this.#compileReference();
    return this.#expected;
  }

  #compileReference(): Map<string, Buffer> {
    const { imageDigest, name } = this.#options;
    const folder = join(this.#user.folder, `${name}-reference`);
    cpSync(this.root, folder, { recursive: true });
    try {
      using oneStep = new OneStep(imageDigest, { "/hpcc/project": folder });
      const objects = this.objects.map((object): [string, Buffer] => {
        const argv = ["gcc", FLAGS, "-c", "-o", object, object.replace(/o$/, "c"), ...injectedFlags("gcc")];
        const ran = oneStep.run(argv, { cwd: "/hpcc/project" });
        assert.equal(ran.code, 0, ran.stderr);
        return [object, readFileSync(join(folder, object))];
      });
      return new Map(objects);
    } finally {
      rmSync(folder, { recursive: true });
    }
  }
}

/** Text whose preprocessing is quick and whose compile takes long: functions made by macros. */
function slowSource(prefix: string, functions: number): string {
  const body = [
    "int y = x;",
    "for (int k = 0; k < x; k++) {",
    "y += k * i; y ^= y << 3; if (y > 100 * i) y -= x;",
    "switch (y & 7) { case 0: y += 3; break; case 1: y *= 5; break; case 2: y -= 7; break; default: y += k; }",
    "}",
    "return y;",
  ].join(" ");
  const calls = Array.from({ length: functions }, (_, i) => `SLOW(${i + 1})`);
  return `#define SLOW(i) int ${prefix}_##i(int x) { ${body} }\n${calls.join("\n")}\n`;
}
