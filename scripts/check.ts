// `npm run check`: format, types, lint, layers, dead code, schemas, generated-code drift and the Rust workspace. Each gate
// asserts that it saw something: a gate that looked at nothing fails.
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");

interface Gate {
  readonly name: string;
  readonly command: readonly string[];
  readonly cwd?: string;
  /** Reads how many things the gate saw out of what it printed; null when nothing shows it. */
  readonly saw: (output: string) => number;
  readonly sawMin: number;
}

function sourceFiles(): number {
  return readdirSync(join(root, "src"), { recursive: true }).filter((name) => String(name).endsWith(".ts")).length;
}

const exitCodeOnly = () => Number.POSITIVE_INFINITY;

function matched(pattern: RegExp): (output: string) => number {
  return (output) => Number(pattern.exec(output)?.[1]?.replaceAll(",", "") ?? 0);
}

const bin = (name: string) => join(root, "node_modules/.bin", name);

const gates: readonly Gate[] = [
  { name: "format", command: [bin("biome"), "check", "."], saw: matched(/Checked ([\d,]+) files/), sawMin: 20 },
  {
    name: "types",
    command: [bin("tsc"), "--extendedDiagnostics"],
    saw: matched(/Files:\s+([\d,]+)/),
    sawMin: 50,
  },
  { name: "lint", command: [bin("oxlint"), "--type-aware"], saw: matched(/on ([\d,]+) files/), sawMin: 20 },
  {
    name: "layers",
    command: [process.execPath, "scripts/check-layers.ts"],
    saw: matched(/([\d,]+) modules/),
    sawMin: 20,
  },
  {
    name: "references",
    command: [process.execPath, "scripts/check-references.ts"],
    saw: matched(/([\d,]+) files/),
    sawMin: 300,
  },
  {
    name: "regular expressions",
    command: [process.execPath, "scripts/check-regexps.ts"],
    saw: matched(/([\d,]+) regular expressions/),
    sawMin: 20,
  },
  { name: "dead code", command: [bin("knip"), "--no-progress"], saw: sourceFiles, sawMin: 20 },
  { name: "schemas", command: [bin("buf"), "lint"], saw: exitCodeOnly, sawMin: 1 },
  { name: "schema format", command: [bin("buf"), "format", "--diff", "--exit-code"], saw: exitCodeOnly, sawMin: 1 },
  {
    name: "generated code",
    command: [
      "sh",
      "-c",
      'd=$(mktemp -d) && trap "rm -rf $d" EXIT && node_modules/.bin/buf generate -o "$d" && diff -r "$d/src/gen" src/gen && find "$d" -type f | wc -l | sed "s/$/ generated/"',
    ],
    saw: matched(/(\d+) generated/),
    sawMin: 6,
  },
  {
    name: "Rust format",
    command: ["cargo", "fmt", "--all", "--check"],
    cwd: join(root, "native"),
    saw: exitCodeOnly,
    sawMin: 1,
  },
  {
    name: "Rust lint",
    command: [
      "cargo",
      "clippy",
      "--workspace",
      "--features",
      "hpcc-agent/test-harness",
      "--all-targets",
      "--quiet",
      "--",
      "-D",
      "warnings",
    ],
    cwd: join(root, "native"),
    saw: exitCodeOnly,
    sawMin: 1,
  },
];

const only = process.argv.slice(2);
let passed = 0;
let failed = 0;

function fail(gate: Gate, why: string): void {
  failed += 1;
  console.log(`FAIL ${gate.name}${why}`);
}

/** What a gate's command printed, and with which code it ended. */
function run(gate: Gate, program: string): Promise<{ readonly code: number | null; readonly output: string }> {
  const { promise, resolve } = Promise.withResolvers<{ readonly code: number | null; readonly output: string }>();
  const child = spawn(program, gate.command.slice(1), {
    cwd: gate.cwd ?? root,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, CARGO_BUILD_JOBS: String(Math.min(2, availableParallelism())) },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (output += text));
  child.on("error", (error) => resolve({ code: null, output: error.message }));
  child.on("close", (code) => resolve({ code, output }));
  return promise;
}

async function judge(gate: Gate): Promise<void> {
  const started = performance.now();
  const program = gate.command[0];
  if (program === undefined || (program.includes("/") && !existsSync(program)))
    return fail(gate, `: ${program ?? "nothing"} is missing; run make setup`);
  const { code, output } = await run(gate, program);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const saw = gate.saw(output);
  if (code === 0 && saw >= gate.sawMin) {
    console.log(`ok   ${gate.name} (${seconds} s)`);
    passed += 1;
    return;
  }
  const why = code === 0 ? `saw ${saw} things, at least ${gate.sawMin} expected` : `exit ${code}`;
  fail(gate, ` (${seconds} s): ${why}\n${output}`);
}

async function judgeAll(lane: readonly Gate[]): Promise<void> {
  for (const gate of lane) if (only.length === 0 || only.includes(gate.name)) await judge(gate);
}

// Cargo's gates take turns, and as long as all others.
const isCargo = (gate: Gate) => gate.command[0] === "cargo";
await Promise.all([judgeAll(gates.filter(isCargo)), judgeAll(gates.filter((gate) => !isCargo(gate)))]);
console.log(`${passed} gates passed, ${failed} failed`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
