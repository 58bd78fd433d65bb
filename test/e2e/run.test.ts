// `hpcc run`: commands with the image's files around them, as root and as a plain user. The image has a library that this machine lacks, and
// lacks one (zlib) that this machine has.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { TAG_ANNOTATION } from "../../src/image/layout.ts";
import { extendImage } from "../support/extended-image.ts";
import { CHECKOUT, type CommandResult, HPCC, IMAGE_FOLDER, runCommand, until } from "../support/farm.ts";

/** Debian's nobody. */
const PLAIN_UID = 65_534;
const IS_ROOT = process.getuid?.() === 0;

const CMAKE = `cmake_minimum_required(VERSION 3.16)
project(p C)
include(CheckIncludeFile)
check_include_file(onlyhere.h HAVE_ONLYHERE)
check_include_file(zlib.h HAVE_ZLIB)
configure_file(config.h.in config.h)
add_executable(p main.c)
target_include_directories(p PRIVATE \${CMAKE_BINARY_DIR})
`;
const CONFIGURE = `#!/bin/sh
cc=\${CC:-cc}
has() { printf '#include <%s>\\n' "$1" >conftest.c; "$cc" -c conftest.c -o conftest.o 2>/dev/null; }
{ has onlyhere.h && echo '#define HAVE_ONLYHERE 1'; has zlib.h && echo '#define HAVE_ZLIB 1'; } >config.h
rm -f conftest.*
printf 'p: main.c config.h\\n\\t%s -I. main.c -o p\\n' "$cc" >Makefile
`;
const MAIN = `#include <stdio.h>
#include "config.h"
#ifdef HAVE_ONLYHERE
#include <onlyhere.h>
#else
#define ONLYHERE 0
#endif
#ifdef HAVE_ZLIB
#include <zlib.h>
#endif
int main(void) {
#ifdef HAVE_ZLIB
  printf("onlyhere %d, zlib %s\\n", ONLYHERE, *ZLIB_VERSION ? "yes" : "");
#else
  printf("onlyhere %d, zlib no\\n", ONLYHERE);
#endif
  return 0;
}
`;
const FILES = {
  "CMakeLists.txt": CMAKE,
  "config.h.in": "#cmakedefine HAVE_ONLYHERE\n#cmakedefine HAVE_ZLIB\n",
  "main.c": MAIN,
  configure: CONFIGURE,
  "script.sh": "echo by a shell\n",
  "data.txt": "data\n",
  "link.c": "int main(void) { return 0; }\n",
  "zlib.c": "#include <zlib.h>\n",
};

let image: string;
const folders: string[] = [];

/** The guide's blocks of commands. */
const GUIDE = [
  ...readFileSync(join(CHECKOUT, "docs/guides/whole-builds-in-the-image.md"), "utf8").matchAll(/^```sh\n(.*?)^```$/gms),
].map((match) => match[1]!);
const GUIDE_BLOCKS = 4;
/** What the guide calls its image. */
const TAG = "whole";

before(async () => {
  const env = { PATH: `${dirname(HPCC)}:/usr/bin:/bin`, HOME: IMAGE_FOLDER, HPCC_IMAGE_DIR: IMAGE_FOLDER };
  const [build = "", bind] = GUIDE[0]?.split("\n") ?? [];
  assert.equal(bind, `hpcc init --image ${TAG}`);
  const built = await runCommand(["sh", "-c", `${build} --quiet`], { env });
  assert.equal(built.code, 0, built.stderr);
  const header = { name: "usr/include/onlyhere.h", mode: 0o644, content: Buffer.from("#define ONLYHERE 42\n") };
  const extended = extendImage(built.stdout.trim(), [header]);
  chmodSync(extended.layout, 0o755);
  image = extended.digest;
});

after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** Whether something came, of a promise that fails when it did not. */
const ANSWER = [() => true, () => false] as const;

class RunUser {
  readonly folder = mkdtempSync(join(tmpdir(), "hr-"));
  readonly project = join(this.folder, "p");
  readonly uid: number | undefined;
  readonly env: NodeJS.ProcessEnv;

  constructor(uid: number | undefined) {
    this.uid = uid;
    folders.push(this.folder);
    const config = join(this.folder, "config.toml");
    const runtime = join(this.folder, "run");
    mkdirSync(runtime, { mode: 0o700 });
    mkdirSync(this.project);
    writeFileSync(config, `images.allowed = ["${image}"]\n`);
    for (const [name, text] of Object.entries({ ...FILES, "hpcc.toml": `image = "${image}"\n` }))
      writeFileSync(join(this.project, name), text, {
        mode: name === "configure" || name === "script.sh" ? 0o755 : 0o644,
      });
    if (uid !== undefined)
      for (const path of [this.folder, runtime, this.project, config, join(this.project, "hpcc.toml")])
        chownSync(path, uid, uid);
    this.env = {
      PATH: "/usr/bin:/bin",
      HOME: this.folder,
      HPCC_CONFIG: config,
      HPCC_IMAGE_DIR: IMAGE_FOLDER,
      HPCC_RUNTIME_DIR: runtime,
      LANG: "C.UTF-8",
    };
  }

  call(argv: readonly string[], env: NodeJS.ProcessEnv = {}, cwd = this.project): Promise<CommandResult> {
    return runCommand(argv, {
      cwd,
      env: { ...this.env, ...env },
      ...(this.uid === undefined ? {} : { uid: this.uid }),
    });
  }

  run(...argv: string[]): Promise<CommandResult> {
    return this.call([HPCC, "run", ...argv]);
  }

  /** Runs a script of sh in the image and returns what it said. */
  async says(script: string, env: NodeJS.ProcessEnv = {}): Promise<string> {
    const { code, signal, stdout, stderr } = await this.call([HPCC, "run", "sh", "-c", script], env);
    assert.equal(code, 0, `${signal}: ${stdout}${stderr}`);
    return stdout;
  }

  async stats(): Promise<{ outcomes: Record<string, number>; reasons: Record<string, number> }> {
    const { stdout } = await this.call([HPCC, "stats", "--json", "--zero"]);
    return JSON.parse(stdout) as { outcomes: Record<string, number>; reasons: Record<string, number> };
  }

  async stop(): Promise<void> {
    await this.call([HPCC, "daemon", "stop"]);
  }
}

test("the guide works as written, with another image of its name", async () => {
  assert.equal(GUIDE.length, GUIDE_BLOCKS);
  const home = mkdtempSync(join(tmpdir(), "hr-"));
  folders.push(home);
  const project = join(home, "hello");
  mkdirSync(join(home, "run"), { mode: 0o700 });
  mkdirSync(join(home, "images/oci"), { recursive: true });
  mkdirSync(project);
  const [, hex = ""] = image.split(":");
  const layout = join(home, "images/oci", hex);
  cpSync(join(IMAGE_FOLDER, "oci", hex), layout, { recursive: true });
  const index = JSON.parse(readFileSync(join(layout, "index.json"), "utf8")) as {
    manifests: Record<string, unknown>[];
  };
  for (const manifest of index.manifests) manifest["annotations"] = { [TAG_ANNOTATION]: TAG };
  writeFileSync(join(layout, "index.json"), JSON.stringify(index));
  for (const folder of ["rootfs", "squashfs"]) symlinkSync(join(IMAGE_FOLDER, folder), join(home, "images", folder));
  writeFileSync(
    join(project, "CMakeLists.txt"),
    "cmake_minimum_required(VERSION 3.16)\nproject(hello C)\nadd_executable(hello main.c)\n",
  );
  writeFileSync(join(project, "main.c"), '#include <stdio.h>\nint main(void) { return puts("hello") < 0; }\n');
  const script = [
    "set -e",
    "trap 'hpcc daemon stop >/dev/null 2>&1 || true' EXIT",
    // The build itself was the start of this file.
    GUIDE[0]!.split("\n").slice(1).join("\n"),
    ...GUIDE.slice(1),
  ].join("\n");
  const env = {
    PATH: `${dirname(HPCC)}:/usr/bin:/bin`,
    HOME: home,
    LANG: "C.UTF-8",
    XDG_RUNTIME_DIR: join(home, "run"),
  };
  const images = { HPCC_IMAGE_DIR: join(home, "images") };
  const { code, stdout, stderr } = await runCommand(["bash", "-c", script], {
    cwd: project,
    env: { ...env, ...images },
  });
  assert.equal(code, 0, stdout + stderr);
  assert.match(stdout, /^hello$/m);
  assert.match(stdout, /from the local store +[1-9]|replayed +[1-9]/, stdout);
});

const USERS = IS_ROOT
  ? ([
      ["root", undefined],
      ["a plain user", PLAIN_UID],
    ] as const)
  : ([["a plain user", undefined]] as const);

for (const [who, uid] of USERS)
  describe(`as ${who}`, () => {
    let user: RunUser;
    before(() => {
      user = new RunUser(uid);
    });
    after(() => user.stop());

    test("what cmake finds is what compiles see, on a machine that has and lacks other libraries", async () => {
      const configured = await user.run("cmake", "-B", "build");
      assert.equal(configured.code, 0, configured.stdout + configured.stderr);
      const built = await user.run("cmake", "--build", "build");
      assert.equal(built.code, 0, built.stdout + built.stderr);
      assert.equal((await user.run("build/p")).stdout, "onlyhere 42, zlib no\n");
      const plain = await user.call([
        "sh",
        "-c",
        "cmake -B plain >/dev/null && cmake --build plain >/dev/null && plain/p",
      ]);
      assert.equal(plain.stdout, "onlyhere 0, zlib yes\n", plain.stderr);
      const { outcomes } = await user.stats();
      assert.ok((outcomes["stored"] ?? 0) + (outcomes["local"] ?? 0) > 0, JSON.stringify(outcomes));
    });

    test("a configure script and make do, too, within the jobserver of another make", async () => {
      const configured = await user.run("./configure");
      assert.equal(configured.code, 0, configured.stderr);
      writeFileSync(join(user.folder, "outer.mk"), `all:\n\t+${HPCC} run make -C ${user.project}\n`);
      const made = await user.call(["make", "-j2", "-f", join(user.folder, "outer.mk")]);
      assert.equal(made.code, 0, made.stderr);
      assert.doesNotMatch(made.stdout + made.stderr, /jobserver/);
      assert.equal((await user.run("./p")).stdout, "onlyhere 42, zlib no\n");
    });

    test("calls inside and outside share results, whatever name the compiler is called by", async () => {
      writeFileSync(join(user.project, "shared.c"), "int shared(void) { return 7; }\n");
      const words = "-O1 -c shared.c -o shared.o";
      assert.equal((await user.call([HPCC, "gcc", ...words.split(" ")])).code, 0);
      const object = readFileSync(join(user.project, "shared.o"));
      await user.stats();
      await user.says(`rm shared.o; gcc ${words}; cmp shared.o shared.o && /usr/bin/gcc ${words} && hpcc gcc ${words}`);
      assert.deepEqual(readFileSync(join(user.project, "shared.o")), object);
      const { outcomes } = await user.stats();
      const compiled = Object.entries(outcomes).filter(
        ([name, count]) => count > 0 && !/^(?:local_hit|replayed)$/.test(name),
      );
      assert.deepEqual(compiled, [], JSON.stringify(outcomes));
      const version = await user.says(
        "gcc -dumpversion && x86_64-linux-gnu-gcc -dumpversion && $(readlink -f /usr/bin/gcc) -dumpversion",
      );
      assert.equal(new Set(version.trim().split("\n")).size, 1);
      assert.equal((await user.stats()).reasons["compiler_query"], 3);
    });

    test("files, folder, umask and environment are the caller's, PATH and the root the image's", async () => {
      const said = await user.says(
        "umask 027; echo a >made; umask; pwd; echo $HOME $PATH $MINE ${LD_PRELOAD-none} ${HPCC_WRAPPED-none}; id -u; id -un; touch /usr/made 2>&1 || true",
        { MINE: "mine", LD_PRELOAD: "/nowhere/lib.so", HPCC_WRAPPED: "1:2" },
      );
      const lines = said.trim().split("\n");
      const id = user.uid ?? process.getuid?.() ?? 0;
      const name = (await user.call(["id", "-un"])).stdout.trim();
      assert.deepEqual(lines.slice(0, 5), [
        "0027",
        user.project,
        `${user.folder} /usr/bin:/bin:/hpcc/bin mine none none`,
        String(id),
        name,
      ]);
      assert.match(lines[5] ?? "", /Read-only file system$/);
      const made = statSync(join(user.project, "made"));
      assert.deepEqual([made.uid, made.mode & 0o777], [id, 0o640]);
      assert.equal(
        await user.says(
          "test -c /dev/null && test -r /proc/self/stat && echo x >/tmp/hr-$$ && rm /tmp/hr-$$ && echo fine",
        ),
        "fine\n",
      );
    });

    test("it ends as its command ends, and says why it runs none", async () => {
      assert.equal((await user.run("sh", "-c", "exit 7")).code, 7);
      assert.equal((await user.run("sh", "-c", "kill -TERM $$")).signal, "SIGTERM");
      assert.equal((await user.run("--", "./script.sh")).stdout, "by a shell\n");
      assert.equal((await user.run("sh", "-c", "hpcc run echo nested")).stdout, "nested\n");
      const ends = async (argv: string[], code: number, words: RegExp, cwd?: string) => {
        const ended = await user.call([HPCC, ...argv], {}, cwd);
        assert.equal(ended.code, code, ended.stderr);
        assert.match(ended.stderr, words);
      };
      await ends(
        ["run", "git"],
        127,
        /'git' is not in the image .* package git, and `hpcc image build --from-host --with git`/,
      );
      await ends(["run", "./nothing"], 127, /'\.\/nothing' is not there/);
      await ends(["run", "./data.txt"], 126, /'\.\/data\.txt' is not executable/);
      await ends(["run", "make"], 125, /no image is bound to .* a line image = /, user.folder);
      await ends(["run"], 2, /missing required argument/);
    });

    test("signals reach the command", async () => {
      const options = user.uid === undefined ? {} : { uid: user.uid, gid: user.uid };
      const script = "trap 'echo ended; exit 5' TERM; echo ready; while :; do sleep 0.01; done";
      const child = spawn(HPCC, ["run", "sh", "-c", script], { ...options, cwd: user.project, env: user.env });
      let said = "";
      child.stdout.on("data", (chunk: Buffer) => {
        said += chunk.toString();
        if (said === "ready\n") child.kill("SIGTERM");
      });
      const [code] = (await once(child, "close")) as [number];
      assert.deepEqual([code, said], [5, "ready\nended\n"]);
    });

    test("a terminal is the caller's: shells have job control, and Ctrl-C ends what is in front", async (t) => {
      const options = user.uid === undefined ? {} : { uid: user.uid, gid: user.uid };
      const command = `${HPCC} run bash --norc --noprofile -i`;
      const child = spawn("script", ["-qec", command, "/dev/null"], {
        ...options,
        cwd: user.project,
        env: { ...user.env, PS1: "> " },
      });
      t.after(() => child.kill("SIGKILL"));
      const closed = once(child, "close");
      let said = "";
      child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
      const shows = (what: RegExp) => until(`${what} in ${said}`, () => what.test(said), 20_000);
      // What is typed before the shell reads may be lost, and then it is not shown either.
      const types = async (line: string, what: RegExp) => {
        await shows(/> $/);
        said = "";
        for (let tries = 0; tries < 5; tries += 1) {
          child.stdin.write(line);
          if (await until("an echo", () => said !== "", 3_000).then(...ANSWER)) break;
        }
        await shows(what);
      };
      await types("sleep 1000 & jobs; test -t 0 && echo ter''minal; kill %1\n", /Running[\s\S]*terminal/);
      await types("echo wait''ing; sleep 1000\n", /waiting/);
      child.stdin.write("\x03");
      await types('echo "ended $?"\n', /ended 130/);
      await types(
        "gcc -c zlib.c\n",
        /hpcc: the image lacks zlib\.h, which this machine has from the package zlib1g-dev; [\s\S]* fatal error:/,
      );
      await types(
        "gcc link.c -lz -o never\n",
        /hpcc: the image lacks libz, which this machine has from the package zlib1g-dev; [\s\S]* cannot find -lz/,
      );
      await types("exit 3\n", /exit/);
      assert.deepEqual(await closed, [3, null]);
    });

    test("without its daemon, and after the project has changed, it has its own compilers", async () => {
      const script = `
        compile() { rm -f own.o; HPCC_VERBOSE=1 gcc -c main.c -I. -o own.o || exit 1; test -s own.o || exit 1; }
        compile; touch first; while test -e first; do sleep 0.01; done
        compile; touch second; while test -e second; do sleep 0.01; done
        compile; echo >hpcc.toml; compile`;
      const running = user.run("sh", "-c", script);
      const when = async (name: string, then: () => Promise<unknown>) => {
        await until(name, () => statSync(join(user.project, name), { throwIfNoEntry: false }) !== undefined, 20_000);
        await then();
        rmSync(join(user.project, name));
      };
      await when("first", () => user.stop());
      await when("second", () => user.call([HPCC, "gcc", "--version"]));
      const ended = await running;
      assert.equal(ended.code, 0, ended.stderr);
      assert.match(ended.stderr, /daemon-missing: it has ended/);
      assert.equal((await user.stats()).reasons["mount_namespace"], 2);
      writeFileSync(join(user.project, "hpcc.toml"), `image = "${image}"\n`);
    });
  });
