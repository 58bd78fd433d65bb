// What observers are told of a call of a project that is bound to an image, gathered while it is answered.
import type { ByteString } from "../../base/byte-string.ts";
import { FieldWriter } from "../../core/action/fields.ts";
import type { GnuInvocation } from "../../core/compile/grammar/invocation.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import type { LocalStore } from "../../store/local/local-store.ts";
import type { CallMessage, Content, OutputsMessage } from "../../wire/launcher/messages.ts";
import type { Project, ProjectPlace } from "../project.ts";
import type { AnsweredCall, KeptOutput, KeptResult } from "./answered-call.ts";
import type { PreparedJob } from "./remote-job.ts";

/** What is known so far. */
export type KnownOfCall = { -readonly [K in keyof AnsweredCall]?: AnsweredCall[K] };

/** The words of a call without the names of source and outputs. */
export function comparedWords({ arguments: words }: GnuInvocation): ByteString[] {
  return words.flatMap(({ role, option, words: own }) =>
    role === "input" || role === "output" || /^-M[FTQ]$/.test(option) ? [] : own,
  );
}

/** What a call asks for. */
export function askedFor({ cwd }: CallMessage, invocation: GnuInvocation): KnownOfCall {
  const absolute = (path: ByteString) => (path.startsWith("/") ? path : (`${cwd}/${path}` as ByteString));
  return {
    source: absolute(invocation.source),
    output: absolute(invocation.output),
    words: comparedWords(invocation),
  };
}

/** What a job depends on. */
export function dependsOn(
  { action, evidence }: Pick<PreparedJob, "action" | "evidence">,
  {
    message,
    project,
    place,
  }: { readonly message: CallMessage; readonly project: Project; readonly place: ProjectPlace },
): KnownOfCall {
  // The seed comes from the files.
  const argv = action.argv.filter((word) => !word.startsWith("-frandom-seed="));
  const fields = new FieldWriter().ascii(1, "hpcc.image-call.v1").digest(2, action.imageDigest);
  for (const word of argv) fields.byteString(3, word);
  for (const variable of action.environment) fields.byteString(4, variable);
  for (const word of message.argv) fields.byteString(5, word);
  fields.byteString(6, message.cwd).byteString(7, project.root).ascii(8, place.paths).ascii(9, action.determinism);
  fields.u32(10, action.terminalColumns ?? 0);
  const environment = new Map(action.environment.map((entry) => nameAndValue(entry)));
  return { callDigest: sha256(fields.finish()), environment, ...evidence?.() };
}

function nameAndValue(entry: ByteString): [string, ByteString] {
  const equals = entry.indexOf("=");
  return [entry.slice(0, equals), entry.slice(equals + 1) as ByteString];
}

/** Keeps what a worker's answer leaves, so that it can be given again; null for a failure. */
export async function keptAnswer(
  { exitCode, stdout, stderr, files }: OutputsMessage,
  store: LocalStore,
): Promise<KeptResult | null> {
  if (exitCode !== 0) return null;
  const outputs: KeptOutput[] = [];
  for (const { destination, content, executable, manner } of files) {
    const kept = content.kind === "file" ? await store.keepFile(content.path) : await store.keepBytes(content.bytes);
    outputs.push({ destination, digest: kept.digest, path: kept.path, executable, manner });
  }
  const words = [stdout, stderr].map(inlineBytes);
  return words.includes(null) ? null : { stdout: words[0]!, stderr: words[1]!, outputs };
}

function inlineBytes(content: Content | null): Uint8Array | null {
  if (content === null) return new Uint8Array();
  return content.kind === "inline" ? content.bytes : null;
}

/** The image as a compiler's identity. */
export function imageCompiler(image: Digest): NonNullable<AnsweredCall["compiler"]> {
  return { identity: image, image, files: [] };
}
