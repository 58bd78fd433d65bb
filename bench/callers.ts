// Hits from the daemon alone (replays switched off) and replays, by how many callers ask at once: where one event loop bends. At last what
// `hpcc run` adds to a command's start, above the command itself.
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { HPCC, IMAGE_FOLDER, runCommand } from "../test/support/farm.ts";

const CALLERS = [1, 2, 4, 16, 64];
/** All callers together. */
const CALLS = 640;
const TICKS_PER_SECOND = 100;

const work = mkdtempSync(join(tmpdir(), "hpcc-callers-"));
const spawnLoop = join(work, "spawn-loop");
const env = {
  PATH: process.env["PATH"] ?? "/usr/bin:/bin",
  HOME: work,
  LC_ALL: "C.UTF-8",
  HPCC_RUNTIME_DIR: join(work, "run"),
  HPCC_STATE_DIR: join(work, "state"),
  HPCC_CACHE_DIR: join(work, "cache"),
};
const HEADERS =
  "algorithm chrono filesystem functional future iostream map memory random regex sstream thread unordered_map vector variant";
const FILES = {
  "two.c": "int two(int x) {\n  return x + 2; }\n",
  "many.cpp": `${HEADERS.split(" ")
    .map((name) => `#include <${name}>\n`)
    .join("")}int many() { return 1; }\n`,
};

async function must(argv: readonly string[], cwd: string, more: Record<string, string> = {}): Promise<string> {
  const ran = await runCommand(argv, { cwd, env: { ...env, ...more }, timeoutMs: 600_000 });
  if (ran.code !== 0) throw new Error(`${argv.join(" ")}: ${ran.stderr}`);
  return ran.stdout;
}

/** Processor time of a process so far, in seconds. */
function processSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function quantile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) * share)] ?? Number.NaN;
}

async function row(file: keyof typeof FILES, callers: number, replay: boolean): Promise<string> {
  const compiler = file.endsWith(".c") ? "gcc" : "g++";
  const argv = [HPCC, compiler, "-c", "-O2", file, "-o", "out.o"];
  const more = replay ? {} : { HPCC_REPLAY: "0" };
  const folders = Array.from({ length: callers }, (_, at) => join(work, `caller-${at}`));
  for (const folder of folders) {
    mkdirSync(folder, { recursive: true });
    cpSync(join(work, file), join(folder, file), { preserveTimestamps: true });
    for (let turn = 0; turn < 2; turn += 1) await must(argv, folder, more);
  }
  const status = JSON.parse(await must([HPCC, "daemon", "status", "--json"], work)) as { pid: number };
  const before = processSeconds(status.pid);
  const from = performance.now();
  const each = Math.ceil(CALLS / callers);
  const outputs = await Promise.all(folders.map((folder) => must([spawnLoop, String(each), ...argv], folder, more)));
  const seconds = (performance.now() - from) / 1000;
  const times = outputs.flatMap((text) =>
    text
      .trim()
      .split("\n")
      .map((line) => Number(line) / 1e6),
  );
  const daemonMs = ((processSeconds(status.pid) - before) * 1000) / times.length;
  const figures = [times.length / seconds, quantile(times, 0.5), quantile(times, 0.99), daemonMs];
  const name = `${file}, ${replay ? "replayed" : "from the daemon"}`;
  return `| ${name} | ${callers} | ${figures.map((figure) => figure.toFixed(figure < 10 ? 2 : 0)).join(" | ")} |`;
}

const STARTS = 100;
const COMMAND = ["sh", "-c", ":"];

/** Median and 99th percentile of a command's start, in milliseconds. */
async function starts(argv: readonly string[], folder: string): Promise<readonly [number, number]> {
  const times = (await must([spawnLoop, String(STARTS), ...argv], folder)).trim().split("\n");
  const ms = times.map((line) => Number(line) / 1e6);
  return [quantile(ms, 0.5), quantile(ms, 0.99)];
}

async function runRow(): Promise<string> {
  const images = { HPCC_IMAGE_DIR: IMAGE_FOLDER };
  const image = (await must([HPCC, "image", "build", "--from-host", "--quiet"], work, images)).trim();
  const project = join(work, "project");
  mkdirSync(project);
  writeFileSync(join(project, "hpcc.toml"), `image = "${image}"\n`);
  writeFileSync(join(work, "config.toml"), `images.allowed = ["${image}"]\n`);
  Object.assign(env, images, { HPCC_CONFIG: join(work, "config.toml") });
  await must([HPCC, "daemon", "stop"], work);
  await must([HPCC, "run", ...COMMAND], project);
  const [plain, plainMost] = await starts(COMMAND, project);
  const [run, runMost] = await starts([HPCC, "run", ...COMMAND], project);
  return `\n\`hpcc run ${COMMAND.join(" ")}\`: median ${run.toFixed(2)} ms, p99 ${runMost.toFixed(2)}; without \`hpcc run\` ${plain.toFixed(2)} and ${plainMost.toFixed(2)}`;
}

try {
  execFileSync("cc", ["-O2", "-o", spawnLoop, join(import.meta.dirname, "spawn-loop.c")]);
  for (const [name, text] of Object.entries(FILES)) writeFileSync(join(work, name), text);
  console.log(`${availableParallelism()} cores, load ${loadavg()[0]!.toFixed(1)}`);
  console.log(
    "| call | callers | calls/s | median ms | p99 ms | daemon's ms of processor a call |\n|---|---|---|---|---|---|",
  );
  for (const file of ["two.c", "many.cpp"] as const)
    for (const replay of [false, true]) for (const callers of CALLERS) console.log(await row(file, callers, replay));
  console.log(await runRow());
} finally {
  await runCommand([HPCC, "daemon", "stop"], { env });
  rmSync(work, { recursive: true, force: true });
}
