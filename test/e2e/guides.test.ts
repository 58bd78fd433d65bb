// The guides, typed as they stand into a shell in a small project of their build tool, in a home folder with nothing in it. What they promise is
// read from the counts at their end.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { CHECKOUT, HPCC, runCommand } from "../support/farm.ts";

const SOURCES = {
  "src/main.c": '#include <stdio.h>\n#include "hello.h"\nint main(void) { puts(hello()); return 0; }\n',
  "src/hello.c": '#include "hello.h"\nconst char *hello(void) { return "hello"; }\n',
  "src/hello.h": "const char *hello(void);\n",
};
const MAKEFILE = `hello: main.o hello.o
\t$(CC) -o $@ main.o hello.o
%.o: src/%.c src/hello.h
\t$(CC) -O1 -c $< -o $@
clean:
\trm -f hello *.o
`;

interface Guide {
  readonly page: string;
  readonly blocksMin: number;
  readonly files: Readonly<Record<string, string>>;
  /** Made ready as whoever ships the project does. */
  readonly before?: string;
  readonly needs: readonly string[];
  /** Programs that must run at the end. */
  readonly made: readonly string[];
  /** Compiles that had to be made, and those that were there already. */
  readonly hitsMin: number;
}

const GUIDES: readonly Guide[] = [
  { page: "make", blocksMin: 3, files: { Makefile: MAKEFILE }, needs: ["make"], made: ["hello"], hitsMin: 0 },
  {
    page: "cmake-and-ninja",
    blocksMin: 3,
    files: {
      "CMakeLists.txt":
        "cmake_minimum_required(VERSION 3.16)\nproject(hello C)\nadd_executable(hello src/main.c src/hello.c)\n",
    },
    needs: ["cmake", "ninja"],
    made: ["build/hello", "second/hello"],
    hitsMin: 2,
  },
  {
    page: "meson",
    blocksMin: 3,
    files: { "meson.build": "project('hello', 'c')\nexecutable('hello', 'src/main.c', 'src/hello.c')\n" },
    needs: ["meson", "ninja"],
    made: ["build/hello", "second/hello"],
    hitsMin: 2,
  },
  {
    page: "autotools",
    blocksMin: 2,
    files: {
      "configure.ac":
        "AC_INIT([hello], [1])\nAM_INIT_AUTOMAKE([foreign subdir-objects])\nAC_PROG_CC\nAC_CHECK_HEADERS([stdio.h])\nAC_CONFIG_FILES([Makefile])\nAC_OUTPUT\n",
      "Makefile.am": "bin_PROGRAMS = hello\nhello_SOURCES = src/main.c src/hello.c src/hello.h\n",
    },
    before: "autoreconf -i",
    needs: ["autoconf", "automake", "make"],
    made: ["hello"],
    hitsMin: 2,
  },
  {
    page: "debian-packages",
    blocksMin: 3,
    files: {
      Makefile: MAKEFILE,
      "debian/changelog":
        "hello (1) unstable; urgency=low\n\n  * One.\n\n -- Ann <ann@example.com>  Fri, 02 Jan 2026 00:00:00 +0000\n",
      "debian/control":
        "Source: hello\nSection: misc\nPriority: optional\nMaintainer: Ann <ann@example.com>\nStandards-Version: 4.6.2\n\nPackage: hello\nArchitecture: any\nDescription: says hello\n It does.\n",
      // As debhelper calls a build: with a home and a runtime folder that nobody else has.
      "debian/rules": `#!/usr/bin/make -f
export HOME = /nonexistent
export XDG_RUNTIME_DIR = /nonexistent/run
clean:
	$(MAKE) clean
	rm -rf debian/hello debian/files
build build-arch build-indep:
	$(MAKE) CC=gcc
binary-indep:
binary binary-arch: build
	install -D hello debian/hello/usr/bin/hello
	mkdir -p debian/hello/DEBIAN
	dpkg-gencontrol -Pdebian/hello
	dpkg-deb --root-owner-group --build debian/hello ..
`,
    },
    before: "chmod +x debian/rules",
    needs: ["dpkg-buildpackage", "fakeroot", "make"],
    made: ["hello"],
    hitsMin: 2,
  },
  {
    page: "moving-from-ccache-and-sccache",
    blocksMin: 1,
    files: { Makefile: MAKEFILE },
    needs: ["make"],
    made: ["hello"],
    hitsMin: 2,
  },
];

function blocksOf(page: string): string[] {
  const text = readFileSync(join(CHECKOUT, "docs/guides", `${page}.md`), "utf8");
  const blocks = [...text.matchAll(/^```sh\n(.*?)^```$/gms)].map((match) => match[1]!);
  assert.equal(text.match(/^```/gm)?.length, 2 * blocks.length, "every fenced block is one of commands");
  return blocks;
}

const missing = (programs: readonly string[]) =>
  programs.filter((program) => spawnSync(program, ["--version"]).error !== undefined);

describe("guides", () => {
  for (const { page, blocksMin, files, before, needs, made, hitsMin } of GUIDES) {
    const absent = missing(needs);
    const skip = absent.length === 0 ? false : `${absent.join(", ")} not installed`;
    test(`${page}, as written`, { skip }, async () => {
      const blocks = blocksOf(page);
      assert.ok(blocks.length >= blocksMin, `${blocks.length} blocks`);
      const home = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-guide-")));
      const root = join(home, "project");
      for (const [name, text] of Object.entries({ ...SOURCES, ...files })) {
        mkdirSync(dirname(join(root, name)), { recursive: true });
        writeFileSync(join(root, name), text);
      }
      mkdirSync(join(home, "run"), { mode: 0o700 });
      mkdirSync(join(root, ".git"));
      const script = [
        "set -e",
        "trap 'hpcc daemon stop >/dev/null 2>&1 || true' EXIT",
        before ?? "",
        ...blocks.flatMap((block, index) => [`echo '== block ${index} =='`, block]),
        ...made.map((program) => `test "$(./${program})" = hello`),
        "echo '== counts =='",
        "hpcc stats --json",
      ].join("\n");
      try {
        const { code, stdout, stderr } = await runCommand(["bash", "-c", script], {
          cwd: root,
          timeoutMs: 150_000,
          env: {
            PATH: `${dirname(HPCC)}:/usr/bin:/bin`,
            HOME: home,
            LANG: "C.UTF-8",
            XDG_RUNTIME_DIR: join(home, "run"),
          },
        });
        assert.equal(code, 0, `${stdout}\n${stderr}`);
        const counts = JSON.parse(stdout.slice(stdout.indexOf("== counts ==") + "== counts ==".length)) as {
          outcomes: Record<string, number>;
          reasons: Record<string, number>;
          launcher_fallbacks: Record<string, number>;
        };
        const { local_hit = 0, replayed = 0, local_compiled = 0 } = counts.outcomes;
        assert.ok(local_compiled >= 2 && local_hit + replayed >= hitsMin, JSON.stringify(counts));
        assert.deepEqual(counts.launcher_fallbacks, {});
        assert.ok(!("unknown_compiler" in counts.reasons), JSON.stringify(counts.reasons));
      } finally {
        rmSync(home, { recursive: true, force: true });
      }
    });
  }
});

/** Compiles twice as a caller there does, and tells how that went. */
const COMPILES = `set -e
for time in 1 2; do hpcc gcc -c hello.c; rm hello.o; done
hpcc stats --json`;

test("debian-packages: in a chroot, a daemon of its own answers from a cache folder that is bound", async (t) => {
  const home = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-chroot-")));
  const [root, jail] = [join(home, "project"), join(home, "jail")];
  for (const folder of [root, jail, join(root, ".git")]) mkdirSync(folder);
  writeFileSync(join(root, "hello.c"), "int main(void) { return 0; }\n");
  const folders = (name: string) => ({
    PATH: `${dirname(HPCC)}:/usr/sbin:/usr/bin:/sbin:/bin`,
    HOME: home,
    LANG: "C.UTF-8",
    HPCC_RUNTIME_DIR: join(home, name, "run"),
    HPCC_STATE_DIR: join(home, name),
    HPCC_CACHE_DIR: join(home, "cache"),
    HPCC_REPLAY: "0",
  });
  const run = async (argv: readonly string[], env: Record<string, string>) => {
    const { code, stdout, stderr } = await runCommand([...argv], { cwd: root, timeoutMs: 60_000, env });
    assert.equal(code, 0, stderr);
    return stdout;
  };
  const inside = (env: Record<string, string>) => {
    const enter = `mount --rbind / ${jail} && cd ${jail} && exec chroot . sh -c "cd ${root} && exec sh -c '$0'"`;
    return run(["unshare", "--mount", "--map-root-user", "sh", "-c", enter, COMPILES], env);
  };
  const counts = (said: string) => JSON.parse(said) as Record<"outcomes" | "reasons", Record<string, number>>;
  const outside = folders("outside");
  const own = folders("inside");
  t.after(async () => {
    for (const env of [outside, own]) await run(["hpcc", "daemon", "stop"], env);
    rmSync(home, { recursive: true, force: true });
  });
  const first = counts(await run(["sh", "-c", COMPILES], outside));
  assert.deepEqual([first.outcomes["local_compiled"], first.outcomes["local_hit"]], [1, 1]);
  const shared = counts(await inside(outside));
  assert.deepEqual([shared.reasons["mount_namespace"], shared.outcomes["local_hit"]], [2, 1], "the daemon outside");
  const hits = counts(await inside(own));
  assert.deepEqual([hits.outcomes["local_compiled"], hits.outcomes["local_hit"], hits.reasons], [0, 2, {}]);
});
