// Compiles a call in one step and in two, and compares what comes out: object, stderr, exit code. The second step runs where
// only the files that would be sent exist. Knows no case list.
import { existsSync, mkdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { type ByteString, byteStringOf, bytesOf } from "../../src/base/byte-string.ts";
import { parseGnu } from "../../src/core/compile/grammar/gnu-parse.ts";
import type { Argument, CompilerFamily, GnuInvocation } from "../../src/core/compile/grammar/invocation.ts";
import { mentionsIncbin } from "../../src/core/compile/text/code-directives.ts";
import { diagnosticsRefusal } from "../../src/core/compile/text/diagnostics-refusal.ts";
import { rebuildTranslationUnit } from "../../src/core/compile/text/rebuild.ts";
import { compileArgv, injectedFlags, preprocessArgv, twoStepRefusal } from "../../src/core/compile/text/two-step.ts";
import { placeInjected } from "../../src/core/compile/view/prefix-maps.ts";
import { PROJECT_ROOT } from "../../src/core/compile/view/view.ts";
import { sha256 } from "../../src/core/digest/digest.ts";
import type { Sandbox } from "./sandbox.ts";

export interface Call {
  /** argv as the user types it, argv[0] a compiler's name; paths relative, or absolute in the view. */
  readonly argv: readonly ByteString[];
  readonly cwd: ByteString;
  readonly locale: "C" | "C.UTF-8";
}

export interface Outcome {
  readonly exit: number | null;
  readonly stderr: Buffer;
  readonly object: Buffer | null;
}

export type Compared =
  | { readonly kind: "equal"; readonly outcome: Outcome; readonly sourceDigest: string }
  | {
      readonly kind: "different";
      readonly oneStep: Outcome;
      readonly twoStep: Outcome;
      readonly what: readonly string[];
    }
  | { readonly kind: "refused"; readonly reason: string; readonly detail: string; readonly oneStep: Outcome };

const b = (text: string): ByteString => text as ByteString;
const DIGEST_HEX_START = 7;
const SEED_END = 23;

/** Runs a call both ways. `client` holds the project; `guest` is emptied first. */
export function compareSteps(call: Call, client: Sandbox, guest: Sandbox): Compared {
  const compiler = b(`/usr/bin/${call.argv[0]}`);
  const family: CompilerFamily = call.argv[0]?.startsWith("clang") ? "clang" : "gcc";
  const readResponseFile = (name: ByteString) => readIfThere(client.hostPath(absolute(call.cwd, name)));
  const parsed = parseGnu(call.argv, { family, readResponseFile });
  if (parsed.kind === "bypass") {
    const oneStep = outcomeOf(client, [compiler, ...call.argv.slice(1)], call, outputOf(call));
    return { kind: "refused", reason: parsed.reason, detail: parsed.detail ?? "", oneStep };
  }
  if (parsed.kind === "several") throw new Error("bug: a call of the corpus has one source");
  const { invocation } = parsed;
  const output = absolute(call.cwd, invocation.output);
  const injected = injectedFlags(family);
  const seeded = call.argv.some((word) => word.startsWith("-frandom-seed="));
  const oneStepOf = (seed: string | null): Outcome =>
    outcomeOf(
      client,
      [
        compiler,
        ...oneStepArgv(oneStepWords(invocation), injected),
        ...(seeded || seed === null ? [] : [b(`-frandom-seed=${seed}`)]),
      ],
      call,
      output,
    );
  const refused = (reason: string, detail: string): Compared => ({
    kind: "refused",
    reason,
    detail,
    oneStep: oneStepOf(null),
  });

  const early = twoStepRefusal(invocation);
  if (early !== null) return refused(early, "");
  const text = b("/hpcc/tmp/first-step");
  const first = client.run(
    preprocessArgv(invocation, { compiler, output: text, dependencyFile: b("/hpcc/tmp/d"), injected }),
    call.cwd,
    call.locale,
  );
  if (first.exit !== 0) return refused("preprocessor_error", first.stderr.toString("latin1"));
  if (first.stderr.length + first.stdout.length > 0)
    return refused("preprocessor_output", first.stderr.toString("latin1"));

  const rebuilt = rebuildTranslationUnit({
    family,
    language: invocation.language,
    text: readFileSync(client.hostPath(text)),
    cwd: call.cwd,
    source: invocation.source,
    readFile: (path) => readIfThere(client.hostPath(path)),
  });
  if (rebuilt.kind === "refused") return refused(rebuilt.reason, rebuilt.detail ?? "");
  if (mentionsIncbin(byteStringOf(readFileSync(client.hostPath(text)))))
    return refused("unsupported_code_directive", "");

  for (const folder of [guest.project, guest.outputs, guest.callFiles]) {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
  }
  for (const folder of [call.cwd, ...rebuilt.folders]) mkdirSync(guest.hostPath(folder), { recursive: true });
  for (const file of [rebuilt.main, ...rebuilt.quotes]) {
    mkdirSync(guest.hostPath(parentOf(file.path)), { recursive: true });
    writeFileSync(guest.hostPath(file.path), file.bytes);
    utimesSync(guest.hostPath(file.path), 0, 0);
  }
  const digest = sha256(
    Buffer.concat([rebuilt.main, ...rebuilt.quotes].flatMap(({ path, bytes }) => [bytesOf(path), Buffer.of(0), bytes])),
  );
  const seed = digest.slice(DIGEST_HEX_START, SEED_END);
  const guestOutput = b("/hpcc/out/object");
  const argv = compileArgv(invocation, {
    compiler,
    sourcePath: rebuilt.mainName,
    outputPath: guestOutput,
    randomSeed: b(seed),
    injected,
  });
  const twoStep = outcomeOf(guest, argv, call, guestOutput);
  const late = diagnosticsRefusal(invocation, byteStringOf(twoStep.stderr));
  if (late !== null) return refused(late, "");
  const oneStep = oneStepOf(seed);
  const what = [
    ...(oneStep.exit === twoStep.exit ? [] : ["exit"]),
    ...(oneStep.stderr.equals(twoStep.stderr) ? [] : ["stderr"]),
    ...(sameBytes(oneStep.object, twoStep.object) ? [] : ["object"]),
  ];
  if (what.length > 0) return { kind: "different", oneStep, twoStep, what };
  return { kind: "equal", outcome: oneStep, sourceDigest: digest };
}

function outcomeOf(sandbox: Sandbox, argv: readonly ByteString[], call: Call, output: ByteString): Outcome {
  rmSync(sandbox.hostPath(output), { force: true });
  mkdirSync(sandbox.hostPath(parentOf(output)), { recursive: true });
  const ran = sandbox.run(argv, call.cwd, call.locale);
  const object = readIfThere(sandbox.hostPath(output));
  rmSync(sandbox.hostPath(output), { force: true });
  return { exit: ran.exit, stderr: ran.stderr, object };
}

/** The user's words without the dependency options, which the steps make anew. */
function oneStepWords(invocation: GnuInvocation): ByteString[] {
  const kept = invocation.arguments.filter(({ role }: Argument) => role !== "dependency");
  return kept.flatMap(({ words }) => words);
}

/** The caller's words with the injected flags where the two steps have them. */
function oneStepArgv(own: readonly ByteString[], injected: readonly ByteString[]): ByteString[] {
  const { before, after } = placeInjected(own, injected);
  return [...before, ...own, ...after];
}

function outputOf(call: Call): ByteString {
  const at = call.argv.indexOf(b("-o"));
  return at < 0 ? b(`${call.cwd}/none.o`) : absolute(call.cwd, call.argv[at + 1] ?? b("none.o"));
}

function absolute(cwd: ByteString, path: ByteString): ByteString {
  return path.startsWith("/") ? path : b(`${cwd}/${path}`);
}

function parentOf(path: ByteString): ByteString {
  const parent = b(path.slice(0, path.lastIndexOf("/")));
  return parent === "" ? PROJECT_ROOT : parent;
}

function readIfThere(path: Buffer): Buffer | null {
  return existsSync(path) ? readFileSync(path) : null;
}

function sameBytes(a: Buffer | null, other: Buffer | null): boolean {
  return a === null || other === null ? a === other : a.equals(other);
}
