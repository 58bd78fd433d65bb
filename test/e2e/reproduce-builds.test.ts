// Builds of real C and C++ projects with gcc and clang through a worker, a second time from its cache, with failures and side outputs; then rows
// of its log, drawn at random, are compiled again by another worker as an auditor has it done. Guests are sandboxes here.
// HPCC_TEST_REPRODUCED_BUILDS=N makes all builds and draws N rows.
import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { AuditRecord } from "../../src/audit/segment.ts";
import type { ReproductionReport } from "../../src/cli/reproduce-report.ts";
import { digestHex } from "../../src/core/digest/digest.ts";
import { CHECKOUT, HPCC, IMAGE_FOLDER, runCommand } from "../support/farm.ts";
import { type AddedWorker, QuickFarm } from "../support/quick-farm.ts";
import { isExcepted } from "../support/reproduced-rows.ts";

const SOURCES = join(CHECKOUT, ".cache/sources");
const ROWS_DEFAULT = 40;
const count = Number(process.env["HPCC_TEST_REPRODUCED_BUILDS"] ?? ROWS_DEFAULT);
const everything = process.env["HPCC_TEST_REPRODUCED_BUILDS"] !== undefined;
const seed = process.env["HPCC_TEST_SEED"] ?? "20261129";
const EXCEPTED_SHARE_MAX = 0.05;
const REPRODUCE_MS = 1_800_000;

interface Build {
  readonly source: string;
  readonly compiler: "gcc" | "clang";
  readonly flags: string;
  /** Files below the source that are compiled by make's own rules, where the project's build files are not used. */
  readonly files?: string;
  /** Whether some of its files do not compile. */
  readonly fails?: true;
  /** Built once more: those rows are hits. */
  readonly again?: true;
  /** Only when all are made. */
  readonly long?: true;
}

const LEVELDB_FEW = "util/hash.cc util/crc32c.cc util/coding.cc util/status.cc util/arena.cc table/iterator.cc";
const LEVELDB_ALL =
  "$(ls db/*.cc table/*.cc util/*.cc | grep -v -e _test.cc -e windows -e _main.cc -e leveldbutil -e testutil)";

const BUILDS: readonly Build[] = [
  { source: "lua5.4", compiler: "gcc", flags: "-O1 -g -Wall -Wextra -fstack-usage", again: true },
  { source: "lua5.4", compiler: "clang", flags: "-O0 -Wconversion -Werror", fails: true },
  { source: "leveldb", compiler: "clang", flags: "--coverage -O1", files: LEVELDB_FEW, again: true },
  { source: "leveldb", compiler: "gcc", flags: "-O1 -Wconversion -Werror", files: LEVELDB_FEW, fails: true },
  { source: "leveldb", compiler: "clang", flags: "-O1 -ftime-trace", files: "util/hash.cc util/status.cc" },
  { source: "lua5.4", compiler: "clang", flags: "--coverage -O2", again: true, long: true },
  { source: "leveldb", compiler: "gcc", flags: "-O0 -g -gsplit-dwarf", files: LEVELDB_ALL, again: true, long: true },
  { source: "leveldb", compiler: "clang", flags: "-O1 -Wall", files: LEVELDB_ALL, again: true, long: true },
  { source: "leveldb", compiler: "clang", flags: "-Wconversion -Werror", files: LEVELDB_ALL, fails: true, long: true },
  { source: "json-c", compiler: "gcc", flags: "-O2 -g -fstack-usage", again: true, long: true },
];

const CMAKE = `cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE= -DCMAKE_C_COMPILER=$COMPILER \
-DCMAKE_C_COMPILER_LAUNCHER=${HPCC} -DBUILD_TESTING=OFF >configured`;

/** A script that configures, and one that builds as far as that goes. */
function scriptsOf({ source, compiler, files }: Build): readonly [configure: string, build: string] {
  const [c, cxx] = compiler === "gcc" ? ["gcc", "g++"] : ["clang", "clang++"];
  if (files !== undefined) {
    const flags = 'CXXFLAGS="-std=c++11 -I. -Iinclude -DLEVELDB_PLATFORM_POSIX=1 $CFLAGS"';
    const objects = `$(echo ${files} | sed 's/\\.cc\\b/.o/g')`;
    return ["true", `make -k -j2 -f /dev/null CXX="${HPCC} ${cxx}" ${flags} ${objects}`];
  }
  if (source === "lua5.4") return ["true", `make -k -C src -j2 CC="${HPCC} ${c} -std=gnu99" MYCFLAGS="$CFLAGS" o`];
  return [CMAKE.replace("$COMPILER", c), "ninja -k 0 -C build -j2"];
}

let farm: QuickFarm;
let other: AddedWorker;
let records: ReadonlyMap<string, AuditRecord>;
let report: ReproductionReport;

before(async () => {
  const env = { PATH: process.env["PATH"], HOME: IMAGE_FOLDER, HPCC_IMAGE_DIR: IMAGE_FOLDER };
  const compilers = ["--compiler", "gcc", "--compiler", "clang"];
  const argv = [HPCC, "image", "build", "--from-host", "--tag", "e2e-both", "--quiet", ...compilers];
  const built = await runCommand(argv, { env });
  assert.equal(built.code, 0, built.stderr);
  const image = built.stdout.trim();
  farm = await QuickFarm.start({ imageFolder: IMAGE_FOLDER, images: [image], fallback: "none" });
  other = await farm.addWorker("w2");
  for (const [at, build] of BUILDS.entries()) if (everything || build.long !== true) await make(build, { at, image });
  records = new Map((await farm.rows()).map((record) => [record.digest, record]));
  report = await reproduced(["--sample", String(count), "--seed", seed]);
});

after(async () => {
  await farm?.close();
});

async function make(build: Build, { at, image }: { readonly at: number; readonly image: string }): Promise<void> {
  const fetched = await runCommand([join(CHECKOUT, "scripts/fetch-debian-source.sh"), build.source, SOURCES]);
  assert.equal(fetched.code, 0, fetched.stderr);
  const root = join(farm.folder, `build-${at}`);
  const [configure, script] = scriptsOf(build);
  for (let round = 0; round < (build.again ? 2 : 1); round += 1) {
    rmSync(root, { recursive: true, force: true });
    cpSync(join(SOURCES, build.source), root, { recursive: true, preserveTimestamps: true });
    writeFileSync(join(root, "hpcc.toml"), `image = "${image}"\n`);
    const env = { ...farm.env, CFLAGS: build.flags };
    const ran = await runCommand(["/bin/sh", "-c", `${configure} && ${script}`], { cwd: root, env });
    assert.equal(ran.code !== 0, build.fails === true, `${build.source} ${build.flags}: ${ran.stderr.slice(-2000)}`);
  }
}

/** What `hpcc reproduce` says of rows of the first worker's log, run on another one. */
async function reproduced(words: readonly string[], on = other): Promise<ReproductionReport> {
  const folder = join(farm.folder, "differing");
  mkdirSync(folder, { recursive: true });
  const argv = [HPCC, "reproduce", "--state", join(farm.folder, "worker"), "--on", on.address, "--json"];
  const options = { cwd: folder, env: farm.env, timeoutMs: REPRODUCE_MS };
  const { stdout, stderr } = await runCommand([...argv, ...words], options);
  assert.notEqual(stdout, "", stderr);
  return JSON.parse(stdout) as ReproductionReport;
}

/** The least of each kind among so many rows. A row's digest holds a duration, so that no two runs draw alike: a few rows may have any share. */
function leastOf(rows: number): Readonly<Record<string, number>> {
  const part = (percent: number) => (everything ? Math.floor((rows * percent) / 100) : 1);
  const each = { gcc: part(20), clang: part(20), c: part(20), cxx: part(20) };
  return { compiles: part(25), hits: part(15), failures: part(5), sideOutputs: part(20), ...each };
}

test("rows of real builds come to equal outputs, words and exit codes on another worker", async (t) => {
  const { rows } = report;
  assert.equal(new Set(rows.map(({ row }) => row)).size, count, "rows drawn");
  const counts: Record<string, number> = {};
  const add = (name: string, is: boolean) => (counts[name] = (counts[name] ?? 0) + Number(is));
  for (const { row: digest, command, kind } of rows) {
    const { row, envelope } = records.get(digest)!;
    assert.ok(envelope.kind === "compile" || envelope.kind === "hit");
    add("compiles", kind === "compile");
    add("hits", kind === "hit");
    add("failures", row.exit !== 0);
    add("sideOutputs", envelope.outputs.length > 1);
    const [program = ""] = command.split(" ");
    add("clang", program.includes("clang"));
    add("gcc", !program.includes("clang"));
    add("cxx", program.includes("++"));
    add("c", !program.includes("++"));
  }
  const different = rows.filter(({ verdict }) => verdict === "different");
  t.diagnostic(JSON.stringify({ seed, rows: count, equal: report.equal, excepted: different.length, ...counts }));
  const unexplained = different.filter(({ command, differences }) => !isExcepted(command, differences));
  assert.deepEqual(unexplained, []);
  assert.equal(report.gone, 0);
  assert.equal(report.equal + different.length, count);
  assert.ok(different.length <= count * EXCEPTED_SHARE_MAX, `${different.length} rows are exceptions`);
  for (const [name, least] of Object.entries(leastOf(count)))
    assert.ok(counts[name]! >= least, `${counts[name]} ${name}, at least ${least}`);
  for (const { where } of rows) assert.match(where ?? "", /^worker w2, microVM \S+, qemu-tcg, clean$/);
});

test("a row whose image or source is gone says so", async () => {
  const bare = await farm.addWorker("w3", []);
  const [row] = report.rows;
  const image = await reproduced([row!.row], bare);
  assert.equal(image.gone, 1);
  assert.match(image.rows[0]!.problem ?? "", new RegExp(`no image ${row!.image}`));
  const source = digestHex(records.get(row!.row)!.row.sourceDigest!);
  const kept = join(farm.folder, "worker/store/acme/kept", source.slice(0, 2), source);
  assert.ok(existsSync(kept), kept);
  rmSync(kept);
  const gone = await reproduced([row!.row]);
  assert.deepEqual([gone.gone, gone.rows[0]!.problem], [1, `sha256:${source} is not kept any more`]);
});
