// Calls that meet more than a compiler and its sources: programs of the image that are no compilers, loaders that are told to load
// what the image lacks, projects within projects, and configuration that cannot be read. With a daemon, and without one from its plan.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { askDaemon } from "../../src/cli/daemon-control.ts";
import { type CommandResult, HPCC, IMAGE_FOLDER, runCommand } from "../support/farm.ts";
import { QuickFarm } from "../support/quick-farm.ts";

const FOREIGN = `sha256:${"1".repeat(64)}`;

let farm: QuickFarm;
let image: string;
/** Variables with which a call finds no daemon and can start none. */
let alone: Readonly<Record<string, string>>;

before(async () => {
  const env = { PATH: process.env["PATH"], HOME: IMAGE_FOLDER, HPCC_IMAGE_DIR: IMAGE_FOLDER };
  const built = await runCommand([HPCC, "image", "build", "--from-host", "--tag", "e2e", "--quiet"], { env });
  assert.equal(built.code, 0, built.stderr);
  image = built.stdout.trim();
  farm = await QuickFarm.start({ imageFolder: IMAGE_FOLDER, images: [image] });
  const runtime = join(farm.folder, "run-alone");
  mkdirSync(runtime, { mode: 0o700 });
  alone = { HPCC_RUNTIME_DIR: runtime, HPCC_LIB_DIR: "/nowhere" };
});

after(async () => {
  await farm?.close();
});

function project(name: string, toml: string, files: Readonly<Record<string, string>> = {}): string {
  const root = join(farm.folder, name);
  mkdirSync(root, { recursive: true });
  for (const [file, text] of Object.entries({ "a.c": "int a;\n", ...files, "hpcc.toml": toml }))
    writeFileSync(join(root, file), text);
  return root;
}

function call(
  cwd: string,
  argv: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<CommandResult> {
  return runCommand(argv, { cwd, env: { ...farm.env, ...env } });
}

/** Reasons counted since the last time. */
async function reasons(): Promise<unknown> {
  const stats = await askDaemon({ runtime: farm.env["HPCC_RUNTIME_DIR"]! }, { command: "stats", zero: true });
  return stats?.["reasons"];
}

test("the image's c99, c89 and cpp run here, whoever calls them and however", async () => {
  const root = project("drivers", `image = "${image}"\n`);
  const links = join(farm.folder, "links");
  mkdirSync(links);
  for (const name of ["c99", "c89", "cpp", "gcc", "cc"]) symlinkSync(HPCC, join(links, name));
  const PATH = `${links}:/usr/bin:/bin`;
  await call(root, [HPCC, "gcc", "--version"]);
  await reasons();
  for (const [name, argv, output] of [
    ["c99", ["-c", "a.c", "-o", "a.o"], "a.o"],
    ["c89", ["-c", "a.c", "-o", "a.o"], "a.o"],
    ["cpp", ["a.c", "-o", "a.i"], "a.i"],
  ] as const) {
    const plain = await runCommand([name, ...argv], { cwd: root, env: { PATH: "/usr/bin:/bin" } });
    assert.equal(plain.code, 0, plain.stderr);
    const expected = readFileSync(join(root, output));
    for (const [how, words, env] of [
      ["by its name", [HPCC, name], {}],
      ["by its path", [HPCC, `/usr/bin/${name}`], {}],
      ["by a link", [join(links, name)], { PATH }],
    ] as const) {
      rmSync(join(root, output));
      const ours = await call(root, [...words, ...argv], env);
      assert.deepEqual([ours.code, ours.stderr], [0, ""], `${name} ${how}`);
      assert.ok(readFileSync(join(root, output)).equals(expected), `${name} ${how}`);
      assert.deepEqual(await reasons(), { unknown_driver: 1 }, `${name} ${how}`);
      rmSync(join(root, output));
      const without = await call(root, [...words, ...argv], { ...env, ...alone });
      assert.deepEqual([without.code, without.stderr], [0, ""], `${name} ${how}, without a daemon`);
      assert.ok(readFileSync(join(root, output)).equals(expected), `${name} ${how}, without a daemon`);
    }
  }
  const refused = await call(root, [HPCC, "c99", "-c", "a.c"], { HPCC_FALLBACK: "none" });
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /^hpcc: refused, .*: unknown_driver '\/usr\/bin\/c99'\n$/);
  for (const env of [{}, alone]) {
    const missing = await call(root, [HPCC, "gcc-99", "-c", "a.c"], env);
    assert.equal(missing.code, 127);
    assert.match(missing.stderr, /^hpcc: '?gcc-99'?:? (?:is )?not in the project's image sha256:/);
  }
});

test("what the caller's loader is told to load does not enter an image that lacks it", async () => {
  const source = "int main(void) { return 0; }\n";
  const library =
    '#include <stdio.h>\n__attribute__((constructor)) static void say(void) { fputs("loaded\\n", stderr); }\n';
  const root = project("loader", `image = "${image}"\n`, { "t.c": source, "own.c": library });
  const made = await call(root, [HPCC, "gcc", "-shared", "-fPIC", "own.c", "-o", "own.so"]);
  assert.equal(made.code, 0, made.stderr);
  const link = [HPCC, "gcc", "t.c", "-o", "t"];
  for (const env of [{}, alone]) {
    // The launcher is static: whoever complains runs in the image.
    for (const [argv, more] of [
      [["fakeroot", ...link], {}],
      [link, { LD_PRELOAD: "/nowhere/lib.so:libnowhere.so.4" }],
      [link, { LD_AUDIT: "libnowhere.so.4" }],
    ] as const) {
      const ours = await call(root, argv, { ...env, ...more });
      assert.deepEqual([ours.code, ours.stderr], [0, ""], argv.join(" "));
    }
  }
  const kept = await call(root, link, { LD_PRELOAD: join(root, "own.so") });
  assert.match(kept.stderr, /^loaded\n/, "what is there at its path stays");
});
