// Images that hpcc did not build: what their own compilers make when they are called in that root is what a call through hpcc leaves,
// object, words and exit code, for a small project and a part of the corpus. Debian's oldest release and its newest by default, with
// forms of other distributions; HPCC_TEST_DISTRIBUTIONS=all tries more releases, more of the corpus, and packs every image, and
// HPCC_TEST_DISTRIBUTIONS=debian-13,form-of-arch tries these.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { byteStringOf } from "../../src/base/byte-string.ts";
import type { Digest } from "../../src/core/digest/digest.ts";
import { ImageStore } from "../../src/image/image-store.ts";
import { ImageToolchain, type ListedCompiler } from "../../src/image/toolchain.ts";
import { type CorpusCase, corpusCases, namesTheView } from "../corpus/cases.ts";
import { Differential, type Scenario } from "../support/differential.ts";
import { DISTRIBUTIONS, type Distribution, distributionImage } from "../support/distributions.ts";
import { HPCC, IMAGE_FOLDER, runCommand } from "../support/farm.ts";
import { QuickFarm } from "../support/quick-farm.ts";
import { reproduceRows } from "../support/reproduced-rows.ts";

const ASKED = process.env["HPCC_TEST_DISTRIBUTIONS"]?.split(",") ?? [];
const ALL = ASKED.includes("all");
/** Of the corpus every so many cases are tried with each compiler. */
const EVERY = ALL ? 7 : 100;
const REMOTE_SHARE_MIN = 0.9;
const REPRODUCED_ROWS = ALL ? 60 : 12;
/** The oldest Clang that is tried takes no prefix map, so it compiles at the project's own path always. */
const TAKES_NO_MAPS = /^clang-9$/;
/** Packed and unpacked as every image is; the others' roots are put in their places. */
const PACKED = "debian-11";
const TRIED = DISTRIBUTIONS.filter(({ name, byDefault }) =>
  ASKED.length === 0 ? byDefault : ALL || ASKED.includes(name),
);

interface Tried extends Distribution {
  readonly image: string;
  readonly compilers: readonly ListedCompiler[];
  readonly searchPath: string;
}

const PROJECT = {
  "include/shape.h": "#pragma once\n#define SIDES 4\nstruct shape { int sides; const char *name; };\n",
  "src/main.c":
    '#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include "shape.h"\n' +
    "int main(int argc, char **argv) {\n  struct shape s = {SIDES, __FILE__};\n  unsigned u = argc;\n  if (u < s.sides) puts(s.name);\n" +
    "  return (int)strlen(argv[0]) + (s.sides == 4 ? EXIT_SUCCESS : 1);\n}\n",
  "src/parts.cc":
    '#include <map>\n#include <string>\n#include <vector>\n#include "shape.h"\n' +
    "std::map<std::string, std::vector<int>> parts;\nint count() { int unused; return (int)parts.size() * SIDES; }\n",
  "src/free.c":
    '#include <stddef.h>\n#include <stdarg.h>\n#include "shape.h"\nstatic const char place[] = __FILE__;\n' +
    "long sum(int count, ...) {\n  va_list list;\n  long all = (long)sizeof(struct shape) * SIDES;\n  int unused;\n  va_start(list, count);\n" +
    "  while (count-- > 0) all += va_arg(list, long);\n  va_end(list);\n  return all + (long)offsetof(struct shape, name) + place[0];\n}\n",
  "src/bad.c": '#include "shape.h"\nint f(void) { return missing; }\n',
};

const store = new ImageStore(IMAGE_FOLDER);
const tried: Tried[] = [];
let farm: QuickFarm;
const counts = { remote: 0, all: 0 };

before(async () => {
  for (const distribution of TRIED) {
    const image = (await distributionImage(distribution, ALL || distribution.name === PACKED)) as Digest;
    const { environment } = await store.open(image);
    const toolchain = new ImageToolchain(await store.rootfs(image), environment);
    tried.push({
      ...distribution,
      image,
      compilers: distinct([...toolchain.all()].filter(({ name }) => distribution.tried.test(name ?? ""))),
      searchPath: toolchain.folders.join(":"),
    });
  }
  farm = await QuickFarm.start({ imageFolder: IMAGE_FOLDER, images: tried.map(({ image }) => image) });
});

after(async () => {
  await farm?.close();
});

function distinct(compilers: readonly ListedCompiler[]): ListedCompiler[] {
  return [...new Map(compilers.map((compiler) => [compiler.resolved, compiler])).values()];
}

/** The C++ compiler that stands beside a C compiler. */
function cxxOf(name: string): string {
  return name.replace(/(?<=^|-)gcc/, "g++").replace(/^clang/, "clang++");
}

function projectScenarios(name: string, headers: Distribution["headers"]): Scenario[] {
  const common = ["-O2", "-g", "-Wall", "-Wextra", "-Iinclude", ...(headers === "none" ? ["-ffreestanding"] : [])];
  const scenario = (source: string, compiler: string): Scenario => ({
    name: `${source} ${compiler}`,
    argv: [compiler, ...common, "-c", source, "-o", "out.o"],
    files: PROJECT,
    distinct: true,
  });
  const main = headers === "none" ? "src/free.c" : "src/main.c";
  const c = [main, "src/bad.c"].map((source) => scenario(source, name));
  return headers === "c++" ? [...c, scenario("src/parts.cc", cxxOf(name))] : c;
}

function corpusScenarios(
  { name, family }: ListedCompiler,
  headers: Distribution["headers"],
  offset: number,
): Scenario[] {
  // Dependency files name the image's headers where make finds them (other-images.test.ts).
  const fitting = corpusCases().filter(
    ({ argv, ...entry }) =>
      entry.family === family &&
      (headers === "c++" || !/\+\+/.test(argv[0]!)) &&
      !argv.some((word) => word.startsWith("-M")) &&
      !namesTheView({ argv, ...entry }),
  );
  return fitting.filter((_, index) => (index + offset) % EVERY === 0).map((entry) => scenarioOf(entry, name!));
}

function scenarioOf({ name, argv, cwd, files }: CorpusCase, compiler: string): Scenario {
  const [plain = "", ...rest] = argv;
  return {
    name: `${name} ${compiler}`,
    argv: [plain.includes("++") ? cxxOf(compiler) : compiler, ...rest],
    files: Object.fromEntries(files.map(({ path, bytes }) => [path, byteStringOf(bytes)])),
    ...(cwd !== "" && { cwd }),
    distinct: true,
  };
}

/** At the shared place a call is the same but for prefix maps: the first one is tried there. */
function placesOf({ name }: ListedCompiler, number: number): readonly ("own" | "shared")[] {
  return number > 0 || TAKES_NO_MAPS.test(name!) ? ["own"] : ["own", "shared"];
}

for (const [index, { name: title, compilersMin, headers }] of TRIED.entries())
  describe(title, () => {
    test("its compilers are found, and leave what they leave when they are called plainly", async () => {
      const { image, compilers, searchPath } = tried[index]!;
      assert.ok(compilers.length >= compilersMin, compilers.map(({ path }) => path).join(" "));
      const differential = new Differential(farm, image, title);
      for (const [at, compiler] of compilers.entries()) {
        const projects = projectScenarios(compiler.name!, headers);
        const scenarios = [...projects, ...corpusScenarios(compiler, headers, index + at)];
        for (const [number, scenario] of scenarios.entries())
          for (const place of placesOf(compiler, number)) {
            const called = { ...scenario, env: { PATH: searchPath } };
            const { outcomes, what, plain } = await differential.compareMiss(called, place);
            assert.deepEqual(what, [], `${scenario.name} ${place}`);
            assert.notEqual(plain.code, 127, plain.stderr);
            counts.all += 1;
            if (outcomes[0] === "remote_compiled") counts.remote += 1;
            if (number < projects.length) assert.equal(outcomes[0], "remote_compiled", scenario.name);
          }
      }
    });
  });

const bare = { skip: TRIED.some(({ name }) => name === PACKED) ? false : `${PACKED} was not asked for` };
test("an image without shell, env and users: compiles here, by the plan alone, and elsewhere", bare, async () => {
  const { image } = tried[TRIED.findIndex(({ name }) => name === PACKED)]!;
  const rootfs = farm.rootfs(image);
  for (const absent of ["bin/sh", "usr/bin/env", "etc/passwd", "etc/ld.so.cache", "lib64/libc.so.6"])
    assert.ok(!existsSync(join(rootfs, absent)), absent);
  const root = join(farm.folder, "bare");
  mkdirSync(root);
  writeFileSync(join(root, "hpcc.toml"), `image = "${image}"\n`);
  writeFileSync(join(root, "a.c"), "#include <stdio.h>\nint f(void) { return puts(__FILE__); }\n");
  const elsewhere = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /mnt && exec "$@"', "sh"];
  const alone = { HPCC_DISABLE: "1" };
  const compile = async (
    words: readonly string[],
    before: readonly string[],
    env: Readonly<Record<string, string>>,
  ) => {
    rmSync(join(root, "a.o"), { force: true });
    const argv = [...before, HPCC, "gcc-9", "-O1", ...words, "-c", "a.c", "-o", "a.o"];
    const { code, stderr } = await runCommand(argv, { cwd: root, env: { ...farm.env, ...env } });
    assert.deepEqual([code, stderr], [0, ""], words.join(" "));
    return readFileSync(join(root, "a.o"));
  };
  const expected = await compile([], [], {});
  assert.ok((await compile([], [], alone)).equals(expected));
  assert.ok((await compile([], elsewhere, {})).equals(expected));
  assert.ok((await compile(["-aux-info", "x.txt"], [], {})).equals(expected), "a call that is always compiled here");
});

test("nearly all was compiled in the guest", (context) => {
  context.diagnostic(`${counts.remote} of ${counts.all} in the guest`);
  assert.ok(counts.all > 0 && counts.remote >= REMOTE_SHARE_MIN * counts.all, `${counts.remote} of ${counts.all}`);
});

test("rows drawn at random come to the same bytes again", async () => {
  const { others, equal } = await reproduceRows(
    join(farm.folder, "worker"),
    (image) => farm.rootfs(image),
    REPRODUCED_ROWS,
  );
  assert.deepEqual(others, []);
  assert.equal(equal, REPRODUCED_ROWS);
});
