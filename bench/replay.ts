// What a replayed hit costs above starting a program that does nothing: a two-line C file, and a C++ file with more than 400 headers. The record is made by
// the daemon's own writer of a real compile; no daemon runs. Batches of the two are interleaved, so that the machine's moods hit both.
// Prints medians in microseconds per call. With CCACHE=<path> its hits are measured beside them.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ascii } from "../src/base/byte-string.ts";
import { ManualClock } from "../src/base/clock.ts";
import { SILENT_LOGGER } from "../src/base/log.ts";
import { SYSTEM_CLOCK } from "../src/base/system/clock.ts";
import { VERSION } from "../src/base/version.ts";
import { FolderNamesCache } from "../src/daemon/inputs/folder-names.ts";
import { ReplayWriter } from "../src/daemon/replay/replay-writer.ts";
import type { CallMessage } from "../src/wire/launcher/messages.ts";
import { answeredCall, storeAt } from "../test/support/answered-call.ts";

const LAUNCHER = join(import.meta.dirname, "../out/bin/hpcc");
const BATCHES = 15;
const CALLS = 40;

interface Row {
  readonly name: string;
  readonly compiler: string;
  readonly source: string;
  readonly text: string;
}

const ROWS: readonly Row[] = [
  {
    name: "C, two lines",
    compiler: "gcc",
    source: "two.c",
    text: "int one(void);\nint two(void) { return 2 * one(); }\n",
  },
  {
    name: "C++, 400 headers",
    compiler: "g++",
    source: "many.cc",
    text: "#include <bits/stdc++.h>\nint main() { return 0; }\n",
  },
];

const folder = mkdtempSync(join(tmpdir(), "hpcc-bench-"));
const work = join(folder, "work");
const spawnLoop = join(folder, "spawn-loop");
mkdirSync(work);
const environment: Record<string, string> = {
  PATH: "/usr/bin:/bin",
  HOME: folder,
  PWD: work,
  HPCC_STATE_DIR: join(folder, "state"),
  HPCC_RUNTIME_DIR: join(folder, "runtime"),
  CCACHE_DIR: join(folder, "ccache"),
};

/** Microseconds of each call of a batch. */
function measure(argv: readonly string[]): number[] {
  const out = execFileSync(spawnLoop, [String(CALLS), ...argv], { cwd: work, env: environment, encoding: "utf8" });
  return out
    .trim()
    .split("\n")
    .map((line) => Number(line) / 1000);
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

async function record({ compiler, source, text }: Row): Promise<number> {
  writeFileSync(join(work, source), text);
  const argv = [compiler, "-c", source, "-o", `${source}.o`];
  execFileSync(compiler, argv.slice(1), { cwd: work, env: environment });
  const listed = execFileSync(compiler, ["-M", source], { cwd: work, env: environment }).toString();
  const headers = listed
    .replaceAll("\\\n", " ")
    .split(/\s+/)
    .slice(2)
    .filter((word) => word !== "");
  const namespace = statSync("/proc/self/ns/mnt", { bigint: true });
  const message: CallMessage = {
    type: "call",
    protocolVersion: 1,
    launcherVersion: VERSION,
    mountNamespace: { dev: namespace.dev, ino: namespace.ino },
    argv: argv.map(ascii),
    cwd: ascii(work),
    environment: Object.entries(environment).map(([name, value]) => ascii(`${name}=${value}`)),
    umask: process.umask(),
    terminal: { stdin: false, stdout: false, stderr: false, columns: null },
    pid: process.pid,
    hostCompiler: ascii(`/usr/bin/${compiler}`),
  };
  const clock = new ManualClock(Date.now() + 20_000);
  const writer = new ReplayWriter({
    folder: join(folder, "state/replay"),
    store: storeAt(join(folder, "store")),
    names: new FolderNamesCache(SYSTEM_CLOCK),
    clock,
    logger: SILENT_LOGGER,
    configurationFiles: [join(folder, "config.toml"), "/etc/hpcc/config.toml"],
    program: null,
    bytesMax: 10 ** 9,
  });
  const searched = ["/usr/include/c++/12", "/usr/include/x86_64-linux-gnu/c++/12", "/usr/local/include"];
  const names = headers
    .filter((header) => header.startsWith("/usr/include/") && !header.includes("c++"))
    .map((header) => ascii(header.slice("/usr/include/".length)));
  writer.answered(
    answeredCall({
      message,
      source,
      headers,
      absent: searched.map((at) => ({ folder: ascii(at), names: names.filter((name) => !existsSync(join(at, name))) })),
      outputs: [{ destination: `${source}.o`, manner: "assembler" }],
      store: join(folder, "store"),
      startedMs: Date.now() + 10_000,
    }),
  );
  clock.advance(1_000);
  await writer.settled();
  if (writer.counts.written !== 1) throw new Error(`no record: ${JSON.stringify(writer.counts)}`);
  return headers.length;
}

try {
  execFileSync("gcc", ["-O2", "-o", spawnLoop, join(import.meta.dirname, "spawn-loop.c")]);
  for (const row of ROWS) {
    const headers = await record(row);
    const call = [row.compiler, "-c", row.source, "-o", `${row.source}.o`];
    const commands: Record<string, string[]> = { "/bin/true": ["/bin/true"], replay: [LAUNCHER, ...call] };
    const ccache = process.env["CCACHE"];
    if (ccache !== undefined) commands["ccache"] = [ccache, ...call];
    const times = new Map(Object.keys(commands).map((name) => [name, [] as number[]]));
    for (let batch = 0; batch < BATCHES; batch++)
      for (const [name, argv] of Object.entries(commands)) times.get(name)!.push(...measure(argv));
    console.log(`${row.name} (${headers} headers)`);
    const floor = median(times.get("/bin/true")!);
    for (const [name, values] of times) {
      const own = median(values);
      console.log(
        `  ${name.padEnd(10)} ${own.toFixed(0).padStart(6)} us, above the floor ${(own - floor).toFixed(0).padStart(6)} us`,
      );
    }
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
