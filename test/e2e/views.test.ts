// Paths in every spelling that build systems use, through a whole hpcc: what is in view is compiled in the VM and is the one-step
// compile's, what is not is the image's own compile here under its named reason; never a wrong object.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { injectedFlags } from "../../src/core/compile/text/two-step.ts";
import { type CallOptions, type CallResult, compileCall, takeFiles } from "../support/compile-call.ts";
import { Farm, HPCC, type RunningWorker, runCommand, type User } from "../support/farm.ts";
import { jobRows, rowOfObject, seedOf } from "../support/job-rows.ts";
import { OneStep, shellWord } from "../support/one-step.ts";

const LOCAL_ALLOWED = { HPCC_FALLBACK: "image" };
const OLD_S = 1_700_000_000;

let farm: Farm;
let worker: RunningWorker;
let user: User;
let imageDigest: string;
/** Beside the projects, in no view. */
let outside: string;
/** The configured extra roots. */
let buildTree: string;
let sources: string;

before(async () => {
  farm = new Farm();
  await farm.init();
  const image = await farm.image("e2e");
  imageDigest = image.digest;
  await farm.startScheduler();
  worker = await farm.startWorker("w", { layouts: [image.layout] });
  outside = join(farm.folder, "outside");
  buildTree = join(farm.folder, "tree");
  mkdirSync(outside);
  mkdirSync(buildTree);
  sources = join(farm.folder, "sources");
  mkdirSync(sources);
  user = await farm.addUser("alice", {
    images: [imageDigest],
    fallback: "none",
    tables: `[extra_roots]\ntree = "${buildTree}"\nsources = "${sources}"\n`,
  });
});

after(async () => {
  await farm?.close();
});

/** Writes files as bytes, old enough for the check of files that change meanwhile. */
function put(folder: string, files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) {
    const path = Buffer.from(join(folder, name), "latin1");
    mkdirSync(Buffer.from(dirname(join(folder, name)), "latin1"), { recursive: true });
    writeFileSync(path, text, "latin1");
    utimesSync(path, OLD_S, OLD_S);
  }
}

/** A new project with these files. */
function makeProject(name: string, files: Readonly<Record<string, string>>, parent = farm.folder): string {
  const folder = join(parent, name);
  put(folder, { "hpcc.toml": `image = "${imageDigest}"\n`, ...files });
  return folder;
}

interface InView {
  readonly project: string;
  /** How the caller spells the project's root. */
  readonly spelled?: string;
  readonly cwd: string;
  readonly makes: readonly string[];
}

/**
 * Calls the compiler and holds object, dependency file and stderr against the one-step compile in the view, whose absolute paths are
 * the caller's with the roots mapped.
 */
async function assertRemoteAsOneStep(
  argv: readonly string[],
  { project, spelled = project, cwd, makes }: InView,
): Promise<CallResult> {
  const called = await compileCall(user, argv, { cwd, makes });
  assert.equal(called.outcome, "remote_compiled", called.stderr);
  const row = (await jobRows(worker)).at(-1)!;
  const toView = (text: string) =>
    text
      .replaceAll(spelled, "/hpcc/project")
      .replaceAll(project, "/hpcc/project")
      .replaceAll(buildTree, "/hpcc/roots/tree");
  const toHost = (text: string) => text.replaceAll("/hpcc/project", spelled).replaceAll("/hpcc/roots/tree", buildTree);
  using oneStep = new OneStep(imageDigest, { "/hpcc/project": project, "/hpcc/roots/tree": buildTree });
  const words = [...argv.map(toView), ...injectedFlags("gcc"), `-frandom-seed=${seedOf(row)}`];
  const ran = oneStep.run(words, { cwd: toView(cwd) });
  assert.equal(called.code, ran.code, ran.stderr);
  assert.equal(called.stderr, toHost(ran.stderr));
  for (const [path, expected] of takeFiles(makes)) {
    const ours = called.files.get(path);
    assert.ok(ours && expected, `${path} is made by both`);
    // Where lines are wrapped depends on the names in them.
    if (!path.endsWith(".d")) assert.ok(ours.equals(expected), `${path} is the one-step compile's`);
  }
  const plain = await plainCompile(argv, project, { cwd, makes });
  for (const path of makes.filter((name) => name.endsWith(".d")))
    assert.equal(called.files.get(path)!.toString("latin1"), plain.files.get(path)?.toString("latin1"), path);
  return called;
}

/** Compiles with the host's own compiler, of which the image is made, as a local compile should. */
async function plainCompile(argv: readonly string[], project: string, options: CallOptions): Promise<CallResult> {
  const [compiler = "", ...rest] = argv;
  const flags = [
    `-ffile-prefix-map=${project}=.`,
    `-ffile-prefix-map=${buildTree}=/hpcc/roots/tree`,
    "-gno-record-gcc-switches",
  ];
  const script = `cd ${shellWord(options.cwd)} && exec ${[compiler, ...flags, ...rest].map(shellWord).join(" ")}`;
  const ran = await runCommand(["/bin/sh", "-c", script], { env: { PATH: "/usr/bin:/bin", LC_ALL: "C.UTF-8" } });
  return { ...ran, stats: null as never, outcome: "plain", files: takeFiles(options.makes ?? []) };
}

/** The call is compiled here, under this reason, and makes what the plain compile makes; with fall-back forbidden it is refused. */
async function assertLocal(
  reason: string,
  argv: readonly string[],
  project: string,
  options: CallOptions,
): Promise<void> {
  const called = await compileCall(user, argv, { ...options, env: { ...options.env, ...LOCAL_ALLOWED } });
  assert.equal(called.outcome, `local: ${reason}`, called.stderr);
  assertAsPlain(called, await plainCompile(argv, project, options));
  const refused = await compileCall(user, argv, options);
  assert.equal(refused.outcome, `refused: ${reason}`);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, new RegExp(`^hpcc: refused, .*${reason}`));
}

function assertAsPlain(called: CallResult, plain: CallResult): void {
  assert.equal(called.code, plain.code, called.stderr);
  assert.equal(called.stderr, plain.stderr);
  for (const [path, expected] of plain.files) {
    const ours = called.files.get(path);
    assert.ok(ours && expected, `${path} is made by both`);
    assert.ok(ours.equals(expected), `${path} is the plain compile's`);
  }
}

const WARNS = '#include <assert.h>\n#include "part.h"\nint f(int a) { assert(a > PART); char c = a; return c; }\n';
const PART = "#define PART 3\nstatic inline char narrowed(int a) { return a; }\n";
const FLAGS = ["-O1", "-g", "-Wall", "-Wconversion"];

describe("in view", () => {
  test("absolute source and -I paths as CMake writes them; assert names the mapped path", async () => {
    const project = makeProject("abs", { "src/a.c": WARNS, "include/part.h": PART });
    const build = join(project, "build");
    mkdirSync(join(build, "x.dir"), { recursive: true });
    const argv = [
      "gcc",
      `-I${project}/include`,
      ...FLAGS,
      "-MD",
      "-MT",
      "x.dir/a.c.o",
      "-MF",
      "x.dir/a.c.o.d",
      "-o",
      "x.dir/a.c.o",
      "-c",
      `${project}/src/a.c`,
    ];
    const makes = [join(build, "x.dir/a.c.o"), join(build, "x.dir/a.c.o.d")];
    const { files, stderr } = await assertRemoteAsOneStep(argv, { project, cwd: build, makes });
    assert.match(stderr, new RegExp(`^In file included from ${project}/src/a\\.c:2:`));
    assert.match(files.get(makes[1]!)!.toString(), new RegExp(`${project}/include/part\\.h`));
    const object = files.get(makes[0]!)!;
    assert.ok(object.includes("./src/a.c\0"), "assert's path is relative to the project");
    assert.ok(!object.includes(farm.folder), "no path of the host is in the object");
  });

  test("an out-of-tree build in a configured extra root, with headers generated there", async () => {
    const project = makeProject("oot", { "src/a.c": WARNS });
    put(buildTree, { "gen/part.h": PART });
    const object = join(buildTree, "a.o");
    const argv = [
      "gcc",
      `-I${buildTree}/gen`,
      ...FLAGS,
      "-MD",
      "-MF",
      join(buildTree, "a.d"),
      "-c",
      "src/a.c",
      "-o",
      object,
    ];
    await assertRemoteAsOneStep(argv, { project, cwd: project, makes: [object, join(buildTree, "a.d")] });
  });

  test("a working directory reached through a link, outside and inside of the project", async () => {
    const project = makeProject("linked", { "src/a.c": WARNS, "include/part.h": PART });
    const link = join(farm.folder, "way");
    symlinkSync(project, link);
    symlinkSync("src", join(project, "inner"));
    const makes = [join(project, "src/a.o")];
    const argv = ["gcc", `-I${link}/include`, ...FLAGS, "-c", "a.c", "-o", "a.o"];
    const called = await assertRemoteAsOneStep(argv, { project, spelled: link, cwd: join(link, "src"), makes });
    assert.match(called.stderr, new RegExp(`${link}/include/part\\.h`));
    const inner = await assertRemoteAsOneStep(["gcc", "-I../include", ...FLAGS, "-c", "a.c", "-o", "a.o", "-DINNER"], {
      project,
      cwd: join(project, "inner"),
      makes,
    });
    assert.match(inner.stderr, /\.\.\/include\/part\.h/);
  });

  test("arguments and folders that are not UTF-8", async () => {
    const project = makeProject("bytes", {
      "w\xf6/s\xfc.c": '#include "p\xe4.h"\nconst char *name = NAME; int f(int a) { char c = a; return c; }\n',
      "i\xe9/p\xe4.h": "#define P 1\n",
    });
    const cwd = join(project, "w\xf6");
    const argv = ["gcc", "-I../i\xe9", ...FLAGS, '-DNAME="n\xff"', "-MD", "-c", "s\xfc.c", "-o", "s\xfc.o"];
    const { stderr, files } = await assertRemoteAsOneStep(argv, {
      project,
      cwd,
      makes: [join(cwd, "s\xfc.o"), join(cwd, "s\xfc.d")],
    });
    assert.match(stderr, /^s\xfc\.c: In function/);
    assert.match(files.get(join(cwd, "s\xfc.d"))!.toString("latin1"), /\.\.\/i\xe9\/p\xe4\.h/);
  });

  for (const below of ["/usr/src", "/tmp"])
    test(`a project below ${below}`, async () => {
      const parent = mkdtempSync(`${below}/hpcc-test-`);
      try {
        const project = makeProject("p", { "src/a.c": WARNS, "include/part.h": PART }, parent);
        // With a macro of its own, so that it is no hit.
        const own = `-DBELOW="${below}"`;
        const argv = ["gcc", `-I${project}/include`, own, ...FLAGS, "-MD", "-c", "src/a.c", "-o", "a.o"];
        await assertRemoteAsOneStep(argv, {
          project,
          cwd: project,
          makes: [join(project, "a.o"), join(project, "a.d")],
        });
        put(parent, { "far/far.h": "#define FAR 1\n" });
        await assertLocal(
          "outside_view",
          ["gcc", `-I${project}/include`, `-I${parent}/far`, ...FLAGS, "-c", "src/a.c", "-o", "a.o"],
          project,
          { cwd: project, makes: [join(project, "a.o")] },
        );
      } finally {
        rmSync(parent, { recursive: true });
      }
    });
});

describe("out of view", () => {
  const USES = '#include "far.h"\nint far = FAR;\n';

  test("-I outside of the project", async () => {
    const project = makeProject("o1", { "a.c": USES });
    put(outside, { "far.h": "#define FAR 1\n" });
    await assertLocal("outside_view", ["gcc", "-g", "-I", outside, "-c", "a.c", "-o", "a.o"], project, {
      cwd: project,
      makes: [join(project, "a.o")],
    });
  });

  test("a folder of the project that is a link out of it", async () => {
    const project = makeProject("o2", { "a.c": USES });
    put(outside, { "far.h": "#define FAR 1\n" });
    symlinkSync(outside, join(project, "inc"));
    await assertLocal("outside_view", ["gcc", "-g", "-Iinc", "-c", "a.c", "-o", "a.o"], project, {
      cwd: project,
      makes: [join(project, "a.o")],
    });
  });

  test("a source that is a link out of the project", async () => {
    const project = makeProject("o3", { "far.h": "#define FAR 2\n" });
    put(outside, { "a.c": USES });
    symlinkSync(join(outside, "a.c"), join(project, "a.c"));
    await assertLocal("outside_view", ["gcc", "-g", "-I.", "-c", "a.c", "-o", "a.o"], project, {
      cwd: project,
      makes: [join(project, "a.o")],
    });
  });

  test("a working directory in a build tree that no project holds: the host's compiler, counted", async () => {
    const project = makeProject("sep", { "src/a.c": WARNS, "include/part.h": PART });
    const build = mkdtempSync(join(tmpdir(), "hpcc-build-"));
    try {
      put(build, { "gen/part.h": PART });
      const argv = ["gcc", `-I${build}/gen`, ...FLAGS, "-MD", "-c", join(project, "src/a.c"), "-o", "a.o"];
      const options = { cwd: build, makes: [join(build, "a.o"), join(build, "a.d")] };
      const called = await compileCall(user, argv, options);
      assert.equal(called.outcome, "host: no_image");
      const script = `cd ${shellWord(build)} && exec ${argv.map(shellWord).join(" ")}`;
      const plain = await runCommand(["/bin/sh", "-c", script], { env: { PATH: "/usr/bin:/bin", LC_ALL: "C.UTF-8" } });
      assertAsPlain(called, { ...called, ...plain, files: takeFiles(options.makes) });
    } finally {
      rmSync(build, { recursive: true });
    }
  });

  test("a header that is a link out of the project", async () => {
    const project = makeProject("o4", { "a.c": USES });
    put(outside, { "far.h": "#define FAR 1\n" });
    symlinkSync(join(outside, "far.h"), join(project, "far.h"));
    await assertLocal("preprocessor_error", ["gcc", "-g", "-c", "a.c", "-o", "a.o"], project, {
      cwd: project,
      makes: [join(project, "a.o")],
    });
  });

  // In view, each of these finds another file than on the host: nothing fails, the object would be wrong.
  const TRAPS: Readonly<
    Record<string, { readonly files: Readonly<Record<string, string>>; readonly flags: readonly string[] }>
  > = {
    "__has_include of it": {
      files: { "a.c": '#if __has_include("far.h")\n#include "far.h"\n#else\n#define FAR 7\n#endif\nint far = FAR;\n' },
      flags: ["-Iinc1"],
    },
    "__has_include whose operand a macro makes": {
      files: { "a.c": "#define NAME <far.h>\n#if __has_include(NAME)\nint far = 1;\n#else\nint far = 7;\n#endif\n" },
      flags: ["-Iinc1"],
    },
    "__has_include whose use a pasted macro makes": {
      files: {
        "a.c":
          "#define HAS(x) __has_include(x)\n#define JOIN(a, b) a##b\n#if JOIN(HA, S)(<far.h>)\nint far = 1;\n#else\nint far = 7;\n#endif\n",
      },
      flags: ["-Iinc1"],
    },
    "__has_include whose macro the command line defines": {
      files: { "a.c": "#if HAS(<far.h>)\nint far = 1;\n#else\nint far = 7;\n#endif\n" },
      flags: ["-Iinc1", "-DHAS(x)=__has_include(x)"],
    },
    "__has_include whose macro the command line gives another name": {
      files: {
        "a.c": "#define HAS(x) __has_include(x)\n#if OTHER(<far.h>)\nint far = 1;\n#else\nint far = 7;\n#endif\n",
      },
      flags: ["-Iinc1", "-DOTHER=HAS"],
    },
    "__has_include in a header": {
      files: {
        "a.c": '#include "b.h"\n',
        "inc2/b.h": "#if defined(__has_include) && __has_include(<far.h>)\nint far = 1;\n#endif\n",
      },
      flags: ["-Iinc1", "-Iinc2"],
    },
    "an include that is then found further on the path": {
      files: { "a.c": USES, "inc2/far.h": "#define FAR 2\n" },
      flags: ["-Iinc1", "-Iinc2"],
    },
    "a system include that is then found further on the path": {
      files: { "a.c": "#include <far.h>\nint far = FAR;\n", "inc2/far.h": "#define FAR 2\n" },
      flags: ["-isystem", "inc1", "-isystem", "inc2"],
    },
    "an include made by a macro": {
      files: { "a.c": "#define NAME <far.h>\n#include NAME\nint far = FAR;\n", "inc2/far.h": "#define FAR 2\n" },
      flags: ["-Iinc1", "-Iinc2"],
    },
    "an include made by a macro, of parts": {
      files: {
        "a.c": "#define JOIN(a, b) <a.b>\n#define NAME JOIN(far,h)\n#include NAME\nint far_is = FAR;\n",
        "inc2/far.h": "#define FAR 2\n",
      },
      flags: ["-Iinc1", "-Iinc2"],
    },
    "an include of a forced header": {
      files: { "a.c": "int far = FAR;\n", "inc2/far.h": "#define FAR 2\n" },
      flags: ["-Iinc1", "-Iinc2", "-include", "far.h"],
    },
  };
  for (const [name, { files, flags }] of Object.entries(TRAPS))
    test(`a header behind a leaving link: ${name}`, async () => {
      const project = makeProject(`t${Object.keys(TRAPS).indexOf(name)}`, files);
      put(outside, { "far.h": "#define FAR 1\n" });
      mkdirSync(join(project, "inc1"));
      symlinkSync(join(outside, "far.h"), join(project, "inc1/far.h"));
      const reason = name.startsWith("__has_include whose") ? "unsupported_code_directive" : "outside_view";
      await assertLocal(reason, ["gcc", "-g", ...flags, "-c", "a.c", "-o", "a.o"], project, {
        cwd: project,
        makes: [join(project, "a.o")],
      });
    });
});

describe("a CMake project built by ninja", () => {
  const FILES = {
    "CMakeLists.txt": `cmake_minimum_required(VERSION 3.18)
project(small C)
set(CMAKE_C_FLAGS "-g -Wall -Wconversion")
configure_file(version.h.in version.h)
add_library(part STATIC src/part.c)
target_include_directories(part PUBLIC include \${CMAKE_CURRENT_BINARY_DIR})
add_executable(app src/main.c)
target_link_libraries(app part)
`,
    "version.h.in": '#define VERSION "1.2"\n',
    "include/part.h": `#include <assert.h>\n${PART}int part(int a);\n`,
    "src/part.c": '#include "part.h"\nint part(int a) { assert(a); return narrowed(a); }\n',
    "src/main.c":
      '#include <stdio.h>\n#include "part.h"\n#include "version.h"\nint main(void) { puts(VERSION); return part(3) - 3; }\n',
  };

  const PLACES = {
    "in the project": () => {
      const source = makeProject("cm", FILES);
      return { source, build: join(source, "build"), binds: { "/hpcc/project": source } };
    },
    "in an extra root": () => {
      const source = makeProject("cmout", FILES);
      const build = join(buildTree, "cm");
      return { source, build, binds: { "/hpcc/project": source, "/hpcc/roots/tree": buildTree } };
    },
    "a project of its own, the sources in an extra root": () => {
      put(sources, FILES);
      const build = makeProject("cmtree", {});
      return { source: sources, build, binds: { "/hpcc/project": build, "/hpcc/roots/sources": sources } };
    },
  };

  for (const [place, make] of Object.entries(PLACES))
    test(`the build tree is ${place}: right objects, and nothing to do afterwards`, async () => {
      const { source, build, binds } = make();
      const launcher = `-DCMAKE_C_COMPILER_LAUNCHER=${HPCC}`;
      const configure = [
        "cmake",
        "-G",
        "Ninja",
        "-S",
        source,
        "-B",
        build,
        launcher,
        "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON",
      ];
      const configured = await user.run(configure);
      assert.equal(configured.code, 0, configured.stderr + configured.stdout);
      await user.stats(true);
      const built = await user.run(["ninja", "-C", build, "-j2"]);
      assert.equal(built.code, 0, built.stderr + built.stdout);
      const { outcomes, reasons, jobs_sent: jobs } = await user.stats();
      assert.deepEqual({ compiled: outcomes["remote_compiled"], reasons, jobs }, { compiled: 2, reasons: {}, jobs: 2 });
      assert.equal((await user.run([join(build, "app")])).stdout, "1.2\n");

      const rows = (await jobRows(worker)).slice(-2);
      const commands = JSON.parse(readFileSync(join(build, "compile_commands.json"), "utf8")) as CMakeCommand[];
      assert.equal(commands.length, 2);
      const pairs = Object.entries(binds).sort(([, a], [, b]) => b.length - a.length);
      const toView = (text: string) => pairs.reduce((mapped, [view, host]) => mapped.replaceAll(host, view), text);
      // Debug information would name the extra root, which each user has elsewhere: the sources stand at their own paths.
      const ownPaths = Object.fromEntries(Object.values(binds).map((host) => [host, host]));
      using oneStep = new OneStep(imageDigest, { ...binds, ...ownPaths });
      for (const { command, directory } of commands) {
        const argv = command.split(" ").filter((word) => word !== HPCC);
        const object = join(directory, argv[argv.indexOf("-o") + 1]!);
        const ours = readFileSync(object);
        const row = rowOfObject(rows, ours);
        const shared = row.command.cwd.startsWith("/hpcc/");
        const words = shared ? [...argv.map(toView), ...injectedFlags("gcc"), `-frandom-seed=${seedOf(row)}`] : argv;
        const ran = oneStep.run(words, { cwd: shared ? toView(directory) : directory });
        assert.equal(ran.code, 0, ran.stderr);
        assert.ok(ours.equals(readFileSync(object)), object);
        writeFileSync(object, ours);
      }

      await user.run(["ninja", "-C", build]);
      await user.stats(true);
      assert.match((await user.run(["ninja", "-C", build])).stdout, /no work to do/);
      assert.equal((await user.stats()).calls, 0);
      utimesSync(join(source, "include/part.h"), new Date(), new Date());
      const rebuilt = await user.run(["ninja", "-C", build, "-v"]);
      assert.equal(rebuilt.code, 0, rebuilt.stderr + rebuilt.stdout);
      assert.equal((await user.stats()).outcomes["remote_hit"], 2, "both objects depend on the header");
    });
});

test("CMake finds out about a compiler that is a link named after it, and builds with it", async () => {
  const links = join(farm.folder, "bin");
  mkdirSync(links);
  for (const name of ["cc", "gcc"]) symlinkSync(HPCC, join(links, name));
  const source = makeProject("named", {
    "CMakeLists.txt": `cmake_minimum_required(VERSION 3.18)
project(named C)
include(CheckIncludeFile)
check_include_file(assert.h HAVE_ASSERT)
if(NOT CMAKE_SIZEOF_VOID_P EQUAL 8 OR NOT HAVE_ASSERT OR NOT CMAKE_C_COMPILER_ID STREQUAL GNU)
  message(FATAL_ERROR "not found out")
endif()
add_executable(app main.c)
`,
    "main.c": "int main(void) { return 0; }\n",
  });
  const env = { ...LOCAL_ALLOWED, PATH: `${links}:${user.env["PATH"]}` };
  const build = join(source, "build");
  const configured = await user.run(["cmake", "-G", "Ninja", "-S", source, "-B", build], { env });
  assert.equal(configured.code, 0, configured.stderr + configured.stdout);
  await user.stats(true);
  const built = await user.run(["ninja", "-C", build], { env });
  assert.equal(built.code, 0, built.stderr + built.stdout);
  const { jobs_sent: jobs, reasons } = await user.stats();
  assert.deepEqual({ jobs, reasons }, { jobs: 1, reasons: { called_for_link: 1 } });
  assert.equal((await user.run([join(build, "app")])).code, 0);
});

interface CMakeCommand {
  readonly command: string;
  readonly directory: string;
}
