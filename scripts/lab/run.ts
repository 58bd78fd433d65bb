// `scripts/lab/run [options] COMMAND...`: runs a command as root of a machine with KVM, which is emulated (AMD's SVM under QEMU's
// TCG), so that KVM's users can be tested where there is none. The machine's root is this one's, read-only below a tmpfs; the
// folder and the environment are the caller's. What the command prints comes out on stdout, and its exit code is this program's.
//
// This half knows options, deadline and signals. All that the lab consists of lives in PID and mount namespaces of its own
// (host.ts), so that however this program ends, nothing stays.
import { spawn } from "node:child_process";
import { join, resolve } from "node:path";
import type { LabSpec } from "./host.ts";

const USAGE = `usage: scripts/lab/run [options] COMMAND [ARGUMENT...]
  --deadline SECONDS  most that it may take, the machine's start included (600)
  --memory MIB        memory of the machine, which also holds all that is written there (8192)
  --cpus N            processors of the machine (1; with more, QEMU before 8.1 may hang it)
  --share FOLDER      a folder that is written here, not in the lab's memory; may be given more than once
`;

/** When the deadline or the lab, not its command, ends it: the codes of timeout(1). */
const EXIT_DEADLINE = 124;
const EXIT_LAB_FAILED = 125;
/** What guest.sh prints when the command has ended. */
const LAST_WORDS = /\0lab exit (\d{1,3})\0/;
const LAST_WORDS_BYTES_MAX = "\0lab exit 255\0".length;

function fail(message: string): never {
  process.stderr.write(`lab: ${message}\n${USAGE}`);
  process.exit(EXIT_LAB_FAILED);
}

function parse(argv: readonly string[]): { spec: LabSpec; deadlineSeconds: number } {
  // A kernel changes its own code while it runs. QEMU before 8.1 can miss that on another processor, which then executes the
  // breakpoint of a change that is over, for ever (mended by its commit deba78709ae8).
  const numbers = { deadline: 600, memory: 8192, cpus: 1 };
  const shared: string[] = [];
  const rest = [...argv];
  while (rest[0]?.startsWith("--")) {
    const name = rest.shift()?.slice(2) ?? "";
    if (name === "") break;
    const value = rest.shift();
    if (value === undefined) fail(`--${name} wants a value`);
    if (name === "share") shared.push(resolve(value));
    else if (name === "deadline" || name === "memory" || name === "cpus") {
      if (!/^[1-9]\d{0,5}$/.test(value)) fail(`--${name} wants a number, not ${value}`);
      numbers[name] = Number(value);
    } else fail(`unknown option --${name}`);
  }
  if (rest.length === 0) fail("no command");
  const spec = { command: rest, memoryMib: numbers.memory, cpus: numbers.cpus, shared };
  return { spec, deadlineSeconds: numbers.deadline };
}

/** Passes output on as it comes, but for the last words, whose code it gives. */
class Output {
  #held = "";

  /** The command's exit code when it has ended. */
  take(chunk: Buffer): number | null {
    // Bytes as characters.
    const text = this.#held + chunk.toString("latin1");
    const last = LAST_WORDS.exec(text);
    const start = last ? last.index : text.indexOf("\0", Math.max(0, text.length - LAST_WORDS_BYTES_MAX));
    const end = start === -1 ? text.length : start;
    this.#held = text.slice(end);
    process.stdout.write(text.slice(0, end), "latin1");
    return last ? Number(last[1]) : null;
  }
}

const { spec, deadlineSeconds } = parse(process.argv.slice(2));
if (process.getuid?.() !== 0) fail("needs root, for namespaces and virtiofsd");
// setpriv: the lab ends when this program does. A process group of its own: only this program hears the terminal's Ctrl-C.
const namespaces = ["--pdeathsig=KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"];
const lab = spawn(
  "setpriv",
  [...namespaces, process.execPath, join(import.meta.dirname, "host.ts"), JSON.stringify(spec)],
  { stdio: ["ignore", "pipe", "inherit"], detached: true },
);
let code: number | null = null;
function end(exitCode: number, message?: string): void {
  if (message !== undefined && code === null) process.stderr.write(`lab: ${message}\n`);
  code ??= exitCode;
  lab.kill("SIGKILL");
}
const timer = setTimeout(() => end(EXIT_DEADLINE, `over its deadline of ${deadlineSeconds} s`), deadlineSeconds * 1000);
for (const [signal, number] of [
  ["SIGINT", 2],
  ["SIGTERM", 15],
  ["SIGHUP", 1],
] as const)
  process.on(signal, () => end(128 + number));
const output = new Output();
lab.stdout.on("data", (chunk: Buffer) => {
  const ended = output.take(chunk);
  if (ended !== null) end(ended);
});
lab.on("error", (error) => end(EXIT_LAB_FAILED, error.message));
lab.on("close", () => {
  clearTimeout(timer);
  end(EXIT_LAB_FAILED, "ended before its command did");
  process.exitCode = code ?? EXIT_LAB_FAILED;
});
