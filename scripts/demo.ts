// `make demo`: a real C project compiled call by call through launcher, daemon, scheduler, worker and agent in a microVM; then again from what
// was kept, with no compiler started; then after an edit, with the reason why. Ends with a non-zero exit code when anything is not as promised.
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type AuditKind, JOB_KINDS } from "../src/audit/rows/bodies.ts";
import { type CallStats, CHECKOUT, Farm, HPCC, runCommand, type User } from "../test/support/farm.ts";

const PACKAGE = process.argv[2] ?? "lua5.4";
const JOBS = 2;
/** Included by two or three of lua's files, so that the rebuild is a rebuild and not a cold build. */
const HEADER = "lcode.h";
const KIB = 1024;

function heading(text: string): void {
  console.log(`\n\u001b[1m== ${text}\u001b[0m`);
}

function kib(bytes: number): string {
  return `${(bytes / KIB).toFixed(0)} KiB`;
}

function check(condition: boolean, what: string): void {
  if (condition) return;
  throw new Error(`not as promised: ${what}`);
}

interface Build {
  readonly label: string;
  readonly seconds: number;
  readonly stats: CallStats;
}

/** Builds with make, showing each finished call; `before` is put in front of make. */
async function build(user: User, project: string, label: string, before: readonly string[] = []): Promise<Build> {
  await user.stats(true);
  let done = 0;
  const make = ["make", "-C", join(project, "src"), `-j${JOBS}`, "generic", `CC=${HPCC} gcc`];
  const result = await user.run([...before, ...make], {
    onOutput: (text) => {
      done += text.split(" -c ").length - 1;
      if (process.stdout.isTTY) process.stdout.write(`\r${label}: ${done} compiles started `);
    },
  });
  if (process.stdout.isTTY) process.stdout.write("\r\u001b[K");
  if (result.code !== 0)
    throw new Error(`${label} failed:\n${result.stdout.slice(-3000)}${result.stderr.slice(-3000)}`);
  return { label, seconds: result.seconds, stats: await user.stats() };
}

/** One line for each build: how long it took, and who answered its calls. */
function showBuilds(builds: readonly Build[]): void {
  const columns = ["build", "seconds", "in the microVM", "worker's cache", "replayed", "links, local"];
  const rows = builds.map(({ label, seconds, stats: { outcomes } }) => {
    const count = (name: string) => String(outcomes[name] ?? 0);
    const counts = ["remote_compiled", "remote_hit", "replayed", "local"].map(count);
    return [label, seconds.toFixed(1), ...counts];
  });
  const widths = columns.map((column, at) => Math.max(column.length, ...rows.map((row) => row[at]!.length)));
  const line = (row: readonly string[]) =>
    row.map((cell, at) => (at === 0 ? cell.padEnd(widths[at]!) : cell.padStart(widths[at]!))).join("  ");
  console.log(line(columns));
  for (const row of rows) console.log(line(row));
}

interface Traced {
  /** Programs of a compiler that were started. */
  readonly compilers: number;
  /** Connections to the daemon. */
  readonly daemonCalls: number;
}

/** What a trace of a build says of programs and connections. */
function tracedIn(file: string): Traced {
  const lines = readFileSync(file, "utf8").split("\n");
  const compilers = lines.filter((line) => /execve\("[^"]*\/(?:cc1|cc1plus|as)"/.test(line) && line.endsWith(" = 0"));
  const calls = lines.filter((line) => line.includes("connect(") && line.includes("daemon.sock"));
  return { compilers: compilers.length, daemonCalls: calls.length };
}

/** Text cut to the terminal's width. */
function cut(text: string): string {
  const width = process.stdout.columns ?? 160;
  return text.length <= width ? text : `${text.slice(0, width - 4)} ...`;
}

function reasonList(stats: CallStats): string {
  const reasons = Object.entries(stats.reasons).map(([reason, count]) => `${count} ${reason}`);
  return reasons.length === 0 ? "none" : reasons.join(", ");
}

/** Compiles that ran locally though they could have been remote. */
function fallbacks(stats: CallStats): number {
  const expected = (stats.reasons["called_for_link"] ?? 0) + (stats.reasons["compiler_query"] ?? 0);
  const launcher = Object.values(stats.launcher_fallbacks).reduce((sum, count) => sum + count, 0);
  return (stats.outcomes["local"] ?? 0) - expected + launcher;
}

async function main(): Promise<void> {
  heading(`The project: Debian's source package ${PACKAGE}`);
  const sources = join(CHECKOUT, ".cache/sources");
  const fetched = await runCommand([join(CHECKOUT, "scripts/fetch-debian-source.sh"), PACKAGE, sources]);
  if (fetched.code !== 0) throw new Error(fetched.stderr);

  const farm = new Farm();
  try {
    await farm.init();
    heading("The image: this machine's gcc as an OCI image");
    const image = await farm.image("demo");
    console.log(image.digest);

    heading("CA, scheduler, worker, user");
    await farm.startScheduler();
    const worker = await farm.startWorker("worker-1", { layouts: [image.layout] });
    const user = await farm.addUser("alice", { images: [image.digest], local: true });
    const started = await user.hpcc(["daemon", "start"]);
    if (started.code !== 0) throw new Error(started.stderr);
    console.log(`scheduler ${farm.schedulerAddress}, worker ${worker.address}, tenant acme, user alice`);

    const project = join(user.folder, PACKAGE);
    mkdirSync(project);
    cpSync(join(sources, PACKAGE), project, { recursive: true });
    writeFileSync(join(project, "hpcc.toml"), `image = "${image.digest}"\n`);

    heading("Builds");
    const cold = await build(user, project, "cold");
    const clean = () => user.run(["make", "-C", join(project, "src"), "clean"]);
    await clean();
    const warm = await build(user, project, "again, after make clean");
    await clean();
    const trace = join(user.folder, "trace");
    const strace = ["strace", "-f", "-qq", "-e", "trace=execve,connect", "-o", trace];
    const traced = await build(user, project, "the same, traced", strace);
    const header = join(project, "src", HEADER);
    writeFileSync(header, `${readFileSync(header, "utf8")}\n#define HPCC_DEMO_EDIT 1\n`);
    const edited = await build(user, project, `after an edit of ${HEADER}`);
    const builds = [cold, warm, traced, edited];
    showBuilds(builds);

    const jobs = cold.stats.jobs_sent;
    const hitsOf = ({ stats: { outcomes } }: Build) => (outcomes["remote_hit"] ?? 0) + (outcomes["replayed"] ?? 0);
    check(jobs >= 30, `30 or more jobs (${jobs})`);
    check((edited.stats.outcomes["remote_compiled"] ?? 0) >= 1, `the edit of ${HEADER} compiles again`);
    for (const one of [warm, traced]) check(hitsOf(one) === jobs, `every compile of "${one.label}" is a hit`);
    for (const { stats } of builds) check(fallbacks(stats) === 0, `no fall-back (${reasonList(stats)})`);

    heading("What the traced build started");
    const { compilers, daemonCalls } = tracedIn(trace);
    const links = traced.stats.calls - hitsOf(traced);
    check((traced.stats.outcomes["replayed"] ?? 0) === jobs, "every hit is replayed by the launcher");
    check(compilers === 0, `no compiler and no preprocessor (${compilers})`);
    check(daemonCalls === links, `the daemon is asked for links alone (${daemonCalls}, ${links} links)`);
    console.log(
      `${jobs} hits: no compiler, no preprocessor, and no word with the daemon; ${daemonCalls} links asked it.`,
    );

    heading(`hpcc explain, after the edit of ${HEADER}`);
    for (const question of [["--last-build"], [join("src", "lcode.c")]]) {
      const explained = await user.hpcc(["explain", ...question], { cwd: project });
      if (explained.code !== 0) throw new Error(explained.stderr);
      check(explained.stdout.includes(HEADER), `explain ${question.join(" ")} names ${HEADER}`);
      console.log(`$ hpcc explain ${question.join(" ")}\n${explained.stdout}`);
    }

    heading("On the wire, before and after zstd");
    const { source_bytes, source_wire_bytes, result_bytes, result_wire_bytes } = cold.stats;
    console.log(
      `cold: sources ${kib(source_bytes)} -> ${kib(source_wire_bytes)}, results ${kib(result_bytes)} -> ${kib(result_wire_bytes)}`,
    );
    console.log("again: nothing");
    check(warm.stats.source_bytes + warm.stats.result_bytes === 0, "nothing on the wire for what was kept");

    heading("The last audit rows: image, source, flags, output, tenant, worker, vm, duration, exit");
    const log = await user.hpcc(["audit", "rows", "--state", worker.state, "--json"]);
    const rows = JSON.parse(log.stdout) as { row: string; digest: string; kind: AuditKind; isolation: string | null }[];
    const ofKind = (wanted: AuditKind) => rows.filter(({ kind }) => kind === wanted);
    const jobRows = rows.filter(({ kind }) => JOB_KINDS.has(kind));
    const sent = builds.reduce((sum, { stats }) => sum + stats.jobs_sent, 0);
    check(jobRows.length === sent, `one row for each job sent (${jobRows.length} rows, ${sent} jobs)`);
    for (const { row } of jobRows.slice(-3)) console.log(cut(row));
    console.log(
      `${jobRows.length} rows for ${sent} jobs, ${ofKind("vm").length} of kind vm, ${ofKind("host").length} of kind host`,
    );

    heading("hpcc inspect of the last row");
    const inspected = await user.hpcc(["inspect", jobRows.at(-1)!.digest], { cwd: project });
    if (inspected.code !== 0) throw new Error(inspected.stderr);
    console.log(inspected.stdout);

    heading("Where it ran");
    console.log(`isolation ${jobRows.at(-1)!.isolation}`);
    for (const { row } of ofKind("vm")) console.log(cut(row));
    const objects = await user.run(["sh", "-c", "ls src/*.o | wc -l; ./src/lua -v"], { cwd: project });
    console.log(objects.stdout);

    heading("Where to look next");
    console.log("README.md: the same by hand, in five minutes. docs/guides: make, CMake, Meson, configure scripts.");
    console.log("HPCC_DEMO_KEEP=1 make demo keeps everything, rows and all, to look at.");
  } finally {
    await farm.close(process.env["HPCC_DEMO_KEEP"] === "1");
  }
}

await main().catch((error: unknown) => {
  console.error(`demo: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
});
