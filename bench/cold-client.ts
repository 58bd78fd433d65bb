// What a cold build of LevelDB costs its client: bytes of sources on the wire in both source forms, and processor time against
// `-M` of the same calls. The worker and its sandboxes are this process; the launcher, its compilers and the user's daemon are the
// installed programs, each counted as the kernel counts them. Calls run one at a time.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFileSync, cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CHECKOUT, HPCC, IMAGE_FOLDER, runCommand } from "../test/support/farm.ts";
import { QuickFarm } from "../test/support/quick-farm.ts";

const SOURCES = join(CHECKOUT, ".cache/sources");
const TICKS_PER_SECOND = 100;
const JSON_BYTES_MAX = 16 * 1024 * 1024;

async function must(argv: readonly string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}): Promise<string> {
  const ran = await runCommand(argv, options);
  assert.equal(ran.code, 0, `${argv.join(" ")}: ${ran.stdout}${ran.stderr}`);
  return ran.stdout;
}

interface Call {
  readonly directory: string;
  readonly command: string;
}

/** Seconds of processor time of a script of sh and all that it waited for. */
async function secondsOf(script: string, env: NodeJS.ProcessEnv): Promise<number> {
  const ran = await runCommand(["bash", "-c", `${script}\ntimes >&2`], { env });
  assert.equal(ran.code, 0, ran.stdout + ran.stderr);
  const times = ran.stderr.trimEnd().split("\n").slice(-2).join(" ").split(" ");
  return times.reduce((sum, time) => {
    const [minutes, seconds] = time.replace("s", "").split("m");
    return sum + Number(minutes) * 60 + Number(seconds);
  }, 0);
}

/** Processor time of a process so far, in seconds. */
function processSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** What a build costs the client: its launchers and compilers, and the daemon. */
async function build(root: string, calls: readonly Call[], env: NodeJS.ProcessEnv) {
  const status = JSON.parse(await must([HPCC, "daemon", "status", "--json"], { cwd: root, env })) as { pid: number };
  await must([HPCC, "stats", "--zero", "--json"], { cwd: root, env });
  const before = processSeconds(status.pid);
  const children = await secondsOf(
    calls.map(({ directory, command }) => `cd '${directory}' && ${HPCC} ${command}`).join("\n"),
    env,
  );
  const daemon = processSeconds(status.pid) - before;
  const stats = JSON.parse(await must([HPCC, "stats", "--json"], { cwd: root, env }));
  return { children, daemon, stats };
}

/** The same build after an edit of each source that changes no directive, and again with nothing changed. */
async function keptLists(root: string, calls: readonly Call[], env: NodeJS.ProcessEnv) {
  for (const { command } of calls) {
    const [, source = ""] = / -c (\S+)/.exec(command) ?? [];
    appendFileSync(source, "// edited\nint hpcc_edited;\n");
  }
  const edited = await build(root, calls, env);
  assert.equal(edited.stats.outcomes.remote_compiled, calls.length, JSON.stringify(edited.stats));
  const again = await build(root, calls, env);
  assert.equal(again.stats.outcomes.remote_hit, calls.length, JSON.stringify(again.stats));
  const shown = ({ children, daemon, stats }: Awaited<ReturnType<typeof build>>) => ({
    children,
    daemon,
    lists_kept: stats.lists_kept as number,
  });
  return { edited: shown(edited), unchanged: shown(again) };
}

async function cold(farm: QuickFarm, root: string, calls: readonly Call[], form: "files" | "text") {
  const env = { ...(await farm.addAccount(form)), HPCC_SOURCE_FORM: form };
  // The daemon, the image's namespaces and the worker are there.
  await must([HPCC, "gcc", "-c", "first.c", "-o", "first.o"], { cwd: root, env });
  const { children, daemon, stats } = await build(root, calls, env);
  console.error(form, children, daemon, stats.source_wire_bytes, stats.reasons);
  assert.equal(stats.outcomes.remote_compiled, calls.length, JSON.stringify(stats.reasons));
  const kept = form === "files" ? await keptLists(root, calls, env) : null;
  await must([HPCC, "daemon", "stop"], { cwd: root, env });
  return { wire: stats.source_wire_bytes as number, sources: stats.source_bytes as number, children, daemon, kept };
}

await must([join(CHECKOUT, "scripts/fetch-debian-source.sh"), "leveldb", SOURCES]);
const buildEnv = { PATH: process.env["PATH"], HOME: IMAGE_FOLDER, HPCC_IMAGE_DIR: IMAGE_FOLDER };
const imageArgv = [
  "image",
  "build",
  "--from-host",
  "--tag",
  "e2e-both",
  "--quiet",
  "--compiler",
  "gcc",
  "--compiler",
  "clang",
];
const image = (await must([HPCC, ...imageArgv], { env: buildEnv })).trim();
const farm = await QuickFarm.start({ imageFolder: IMAGE_FOLDER, images: [image] });
try {
  const root = join(farm.folder, "leveldb");
  cpSync(join(SOURCES, "leveldb"), root, { recursive: true });
  writeFileSync(join(root, "hpcc.toml"), `image = "${image}"\n`);
  writeFileSync(join(root, "first.c"), "int first;\n");
  const options =
    "-DLEVELDB_BUILD_TESTS=OFF -DLEVELDB_BUILD_BENCHMARKS=OFF -DCMAKE_CXX_COMPILER=g++ -DCMAKE_C_COMPILER=gcc";
  const cmake = `cmake -S . -B build -G Ninja -DCMAKE_EXPORT_COMPILE_COMMANDS=ON -DCMAKE_BUILD_TYPE=Release ${options}`;
  await must(cmake.split(" "), { cwd: root });
  const listed = readFileSync(join(root, "build/compile_commands.json"), "utf8").slice(0, JSON_BYTES_MAX);
  const calls = JSON.parse(listed) as Call[];
  for (const { command } of calls)
    mkdirSync(join(root, "build", / -o (\S+)\/[^/]+ /.exec(command)![1]!), { recursive: true });
  const lists = calls.map(
    ({ directory, command }) => `cd '${directory}' && ${command.replace(/ -o \S+ -c /, " -M -MF list ")}`,
  );
  const listing = () => secondsOf(lists.join("\n"), buildEnv);
  const first = await listing();
  const files = await cold(farm, root, calls, "files");
  const second = await listing();
  const text = await cold(farm, root, calls, "text");
  const listSeconds = (first + second) / 2;
  const client = files.children + files.daemon;
  const edited = files.kept!.edited.children + files.kept!.edited.daemon;
  console.log(
    JSON.stringify(
      {
        calls: calls.length,
        load: execFileSync("cat", ["/proc/loadavg"], { encoding: "utf8" }).trim(),
        files,
        text,
        text_to_files_on_the_wire: Number((text.wire / files.wire).toFixed(1)),
        list_cpu_s: [first, second],
        client_cpu_s: Number(client.toFixed(2)),
        client_to_list: Number((client / listSeconds).toFixed(3)),
        edited_to_list: Number((edited / listSeconds).toFixed(3)),
      },
      null,
      2,
    ),
  );
} finally {
  await farm.close();
}
