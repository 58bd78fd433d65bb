// Calls that meet more than a compiler and its sources: programs of the image that are no compilers, loaders that are told to load
// what the image lacks, projects within projects, and configuration that cannot be read. With a daemon, and without one from its plan.
import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ascii, byteStringOfText } from "../../src/base/byte-string.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import { printStats, type Stats, stats } from "../../src/cli/stats.ts";
import { LongWork } from "../../src/daemon/call/long-work.ts";
import { ProjectRegistry } from "../../src/daemon/project-registry.ts";
import { ImageStore } from "../../src/image/image-store.ts";
import { doctorChecks } from "../../src/programs/doctor-checks.ts";
import { NamespaceKeeper } from "../../src/vm/namespace/namespace-keeper.ts";
import { extendImage } from "../support/extended-image.ts";
import { type CommandResult, HPCC, IMAGE_FOLDER, runCommand } from "../support/farm.ts";
import { QuickFarm } from "../support/quick-farm.ts";

const FOREIGN = `sha256:${"1".repeat(64)}`;

let farm: QuickFarm;
let image: string;
/** The image with a gcc-7 that takes no prefix map of files. */
let old: string;
/** Variables with which a call finds no daemon and can start none. */
let alone: Readonly<Record<string, string>>;

before(async () => {
  const env = { PATH: process.env["PATH"], HOME: IMAGE_FOLDER, HPCC_IMAGE_DIR: IMAGE_FOLDER };
  const built = await runCommand([HPCC, "image", "build", "--from-host", "--tag", "e2e", "--quiet"], { env });
  assert.equal(built.code, 0, built.stderr);
  image = built.stdout.trim();
  old = await imageOfAnOldCompiler();
  farm = await QuickFarm.start({ imageFolder: IMAGE_FOLDER, images: [image, old] });
  const runtime = join(farm.folder, "run-alone");
  mkdirSync(runtime, { mode: 0o700 });
  alone = { HPCC_RUNTIME_DIR: runtime, HPCC_LIB_DIR: "/nowhere" };
});

after(async () => {
  await farm?.close();
});

const OLD_COMPILER = `#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int count, char **argv) {
  for (int at = 1; at < count; at++)
    if (strncmp(argv[at], "-ffile-prefix-map=", 18) == 0) {
      fprintf(stderr, "gcc-7: error: unrecognized command line option '%s'\\n", argv[at]);
      return 1;
    }
  argv[0] = "/usr/bin/gcc";
  execv(argv[0], argv);
  return 127;
}
`;

async function imageOfAnOldCompiler(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-old-"));
  writeFileSync(join(folder, "old.c"), OLD_COMPILER);
  const made = await runCommand(["gcc", "-static", "-Os", "-s", "old.c", "-o", "gcc-7"], { cwd: folder });
  assert.equal(made.code, 0, made.stderr);
  const program = { name: "usr/bin/gcc-7", mode: 0o755, content: readFileSync(join(folder, "gcc-7")) };
  rmSync(folder, { recursive: true });
  return extendImage(image, [program]).digest;
}

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

/** What has been counted since the last time. */
async function counted(): Promise<Stats> {
  return stats(farm.directories, true);
}

async function reasons(): Promise<unknown> {
  return (await counted())["reasons"];
}

/** Outcomes that have been counted at all. */
async function outcomes(): Promise<unknown> {
  const all = Object.entries((await counted())["outcomes"] as Record<string, number>);
  return Object.fromEntries(all.filter(([, count]) => count > 0));
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

test("an image whose compiler takes no prefix map of files: remotely, here and without a daemon", async () => {
  const root = project("old", `image = "${old}"\n`, { "bad.c": "int f(void) { return x; }\n" });
  const compile = async (argv: readonly string[], env: Readonly<Record<string, string>> = {}) => {
    rmSync(join(root, "a.o"), { force: true });
    const ran = await call(root, [HPCC, "gcc-7", "-g", "-c", "a.c", "-o", "a.o", ...argv], env);
    assert.deepEqual([ran.code, ran.stderr], [0, ""]);
    return readFileSync(join(root, "a.o"));
  };
  const plain = await runCommand(["gcc", "-g", "-c", "a.c", "-o", "plain.o"], { cwd: root });
  assert.equal(plain.code, 0, plain.stderr);
  const expected = readFileSync(join(root, "plain.o"));
  await outcomes();
  assert.ok((await compile([])).equals(expected));
  assert.deepEqual(await outcomes(), { remote_compiled: 1 });
  assert.ok((await compile(["-aux-info", "x.txt"])).length > 0);
  assert.deepEqual(await reasons(), { side_outputs: 1 });
  assert.ok((await compile([], alone)).equals(expected), "by its plan");
  const failing = await call(root, [HPCC, "gcc-7", "-c", "bad.c"]);
  assert.match(failing.stderr, /^bad\.c: In function [^\n]*\nbad\.c:1:22: error: /);
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

test("a configuration that cannot be read is said, and the host's compiler runs under the policy host alone", async () => {
  const root = project("misspelled", `imge = "${image}"\n`);
  const named = /misspelled\/hpcc\.toml: unknown key imge; did you mean image\?/;
  for (const fallback of ["", "image", "none"]) {
    const refused = await call(root, [HPCC, "gcc", "-c", "a.c"], { HPCC_FALLBACK: fallback });
    assert.deepEqual([refused.code, refused.stdout], [1, ""], fallback);
    assert.match(refused.stderr, named);
    assert.ok(!existsSync(join(root, "a.o")));
  }
  const host = await call(root, [HPCC, "gcc", "-c", "a.c"], { HPCC_FALLBACK: "host" });
  assert.equal(host.code, 0, host.stderr);
  assert.match(host.stderr, named);
  // The user's own file: he has broken plain use of nothing, and is told.
  const broken = join(farm.folder, "broken.toml");
  writeFileSync(broken, 'isolaton_min = "qemu-tcg"\n');
  const directories = { ...farm.directories, userConfig: broken };
  const registry = new ProjectRegistry({
    directories,
    images: new ImageStore(IMAGE_FOLDER),
    pulls: null,
    namespaces: new NamespaceKeeper({ logger: SILENT_LOGGER }),
    longWork: new LongWork(SYSTEM_CLOCK),
    logger: SILENT_LOGGER,
  });
  const find = async (folder: string, ...environment: string[]) => {
    const state = await registry.find({
      argv: [ascii("gcc")],
      cwd: byteStringOfText(folder),
      environment: environment.map(ascii),
    });
    assert.ok(state.kind === "unusable");
    assert.match(state.message, /broken\.toml: unknown key isolaton_min; did you mean isolation_min\?/);
    return state.fallback;
  };
  const plain = join(farm.folder, "plain");
  mkdirSync(join(plain, ".git"), { recursive: true });
  assert.equal(await find(plain), "host");
  assert.equal(await find(plain, `HPCC_IMAGE=${image}`), "image");
  assert.equal(await find(project("bound", `image = "${image}"\n`)), "image");
  assert.equal(await find(join(farm.folder, "bound"), "HPCC_FALLBACK=none"), "none");
});

test("a project within another: the message names file, image and ways out, and each of them is one", async () => {
  const outer = project("outer", `image = "${image}"\n`);
  const inner = project("outer/inner", `image = "${FOREIGN}"\n`);
  writeFileSync(join(outer, "Makefile"), "all:\n\t$(CC) -c a.c\n\t$(MAKE) -C inner\n");
  writeFileSync(join(inner, "Makefile"), "all:\n\t$(CC) -g -c a.c\n");
  const make = () => call(outer, ["make", `CC=${HPCC} gcc`]);
  await outcomes();
  const refused = await make();
  assert.equal(refused.code, 2);
  const said = refused.stderr.split("\n").find((line) => line.startsWith("hpcc: "));
  assert.equal(
    said,
    `hpcc: ${inner}/hpcc.toml names the image ${FOREIGN}, which you have not allowed; add it to images.allowed in ` +
      `${farm.env["HPCC_CONFIG"]}, or, to compile what lies below ${outer} in that project's image, ` +
      `add this line to ${outer}/hpcc.toml: nested_projects = "outer"`,
  );
  writeFileSync(join(outer, "hpcc.toml"), `image = "${image}"\nnested_projects = "outer"\n`);
  const made = await make();
  assert.equal(made.code, 0, made.stderr);
  assert.deepEqual(await outcomes(), { remote_compiled: 2, remote_hit: 1, refused: 1 });
  rmSync(join(inner, "a.o"));
  const without = await call(inner, [HPCC, "gcc", "-c", "a.c"], alone);
  assert.deepEqual([without.code, without.stderr], [0, ""], "its launcher has a plan, too");
  // What the outer project does not settle is still the inner one's own.
  writeFileSync(join(outer, "hpcc.toml"), 'nested_projects = "outer"\n');
  assert.match((await call(inner, [HPCC, "gcc", "-c", "a.c"])).stderr, /inner\/hpcc\.toml names the image/);
});

test("a header that this machine has and the image lacks: its package is named, and the compiler's own words stay alone", async () => {
  const root = project("headers", `image = "${image}"\n`, {
    "z.c": "#include <zlib.h>\n",
    "n.c": "#include <no-such-header.h>\n",
    "own.c": '#include "own.h"\n',
  });
  const advice =
    "the image lacks zlib.h, which this machine has from the package zlib1g-dev; " +
    "`hpcc image build --from-host --with zlib1g-dev` makes an image that has it";
  for (const source of ["z.c", "n.c", "own.c", "z.c"]) {
    const failed = await call(root, [HPCC, "gcc", "-c", source]);
    assert.equal(failed.code, 1);
    assert.match(failed.stderr, /^\S+\.c:1:10: fatal error: \S+: No such file or directory\n/);
    assert.doesNotMatch(failed.stderr, /hpcc|image/);
  }
  const counts = await counted();
  assert.deepEqual(counts["headers_missing"], [advice]);
  assert.ok(printStats(counts).endsWith(`-> ${advice}\n`));
  const checks = await Promise.all(doctorChecks(farm.env, process.getuid?.() ?? 0, null).map((check) => check()));
  assert.deepEqual(
    checks.flat().filter(({ name }) => name === "headers"),
    [{ name: "headers", status: "note", detail: advice, fix: null }],
  );
  const terminal = await call(root, ["script", "-qec", `${HPCC} gcc -c z.c`, "/dev/null"], { TERM: "dumb" });
  assert.equal(terminal.code, 1);
  assert.match(
    terminal.stdout,
    new RegExp(`^hpcc: ${advice.replaceAll(/[.-]/g, "\\$&")}\r\nz\\.c:1:10: fatal error: `),
  );
});

test("a link out of the project is seen where macros make the name of parts, whatever travels", async () => {
  const source = "#define JOIN(a, b) <a.b>\n#define NAME JOIN(far,h)\n#include NAME\nint far = FAR;\n";
  mkdirSync(join(farm.folder, "outside"));
  writeFileSync(join(farm.folder, "outside/far.h"), "#define FAR 1\n");
  for (const paths of ["shared", "own"]) {
    const toml = `image = "${image}"\npaths = "${paths}"\n`;
    const root = project(`leaving-${paths}`, toml, { "a.c": source });
    for (const folder of ["inc1", "inc2"]) mkdirSync(join(root, folder));
    symlinkSync("../../outside/far.h", join(root, "inc1/far.h"));
    writeFileSync(join(root, "inc2/far.h"), "#define FAR 2\n");
    const words = ["gcc", "-Iinc1", "-Iinc2", "-S", "a.c"];
    for (const form of ["files", "text"]) {
      await reasons();
      const ours = await call(root, [HPCC, ...words], { HPCC_SOURCE_FORM: form });
      assert.deepEqual([ours.code, ours.stderr], [0, ""]);
      assert.match(readFileSync(join(root, "a.s"), "latin1"), /far:\n\s*\.long\s+1\n/, `${paths}, ${form}`);
      assert.deepEqual(await reasons(), { outside_view: 1 }, `${paths}, ${form}`);
    }
  }
});

test("from another mount namespace, too, programs run in the image and not on the host", async () => {
  const wrapper = '#!/bin/sh\ntest -e /hpcc/project/a.c && echo inside\nexec gcc "$@"\n';
  const root = project("mounts", `image = "${image}"\n`, { "own-cc": wrapper });
  chmodSync(join(root, "own-cc"), 0o755);
  const links = join(farm.folder, "mount-links");
  mkdirSync(links);
  symlinkSync(HPCC, join(links, "gcc"));
  const elsewhere = 'mount -t tmpfs none /mnt && exec env LD_PRELOAD=libnowhere.so.4 "$@"';
  await reasons();
  for (const [name, reason, stdout] of [
    ["gcc", "mount_namespace", ""],
    ["c99", "unknown_driver", ""],
    ["./own-cc", "own_program", "inside\n"],
  ] as const) {
    const argv = ["unshare", "-m", "sh", "-c", elsewhere, "sh", HPCC, name, "-c", "a.c"];
    // A launcher that the script finds again runs the image's compiler.
    const ours = await call(root, argv, { PATH: `${links}:/usr/bin:/bin` });
    assert.deepEqual([ours.code, ours.stderr, ours.stdout], [0, "", stdout], name);
    assert.ok(existsSync(join(root, "a.o")));
    rmSync(join(root, "a.o"));
    assert.deepEqual(await reasons(), { [reason]: 1 }, name);
  }
});
