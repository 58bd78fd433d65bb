// `make test`: the project's checks, the Rust tests and the TypeScript tests, counted together. Ends with
// "N passed, N failed, N skipped", and before that why tests did not run. Whatever does not run is counted, whole groups by their
// tests; a group without tests counts as failed. With HPCC_TEST_ALL=1, as CI does, also what takes long: the KVM lab, and QEMU
// machines that are parked and restored a hundred times.
import { spawn } from "node:child_process";
import { globSync } from "node:fs";
import { join } from "node:path";
import { findFirecracker } from "../test/support/firecracker.ts";
import { SLOWEST } from "../test/support/slowest-files.ts";
import {
  addUp,
  cargoTally,
  closingLines,
  failedTests,
  gateTally,
  judged,
  listedTally,
  NOTHING,
  nodeTally,
  type Tally,
} from "./test-tally.ts";

const root = join(import.meta.dirname, "..");
const node = join(root, "node_modules/.bin/node");

interface Group {
  readonly name: string;
  readonly command: readonly string[];
  readonly cwd?: string;
  /** Where the caller does not say otherwise. */
  readonly env?: Readonly<Record<string, string>>;
  /** Why it cannot run here. */
  readonly skip?: string;
  /** Files of node's test runner. */
  readonly files?: readonly string[];
  /** Counts the tests of a group that does not run; there for each that may not. */
  readonly list?: readonly string[];
  /** Takes long: run only when it is named, or with HPCC_TEST_ALL=1. */
  readonly byName?: boolean;
  /** Keeps one core busy, an emulated machine's for most: such groups that follow each other run two at a time. */
  readonly oneCore?: boolean;
  /** Adds up the runner's own closing figures. */
  readonly count: (output: string) => Tally;
  /** The line with which the runner begins to say what failed and why. */
  readonly failures: RegExp;
  readonly deadlineMinutes: number;
}

const NODE_FAILURES = /^✖ failing tests:$/m;
const CARGO_FAILURES = /^failures:$/m;
const GATE_FAILURES = /^\d+ gates passed, [1-9]/m;
/** Lines of a failed group that are said once more at the end. */
const FAILURE_LINES_MAX = 40;

/** What a failed group said of its failures, so that the end of a log tells what to look for. */
function failureLines(group: Group, output: string): string[] {
  const start = output.search(group.failures);
  const said = (start < 0 ? output : output.slice(start)).trimEnd().split("\n");
  return start < 0 ? said.slice(-FAILURE_LINES_MAX) : said.slice(0, FAILURE_LINES_MAX);
}

/** Most a test may take where it compiles in an emulated machine. */
const EMULATED_TEST_MS_MAX = 600_000;
const wanted = process.argv.slice(2);
const all = process.env["HPCC_TEST_ALL"] === "1";
/** Cycles of park and restore of the contract suite: the claim is about a hundred. */
const PARK_CYCLES = all ? 100 : 10;
/** Elsewhere; less than a group's deadline, so that a test that hangs is named. */
const TEST_MS_MAX = 180_000;

interface NodeTestOptions {
  readonly concurrency: number;
  readonly deadlineMinutes: number;
  readonly testMsMax: number;
  /** Patterns of files that another group runs. */
  readonly except?: readonly string[];
  /** Where the caller does not say otherwise. */
  readonly env?: Readonly<Record<string, string>>;
}

function nodeTests(name: string, patterns: readonly string[], options: NodeTestOptions): Group {
  const { concurrency, deadlineMinutes, testMsMax } = options;
  const files = patterns
    .flatMap((pattern) => globSync(pattern, { cwd: root, exclude: [...(options.except ?? [])] }))
    .sort();
  const command = [
    node,
    "--test",
    "--test-reporter=spec",
    "--test-reporter-destination=stdout",
    "--test-reporter=./test/support/slowest-files.ts",
    "--test-reporter-destination=stdout",
    `--test-concurrency=${concurrency}`,
    `--test-timeout=${testMsMax}`,
    "--import=./test/support/property-seed.ts",
  ];
  return {
    name,
    files,
    command: [...command, ...files],
    list: [...command, "--import=./test/support/skip-all.ts", ...files],
    count: (output) => (files.length === 0 ? { ...NOTHING, failed: 1 } : nodeTally(output)),
    failures: NODE_FAILURES,
    deadlineMinutes,
    ...(options.env && { env: options.env }),
  };
}

/** They need real Firecracker, KVM and a disk: they run in the lab. */
const FIRECRACKER_TESTS = [
  "test/vm/contract/firecracker.test.ts",
  "test/vm/firecracker-*.test.ts",
  "test/vm/keeper/*.test.ts",
];
const FIRECRACKER = findFirecracker() !== null;
/** In the lab, where a snapshot by Firecracker takes a quarter of a minute. */
const LAB_PARK_CYCLES = FIRECRACKER ? 5 : PARK_CYCLES;

/** End-to-end tests whose work is compiling, and which ask for results alone. */
const BUILD_TESTS = [
  "changed-while-listed",
  "corpus",
  "corpus-files",
  "debuggers",
  "demo",
  "distributions",
  "explain",
  "guides",
  "hostile-checkouts",
  "image-surroundings",
  "images-guide",
  "kept-lists",
  "local-image-pitfalls",
  "local-loader",
  "local-pitfalls",
  "local-projects",
  "local-steps",
  "local-use",
  "other-images",
  "package-managers",
  "pitfalls",
  "policy",
  "projects",
  "random-steps",
  "readme",
  "real-project",
  "replay",
  "reproduce",
  "reproduce-builds",
  "revocation",
  "run",
  "shared-vms",
  "sharing",
  "team-image",
  "two-hosts",
  "users",
  "views",
  "worker-replays",
].map((name) => `test/e2e/${name}.test.ts`);

const LAB_SKIP = process.getuid?.() === 0 ? {} : { skip: "the KVM lab needs root" };

/** What is run inside of the KVM lab (scripts/lab). There, everything is about ten times slower than here. */
function labTests(name: string, patterns: readonly string[], deadlineMinutes: number): Group {
  const tests = nodeTests(name, patterns, { concurrency: 1, deadlineMinutes, testMsMax: EMULATED_TEST_MS_MAX });
  return {
    ...tests,
    command: [join(root, "scripts/lab/run"), "--deadline", String(deadlineMinutes * 60 - 10), ...tests.command],
    env: { HPCC_TEST_PARK_CYCLES: String(LAB_PARK_CYCLES) },
    ...LAB_SKIP,
    byName: true,
    oneCore: true,
  };
}

const groups: readonly Group[] = [
  {
    name: "checks",
    command: [node, "scripts/check.ts"],
    count: gateTally,
    failures: GATE_FAILURES,
    deadlineMinutes: 10,
  },
  nodeTests("unit", ["{src,scripts}/**/*.test.ts"], { concurrency: 2, deadlineMinutes: 15, testMsMax: TEST_MS_MAX }),
  nodeTests("parts", ["test/{adversary,agent,corpus,docs,launcher,fidelity,golden,fuzz}/**/*.test.ts"], {
    concurrency: 2,
    deadlineMinutes: 15,
    testMsMax: EMULATED_TEST_MS_MAX,
  }),
  // One boot of the lab serves both.
  labTests("kvm lab", ["test/lab/inside/*.test.ts", ...(FIRECRACKER ? FIRECRACKER_TESTS : [])], FIRECRACKER ? 120 : 20),
  {
    ...nodeTests("vm", ["test/vm/**/*.test.ts"], {
      concurrency: 1,
      deadlineMinutes: 20,
      testMsMax: EMULATED_TEST_MS_MAX,
      except: FIRECRACKER_TESTS,
      env: { HPCC_TEST_PARK_CYCLES: String(PARK_CYCLES) },
    }),
    oneCore: true,
  },
  {
    ...nodeTests("lab", ["test/lab/*.test.ts"], { concurrency: 1, deadlineMinutes: 5, testMsMax: TEST_MS_MAX }),
    ...LAB_SKIP,
    byName: true,
    oneCore: true,
  },
  {
    name: "rust",
    command: [
      "cargo",
      "test",
      "--workspace",
      "--features",
      "hpcc-agent/test-harness,hpcc-keeper/test-harness",
      "--locked",
      "--quiet",
      "--",
      "--show-output",
    ],
    cwd: join(root, "native"),
    count: cargoTally,
    failures: CARGO_FAILURES,
    deadlineMinutes: 15,
    oneCore: true,
  },
  ...(FIRECRACKER
    ? []
    : [
        {
          ...labTests("firecracker", FIRECRACKER_TESTS, 10),
          skip: "no firecracker on PATH or in HPCC_FIRECRACKER_DIR",
        },
      ]),
  // A machine under TCG keeps one core busy: two of these files share two cores. The others look at times, memory or processes
  // in mid-build, and have the machine to themselves.
  nodeTests("builds", BUILD_TESTS, { concurrency: 2, deadlineMinutes: 40, testMsMax: EMULATED_TEST_MS_MAX }),
  nodeTests("end to end", ["test/e2e/**/*.test.ts"], {
    concurrency: 1,
    deadlineMinutes: 30,
    testMsMax: EMULATED_TEST_MS_MAX,
    except: BUILD_TESTS,
  }),
];

interface Ran {
  readonly tally: Tally;
  readonly seconds: number;
  readonly output: string;
}

/** Runs a group, or counts its tests where there is a reason why it does not run. What it prints goes out at once, or at its end. */
function run(group: Group, notRun: string | null, printed: "at once" | "at the end"): Promise<Ran> {
  const started = performance.now();
  const command = notRun === null ? group.command : (group.list ?? ["false"]);
  const skipAll = notRun === null ? {} : { HPCC_TEST_SKIP_ALL: notRun };
  return new Promise((resolve) => {
    const [program = "", ...args] = command;
    const child = spawn(program, args, {
      cwd: group.cwd ?? root,
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
      env: { ...group.env, ...process.env, ...skipAll, NO_COLOR: "1", CARGO_BUILD_JOBS: "2" },
    });
    let output = "";
    const take = (stream: NodeJS.WriteStream) => (chunk: Buffer) => {
      if (notRun === null && printed === "at once") stream.write(chunk);
      output += chunk.toString("utf8");
    };
    child.stdout.on("data", take(process.stdout));
    child.stderr.on("data", take(process.stderr));
    const timer = setTimeout(() => {
      output += `\n${group.name}: over its deadline of ${group.deadlineMinutes} minutes\n`;
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    }, group.deadlineMinutes * 60_000);
    child.on("error", (error) => {
      output += `\n${error.message}\n`;
    });
    child.on("close", (code) => {
      clearTimeout(timer);
      const tally = (notRun === null ? judged : listedTally)(group.count(output), code);
      resolve({ tally, seconds: (performance.now() - started) / 1000, output });
    });
  });
}

/** Why a group does not run; null when it does. */
function notRunOf(group: Group): string | null {
  if (group.skip !== undefined) return group.skip;
  return wanted.length === 0 && group.byName && !all
    ? "in the KVM lab: HPCC_TEST_ALL=1 or make test-kvm runs it"
    : null;
}

/** Runs a group and prints it under its name. */
async function runPrinted(group: Group, printed: "at once" | "at the end"): Promise<Ran> {
  const notRun = notRunOf(group);
  const title = `\n== ${group.name}${notRun === null ? "" : ": its tests are counted, they do not run"} ==`;
  if (printed === "at once") console.log(title);
  const ran = await run(group, notRun, printed);
  if (printed === "at the end") console.log(notRun === null ? `${title}\n${ran.output}` : title);
  return ran;
}

/** Runs groups in their order: those that keep one core busy in turns of their own, two at a time. */
async function runAll(list: readonly Group[]): Promise<Map<Group, Ran>> {
  const ran = new Map<Group, Ran>();
  const left = [...list];
  for (let group = left.shift(); group !== undefined; group = left.shift()) {
    const turn = [group];
    while (group.oneCore && left[0]?.oneCore) turn.push(left.shift()!);
    const printed = turn.length > 1 ? "at the end" : "at once";
    const lane = async () => {
      for (let next = turn.shift(); next !== undefined; next = turn.shift())
        ran.set(next, await runPrinted(next, printed));
    };
    await Promise.all([lane(), lane()]);
  }
  return ran;
}

const isWanted = ({ name }: Group) => wanted.length === 0 || wanted.includes(name);
const ran = await runAll(groups.filter(isWanted));
const tallies: Tally[] = [];
const lines: string[] = [];
const failures: string[] = [];
for (const group of groups) {
  const end = ran.get(group);
  if (end === undefined) {
    lines.push(`${group.name}: not asked for, and not counted`);
    continue;
  }
  const { tally, seconds, output } = end;
  tallies.push(tally);
  if (tally.failed > 0) failures.push(`\n== failed in ${group.name} ==`, ...failureLines(group, output));
  const { passed, failed, skipped } = tally;
  lines.push(`${group.name}: ${passed} passed, ${failed} failed, ${skipped} skipped in ${seconds.toFixed(0)} s`);
  for (const name of tally.failed > 0 ? failedTests(output) : []) lines.push(`  failed: ${name}`);
  const slowest = output.split("\n").findLast((line) => line.startsWith(SLOWEST));
  if (slowest !== undefined) lines.push(`  ${slowest}`);
}
const inGroups = new Set(groups.flatMap(({ files = [] }) => files));
const inNone = globSync("{src,scripts,test,bench,web}/**/*.test.ts", { cwd: root }).filter(
  (file) => !inGroups.has(file),
);
for (const file of inNone) failures.push(`\n${file} is in no group of scripts/test.ts, so nothing runs or counts it`);
const total = addUp([...tallies, { ...NOTHING, failed: inNone.length }]);
for (const line of failures) console.log(line);
console.log(`\n${lines.join("\n")}\n`);
for (const line of closingLines(total)) console.log(line);
process.exitCode = total.failed === 0 && total.passed > 0 ? 0 : 1;
