// Runs a program of the machine for an image: to its end, with bounded output, and with an error that names its package.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { HpccError } from "../base/errors.ts";

const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;
const WORDS_MAX = 2000;

export interface ToolResult {
  readonly exitCode: number;
  readonly stdout: Buffer;
  readonly stderr: string;
}

export interface RunningTool {
  readonly child: ChildProcess;
  readonly ended: Promise<ToolResult>;
}

/** Starts a program with standard input as a pipe. `aptPackage` is where to find it when it is missing. */
export function startTool(program: string, args: readonly string[], aptPackage: string): RunningTool {
  const child = spawn(program, [...args], {
    stdio: ["pipe", "pipe", "pipe"],
    env: { PATH: process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C", TZ: "UTC" },
  });
  child.stdin?.on("error", () => {});
  return { child, ended: collect(child, program, aptPackage) };
}

async function collect(child: ChildProcess, program: string, aptPackage: string): Promise<ToolResult> {
  const out: Buffer[] = [];
  let outBytes = 0;
  let stderr = "";
  child.stdout?.on("data", (chunk: Buffer) => {
    outBytes += chunk.length;
    if (outBytes > OUTPUT_BYTES_MAX) child.kill("SIGKILL");
    else out.push(chunk);
  });
  child.stderr?.on("data", (chunk: Buffer) => {
    if (stderr.length < WORDS_MAX) stderr += chunk.toString("utf8");
  });
  try {
    const [code] = (await once(child, "close")) as [number | null];
    return { exitCode: code ?? -1, stdout: Buffer.concat(out), stderr: stderr.slice(0, WORDS_MAX).trim() };
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT")
      throw new HpccError("tool.missing", `${program} is not installed (package ${aptPackage})`, { cause });
    throw new HpccError("tool.missing", `${program} cannot be run`, { cause });
  }
}

/** Runs a program to its end without input. */
export async function runTool(program: string, args: readonly string[], aptPackage: string): Promise<ToolResult> {
  const { child, ended } = startTool(program, args, aptPackage);
  child.stdin?.end();
  return ended;
}
