// Real projects without an image, plainly and through hpcc: every file that a build leaves and every word that a compiler says are equal, compiled,
// out of the local store, and replayed. A spread runs by default; HPCC_TEST_LOCAL_PROJECTS=all runs all, a text what has it in its name.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { type CallStats, CHECKOUT, HPCC, runCommand } from "../support/farm.ts";
import { differing, ProjectBuild, type ProjectRecipe } from "../support/project-build.ts";

const SOURCES = join(CHECKOUT, ".cache/sources");
const cmake = (options: string) =>
  `cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE= -DCMAKE_C_COMPILER=$COMPILER -DCMAKE_CXX_COMPILER=$COMPILER_CXX \
-DCMAKE_C_COMPILER_LAUNCHER=$RECORDER -DCMAKE_CXX_COMPILER_LAUNCHER=$RECORDER ${options}`;
const NINJA = { build: "ninja -C build -j2", nothing: /^ninja: no work to do\.$/m };
const MAKE_NOTHING = /Nothing to be done|is up to date/;

const PROJECTS: readonly ProjectRecipe[] = [
  {
    name: "lua",
    source: "lua5.4",
    language: "c",
    build: 'make -C src -j2 CC="$CC -std=gnu99" "MYCFLAGS=$CFLAGS -MD" o liblua.a',
    nothing: MAKE_NOTHING,
    callsMin: 33,
  },
  {
    name: "fribidi",
    source: "fribidi",
    language: "c",
    configure: "meson setup build -Ddocs=false",
    ...NINJA,
    callsMin: 18,
  },
  {
    name: "fmt",
    source: "fmtlib",
    language: "c++",
    configure: cmake("-DFMT_TEST=OFF -DFMT_DOC=OFF"),
    ...NINJA,
    callsMin: 2,
  },
  { name: "json-c", source: "json-c", language: "c", configure: cmake(""), ...NINJA, callsMin: 30 },
  {
    name: "leveldb",
    source: "leveldb",
    language: "c++",
    configure: cmake("-DLEVELDB_BUILD_TESTS=OFF -DLEVELDB_BUILD_BENCHMARKS=OFF"),
    ...NINJA,
    callsMin: 38,
  },
  {
    name: "jansson",
    source: "jansson",
    language: "c",
    configure: cmake("-DJANSSON_BUILD_DOCS=OFF -DJANSSON_WITHOUT_TESTS=ON"),
    ...NINJA,
    callsMin: 10,
  },
  {
    name: "curl",
    source: "curl",
    language: "c",
    configure:
      "./configure --disable-shared --without-ssl --without-libpsl --without-zlib --without-brotli --without-zstd --disable-ldap",
    build: "make -C lib -j2 libcurl.la",
    nothing: /^(?![^]*\bCC\b)/,
    callsMin: 100,
  },
  {
    name: "zstd",
    source: "libzstd",
    language: "c",
    build: "make -C lib -j2 libzstd.a V=1",
    // It copies its archive each time.
    nothing: /^(?![^]*\nCC obj)/,
    // An object depends on its dependency file, which Clang writes after it.
    restless: "clang",
    callsMin: 30,
  },
  {
    name: "redis",
    source: "redis",
    language: "c",
    build: "SOURCE_DATE_EPOCH=1 make -C src -j2 redis-server MALLOC=libc V=1 OPTIMIZATION=-O1",
    nothing: MAKE_NOTHING,
    callsMin: 100,
  },
  {
    name: "git",
    source: "git",
    language: "c",
    build:
      'make -j2 libgit.a CC="$CC" CFLAGS="$CFLAGS" NO_OPENSSL=1 NO_CURL=1 NO_EXPAT=1 NO_GETTEXT=1 NO_TCLTK=1 NO_PERL=1 NO_PYTHON=1 V=1',
    // It says nothing then.
    nothing: /^(?![^]* -c )/,
    callsMin: 200,
  },
];
/** What runs by default. */
const SPREAD = ["lua gcc", "fribidi clang"];
const FLAGS = "-O1 -g -Wall";
/** Of the compiles of a warm build. */
const HITS_SHARE_MIN = 0.99;
/** Of those hits. */
const REPLAYS_SHARE_MIN = 0.95;
const RECORD = /^[0-9a-f]{2}\/[0-9a-f]{64}$/;
const RECORDING_MS_MAX = 60_000;
const RECORDING_POLL_MS = 100;
const wanted = process.env["HPCC_TEST_LOCAL_PROJECTS"] ?? "";

/** Calls that compile no source of a project: links, questions, and what build files ask of a compiler through its standard input. */
const NO_COMPILES = [
  "called_for_link",
  "called_for_preprocessing",
  "compiler_query",
  "standard_input",
  "no_input_file",
];

const folder = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-projects-")));
const env = {
  PATH: process.env["PATH"],
  HOME: folder,
  LC_ALL: "C.UTF-8",
  HPCC_RUNTIME_DIR: join(folder, "run"),
  HPCC_STATE_DIR: join(folder, "state"),
  HPCC_CACHE_DIR: join(folder, "cache"),
};

before(async () => {
  const started = await runCommand([HPCC, "daemon", "start"], { env });
  assert.equal(started.code, 0, started.stderr);
});

after(async () => {
  await runCommand([HPCC, "daemon", "stop"], { env });
  rmSync(folder, { recursive: true, force: true });
});

async function takeStats(): Promise<CallStats> {
  const ran = await runCommand([HPCC, "stats", "--json", "--zero"], { env });
  assert.equal(ran.code, 0, ran.stderr);
  return JSON.parse(ran.stdout) as CallStats;
}

/** Waits until so many calls since then can be replayed: the daemon records them when it has time. */
async function recorded(calls: number, sinceMs: number): Promise<void> {
  const records = join(folder, "state/replay");
  const isNew = (name: string) => (statSync(join(records, name), { throwIfNoEntry: false })?.mtimeMs ?? 0) >= sinceMs;
  const written = () =>
    readdirSync(records, { recursive: true, encoding: "utf8" }).filter((name) => RECORD.test(name) && isNew(name));
  const endMs = Date.now() + RECORDING_MS_MAX;
  while (written().length < calls && Date.now() < endMs) await setTimeout(RECORDING_POLL_MS);
}

interface Compiles {
  readonly calls: number;
  readonly hits: number;
  /** Of the hits, those that the launcher answered alone. */
  readonly replays: number;
}

function compilesOf(stats: CallStats): Compiles {
  const others = NO_COMPILES.reduce((sum, reason) => sum + (stats.reasons[reason] ?? 0), 0);
  const { local_hit: hit = 0, replayed = 0 } = stats.outcomes;
  return { calls: stats.calls - others, hits: hit + replayed, replays: replayed };
}

async function compareBuilds(recipe: ProjectRecipe, compiler: "gcc" | "clang"): Promise<Compiles> {
  const place = join(folder, `${recipe.name}-${compiler}`);
  mkdirSync(place);
  const project = new ProjectBuild(recipe, { folder: place, sources: SOURCES, env, compiler, flags: FLAGS });
  await project.configure("");
  await takeStats();
  const plain = await project.build("plain");
  const builds = new Map([["cold", await project.build("hpcc")]]);
  const cold = compilesOf(await takeStats());
  assert.ok(cold.calls >= recipe.callsMin, `${cold.calls} compile calls`);
  const idle = await project.build("hpcc", "standing");
  if (recipe.restless !== compiler) assert.match(idle.ran.stdout, recipe.nothing);
  await takeStats();
  // Other files with the same contents: the daemon compares them.
  const warmMs = Date.now();
  builds.set("warm", await project.build("hpcc"));
  const warm = compilesOf(await takeStats());
  await recorded(warm.hits, warmMs);
  // The same files: the launcher knows them.
  builds.set("replayed", await project.build("hpcc", "cleaned"));
  const stats = await takeStats();
  const replayed = compilesOf(stats);
  for (const [name, built] of builds) {
    assert.deepEqual(differing(plain.tree, built.tree), [], `files of the ${name} build`);
    assert.deepEqual(differing(plain.said, built.said), [], `words of the ${name} build`);
  }
  for (const { hits, calls } of [warm, replayed])
    assert.ok(hits >= calls * HITS_SHARE_MIN, `${hits} of ${calls} hits: ${JSON.stringify(stats)}`);
  const { hits, replays } = replayed;
  assert.ok(replays >= hits * REPLAYS_SHARE_MIN, `${replays} of ${hits} hits are replays: ${JSON.stringify(stats)}`);
  rmSync(place, { recursive: true, force: true });
  return replayed;
}

for (const recipe of PROJECTS)
  for (const compiler of ["gcc", "clang"] as const) {
    const name = `${recipe.name} ${compiler}`;
    const runs = wanted === "all" || (wanted === "" ? SPREAD.includes(name) : name.includes(wanted));
    if (!runs) continue;
    test(name, async (t) => {
      const fetched = await runCommand([join(CHECKOUT, "scripts/fetch-debian-source.sh"), recipe.source, SOURCES]);
      assert.equal(fetched.code, 0, fetched.stderr);
      const { calls, hits, replays } = await compareBuilds(recipe, compiler);
      t.diagnostic(`${hits} of ${calls} compiles of a warm build are hits, ${replays} of them replays`);
    });
  }
