// Real projects with their own build files, plainly and through hpcc: every file that a build leaves and every word that a compiler says
// are equal, compiled, from the cache, and after the checkout moved. The worker's guests are sandboxes here. A spread of the table runs by
// default; HPCC_TEST_PROJECTS=all runs all of it, HPCC_TEST_PROJECTS=TEXT what has the text in its name. What links with Clang's runtime
// (--coverage, sanitizers) needs Debian's package libclang-rt-14-dev, which then belongs to the image, too.
import assert from "node:assert/strict";
import { appendFileSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type Logger, SILENT_LOGGER } from "../../src/base/log.ts";
import { quickStats } from "../support/differential.ts";
import { type CallStats, CHECKOUT, HPCC, IMAGE_FOLDER, runCommand } from "../support/farm.ts";
import { differing, holding, ProjectBuild, type ProjectRecipe } from "../support/project-build.ts";
import { QuickFarm } from "../support/quick-farm.ts";

const SOURCES = join(CHECKOUT, ".cache/sources");
const cmake = (options: string) =>
  `cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE= -DCMAKE_C_COMPILER=$COMPILER -DCMAKE_CXX_COMPILER=$COMPILER_CXX \
-DCMAKE_C_COMPILER_LAUNCHER=$RECORDER -DCMAKE_CXX_COMPILER_LAUNCHER=$RECORDER ${options}`;
const RUNTIME_PACKAGE = "libclang-rt-14-dev";
const CLANG_RUNTIME = "/usr/lib/llvm-14/lib/clang/14.0.6/lib";
const NINJA = { build: "ninja -C build -j2", nothing: /^ninja: no work to do\.$/m };

const PROJECTS: readonly ProjectRecipe[] = [
  {
    name: "lua",
    source: "lua5.4",
    language: "c",
    build: 'make -C src -j2 CC="$CC -std=gnu99" "MYCFLAGS=$CFLAGS -MD" o liblua.a',
    nothing: /Nothing to be done/,
    callsMin: 33,
  },
  {
    name: "zstd",
    source: "libzstd",
    language: "c",
    build: "make -C lib -j2 libzstd.a V=1",
    // It copies its archive each time.
    nothing: /^(?![^]*\nCC obj)/,
    withPaths: { clang: 1 },
    callsMin: 30,
  },
  { name: "json-c", source: "json-c", language: "c", configure: cmake(""), ...NINJA, callsMin: 30 },
  {
    name: "leveldb",
    source: "leveldb",
    language: "c++",
    // With Clang's check of threads comes -Werror, and it has unused parameters.
    configure: cmake("-DLEVELDB_BUILD_TESTS=OFF -DLEVELDB_BUILD_BENCHMARKS=OFF -DHAVE_CLANG_THREAD_SAFETY=OFF"),
    ...NINJA,
    callsMin: 38,
  },
  {
    name: "fmt",
    source: "fmtlib",
    language: "c++",
    configure: cmake("-DFMT_TEST=OFF -DFMT_DOC=OFF"),
    ...NINJA,
    callsMin: 2,
  },
  {
    name: "hello",
    source: "hello",
    language: "c",
    configure: "./configure --disable-nls",
    build: "make -j2 all MAKEINFO=true HELP2MAN=true",
    nothing: /Nothing to be done|is up to date/,
    callsMin: 20,
  },
];
const FLAGS: Readonly<Record<string, string>> = {
  "-O2 -g": "-O2 -g -Wall -Wextra",
  "--coverage": "--coverage -O1",
  sanitizers: "-O1 -g -fsanitize=address,undefined",
};
/** What runs by default. */
const SPREAD = ["lua gcc -O2 -g shared", "json-c clang -O2 -g shared", "fmt gcc -O2 -g own"];
const wanted = process.env["HPCC_TEST_PROJECTS"] ?? "";
const report = process.env["HPCC_TEST_PROJECTS_REPORT"];

/** Calls that compile no source of a project: links, questions, and what build files ask of a compiler through its standard input. */
const NO_COMPILES = ["called_for_link", "called_for_preprocessing", "compiler_query", "standard_input"];

/** Why compile calls were not remote, in order. */
const local: string[] = [];
const logger: Logger = {
  ...SILENT_LOGGER,
  debug(event, { reason, detail } = {}) {
    if (event === "call.ended" && typeof reason === "string" && !NO_COMPILES.includes(reason))
      local.push(`${reason}: ${detail ?? ""}`);
  },
  with: () => logger,
};

let farm: QuickFarm;
let image: string;

before(async () => {
  const env = { PATH: process.env["PATH"], HOME: IMAGE_FOLDER, HPCC_IMAGE_DIR: IMAGE_FOLDER };
  const runtime = existsSync(CLANG_RUNTIME) ? ["--with", RUNTIME_PACKAGE] : [];
  const compilers = ["--compiler", "gcc", "--compiler", "clang", ...runtime];
  const built = await runCommand(
    [HPCC, "image", "build", "--from-host", "--tag", "e2e-both", "--quiet", ...compilers],
    { env },
  );
  assert.equal(built.code, 0, built.stderr);
  image = built.stdout.trim();
  farm = await QuickFarm.start({ imageFolder: IMAGE_FOLDER, images: [image], logger });
});

after(async () => {
  await farm?.close();
});

function compilesOf(stats: CallStats): { readonly calls: number; readonly remote: number } {
  const others = NO_COMPILES.reduce((sum, reason) => sum + (stats.reasons[reason] ?? 0), 0);
  const { remote_compiled: compiled = 0, remote_hit: hit = 0, remote_joined: joined = 0 } = stats.outcomes;
  return { calls: stats.calls - others, remote: compiled + hit + joined };
}

interface Row {
  readonly name: string;
  readonly recipe: ProjectRecipe;
  readonly compiler: "gcc" | "clang";
  readonly flags: string;
  readonly paths: "own" | "shared";
}

const rows: readonly Row[] = PROJECTS.flatMap((recipe) =>
  (["gcc", "clang"] as const).flatMap((compiler) =>
    Object.keys(FLAGS).flatMap((flags) =>
      (["own", "shared"] as const).map((paths) => {
        const name = `${recipe.name} ${compiler} ${flags} ${paths}`;
        return { name, recipe, compiler, flags: FLAGS[flags]!, paths };
      }),
    ),
  ),
);

function assertRemote(stats: CallStats, { recipe, name }: Row, what: string): void {
  const { calls, remote } = compilesOf(stats);
  const named = [...new Set(local.splice(0))];
  if (report !== undefined)
    appendFileSync(report, `${JSON.stringify({ name, what, calls, remote, named, outcomes: stats.outcomes })}\n`);
  assert.ok(calls >= recipe.callsMin, `${calls} compile calls`);
  assert.ok(remote >= calls * 0.99, `${remote} of ${calls} remote: ${named.join(", ")}`);
  assert.deepEqual(stats.launcher_fallbacks, {});
}

async function compareBuilds(row: Row, folder: string): Promise<void> {
  const { recipe, compiler, flags, paths } = row;
  const project = new ProjectBuild(recipe, { folder, sources: SOURCES, env: farm.env, compiler, flags });
  await project.configure(`image = "${image}"\npaths = "${paths}"\n`);
  const stats = () => quickStats(farm);
  const executedBefore = farm.pool!.executed.length;
  await stats();
  const cold = await project.build("hpcc");
  assertRemote(await stats(), row, "cold");
  if (paths === "shared") assert.deepEqual(holding(project.root, cold.tree, "/hpcc/"), [], "files that name the view");

  const null_ = await project.build("hpcc", "standing");
  assert.match(null_.ran.stdout, recipe.nothing);
  const { outcomes, reasons } = await stats();
  const compiles = Object.keys(reasons).filter((reason) => !NO_COMPILES.includes(reason));
  assert.deepEqual(
    [compiles, outcomes.remote_compiled, outcomes.remote_hit],
    [[], 0, 0],
    "compiles with nothing to do",
  );

  const warm = await project.build("hpcc");
  const warmStats = await stats();
  assertRemote(warmStats, row, "warm");
  assert.equal(warmStats.outcomes["remote_compiled"], 0, "compiles of a warm build");

  project.takeFlags(farm.pool!.executed.slice(executedBefore));
  const plain = await project.build("plain");
  for (const [name, built] of Object.entries({ cold, warm })) {
    assert.deepEqual(differing(plain.tree, built.tree), [], `files of the ${name} build`);
    assert.deepEqual(differing(plain.said, built.said), [], `words of the ${name} build`);
  }
  if (paths === "shared") await compareMoved(row, { folder, executedBefore });
}

/** The checkout at another place, configured there: its compiles are hits, and what it makes is what a plain build makes there. */
async function compareMoved(
  row: Row,
  { folder, executedBefore }: { readonly folder: string; readonly executedBefore: number },
): Promise<void> {
  const { recipe, compiler, flags, paths } = row;
  const elsewhere = `${folder}-elsewhere`;
  mkdirSync(elsewhere);
  const moved = new ProjectBuild(recipe, { folder: elsewhere, sources: SOURCES, env: farm.env, compiler, flags });
  await moved.configure(`image = "${image}"\npaths = "${paths}"\n`);
  await quickStats(farm);
  const built = await moved.build("hpcc");
  const stats = await quickStats(farm);
  assertRemote(stats, row, "moved");
  if (!row.flags.includes("coverage") && !row.flags.includes("sanitize"))
    assert.equal(stats.outcomes["remote_compiled"], recipe.withPaths?.[compiler] ?? 0, "compiles after the move");
  moved.takeFlags(farm.pool!.executed.slice(executedBefore));
  const plain = await moved.build("plain");
  assert.deepEqual(differing(plain.tree, built.tree), [], "files of the moved build");
  assert.deepEqual(differing(plain.said, built.said), [], "words of the moved build");
  rmSync(elsewhere, { recursive: true });
}

for (const row of rows) {
  const runs = wanted === "all" || (wanted === "" ? SPREAD.includes(row.name) : row.name.includes(wanted));
  if (!runs) continue;
  test(row.name, async () => {
    const { source } = row.recipe;
    const fetched = await runCommand([join(CHECKOUT, "scripts/fetch-debian-source.sh"), source, SOURCES]);
    assert.equal(fetched.code, 0, fetched.stderr);
    const folder = join(farm.folder, row.name.replaceAll(/[^a-z0-9]+/g, "-"));
    mkdirSync(folder);
    await compareBuilds(row, folder);
    rmSync(folder, { recursive: true, force: true });
  });
}
