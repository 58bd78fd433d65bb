// Images that are not the host's: make and ninja find the headers that dependency files name, so a second build does nothing, and an
// edited header is seen.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { compileCall } from "../support/compile-call.ts";
import { DISTRIBUTIONS, distributionImage } from "../support/distributions.ts";
import { extendImage } from "../support/extended-image.ts";
import { Farm, HPCC, IMAGE_FOLDER, type User } from "../support/farm.ts";

const HEADER = "/usr/include/hpcc-only-in-image.h";
const LINKED = "/usr/include/hpcc-linked";

let farm: Farm;
let user: User;
let clang: string;
let extended: string;
/** Without shell, env, users and ld.so.cache, its /bin and /lib not merged with /usr. */
let bare: string;

before(async () => {
  farm = new Farm();
  await farm.init();
  const gcc = await farm.image("e2e");
  const clangImage = await farm.image("e2e-clang", ["--compiler", "clang"]);
  const own = extendImage(gcc.digest, [
    { name: HEADER.slice(1), content: "#define ONLY 42\n" },
    { name: LINKED.slice(1), flag: "2", link: "hpcc-folder" },
    { name: "usr/include/hpcc-folder/", flag: "5", mode: 0o755 },
    { name: "usr/include/hpcc-folder/deep.h", content: "#define DEEP 1\n" },
  ]);
  clang = clangImage.digest;
  extended = own.digest;
  await farm.startScheduler();
  bare = await distributionImage(DISTRIBUTIONS.find(({ name }) => name === "debian-11")!, true);
  const bareLayout = join(IMAGE_FOLDER, "oci", bare.slice("sha256:".length));
  await farm.startWorker("w", { layouts: [clangImage.layout, own.layout, bareLayout] });
  user = await farm.addUser("alice", { images: [clang, extended, bare], fallback: "none" });
});

after(async () => {
  await farm?.close();
});

const MAKEFILE = `CC = @HPCC@ @CC@
CFLAGS = -O1 -g -Wall -MD -MP
app: main.o part.o
\t$(CC) -o $@ $^
-include main.d part.d
`;
const NINJA = `rule cc
  command = @HPCC@ @CC@ -O1 -g -Wall -MD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
build n/main.o: cc main.c
build n/part.o: cc part.c
`;

function makeProject(name: string, image: string, compiler: string, include: string): string {
  const folder = join(farm.folder, name);
  mkdirSync(folder);
  const files = {
    "hpcc.toml": `image = "${image}"\n`,
    Makefile: MAKEFILE.replaceAll("@HPCC@", HPCC).replaceAll("@CC@", compiler),
    "build.ninja": NINJA.replaceAll("@HPCC@", HPCC).replaceAll("@CC@", compiler),
    "main.c": '#include <stdio.h>\n#include "part.h"\nint main(void) { printf("%d\\n", part()); return 0; }\n',
    "part.c": `#include "part.h"\n${include}int part(void) { return ONLY; }\n`,
    "part.h": "int part(void);\n",
  };
  for (const [file, text] of Object.entries(files)) writeFileSync(join(folder, file), text);
  for (const file of Object.keys(files)) utimesSync(join(folder, file), 1_700_000_000, 1_700_000_000);
  return folder;
}

/** Builds twice with make and with ninja: the second time nothing is done, and a header's edit makes both objects anew. */
async function assertNullRebuilds(project: string): Promise<void> {
  for (const tool of ["make", "ninja"]) {
    await user.stats(true);
    const first = await user.run([tool, "-C", project]);
    assert.equal(first.code, 0, first.stderr + first.stdout);
    const { outcomes, jobs_sent: jobs } = await user.stats(true);
    assert.equal(jobs, 2, JSON.stringify(outcomes));
    const second = await user.run([tool, "-C", project]);
    assert.match(second.stdout, /up to date|no work to do/);
    assert.equal((await user.stats(true)).calls, 0, tool);
    utimesSync(join(project, "part.h"), new Date(), new Date());
    const third = await user.run([tool, "-C", project]);
    assert.equal(third.code, 0, third.stderr + third.stdout);
    assert.equal((await user.stats(true)).jobs_sent, 2, `${tool} sees the header`);
    utimesSync(join(project, "part.h"), 1_700_000_000, 1_700_000_000);
  }
}

test("gcc with headers that the host lacks: dependency files name them where make finds them", async () => {
  const include = "#include <hpcc-only-in-image.h>\n#include <hpcc-linked/deep.h>\n";
  const project = makeProject("extended", extended, "gcc", include);
  await assertNullRebuilds(project);
  const ran = await user.run([join(project, "app")]);
  assert.equal(ran.stdout, "42\n");
  const dependencies = readFileSync(join(project, "part.d"), "utf8");
  const unpacked = join(IMAGE_FOLDER, "rootfs", extended.slice("sha256:".length));
  assert.ok(!existsSync(HEADER), "the host lacks the header");
  for (const path of [HEADER, `${LINKED}/deep.h`]) {
    assert.match(dependencies, new RegExp(`${unpacked}${path}`));
    assert.ok(existsSync(unpacked + path));
  }
  assert.match(readFileSync(join(project, "main.d"), "utf8"), / \/usr\/include\/stdio\.h/);
  // The host's compiler could not do this: a local compile is the image's.
  const argv = ["gcc", "-frecord-gcc-switches", "-c", "part.c", "-o", "part.o"];
  const local = await compileCall(user, argv, { cwd: project, env: { HPCC_FALLBACK: "image" } });
  assert.deepEqual([local.outcome, local.code], ["local: recorded_switches", 0], local.stderr);
  // Nor when the launcher is alone: the plan names the image.
  const alone = await user.run([HPCC, ...argv], { cwd: project, env: { HPCC_DISABLE: "1" } });
  assert.equal(alone.code, 0, alone.stderr);
});

test("clang of an image of its own", async () => {
  const project = makeProject("clang", clang, "clang", "#define ONLY 42\n");
  await assertNullRebuilds(project);
  const ran = await user.run([join(project, "app")]);
  assert.equal(ran.stdout, "42\n");
});

test("a bare image of another release, in a VM", async () => {
  const project = makeProject("bare", bare, "gcc-9", "#define ONLY 42\n");
  for (const source of ["main.c", "part.c"]) {
    const output = join(project, "out.o");
    const argv = ["gcc-9", "-O1", "-g", "-Wall", "-c", source, "-o", output];
    const call = await compileCall(user, argv, { cwd: project, makes: [output] });
    assert.deepEqual([call.code, call.stderr, call.outcome], [0, "", "remote_compiled"]);
    assert.ok((call.files.get(output)?.length ?? 0) > 0);
  }
});
