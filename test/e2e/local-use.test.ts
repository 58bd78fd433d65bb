// Calls without an image: plain, as a miss, as a hit, as a hit in a checkout that has moved. Trees, words and exit codes are the same, and the
// daemon's counts say that hits were hits.
import assert from "node:assert/strict";
import { chmodSync, copyFileSync, cpSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type LocalScenario, LocalUser } from "../support/local-user.ts";

const HEADERS = {
  "inc/h.h": "#ifndef H\n#define H\nint twice(int);\n#define TWO 2\n#endif\n",
  "a.c":
    '#include "h.h"\n#include <stddef.h>\nint twice(int x) { return x * TWO + (int)offsetof(struct { int a; }, a); }\n',
};
/** GCC lists the header by its real path, which is shorter. */
const BY_REAL_PATH = { "q/v.h": "#define V 9\n", "inc/v.h": "#define V 1\n", "a-long-folder-name/x": "" };
const BY_NAME = "#include <v.h>\nint v = V;\n";
const CXX = {
  "b.cc": "#include <vector>\nint sum(const std::vector<int> &v) { int s = 0; for (int x : v) s += x; return s; }\n",
};

interface Case extends LocalScenario {
  /** Whether a moved checkout shares the result. */
  readonly moves: boolean;
}

const both = (
  name: string,
  words: readonly string[],
  files: Readonly<Record<string, string>>,
  rest: Partial<Case> = {},
) =>
  ["gcc", "clang"].map(
    (compiler): Case => ({ moves: true, ...rest, name: `${compiler}: ${name}`, argv: [compiler, ...words], files }),
  );
const gcc = (
  name: string,
  words: readonly string[],
  files: Readonly<Record<string, string>>,
  rest: Partial<Case> = {},
): Case => ({
  moves: true,
  ...rest,
  name: `gcc: ${name}`,
  argv: ["gcc", ...words],
  files,
});

const INC = ["-Iinc", "-c", "a.c"];
/** A way to a folder that is longer than its real path. */
const LONG = `${"a-long-folder-name/../".repeat(12)}inc`;
const CASES: readonly Case[] = [
  ...both("plain C", INC, HEADERS),
  ...both("absolute names", ["-I@ROOT@/inc", "-c", "@ROOT@/a.c", "-o", "@ROOT@/a.o"], HEADERS, { moves: false }),
  ...both("optimized to assembler", ["-O2", "-Iinc", "-S", "a.c", "-o", "a.s"], HEADERS),
  ...both("debug information", ["-g", ...INC], HEADERS, { moves: false }),
  ...both("-MD", ["-MD", ...INC], HEADERS),
  ...both("-MMD -MP -MF -MT", ["-MMD", "-MP", "-MF", "deps/a.d", "-MT", "x y", ...INC], HEADERS, {
    prepare: "mkdir deps",
  }),
  gcc("-Wp,-MMD", ["-Wp,-MMD,.a.o.d", ...INC], HEADERS),
  ...both("-save-temps", ["-save-temps", ...INC], HEADERS),
  ...both("-gsplit-dwarf", ["-g", "-gsplit-dwarf", ...INC, "-o", "x.o"], HEADERS, { moves: false }),
  ...both("--coverage", ["--coverage", "-frandom-seed=1", ...INC], HEADERS, { moves: false }),
  ...both("-fstack-usage", ["-fstack-usage", ...INC], HEADERS),
  ...both("response file", ["@args", "-o", "r.o"], { ...HEADERS, args: "-Iinc -DX='a b' -c\na.c" }),
  ...both("-march=native", ["-O2", "-march=native", ...INC], HEADERS),
  ...both("-pipe", ["-pipe", ...INC], HEADERS),
  ...both("warnings", ["-Wall", "-c", "w.c"], { "w.c": "static int unused;\nint f(int x) { if (x = 1) return 2; }\n" }),
  ...both("output elsewhere", [...INC, "-o", "out/deep/a.obj"], HEADERS, { prepare: "mkdir -p out/deep" }),
  ...both("output beside its source", ["-c", "sub/a.c", "-o", "sub/a.o"], {
    "sub/a.c": '#include "h.h"\nint a = TWO;\n',
    "sub/h.h": "#define TWO 2\n",
  }),
  gcc(
    "a system header by its real path",
    ["-MD", "-iquote", "q", "-isystem", LONG, "-c", "v.c"],
    { ...BY_REAL_PATH, "v.c": BY_NAME },
    { moves: false },
  ),
  ...["-fopenmp", "-fopenacc"].map((option) =>
    gcc(
      `what another device runs, by ${option}`,
      [option, "-O1", "-frandom-seed=1", "-c", "d.c"],
      {
        "d.c":
          "void f(int *p) {\n#ifdef _OPENMP\n#pragma omp target\n#else\n#pragma acc parallel\n#endif\n  p[0] = 1;\n}\n",
      },
      { moves: false },
    ),
  ),
  ...both("umask", INC, HEADERS, { umask: "077" }),
  ...both("read-only output", INC, HEADERS, { prepare: "echo old > a.o; chmod 444 a.o" }),
  ...both("linked output", INC, HEADERS, { prepare: "echo old > real.o; ln -s real.o a.o" }),
  ...both("hard-linked output", INC, HEADERS, { prepare: "echo old > real.o; ln real.o a.o" }),
  ...both("names that are no UTF-8", ["-c", "\xe9 $#.c", "-MD", "-o", "\xff.o"], { "\xe9 $#.c": "int x;\n" }),
  ...both("-include", ["-include", "pre.h", "-c", "e.c"], { "pre.h": "int pre;\n", "e.c": "int *p = &pre;\n" }),
  ...both("preprocessed assembler", ["-Iinc", "-c", "s.S"], {
    "s.S": '#include "s.h"\n.data\n.long VALUE\n.include "part.inc"\n',
    "inc/s.h": "#define VALUE 3\n",
    "part.inc": ".long 4\n",
  }),
  ...both("embedded file", ["-c", "i.c"], {
    "i.c": '__asm__(".data\\n.incbin \\"blob.bin\\"\\n");\n',
    "blob.bin": "blob",
  }),
  ...["g++", "clang++"].map((compiler) => ({
    name: `${compiler}: C++`,
    argv: [compiler, "-std=c++17", "-O1", "-MMD", "-c", "b.cc"],
    files: CXX,
    moves: true,
  })),
];

/** Compilers for another machine: GCC's is a driver of its own, Clang is told. */
const CROSS: readonly Case[] = [
  { ...gcc("another machine", INC, HEADERS), argv: ["aarch64-linux-gnu-gcc", "-O2", "-MD", ...INC] },
  { ...gcc("Clang for another machine", INC, HEADERS), argv: ["clang", "--target=aarch64-linux-gnu", "-O2", ...INC] },
];

/** What is changed, and must be seen: the script runs in the checkout that was a hit before. */
const CHANGES: readonly (LocalScenario & { readonly change: string })[] = [
  ...both("a header changes", INC, HEADERS).map((one) => ({ ...one, change: "echo '#define TWO 3' >> inc/h.h" })),
  ...both("an edit keeps size and time", INC, HEADERS).map((one) => ({
    ...one,
    change: "cp -p inc/h.h k; sed -i 's/TWO 2/TWO 5/' inc/h.h; touch -r k inc/h.h; rm k",
  })),
  ...both("a header appears earlier", ["-Ifirst", ...INC], HEADERS, { prepare: "mkdir first" }).map((one) => ({
    ...one,
    change: "echo '#define TWO 9\nint twice(int);' > first/h.h",
  })),
  ...both("a header appears in a new folder", ["-Ifirst", ...INC], HEADERS).map((one) => ({
    ...one,
    change: "mkdir first; echo '#define TWO 9\nint twice(int);' > first/h.h",
  })),
  ...both("a header appears beside its includer", INC, HEADERS).map((one) => ({
    ...one,
    change: "echo '#define TWO 9\nint twice(int);' > h.h",
  })),
  ...both("a system header is hidden", ["-MMD", "-Ifirst", ...INC], HEADERS, { prepare: "mkdir first" }).map((one) => ({
    ...one,
    change: "echo '#define offsetof(a, b) 77' > first/stddef.h",
  })),
  ...both("what __has_include asks for appears", ["-Iinc", "-c", "q.c"], {
    "q.c": '#if __has_include("opt.h")\nint yes;\n#else\nint no;\n#endif\n',
    "inc/x.h": "",
  }).map((one) => ({ ...one, change: "touch inc/opt.h" })),
  ...both("a blob changes", ["-c", "i.c"], {
    "i.c": '__asm__(".data\\n.inc" "bin \\"blob.bin\\"\\n");\n',
    "blob.bin": "blob",
  }).map((one) => ({ ...one, change: "printf glob > blob.bin" })),
  ...both("an included assembler file changes", ["-c", "s.S"], {
    "s.S": '.data\n.include "part.inc"\n',
    "part.inc": ".long 4\n",
  }).map((one) => ({ ...one, change: "echo .long 5 > part.inc" })),
  ...both("a missing folder appears", ["-Wmissing-include-dirs", "-Inone", ...INC], HEADERS).map((one) => ({
    ...one,
    change: "mkdir none",
  })),
  ...both("folders become one", ["-Isecond", "-Iinc", "-c", "a.c"], {
    "a.c": "#include <n.h>\nint a = N;\n",
    "second/n.h": "#ifdef N\n#undef N\n#define N 2\n#else\n#define N 1\n#include_next <n.h>\n#endif\n",
    "inc/n.h": "#ifdef N\n#undef N\n#define N 2\n#else\n#define N 1\n#include_next <n.h>\n#endif\n",
    "third/n.h": "",
  }).map((one) => ({ ...one, argv: [...one.argv, "-Ithird"], change: "rm -r inc; ln -s second inc" })),
  ...both(
    "headers are no longer one",
    ["-Iinc", "-c", "a.c"],
    {
      "a.c": '#define N 0\n#include "x.h"\n#include "y.h"\nint a = N;\n',
      "inc/x.h": "#pragma once\n#if N\n#undef N\n#define N 2\n#else\n#undef N\n#define N 1\n#endif\n",
    },
    { prepare: "ln -f inc/x.h inc/y.h" },
  ).map((one) => ({
    ...one,
    change: "cp inc/y.h k; mv k inc/y.h; touch -d 2021-01-01 inc/y.h",
  })),
  ...(
    [
      ["behind another of its name", ["-iquote", "q"], "#include <v.h>\n"],
      ["by the next of its name", ["-Iq"], "#include <v.h>\n"],
      ["by a macro with an operand", ["-iquote", "q"], "#define P(x) <x.h>\n#include P(w)\n"],
      ["by a macro that makes a string", ["-iquote", "q"], "#define S(x) #x\n#define N(x) S(x)\n#include N(w.h)\n"],
    ] as const
  ).flatMap(([name, words, text]) =>
    both(
      `a link to a folder of the system changes, ${name}`,
      ["-MD", ...words, "-isystem", "@ROOT@/a-long-folder-name/cur", "-c", "v.c"],
      {
        ...BY_REAL_PATH,
        "q/v.h": "#include_next <v.h>\n",
        "inc/w.h": "#define V 1\n",
        "other/v.h": "#define V 2\n",
        "other/w.h": "#define V 2\n",
        "v.c": `${text}int v = V;\n`,
      },
      { prepare: "ln -sfn ../inc a-long-folder-name/cur" },
    ).map((one) => ({ ...one, change: "ln -sfn ../other a-long-folder-name/cur" })),
  ),
  ...(
    [
      ["a system root's headers of one machine", ["clang", "--sysroot=sr"], "sr/usr/include/x86_64-linux-gnu"],
      ["a system root's libc++", ["clang++", "-stdlib=libc++", "--sysroot=sr"], "sr/usr/include/c++/v1"],
      [
        "a system root's GCC",
        ["clang++", "--sysroot=sr"],
        "sr/usr/include/c++/12",
        "sr/usr/lib/gcc/x86_64-linux-gnu/12",
      ],
      ["a toolchain's GCC", ["clang++", "--gcc-toolchain=tc"], "tc/include/c++/12", "tc/lib/gcc/x86_64-linux-gnu/12"],
      ["Clang's own headers", ["clang", "-resource-dir=rd"], "rd/include"],
    ] as const
  ).map(([name, argv, headers, installed = "none"]) => ({
    name: `clang: ${name} appear`,
    argv: [...argv, "-idirafter", "inc", "-c", "v.cc"],
    files: { ...HEADERS, "sr/usr/include/x": "", "tc/x": "", "rd/x": "", "inc/v.h": "#define V 2\n", "v.cc": BY_NAME },
    change: `mkdir -p ${headers} ${installed}; touch ${installed}/crtbegin.o; echo '#define V 1' > ${headers}/v.h`,
  })),
  {
    name: "clang: the GCC of a target appears on PATH",
    argv: ["clang", "--target=x86_64-w64-windows-gnu", "-idirafter", "inc", "-c", "v.c"],
    files: { "inc/v.h": "#define V 2\n", "v.c": BY_NAME },
    env: { PATH: "tools/bin:/usr/bin:/bin" },
    prepare: "mkdir -p tools/bin",
    change:
      "mkdir -p tools/x86_64-w64-mingw32/include; echo '#define V 1' > tools/x86_64-w64-mingw32/include/v.h; cd tools/bin; : > x86_64-w64-mingw32-gcc; chmod 755 *",
  },
  {
    name: "clang: a list of what not to check appears",
    argv: ["clang", "-fsanitize=address", "-resource-dir=rd", "-c", "v.c"],
    files: { "rd/x": "", "v.c": "int v(int *p) { return *p; }\n" },
    change: "mkdir rd/share; echo 'src:*' > rd/share/asan_ignorelist.txt",
  },
  ...both("a response file changes", ["@args", "-c", "v.c"], { args: "-DV=1", "v.c": "int v = V;\n" }).map((one) => ({
    ...one,
    change: "echo -DV=2 > args",
  })),
];

describe("local use without an image", () => {
  let user: LocalUser;
  before(async () => {
    user = await LocalUser.start();
  });
  after(() => user.close());

  for (const one of [...CASES, ...CROSS])
    it(one.name, async () => {
      user.root = join(user.folder, "checkout");
      const plain = await user.plain(one);
      assert.equal(plain.code, 0, plain.stderr);
      const miss = await user.step("miss", one, plain);
      const hit = await user.step("hit", one, plain);
      // A checkout at another place, which is as old as the first.
      user.root = join(user.folder, "elsewhere", "moved");
      const moved = await user.step("moved", one, await user.plain(one));
      assert.deepEqual([...miss.what, ...hit.what, ...moved.what], []);
      assert.deepEqual(
        [miss.outcome, hit.outcome, moved.outcome],
        ["local_compiled", "local_hit", one.moves ? "local_hit" : "local_compiled"],
      );
    });

  for (const one of CHANGES)
    it(one.name, async () => {
      user.root = join(user.folder, "checkout");
      const plain = await user.plain(one);
      const changed = await user.plain(one, one.change);
      assert.notDeepEqual(plain.tree, changed.tree);
      const miss = await user.step("miss", one, plain);
      const hit = await user.step("hit", one, plain);
      await user.script(one.change);
      const again = await user.again("changed", one, { ...changed, tree: changed.tree });
      const back = await user.step("back", one, plain);
      const forth = await user.step("forth", one, changed, one.change);
      assert.deepEqual([...miss.what, ...hit.what, ...again.what, ...back.what, ...forth.what], []);
      assert.deepEqual(
        [miss, hit, again, back, forth].map(({ outcome }) => outcome),
        ["local_compiled", "local_hit", "local_compiled", "local_hit", "local_hit"],
      );
    });

  for (const compiler of ["gcc", "clang"])
    it(`keeps what ${compiler} says to a terminal, for terminals of that width`, async () => {
      user.root = join(user.folder, "checkout");
      // More than a terminal holds at once, and a line that has no room in a narrow one.
      const many = Array.from({ length: 300 }, (_, at) => `static int unused_${at};\n`).join("");
      const files = {
        "t.c": `${many}int f(int a_rather_long_name) { if (a_rather_long_name = 1) return 2; return 3; }\n`,
      };
      const one = { name: "terminal", argv: [compiler, "-Wall", "-c", "t.c"], files, env: { TERM: "xterm-256color" } };
      const steps = [];
      for (const columns of [200, 30, undefined]) {
        const on = { ...one, ...(columns !== undefined && { columns }) };
        const plain = await user.plain(on);
        assert.equal(plain.stdout.includes("\x1b["), columns !== undefined);
        steps.push(await user.step("miss", on, plain), await user.step("hit", on, plain));
      }
      const both = ["local_compiled", "local_hit"];
      assert.deepEqual(
        steps,
        [...both, ...both, ...both].map((outcome) => ({ outcome, what: [] })),
      );
    });

  it("keeps no failing compile, and leaves what the compiler leaves", async () => {
    user.root = join(user.folder, "checkout");
    for (const compiler of ["gcc", "clang"])
      for (const prepare of ["true", "echo old > f.o"]) {
        const one = { name: "failing", argv: [compiler, "-MD", "-c", "f.c"], files: { "f.c": "int f(\n" }, prepare };
        const plain = await user.plain(one);
        assert.notEqual(plain.code, 0);
        for (const name of ["first", "second"]) {
          const step = await user.step(name, one, plain);
          assert.deepEqual(step, { outcome: "host: compile_failed", what: [] });
        }
      }
  });

  it("keeps no dates, unless SOURCE_DATE_EPOCH says which", async () => {
    user.root = join(user.folder, "checkout");
    const files = { "d.h": "#define WHEN __DATE__\n", "d.c": '#include "d.h"\nconst char *when = WHEN;\n' };
    const dated = { name: "dated", argv: ["gcc", "-c", "d.c"], files };
    const plain = await user.plain(dated);
    assert.deepEqual(await user.step("dated", dated, plain), { outcome: "host: date_time_macro", what: [] });
    const pinned = (epoch: string) => ({ ...dated, env: { SOURCE_DATE_EPOCH: epoch } });
    for (const [epoch, outcome] of [
      ["0", "local_compiled"],
      ["0", "local_hit"],
      ["99999999", "local_compiled"],
    ] as const) {
      const one = pinned(epoch);
      assert.deepEqual(await user.step(epoch, one, await user.plain(one)), { outcome, what: [] });
    }
  });

  it("sees that the compiler was replaced, and which one PATH leads to", async () => {
    user.root = join(user.folder, "checkout");
    // GCC finds its other parts relative to itself.
    const bin = join(user.folder, "usr/bin");
    mkdirSync(bin, { recursive: true });
    mkdirSync(join(user.folder, "usr/lib"));
    symlinkSync("/usr/lib/gcc", join(user.folder, "usr/lib/gcc"));
    copyFileSync("/usr/bin/gcc-12", join(bin, "gcc"));
    const one = {
      name: "replaced",
      argv: ["gcc", "-DREPLACED", ...INC],
      files: HEADERS,
      env: { PATH: `${bin}:/usr/bin:/bin` },
    };
    const plain = await user.plain(one);
    assert.equal(plain.code, 0, plain.stderr);
    const outcomes = [await user.step("miss", one, plain), await user.step("hit", one, plain)];
    // Bytes behind its end change nothing but its content.
    writeFileSync(join(bin, "gcc"), "more", { flag: "a" });
    outcomes.push(await user.step("replaced", one, plain));
    const elsewhere = { ...one, env: { PATH: "/usr/bin:/bin" } };
    outcomes.push(await user.step("elsewhere", elsewhere, plain));
    chmodSync(join(bin, "gcc"), 0o755);
    // An assembler that stands earlier on PATH than the one that was known.
    copyFileSync("/usr/bin/as", join(bin, "as"));
    outcomes.push(await user.step("assembler", one, plain));
    assert.deepEqual(
      outcomes.flatMap(({ what }) => what),
      [],
    );
    assert.deepEqual(
      outcomes.map(({ outcome }) => outcome),
      ["local_compiled", "local_hit", "local_compiled", "local_compiled", "local_compiled"],
    );
  });

  it("follows a script that only calls a compiler, and sees that it changed", async () => {
    user.root = join(user.folder, "checkout");
    const folder = join(user.folder, "tools");
    mkdirSync(folder);
    const script = (value: number) =>
      writeFileSync(join(folder, "gcc"), `#!/bin/sh\n# a toolchain\nexec /usr/bin/gcc -DVALUE=${value} "$@" -Wall\n`);
    script(1);
    chmodSync(join(folder, "gcc"), 0o755);
    const files = { "v.c": "static int unused = VALUE;\n", "inc/x.h": "" };
    const one = {
      name: "wrapped",
      argv: ["gcc", "-MD", "-c", "v.c"],
      files,
      env: { PATH: `${folder}:/usr/bin:/bin` },
    };
    const steps = [];
    for (const value of [1, 1, 2, 2]) {
      script(value);
      steps.push(await user.step(String(value), one, await user.plain(one)));
    }
    assert.deepEqual(
      steps,
      ["local_compiled", "local_hit", "local_compiled", "local_hit"].map((outcome) => ({ outcome, what: [] })),
    );
  });

  it("keeps nothing where a file says which headers are meant", async () => {
    user.root = join(user.folder, "checkout");
    // One bucket of eight holds the name.
    const headerMap = (folder: string) => {
      const strings = Buffer.from(`\0h.h\0${folder}\0`);
      const head = Buffer.alloc(24 + 8 * 12);
      for (const [at, value] of [0x686d6170, 1, 120, 1, 8, 0].entries()) head.writeUInt32LE(value, at * 4);
      const bucket = 24 + ((13 * (104 + 46 + 104)) % 8) * 12;
      for (const [at, value] of [1, 5, 1].entries()) head.writeUInt32LE(value, bucket + at * 4);
      return Buffer.concat([head, strings]).toString("latin1");
    };
    const files = { "d1/h.h": "#define V 1\n", "d2/h.h": "#define V 2\n", "a.c": '#include "h.h"\nint v = V;\n' };
    for (const folder of ["d1/", "d2/"]) {
      const argv = ["clang", "-I", "x.hmap", "-I.", "-c", "a.c"];
      const one = { name: "header map", argv, files: { ...files, "x.hmap": headerMap(folder) } };
      const plain = await user.plain(one);
      assert.equal(plain.code, 0, plain.stderr);
      assert.deepEqual(await user.step(folder, one, plain), { outcome: "host: extra_input_file", what: [] });
    }
    // To GCC it is no folder.
    const gcc = {
      name: "no folder",
      argv: ["gcc", "-I", "x.hmap", "-Id1", "-c", "a.c"],
      files: { ...files, "x.hmap": "x" },
    };
    const plain = await user.plain(gcc);
    assert.deepEqual(
      [await user.step("miss", gcc, plain), await user.step("hit", gcc, plain)],
      ["local_compiled", "local_hit"].map((outcome) => ({ outcome, what: [] })),
    );
  });

  it("sees that the caller's locale was installed", async () => {
    user.root = join(user.folder, "checkout");
    const LOCPATH = join(user.folder, "locales");
    mkdirSync(LOCPATH);
    const files = { "w.c": "int f(void) { int unused; return 0; }\n" };
    const env = { LOCPATH, LC_ALL: "xx_XX.UTF-8" };
    const one = { name: "locale", argv: ["gcc", "-Wall", "-c", "w.c"], files, env };
    const before = await user.plain(one);
    const outcomes = [await user.step("miss", one, before), await user.step("hit", one, before)];
    outcomes.push(await user.again("replayed", one, before));
    cpSync("/usr/lib/locale/C.utf8", join(LOCPATH, "xx_XX.utf8"), { recursive: true });
    const after = await user.plain(one);
    assert.notEqual(after.stderr, before.stderr);
    outcomes.push(await user.step("installed", one, after), await user.step("hit", one, after));
    assert.deepEqual(
      outcomes.flatMap(({ what }) => what),
      [],
    );
    assert.deepEqual(
      outcomes.map(({ outcome }) => outcome).filter((_, at) => at !== 2),
      ["local_compiled", "local_hit", "local_compiled", "local_hit"],
    );
  });

  it("keeps nothing where a script assembles", async () => {
    user.root = join(user.folder, "checkout");
    const folder = join(user.folder, "assembler");
    mkdirSync(folder);
    writeFileSync(join(folder, "as"), '#!/bin/sh\nexec /usr/bin/as --defsym V=$VALUE "$@"\n');
    chmodSync(join(folder, "as"), 0o755);
    const files = { "v.c": '__asm__(".data\\n.long V");\n' };
    for (const VALUE of ["1", "2"]) {
      const env = { PATH: `${folder}:/usr/bin:/bin`, VALUE };
      const one = { name: "script that assembles", argv: ["gcc", "-c", "v.c"], files, env };
      const step = await user.step(VALUE, one, await user.plain(one));
      assert.deepEqual(step, { outcome: "host: unknown_compiler", what: [] });
    }
  });

  it("keeps what a plain configuration of Clang sets up, and nothing where it names another file", async () => {
    user.root = join(user.folder, "checkout");
    const bin = join(user.folder, "llvm");
    mkdirSync(bin);
    copyFileSync("/usr/bin/clang", join(bin, "clang-14"));
    symlinkSync("clang-14", join(bin, "x86_64-linux-gnu-clang"));
    const argv = [join(bin, "x86_64-linux-gnu-clang"), "-c", "v.c"];
    const one = { name: "configured", argv, files: { "v.c": "int v = V;\n" } };
    const steps = [];
    for (const [config, value] of [
      ["-DV=1", ""],
      ["-DV=1", ""],
      ["-DV=2", ""],
      ["@inc.cfg", "-DV=3"],
      ["@inc.cfg", "-DV=4"],
      ["@inc.cfg", "-DV=4"],
    ] as const) {
      writeFileSync(join(bin, "inc.cfg"), value);
      writeFileSync(join(bin, "x86_64-linux-gnu-clang.cfg"), config);
      steps.push(await user.step(`${config} ${value}`, one, await user.plain(one)));
    }
    const left = "host: unknown_compiler";
    assert.deepEqual(
      steps,
      ["local_compiled", "local_hit", "local_compiled", left, left, left].map((outcome) => ({ outcome, what: [] })),
    );
  });

  it("leaves what it cannot know to itself", async () => {
    user.root = join(user.folder, "checkout");
    const wrapper = { "mycc/gcc": '#!/bin/sh\nWRAPPED=1\nexec /usr/bin/gcc -DWRAPPED=$WRAPPED "$@"\n' };
    const cases: readonly (readonly [LocalScenario, string])[] = [
      [
        {
          name: "script",
          argv: ["./mycc/gcc", "-c", "a.c"],
          files: { ...wrapper, "a.c": "int a = WRAPPED;" },
          prepare: "chmod 755 mycc/gcc",
        },
        "host: unknown_compiler",
      ],
      [
        { name: "several", argv: ["gcc", "-c", "a.c", "b.c"], files: { "a.c": "int a;", "b.c": "int b;" } },
        "host: multiple_source_files",
      ],
      [
        { name: "link", argv: ["gcc", "m.c", "-o", "m"], files: { "m.c": "int main(void){return 0;}" } },
        "host: called_for_link",
      ],
      [
        {
          name: "names beside the includers of an includer",
          argv: ["clang", "-fms-compatibility", "-Iinc", "-c", "src/m.c", "-o", "m.o"],
          files: {
            "src/m.c": '#include "sub/a.h"\nint x = V;\n',
            "src/sub/a.h": '#include "b.h"\n',
            "inc/b.h": "#define V 2\n",
          },
        },
        "host: unsupported_compiler_option",
      ],
      [{ name: "version", argv: ["clang", "--version"], files: {} }, "host: compiler_query"],
      ...(
        [
          ["computed", '#define N "x"\n#if __has_include(N)\nint n;\n#endif\n', []],
          ["pasted", '#define J(a, b) a##b\n#define HAS(x) __has_include(x)\n#if J(HA, S)("x")\nint n;\n#endif\n', []],
          ["pasted by an option", '#define HAS(x) __has_include(x)\n#if J(S)("x")\nint n;\n#endif\n', ["-DJ(x)=HA##x"]],
          ["renamed by an option", '#define HAS(x) __has_include(x)\n#if O("x")\nint n;\n#endif\n', ["-DO=HAS"]],
        ] as const
      ).map(
        ([name, text, flags]) =>
          [
            { name, argv: ["gcc", ...flags, "-c", "c.c"], files: { "c.c": text } },
            "host: unsupported_code_directive",
          ] as const,
      ),
      [
        {
          name: "pasted by a header",
          argv: ["gcc", "-c", "c.c"],
          files: { "h.h": "#define H(x) __has_##x\n", "c.c": '#include "h.h"\n#if H(include)("x")\nint n;\n#endif\n' },
        },
        "host: unsupported_code_directive",
      ],
      [
        {
          name: "a date pasted by a header",
          argv: ["clang", "-c", "c.c"],
          files: { "h.h": "#define D(x) __##x##__\n", "c.c": '#include "h.h"\nint t = sizeof D(TIME);\n' },
        },
        "host: date_time_macro",
      ],
      [
        {
          name: "a date pasted by an option",
          argv: ["gcc", "-DD(x)=__##x##__", "-c", "d.c"],
          files: { "d.c": "int t = sizeof D(TIME);\n" },
        },
        "host: date_time_macro",
      ],
      [
        {
          name: "signs of two bytes",
          argv: ["gcc", "-finput-charset=UTF-16LE", "-nostdinc", "-c", "w.c"],
          files: { "w.c": "int w;\n" },
          prepare: "iconv -t UTF-16LE w.c > k; mv k w.c",
        },
        "host: unsupported_source_encoding",
      ],
      [
        {
          name: "precompiled, by a macro's name",
          argv: ["gcc", "-c", "p.c"],
          files: { "p.c": '#define N "p.h"\n#include N\nint p;', "p.h": "" },
          prepare: "echo > p.h.gch",
        },
        "host: could_not_use_precompiled_header",
      ],
      [
        {
          name: "precompiled",
          argv: ["gcc", "-c", "p.c"],
          files: { "p.c": '#include "p.h"\nint p;', "p.h": "" },
          prepare: "echo > p.h.gch",
        },
        "host: could_not_use_precompiled_header",
      ],
    ];
    for (const [one, outcome] of cases) {
      const plain = await user.plain(one);
      assert.deepEqual(await user.step(one.name, one, plain), { outcome, what: [] });
    }
  });

  it("answers nothing old where it is hard to see what a call reads", async () => {
    user.root = join(user.folder, "checkout");
    const data = { "data.bin": "old", "inc.h": "#define I(a, b) a##b\n#define S(x) #x\n#define T(x) S(x)\n" };
    const incbin = (text: string) => ({ ...data, "a.c": `#include "inc.h"\n${text}\n` });
    const run = "gcc -O1 --coverage -frandom-seed=1 p.c -o p && ./p";
    const profiled = { "p.c": "int main(int c, char **v) { int s = 0; while (c--) s += c; return s & 0; }\n" };
    const more = "echo new > data.bin";
    const cases: readonly (readonly [string, readonly string[], Readonly<Record<string, string>>, string, string?])[] =
      [
        [
          "parts of a directive",
          ["gcc", "-c", "a.c"],
          incbin('#define N "ncbin"\n__asm__("." "i" N " \\"data.bin\\"");'),
          more,
        ],
        ["a pasted directive", ["gcc", "-c", "a.c"], incbin('__asm__(T(.I(inc,bin)) " \\"data.bin\\"");'), more],
        ...["gcc", "clang"].map(
          (compiler) =>
            [
              `${compiler}: a system header that no list has, by a macro`,
              [compiler, "-MMD", "-isystem", "inc", "-c", "a.c"],
              { "a.c": "#define P(x) <x.h>\n#include P(k)\nint a = V;\n", "inc/k.h": "#define V 1\n" },
              "echo '#define V 2' > inc/k.h",
            ] as const,
        ),
        [
          "a source by a descriptor",
          ["gcc", "-c", "-x", "c", "/dev/stdin", "-o", "d.o"],
          { "d.c": "int d;\n" },
          "echo 'int e;' > d.c",
        ],
        [
          "a file like one that was imported",
          ["gcc", "-w", "-c", "i.c"],
          { "i.c": '#import "q.h"\n#include "r.h"\n', "q.h": "int q;\n", "r.h": "int q;\n" },
          "echo 'int r;' > r.h",
        ],
        ["a profile", ["gcc", "-O2", "-c", "p.c", "-o", "p.o", "-fprofile-use=p-p.gcda"], profiled, "./p 1 2 3", run],
      ];
    for (const [name, argv, files, change, prepare = "true"] of cases) {
      const one = { name, argv, files, prepare, ...(name.includes("descriptor") && { shell: "< d.c" }) };
      const [before, after] = [await user.plain(one), await user.plain(one, change)];
      for (const turn of ["first", "second"]) assert.deepEqual((await user.step(turn, one, before)).what, [], name);
      await user.script(change);
      assert.deepEqual((await user.again("changed", one, { ...after, tree: after.tree })).what, [], name);
    }
  });

  it("answers nothing that another value of a variable made", async () => {
    user.root = join(user.folder, "checkout");
    const files = {
      "a.c": "#if __has_include(<k.h>)\n#include <k.h>\n#endif\nint a;\n",
      "one/k.h": "int one;\n",
      "two/k.h": "int two;\n",
      "a.s": '.secure_log_unique "word"\n',
    };
    const cases: readonly (readonly [argv: string, name: string, values: readonly [string, string]])[] = [
      ["clang -S a.c --target=arm64-apple-darwin", "IPHONEOS_DEPLOYMENT_TARGET", ["12.0", "14.0"]],
      ["clang -S a.c --target=arm64-apple-darwin", "WATCHOS_DEPLOYMENT_TARGET", ["4.0", "5.0"]],
      ["clang -S a.c --target=ve-unknown-linux-gnu", "NCC_C_INCLUDE_PATH", ["one", "two"]],
      ["clang -c a.c -flto", "LLVM_OVERRIDE_PRODUCER", ["one", "two"]],
      ["clang -c a.s --target=x86_64-apple-darwin", "AS_SECURE_LOG_FILE", ["/dev/null", "/dev/zero"]],
    ];
    for (const [words, variable, values] of cases) {
      const without = { name: variable, argv: words.split(" "), files };
      const plain = await user.plain(without);
      for (const name of ["miss", "hit", "again"])
        assert.deepEqual((await user.again(name, without, plain)).what, [], variable);
      for (const value of values) {
        const one = { name: variable, argv: words.split(" "), files, env: { [variable]: value } };
        const step = await user.step(`${variable}=${value}`, one, await user.plain(one));
        assert.deepEqual(step, { outcome: "host: unsupported_environment_variable", what: [] });
      }
    }
  });

  for (const compiler of ["gcc", "clang"])
    it(`takes none of the daemon's descriptors for those of a caller of ${compiler}`, async () => {
      user.root = join(user.folder, "checkout");
      const files = {
        "v.c": "int v = V;\n",
        "has.c": '#if __has_include("/dev/fd/9")\nint has;\n#else\nint hasnt;\n#endif\n',
        "blob.c": '__asm__(".data\\n.incbin \\"/proc/self/fd/9\\"\\n");\n',
        "h.c": "#include <h.h>\nint v = V;\n",
        nested: "@/dev/fd/9",
        "d1/h.h": "#define V 1\n",
        "d2/h.h": "#define V 2\n",
        o1: "-DV=1\n",
        o2: "-DV=2\n",
      };
      const options = ["9< o1", "9< o2"] as const;
      const folders = ["9< d1", "9< d2"] as const;
      const cases: readonly (readonly [readonly string[], readonly [string, string], string])[] = [
        [["@/dev/fd/9", "-c", "v.c"], options, "unsupported_response_file"],
        [["@/proc/self/fd/9", "-c", "v.c"], options, "unsupported_response_file"],
        [["@/proc/thread-self/fd/9", "-c", "v.c"], options, "unsupported_response_file"],
        [["@nested", "-c", "v.c"], options, "unsupported_response_file"],
        [["@link", "-c", "v.c"], options, "unsupported_response_file"],
        [["-include", "/dev/fd/9", "-c", "h.c", "-Id1"], ["9< d1/h.h", "9< d2/h.h"], "extra_input_file"],
        [["-isystem", "/dev/fd/9", "-MMD", "-c", "h.c"], folders, "extra_input_file"],
        [["-isystem", "link", "-MMD", "-c", "h.c"], folders, "extra_input_file"],
        [["-c", "has.c"], ["9< o1", "9<&-"], "modified_input_file"],
        [["-c", "blob.c"], options, "modified_input_file"],
        [["-x", "c", "/proc/self/fd/9", "-c", "-o", "s.o"], ["9< v.c", "9< has.c"], "standard_input"],
      ];
      for (const [words, shells, reason] of cases)
        for (const shell of shells) {
          const name = `${compiler} ${words.join(" ")}`;
          const defined = words.includes("/proc/self/fd/9") ? ["-DV=3"] : [];
          const argv = [compiler, ...defined, ...words];
          const one = { name, argv, files, shell, prepare: "ln -s /dev/fd/9 link" };
          const step = await user.step(`${name} ${shell}`, one, await user.plain(one));
          assert.deepEqual(step, { outcome: `host: ${reason}`, what: [] }, `${name} ${shell}`);
        }
    });

  it("keeps what seeks a name in vain in a folder where others come and go", async () => {
    user.root = join(user.folder, "checkout");
    const source =
      '#define TEMPLATE "@ROOT@/../busy/no_XX"\n#ifdef OWN\n#include OWN /* any */\n#endif\nconst char *template = TEMPLATE;\n';
    const prepare =
      "mkdir -p ../busy; (for i in $(seq 99); do : > ../busy/new; rm ../busy/new; sleep 0.02; done) > /dev/null 2>&1 &";
    const one = { name: "busy", argv: ["gcc", "-c", "t.c"], files: { "t.c": source }, prepare };
    const plain = await user.plain(one);
    const outcomes: string[] = [];
    for (const name of ["first", "second", "third"]) {
      const step = await user.step(name, one, plain);
      assert.deepEqual(step.what, []);
      outcomes.push(step.outcome);
    }
    // The first call learns where names are sought.
    assert.deepEqual(outcomes, ["host: modified_input_file", "local_compiled", "local_hit"]);
  });

  it("answers after the daemon was restarted", async () => {
    user.root = join(user.folder, "checkout");
    const one = { name: "restarted", argv: ["gcc", "-DRESTARTED", ...INC], files: HEADERS };
    const plain = await user.plain(one);
    const miss = await user.step("miss", one, plain);
    await user.stopDaemon();
    await user.startDaemon();
    const hit = await user.step("hit", one, plain);
    assert.deepEqual(
      [miss, hit],
      [
        { outcome: "local_compiled", what: [] },
        { outcome: "local_hit", what: [] },
      ],
    );
  });

  it("tells observers what a call read, sought in vain and left", async () => {
    user.root = join(user.folder, "checkout");
    const one = { name: "observed", argv: ["gcc", "-DOBSERVED", "-Inone", ...INC], files: HEADERS };
    const plain = await user.plain(one);
    await user.step("miss", one, plain);
    const miss = user.answered.at(-1)!;
    await user.step("hit", one, plain);
    const hit = user.answered.at(-1)!;
    for (const call of [miss, hit]) {
      assert.equal(call.source, join(user.root, "a.c"));
      assert.deepEqual(
        call.inputs.slice(0, 2).map(({ path }) => path),
        [join(user.root, "a.c"), "/usr/include/stdc-predef.h"],
      );
      assert.ok(call.inputs.some(({ path }) => path === join(user.root, "inc/h.h")));
      assert.ok(
        call.absent.some(
          ({ folder, names }) => folder === join(user.root, "none") && names.some((name) => name === "h.h"),
        ),
      );
      assert.deepEqual(call.words.slice(1), ["-DOBSERVED", "-Inone", "-Iinc", "-c"]);
      assert.deepEqual(
        call.result?.outputs.map(({ destination, manner }) => [destination, manner]),
        [["a.o", "assembler"]],
      );
    }
    assert.equal(miss.callDigest, hit.callDigest);
    assert.deepEqual(miss.compiler?.identity, hit.compiler?.identity);
  });
});
