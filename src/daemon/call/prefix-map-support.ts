// Whether a compiler knows -ffile-prefix-map (GCC since 8, Clang since 10), asked once of each compiler as the launcher's child. One that
// does not is never given it: its calls have the project at its own path, here and in guests.
import { spawn } from "node:child_process";
import { ascii, type ByteString } from "../../base/byte-string.ts";
import { stepEnvironment } from "../../core/compile/grammar/environment.ts";
import type { LauncherCall } from "../control/launcher-connection.ts";
import type { ImageCompiler, Project } from "../project.ts";
import { joinEnvironment } from "./environment-words.ts";
import type { Remembered } from "./remembered.ts";

const ASKING_MS = 30_000;
const QUESTION = ["-ffile-prefix-map=/none=.", "-E", "-x", "c", "/dev/null"].map(ascii);

export interface AskedCompiler {
  readonly call: LauncherCall;
  readonly project: Project;
  readonly compiler: ImageCompiler;
}

function prefixMapKey({ project, compiler }: Pick<AskedCompiler, "project" | "compiler">): string {
  return JSON.stringify([project.imageDigest, compiler.path]);
}

/** True also where the compiler could not be asked. */
export async function takesPrefixMaps(asked: AskedCompiler, known: Remembered<boolean>): Promise<boolean> {
  const { call, project, compiler } = asked;
  const key = prefixMapKey(asked);
  const before = known.get(key);
  const takes = before ?? (await ask(asked));
  if (takes === null) return true;
  known.set(key, takes);
  if (before === undefined && !takes && !call.signal.aborted) await project.planWithoutMaps(compiler);
  return takes;
}

/**
 * The same where the launcher can enter no namespace of the daemon's: the daemon asks, in a namespace made for it. Only for a call that is
 * compiled here anyhow. A path that is not UTF-8 cannot be told to a child, and counts as if the compiler had not answered.
 */
export async function takesPrefixMapsUnentered(
  { project, compiler }: Omit<AskedCompiler, "call">,
  known: Remembered<boolean>,
): Promise<boolean> {
  const key = prefixMapKey({ project, compiler });
  const before = known.get(key);
  if (before !== undefined) return before;
  const [program = "", ...words] = [...project.sandboxArgv, ascii("--"), compiler.path, ...QUESTION];
  if ([program, ...words].some((word) => !isAscii(word))) return true;
  const environment = stepEnvironment({ locale: "C", appearance: [], searchPath: project.searchPath });
  const env = Object.fromEntries(environment);
  const code = await new Promise<number | null>((resolve) => {
    const child = spawn(program, words, { env, cwd: "/", stdio: "ignore", timeout: ASKING_MS });
    child.once("error", () => resolve(null));
    child.once("exit", resolve);
  });
  if (code !== null) known.set(key, code === 0);
  return code === null || code === 0;
}

function isAscii(word: string): boolean {
  return /^[\x01-\x7f]*$/.test(word);
}

/** Null when the compiler could not be run to its end. */
async function ask({ call, project, compiler }: AskedCompiler): Promise<boolean | null> {
  const argv: ByteString[] = [compiler.path, ...QUESTION];
  const ran = await call.run({
    program: compiler.path,
    argv,
    environment: joinEnvironment(stepEnvironment({ locale: "C", appearance: [], searchPath: project.searchPath })),
    cwd: ascii("/"),
    namespace: await project.localNamespace(),
    stdin: "null",
    stdout: { kind: "discard" },
    stderr: { kind: "discard" },
    timeLimitMs: ASKING_MS,
  });
  return ran.outcome.kind === "exited" ? ran.outcome.code === 0 : null;
}
