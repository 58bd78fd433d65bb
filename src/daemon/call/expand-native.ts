// What `-march=native` means on this machine, asked of the image's compiler as the launcher's child and remembered: a guest has the
// processor of another one. UNTRUSTED: the words are an image's program's.
import { readFile, stat } from "node:fs/promises";
import { ascii, type ByteString, byteStringOf, bytesOf } from "../../base/byte-string.ts";
import { stepEnvironment } from "../../core/compile/grammar/environment.ts";
import { grammarOf } from "../../core/compile/grammar/gnu-grammar.ts";
import type { GnuInvocation } from "../../core/compile/grammar/invocation.ts";
import type { LauncherCall } from "../control/launcher-connection.ts";
import type { ImageCompiler, Project, ProjectPlace } from "../project.ts";
import { joinEnvironment } from "./environment-words.ts";
import type { Remembered } from "./remembered.ts";
import { bypass, next, type Stage } from "./stage.ts";

const ASKING_MS = 30_000;
const ANSWER_BYTES_MAX = 256 * 1024;

export interface NativeCall {
  readonly call: LauncherCall;
  readonly project: Project;
  readonly compiler: ImageCompiler;
  readonly invocation: GnuInvocation;
  readonly place: ProjectPlace;
  /** Host path of the call's own folder. */
  readonly folder: ByteString;
}

/** The call with the processor's options by their names. */
export async function expandNative(call: NativeCall, answers: Remembered<ByteString>): Promise<Stage<GnuInvocation>> {
  const { project, compiler, invocation, place } = call;
  const { native } = grammarOf(compiler);
  const question = native.question(invocation);
  if (question === null) return next(invocation);
  const key = JSON.stringify([project.imageDigest, compiler.path, question]);
  const said = answers.get(key) ?? (await ask(call, question));
  if (said === null) return bypass("native_architecture");
  answers.set(key, said);
  const expanded = native.expand(invocation, { said, ownPaths: place.paths === "own" });
  return expanded === null ? bypass("native_architecture") : next(expanded);
}

/** What the compiler says; null when it does not answer. */
async function ask(
  { call, project, compiler, place, folder }: NativeCall,
  question: readonly ByteString[],
): Promise<ByteString | null> {
  const path = `${folder}/native-${place.paths}` as ByteString;
  const ran = await call.run({
    program: compiler.path,
    argv: [compiler.path, ...question],
    environment: joinEnvironment(stepEnvironment({ locale: "C", appearance: [], searchPath: project.searchPath })),
    cwd: ascii("/"),
    namespace: await place.namespace(),
    stdin: "null",
    stdout: { kind: "discard" },
    stderr: { kind: "file", path },
    timeLimitMs: ASKING_MS,
  });
  if (ran.outcome.kind === "failed") throw new Error(`the launcher could not ask a compiler: ${ran.outcome.failure}`);
  if (ran.outcome.kind === "signaled" || ran.outcome.code !== 0) return null;
  const { size } = await stat(bytesOf(path));
  return size > ANSWER_BYTES_MAX ? null : byteStringOf(await readFile(bytesOf(path)));
}
