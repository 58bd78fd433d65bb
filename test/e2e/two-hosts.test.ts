// Two users on hosts of different distributions, one image: this machine, and a root file system of another release in which the second
// one's daemon and launcher run. Every source digest and object of the second user's is the first one's, and all of it is a hit.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { sha256 } from "../../src/core/digest/digest.ts";
import { fixedPolicies } from "../../src/core/tenant-policy.ts";
import { baseRoot, DISTRIBUTIONS, distributionImage } from "../support/distributions.ts";
import { CHECKOUT, type CommandResult, HPCC, IMAGE_FOLDER, runCommand } from "../support/farm.ts";
import { QuickFarm } from "../support/quick-farm.ts";
import { imageMounts } from "../support/sandbox-pool.ts";

const SKIP = process.getuid?.() === 0 ? false : "needs root to make the other host";
/** Those that take a prefix map: others know their checkout's path. */
const COMPILERS = ["gcc-9", "gcc-10"];

let farm: QuickFarm;
let image: string;
/** Makes a view of the other host for a command, each time a new one. */
let newView: readonly string[];
/** Lives as long as the other host does. */
let init: ChildProcess | null = null;

before(async () => {
  if (SKIP !== false) return;
  image = await distributionImage(DISTRIBUTIONS.find(({ name }) => name === "debian-11")!, false);
  const policies = fixedPolicies(new Map([["acme", { sharing: "clean" }]]));
  farm = await QuickFarm.start({ imageFolder: IMAGE_FOLDER, images: [image], policies });
  const root = (await imageMounts(baseRoot("host"))).filter((word) => word !== "--unshare-all");
  const shown = [...new Set([CHECKOUT, realpathSync(join(CHECKOUT, ".cache")), farm.folder])];
  const system = ["--dev-bind", "/dev", "/dev", "--dev-bind", "/proc", "/proc"];
  const folders = shown.flatMap((folder) => ["--bind", folder, folder]);
  newView = ["bwrap", ...root, ...system, ...folders, "--cap-add", "ALL", "--"];
  const [program, ...words] = [...newView, "sh", "-c", "echo $$; exec sleep 600"];
  init = spawn(program, words, { stdio: ["ignore", "pipe", "inherit"] });
  const [said] = (await once(init.stdout!, "data")) as [Buffer];
  initPid = Number(said.toString());
});

let initPid = 0;

/** Puts a command into the other host. */
function onOtherHost(argv: readonly string[], cwd: string): string[] {
  return ["nsenter", `--target=${initPid}`, "--mount", `--wdns=${cwd}`, "--", ...argv];
}

after(async () => {
  if (initPid !== 0) process.kill(initPid);
  await farm?.close();
});

/** A checkout at a place of its own: C and C++, a failing file, headers of the image and of the project. */
function checkout(name: string): string {
  const root = join(farm.folder, name);
  mkdirSync(join(root, "inc"), { recursive: true });
  const files: Record<string, string> = {
    "hpcc.toml": `image = "${image}"\n`,
    "inc/part.h": "#pragma once\n#define PART 3\n",
  };
  for (const [index, header] of ["stdio", "stdlib", "string", "errno"].entries())
    files[`part${index}.c`] =
      `#include <${header}.h>\n#include "part.h"\nconst char *at${index} = __FILE__;\nint of${index} = PART + ${index};\n`;
  files["parts.cc"] = '#include <vector>\n#include "part.h"\nstd::vector<int> parts(PART);\n';
  for (const [path, text] of Object.entries(files)) writeFileSync(join(root, path), text);
  return root;
}

async function compileAll(
  root: string,
  run: (argv: readonly string[], cwd: string) => Promise<CommandResult>,
): Promise<ReadonlyMap<string, string>> {
  for (const source of readdirSync(root).filter((name) => /\.cc?$/.test(name)))
    for (const compiler of COMPILERS) {
      const driver = source.endsWith(".cc") ? compiler.replace("gcc", "g++") : compiler;
      const output = `${source}.${compiler}.o`;
      const { code, stderr } = await run(
        [HPCC, driver, "-O1", "-g", "-Wall", "-Iinc", "-c", source, "-o", output],
        root,
      );
      assert.deepEqual([code, stderr], [0, ""], output);
    }
  const objects = readdirSync(root).filter((name) => name.endsWith(".o"));
  assert.equal(objects.length, 5 * COMPILERS.length);
  return new Map(objects.map((name) => [name, sha256(readFileSync(join(root, name)))]));
}

async function digests(): Promise<{ readonly source: string; readonly output: string | null }[]> {
  const rows = (await farm.rows()).map(({ row }) => row);
  return rows
    .filter(({ flags }) => flags !== null)
    .map(({ sourceDigest, outputDigest }) => ({ source: sourceDigest ?? "-", output: outputDigest }));
}

test("one image on hosts of two distributions: the same sources, objects, and nothing but hits", {
  skip: SKIP,
}, async () => {
  const release = async (argv: readonly string[]) => {
    const { stdout } = await runCommand(argv, { env: farm.env });
    return /^VERSION_ID="?([^"\n]*)/m.exec(stdout)?.[1];
  };
  const question = ["cat", "/etc/os-release"];
  assert.equal(await release(onOtherHost(question, "/")), "13");
  assert.notEqual(await release(question), "13");
  const first = await compileAll(checkout("ann"), (argv, cwd) => runCommand(argv, { cwd, env: farm.env }));
  const rowsOfAnn = await digests();
  const env = await farm.addAccount("bob");
  try {
    const second = await compileAll(checkout("home/of/bob"), (argv, cwd) =>
      runCommand(onOtherHost(argv, cwd), { env }),
    );
    assert.deepEqual(second, first);
    const { stdout } = await runCommand([HPCC, "stats", "--json"], { env });
    const { outcomes } = JSON.parse(stdout) as { outcomes: Record<string, number> };
    const counted = Object.entries(outcomes).filter(([, count]) => count > 0);
    assert.deepEqual(Object.fromEntries(counted), { remote_hit: first.size });
    const rowsOfBob = (await digests()).slice(rowsOfAnn.length);
    assert.equal(rowsOfBob.length, first.size);
    assert.deepEqual(rowsOfBob, rowsOfAnn);
  } finally {
    await runCommand(onOtherHost([HPCC, "daemon", "stop"], "/"), { env });
  }
});

test("a compiler that takes no prefix map, called first in a mount namespace that the daemon is not in", {
  skip: SKIP,
}, async () => {
  const env = await farm.addAccount("eve");
  const root = checkout("eve");
  try {
    assert.equal((await runCommand([HPCC, "daemon", "start"], { env })).code, 0);
    for (const output of ["first.o", "second.o"]) {
      const argv = [...newView, HPCC, "clang-9", "-O1", "-Iinc", "-c", "part0.c", "-o", output];
      const { code, stderr } = await runCommand(argv, { cwd: root, env });
      assert.deepEqual([code, stderr], [0, ""]);
    }
    assert.ok(readFileSync(join(root, "first.o")).equals(readFileSync(join(root, "second.o"))));
  } finally {
    await runCommand([HPCC, "daemon", "stop"], { env });
  }
});
