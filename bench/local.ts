// Local use of hpcc, and its hits from a worker, against the newest ccache, sccache and zccache, on the rows of docs/performance.md: interleaved,
// in one run, with the floor (starting /bin/true) taken off. Each has a cache of its own in a folder that goes afterwards. The worker is a process
// of its own. With --write the table of the page is renewed.
import assert from "node:assert/strict";
import { execFileSync, fork } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { CHECKOUT, HPCC, runCommand } from "../test/support/farm.ts";
import type { QuickWorker } from "./quick-worker.ts";

/** A call is repeated this often in a turn, and each tool has this many turns. */
const CALLS_PER_TURN = 20;
const TURNS = 15;
const BUILD_TURNS = 3;
const WARM_TURNS = 5;
const PROJECT = "leveldb";
const OPTIONS = ["-DCMAKE_BUILD_TYPE=", "-DLEVELDB_BUILD_TESTS=OFF", "-DLEVELDB_BUILD_BENCHMARKS=OFF"];
const PEERS = ["ccache", "sccache", "zccache"] as const;
/** `remote` is hpcc whose results are with a worker alone, `copier` a launcher that does nothing but copy outputs. */
type Tool = "plain" | "hpcc" | "remote" | "copier" | (typeof PEERS)[number];
const CACHES: readonly Tool[] = ["hpcc", ...PEERS];

const work = mkdtempSync(join(tmpdir(), "hpcc-bench-"));
const peers = join(CHECKOUT, ".cache/peers");
const spawnLoop = join(work, "spawn-loop");
const copier = join(work, "copy-launcher");
/** Of the calls whose results a worker has. */
let remoteEnvironment: Record<string, string> = {};

/** What a launcher of that tool is, and its surroundings: caches, sockets and configuration of its own. */
function launcherOf(tool: Tool): string[] {
  if (tool === "plain") return [];
  if (tool === "copier") return [copier];
  return [tool === "hpcc" || tool === "remote" ? HPCC : join(peers, "bin", tool)];
}

function environmentOf(tool: Tool): Record<string, string> {
  if (tool === "remote") return remoteEnvironment;
  const home = join(work, "home", tool);
  mkdirSync(home, { recursive: true });
  const own: Record<string, string> =
    tool === "sccache"
      ? { SCCACHE_DIR: join(home, "cache"), SCCACHE_SERVER_UDS: join(home, "socket") }
      : tool === "ccache"
        ? { CCACHE_DIR: join(home, "cache") }
        : tool === "zccache"
          ? { ZCCACHE_CACHE_DIR: join(home, "cache") }
          : { HPCC_RUNTIME_DIR: join(home, "run"), HPCC_STATE_DIR: join(home, "state") };
  return { PATH: process.env["PATH"] ?? "/usr/bin:/bin", HOME: home, LC_ALL: "C.UTF-8", ...own };
}

async function must(argv: readonly string[], options: { cwd?: string; env?: Record<string, string> }): Promise<string> {
  const ran = await runCommand(argv, options);
  assert.equal(ran.code, 0, `${argv.join(" ")}: ${ran.stdout}${ran.stderr}`);
  return ran.stdout;
}

/** Times of calls in milliseconds. */
async function times(argv: readonly string[], cwd: string, tool: Tool): Promise<number[]> {
  const out = await must([spawnLoop, String(CALLS_PER_TURN), ...argv], { cwd, env: environmentOf(tool) });
  return out
    .trim()
    .split("\n")
    .map((line) => Number(line) / 1e6);
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** Below so many values, a range is of all of them. */
const QUARTILES_FROM = 8;

/** The range in which half of the values lie; of few values all, with their number. */
function spread(values: readonly number[]): string {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor((sorted.length - 1) * share)]!.toFixed(2);
  return sorted.length < QUARTILES_FROM ? `${at(0)}-${at(1)} of ${sorted.length}` : `${at(0.25)}-${at(0.75)}`;
}

interface Row {
  readonly work: string;
  readonly bar: string;
  /** What is compared, by tool. */
  readonly figures: ReadonlyMap<string, string>;
  readonly ratio: string;
}

interface Call {
  readonly name: string;
  readonly bar: string;
  readonly argv: readonly string[];
  readonly cwd: string;
}

/** Hits of one call: medians less the floor. The first of the tools is compared with the fastest of the others. */
async function hits({ name, bar, argv, cwd }: Call, tools = CACHES): Promise<Row> {
  const all = new Map<Tool | "floor", number[]>();
  for (const tool of tools)
    for (let i = 0; i < 3; i += 1) await must([...launcherOf(tool), ...argv], { cwd, env: environmentOf(tool) });
  for (let turn = 0; turn < TURNS; turn += 1) {
    all.set("floor", [...(all.get("floor") ?? []), ...(await times(["/bin/true"], cwd, "plain"))]);
    for (const tool of tools) {
      const found = await times([...launcherOf(tool), ...argv], cwd, tool);
      all.set(tool, [...(all.get(tool) ?? []), ...found]);
    }
  }
  const floor = median(all.get("floor")!);
  const above = (tool: Tool) => Math.max(0, median(all.get(tool)!) - floor);
  const [own, ...others] = tools;
  const fastest = others.toSorted((a, b) => above(a) - above(b))[0]!;
  const figures = new Map(
    tools.map((tool) => [
      tool === own ? "hpcc" : (tool as string),
      `${above(tool).toFixed(2)} (${spread(all.get(tool)!.map((ms) => ms - floor))})`,
    ]),
  );
  figures.set("floor", floor.toFixed(2));
  return { work: name, bar, figures, ratio: `${(above(own!) / above(fastest)).toFixed(2)} of ${fastest}` };
}

/**
 * Hits of calls whose results are with a worker alone, mTLS on loopback, against ccache's local hits: the client's local store is off, so that no
 * replay answers either, and what the daemon keeps is the list of files that each call reads.
 */
async function workerHits(calls: readonly Call[]): Promise<Row[]> {
  const worker = fork(join(import.meta.dirname, "quick-worker.ts"));
  const exited = once(worker, "exit");
  try {
    const message = await Promise.race([once(worker, "message"), exited.then(() => null)]);
    assert.ok(message !== null, "the worker has started");
    const { image, env } = message[0] as QuickWorker;
    remoteEnvironment = env;
    const rows: Row[] = [];
    for (const call of calls) {
      writeFileSync(join(call.cwd, "hpcc.toml"), `image = "${image}"\n`);
      const stats = async (...words: string[]) =>
        JSON.parse(await must([HPCC, "stats", "--json", ...words], { cwd: call.cwd, env }));
      for (let i = 0; i < 2; i += 1) await must([HPCC, ...call.argv], { cwd: call.cwd, env });
      await stats("--zero");
      rows.push(await hits(call, ["remote", "ccache"]));
      const { calls: count, outcomes, lists_kept: kept } = await stats();
      const timed = TURNS * CALLS_PER_TURN + 3;
      assert.deepEqual([count, outcomes.remote_hit, kept], [timed, timed, timed], JSON.stringify(outcomes));
    }
    return rows;
  } finally {
    if (Object.keys(remoteEnvironment).length > 0)
      await runCommand([HPCC, "daemon", "stop"], { env: remoteEnvironment });
    if (worker.connected) worker.disconnect();
    await exited;
  }
}

/** Hits a second from one process and from one for each core. */
async function throughput(argv: readonly string[], cwd: string): Promise<Row> {
  const cores = availableParallelism();
  const run = async (tool: Tool, processes: number) => {
    const from = performance.now();
    const loops = Array.from({ length: processes }, (_, i) => {
      const own = join(cwd, `process-${i}`);
      mkdirSync(own, { recursive: true });
      cpSync(join(cwd, "two.c"), join(own, "two.c"));
      const loop = [spawnLoop, "100", ...launcherOf(tool), ...argv];
      return must(loop, { cwd: own, env: environmentOf(tool) });
    });
    await Promise.all(loops);
    return (processes * 100_000) / (performance.now() - from);
  };
  const figures = new Map<string, string>();
  const growth = new Map<Tool, number>();
  for (const tool of CACHES) {
    await run(tool, cores);
    const [one, many] = [await run(tool, 1), await run(tool, cores)];
    growth.set(tool, many / one);
    figures.set(tool, `${one.toFixed(0)}/s, ${many.toFixed(0)}/s`);
  }
  const ratio = `grows ${growth.get("hpcc")!.toFixed(2)} times, ccache's ${growth.get("ccache")!.toFixed(2)}`;
  return { work: `local hits a second, 1 process and ${cores}`, bar: "grows as ccache's", figures, ratio };
}

/** Builds of a real project. */
async function builds(): Promise<Row[]> {
  execFileSync(join(CHECKOUT, "scripts/fetch-debian-source.sh"), [PROJECT, join(CHECKOUT, ".cache/sources")]);
  const seconds = new Map<string, number[]>();
  const failures = new Map<string, number>();
  const note = (key: string, value: number) => seconds.set(key, [...(seconds.get(key) ?? []), value]);
  const tools: readonly Tool[] = ["plain", ...CACHES, "copier"];
  const source = join(work, "project");
  cpSync(join(CHECKOUT, ".cache/sources", PROJECT), source, { recursive: true });
  const folderOf = (tool: Tool) => join(work, `build-${tool}`);
  const ninja = async (key: string, tool: Tool) => {
    const argv = ["ninja", "-C", folderOf(tool), "-j2"];
    const ran = await runCommand(argv, { env: environmentOf(tool) });
    if (ran.code === 0) return note(`${key} ${tool}`, ran.seconds);
    assert.ok(tool === "ccache" || tool === "sccache" || tool === "zccache", ran.stdout + ran.stderr);
    console.error(`a build with ${tool} failed and does not count: ${ran.stdout.slice(-500)}`);
    failures.set(`${key} ${tool}`, (failures.get(`${key} ${tool}`) ?? 0) + 1);
    await must(argv, { env: environmentOf(tool) });
  };
  for (let turn = 0; turn < BUILD_TURNS; turn += 1) {
    for (const tool of tools) {
      const env = environmentOf(tool);
      const launcher = tool === "plain" ? [] : [`-DCMAKE_CXX_COMPILER_LAUNCHER=${launcherOf(tool).join(";")}`];
      await must(["cmake", "-S", source, "-B", folderOf(tool), "-G", "Ninja", ...OPTIONS, ...launcher], { env });
      await forget(tool);
      await ninja("cold", tool);
    }
    for (let warm = 0; warm < WARM_TURNS; warm += 1)
      for (const tool of tools.slice(1)) {
        await must(["ninja", "-C", folderOf(tool), "-t", "clean"], { env: environmentOf(tool) });
        await ninja("warm", tool);
      }
    for (const tool of tools) rmSync(folderOf(tool), { recursive: true });
  }
  const of = (key: string, tool: Tool) => median(seconds.get(`${key} ${tool}`) ?? []);
  const row = (key: string, name: string, bar: string, ratio: string): Row => {
    const cell = (tool: Tool) => {
      const all = seconds.get(`${key} ${tool}`);
      const failed = failures.get(`${key} ${tool}`) ?? 0;
      const builds = all === undefined ? "" : `${median(all).toFixed(2)} s (${spread(all)})`;
      return failed === 0 ? builds : `${builds} ${failed} failed`.trim();
    };
    return { work: name, bar, figures: new Map(tools.map((tool) => [tool, cell(tool)])), ratio };
  };
  const share = (key: string, tool: Tool) => `${(of(key, "hpcc") / of(key, tool)).toFixed(2)} of ${tool}`;
  const above = (tool: Tool) => Math.max(0, of("warm", tool) - of("warm", "copier"));
  const aboveShare = (tool: Tool) => `${(above("hpcc") / above(tool)).toFixed(2)} of ${tool}`;
  const copied = of("warm", "copier").toFixed(2);
  return [
    row(
      "warm",
      `warm rebuild of ${PROJECT}, ninja -j2`,
      "0.7 of ccache, 0.3 of sccache",
      `${share("warm", "ccache")}, ${share("warm", "sccache")}`,
    ),
    {
      work: `the same, above the ${copied} s of a launcher that only copies outputs`,
      bar: "",
      figures: new Map(CACHES.map((tool) => [tool, `${above(tool).toFixed(2)} s`])),
      ratio: `${aboveShare("ccache")}, ${aboveShare("sccache")}`,
    },
    row(
      "cold",
      `cold build of ${PROJECT}, ninja -j2`,
      "1.03 of plain, no more than the best peer",
      `${share("cold", "plain")}, ${share("cold", "ccache")}`,
    ),
  ];
}

/** Empties a tool's cache. */
async function forget(tool: Tool): Promise<void> {
  const env = environmentOf(tool);
  if (tool === "hpcc") await must([HPCC, "clean"], { env });
  if (tool === "ccache") await must([...launcherOf(tool), "--clear"], { env });
  if (tool === "zccache") await must([...launcherOf(tool), "clear"], { env });
  if (tool !== "sccache") return;
  await runCommand([...launcherOf(tool), "--stop-server"], { env });
  rmSync(join(work, "home/sccache/cache"), { recursive: true, force: true });
}

/** Ends the daemons that the calls started. */
async function end(): Promise<void> {
  await runCommand([HPCC, "daemon", "stop"], { env: environmentOf("hpcc") });
  await runCommand([...launcherOf("sccache"), "--stop-server"], { env: environmentOf("sccache") });
  await runCommand([...launcherOf("zccache"), "stop"], { env: environmentOf("zccache") });
  rmSync(work, { recursive: true, force: true });
}

function table(rows: readonly Row[]): string {
  const columns = ["hpcc", ...PEERS, "plain"];
  const lines = rows.map(
    ({ work: name, bar, figures, ratio }) =>
      `| ${[name, bar, ratio, ...columns.map((column) => figures.get(column) ?? "")].join(" | ")} |`,
  );
  return [`| work | bar | ratio | ${columns.join(" | ")} |`, `|${"---|".repeat(columns.length + 3)}`, ...lines].join(
    "\n",
  );
}

async function versionsOf(): Promise<string> {
  const versions = await Promise.all(
    PEERS.map((tool) => must([...launcherOf(tool), "--version"], { env: environmentOf(tool) })),
  );
  return versions.map((text) => text.split("\n")[0]).join(", ");
}

try {
  execFileSync(join(CHECKOUT, "bench/fetch-peers.sh"), [peers], { stdio: "inherit" });
  execFileSync("cc", ["-O2", "-o", spawnLoop, join(import.meta.dirname, "spawn-loop.c")]);
  execFileSync("cc", ["-O2", "-o", copier, join(import.meta.dirname, "copy-launcher.c")]);
  const folder = join(work, "calls");
  mkdirSync(folder);
  writeFileSync(join(folder, "two.c"), "int two(int x) {\n  return x + 2; }\n");
  const headers =
    "algorithm chrono filesystem functional future iostream map memory random regex sstream thread unordered_map vector variant".split(
      " ",
    );
  writeFileSync(
    join(folder, "many.cpp"),
    `${headers.map((name) => `#include <${name}>`).join("\n")}\nint many() { return 1; }\n`,
  );
  const remote = join(work, "remote-calls");
  cpSync(folder, remote, { recursive: true });
  const two = ["gcc", "-c", "-O2", "two.c", "-o", "two.o"];
  const many = ["g++", "-c", "-O2", "many.cpp", "-o", "many.o"];
  const hit = "local hit, two-line C file, ms above the floor";
  const hitMany = "local hit, C++ file with 400 headers, ms above the floor";
  const paranoid = (file: string) => `hit from a worker, list kept, ${file}, ms above the floor`;
  const rows = [
    await hits({ name: hit, bar: "0.25", argv: two, cwd: folder }),
    await hits({ name: hitMany, bar: "0.35", argv: many, cwd: folder }),
    ...(await workerHits([
      { name: paranoid("two-line C file"), bar: "1.0 of ccache's local hit", argv: two, cwd: remote },
      { name: paranoid("C++ file with 400 headers"), bar: "1.0 of ccache's local hit", argv: many, cwd: remote },
    ])),
    await throughput(two, folder),
    ...(process.argv.includes("--no-builds") ? [] : await builds()),
  ];
  const head = `${new Date().toISOString().slice(0, 10)}, ${availableParallelism()} cores, load ${loadavg()[0]!.toFixed(1)}; ${await versionsOf()}. Medians; half of the values lie in the range in brackets, of few builds all.`;
  const text = `${head}\n\n${table(rows)}`;
  console.log(text);
  if (process.argv.includes("--write")) {
    const page = join(CHECKOUT, "docs/performance.md");
    const [from, to] = ["<!-- bench/local.ts -->", "<!-- end -->"];
    const old = readFileSync(page, "utf8");
    assert.ok(old.includes(from) && old.includes(to), "docs/performance.md has the marks of the table");
    writeFileSync(page, `${old.slice(0, old.indexOf(from) + from.length)}\n${text}\n${old.slice(old.indexOf(to))}`);
  }
} finally {
  await end();
}
