// Programs of objects that guests compiled, in the debugger of who debugs them: with the lines that `hpcc debug-map` prints where checkouts
// share results, without any where the project stands at its own path.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { HPCC, IMAGE_FOLDER, runCommand } from "../support/farm.ts";
import { QuickFarm } from "../support/quick-farm.ts";

const SOURCE = '#include "deep.h"\n#include <assert.h>\nint main(void)\n{\n  assert(deep(2) == 6); /* in main */\n}\n';
const DEBUGGERS = ["gdb", "lldb"] as const;
const DEBUGGER_MS = 60_000;

describe("debuggers", () => {
  let farm: QuickFarm;
  let image = "";
  before(async () => {
    const env = { PATH: process.env["PATH"], HOME: IMAGE_FOLDER, HPCC_IMAGE_DIR: IMAGE_FOLDER };
    const compilers = ["--compiler", "gcc", "--compiler", "clang"];
    const argv = [HPCC, "image", "build", "--from-host", "--tag", "e2e-both", "--quiet", ...compilers];
    const built = await runCommand(argv, { env });
    assert.equal(built.code, 0, built.stderr);
    image = built.stdout.trim();
    farm = await QuickFarm.start({ imageFolder: IMAGE_FOLDER, images: [image] });
  });
  after(async () => {
    await farm?.close();
  });

  /** Compiles as CMake does and moves the program to another folder; what `hpcc debug-map` says is asked in the build folder. */
  async function built(compiler: string, paths: "shared" | "own") {
    const root = join(farm.folder, `${compiler}-${paths}`);
    const elsewhere = `${root}-elsewhere`;
    for (const folder of ["src", "build"]) mkdirSync(join(root, folder), { recursive: true });
    mkdirSync(elsewhere);
    writeFileSync(join(root, "hpcc.toml"), `image = "${image}"\npaths = "${paths}"\n`);
    writeFileSync(join(root, "src/app.c"), SOURCE);
    writeFileSync(join(root, "src/deep.h"), "static int deep(int x)\n{\n  return x * 3;\n}\n");
    const hpcc = async (...argv: string[]) => {
      const ran = await runCommand([HPCC, ...argv], { cwd: join(root, "build"), env: farm.env });
      assert.equal(ran.code, 0, ran.stderr);
      return ran.stdout;
    };
    const before = farm.pool?.executed.length ?? 0;
    await hpcc(compiler, "-g", "-c", join(root, "src/app.c"), "-o", "app.o");
    assert.equal(farm.pool?.executed.length, before + 1, "a guest compiles it");
    await hpcc(compiler, "app.o", "-o", "app");
    renameSync(join(root, "build/app"), join(elsewhere, "app"));
    return { elsewhere, mapFor: (format: string) => hpcc("debug-map", "--format", format) };
  }

  /** What a debugger says that has read those lines. */
  function listing(name: (typeof DEBUGGERS)[number], elsewhere: string, lines: string): string {
    const file = join(elsewhere, "lines");
    writeFileSync(file, lines);
    const argv = {
      gdb: ["-nx", "-batch", "-x", file, "-ex", "list main", "app"],
      lldb: ["--no-lldbinit", "-b", "-s", file, "-o", "source list -n main", "app"],
    };
    const { error, stdout } = spawnSync(name, argv[name], { cwd: elsewhere, timeout: DEBUGGER_MS, encoding: "utf8" });
    assert.equal(error, undefined);
    return stdout;
  }

  for (const compiler of ["gcc", "clang"]) {
    test(`the printed lines lead to the sources of shared paths (${compiler})`, async () => {
      const { elsewhere, mapFor } = await built(compiler, "shared");
      for (const debuggerName of DEBUGGERS) {
        assert.doesNotMatch(listing(debuggerName, elsewhere, ""), /in main \*\/$/m);
        assert.match(listing(debuggerName, elsewhere, await mapFor(debuggerName)), /in main \*\/$/m);
      }
    });

    test(`own paths need no lines (${compiler})`, async () => {
      const { elsewhere, mapFor } = await built(compiler, "own");
      for (const debuggerName of DEBUGGERS) {
        const map = await mapFor(debuggerName);
        assert.match(map, /^# No map is needed: [^\n]*\n$/);
        assert.match(listing(debuggerName, elsewhere, map), /in main \*\/$/m);
      }
    });
  }
});
