// `make demo`: a real C project compiled call by call through launcher, daemon, scheduler, worker and agent in a microVM, then
// again from the worker's cache, with an audit row per job. Ends with a non-zero exit code when anything is not as promised.
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
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

/** Builds with make, showing each finished call. */
async function build(user: User, project: string, label: string): Promise<{ seconds: number; stats: CallStats }> {
  await user.stats(true);
  let done = 0;
  const result = await user.run(["make", "-C", join(project, "src"), `-j${JOBS}`, "generic", `CC=${HPCC} gcc`], {
    onOutput: (text) => {
      done += text.split(" -c ").length - 1;
      if (process.stdout.isTTY) process.stdout.write(`\r${label}: ${done} compiles started `);
    },
  });
  if (process.stdout.isTTY) process.stdout.write("\r\u001b[K");
  if (result.code !== 0)
    throw new Error(`${label} failed:\n${result.stdout.slice(-3000)}${result.stderr.slice(-3000)}`);
  const stats = await user.stats();
  const { outcomes } = stats;
  console.log(
    `${label}: ${result.seconds.toFixed(1)} s; ${outcomes["remote_compiled"]} compiled in the microVM, ` +
      `${outcomes["remote_hit"]} from the worker's cache, ${outcomes["local"]} local (${reasonList(stats)})`,
  );
  return { seconds: result.seconds, stats };
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
    const user = await farm.addUser("alice", { images: [image.digest] });
    const started = await user.hpcc(["daemon", "start"]);
    if (started.code !== 0) throw new Error(started.stderr);
    console.log(`scheduler ${farm.schedulerAddress}, worker ${worker.address}, tenant acme, user alice`);

    const project = join(user.folder, PACKAGE);
    mkdirSync(project);
    cpSync(join(sources, PACKAGE), project, { recursive: true });
    writeFileSync(join(project, "hpcc.toml"), `image = "${image.digest}"\n`);

    heading("Builds");
    const cold = await build(user, project, "cold build");
    const clean = () => user.run(["make", "-C", join(project, "src"), "clean"]);
    await clean();
    const warm = await build(user, project, "warm build after make clean");
    const header = join(project, "src", HEADER);
    writeFileSync(header, `${readFileSync(header, "utf8")}\n#define HPCC_DEMO_EDIT 1\n`);
    const edited = await build(user, project, `rebuild after an edit of ${HEADER}`);

    const jobs = cold.stats.jobs_sent;
    check(jobs >= 30, `30 or more jobs (${jobs})`);
    check((edited.stats.outcomes["remote_compiled"] ?? 0) >= 1, `the edit of ${HEADER} compiles again`);
    check(warm.stats.outcomes["remote_hit"] === jobs, "every compile of the warm build is a hit");
    for (const { stats } of [cold, warm, edited]) check(fallbacks(stats) === 0, `no fall-back (${reasonList(stats)})`);

    heading("On the wire, before and after zstd");
    const { source_bytes, source_wire_bytes, result_bytes, result_wire_bytes } = cold.stats;
    console.log(
      `cold: sources ${kib(source_bytes)} -> ${kib(source_wire_bytes)}, results ${kib(result_bytes)} -> ${kib(result_wire_bytes)}`,
    );
    console.log(
      `warm: sources ${kib(warm.stats.source_bytes)}, results ${kib(warm.stats.result_bytes)} -> ${kib(warm.stats.result_wire_bytes)}`,
    );

    heading("The last audit rows: image, source, flags, output, tenant, worker, vm, duration, exit");
    const log = await user.hpcc(["audit", "rows", "--state", worker.state, "--json"]);
    const rows = JSON.parse(log.stdout) as { row: string; digest: string; kind: string; isolation: string | null }[];
    const ofKind = (wanted: string) => rows.filter(({ kind }) => kind === wanted);
    const jobRows = rows.filter(({ kind }) => kind !== "vm" && kind !== "host");
    const sent = cold.stats.jobs_sent + warm.stats.jobs_sent + edited.stats.jobs_sent;
    check(jobRows.length === sent, `one row for each job sent (${jobRows.length} rows, ${sent} jobs)`);
    for (const { row } of jobRows.slice(-3)) console.log(row);
    console.log(
      `${jobRows.length} rows for ${sent} jobs, ${ofKind("vm").length} of kind vm, ${ofKind("host").length} of kind host`,
    );

    heading("hpcc inspect of the last row");
    const inspected = await user.hpcc(["inspect", jobRows.at(-1)!.digest], { cwd: project });
    if (inspected.code !== 0) throw new Error(inspected.stderr);
    console.log(inspected.stdout);

    heading("Where it ran");
    console.log(`isolation ${jobRows.at(-1)!.isolation}`);
    for (const { row } of ofKind("vm")) console.log(row);
    const objects = await user.run(["sh", "-c", "ls src/*.o | wc -l; ./src/lua -v"], { cwd: project });
    console.log(objects.stdout);
  } finally {
    await farm.close(process.env["HPCC_DEMO_KEEP"] === "1");
  }
}

await main().catch((error: unknown) => {
  console.error(`demo: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
});
