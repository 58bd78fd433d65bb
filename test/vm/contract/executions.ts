// Executions as the contract needs them, and how they may fail.
import assert from "node:assert/strict";
import { ascii } from "../../../src/base/byte-string.ts";
import { type ErrorCode, HpccError } from "../../../src/base/errors.ts";
import type { ExecutionRequest, ExecutionResult } from "../../../src/vm/execution.ts";
import type { Machine } from "../../../src/vm/runtime.ts";
import { request, textInput } from "../../support/vm.ts";

const SOURCE = "/hpcc/project/a.i";
const OBJECT = "/hpcc/out/a.o";

/** A compile by the image's gcc. */
export function compile(text: string): ExecutionRequest {
  return request(["/usr/bin/gcc", "-c", "-O1", SOURCE, "-o", OBJECT], {
    inputs: [textInput(SOURCE, text)],
    outputs: [ascii(OBJECT)],
  });
}

/** Asserts that the machine still compiles. */
export async function runsOn(machine: Machine): Promise<void> {
  assert.ok(machine.alive);
  const { signal } = new AbortController();
  await using result = await machine.session.execute(compile("int after(void) { return 1; }\n"), { signal });
  assert.deepEqual(result.exit, { kind: "code", code: 0 });
  assert.ok((result.outputs[0]?.content.sizeBytes ?? 0) > 0);
}

/** The lines that a program prints, which must end well. */
export async function stdoutOf(machine: Machine, argv: readonly string[]): Promise<string[]> {
  const { signal } = new AbortController();
  await using result = await machine.session.execute(request(argv), { signal });
  assert.deepEqual(result.exit, { kind: "code", code: 0 }, Buffer.from(await result.stderr.bytes()).toString());
  return Buffer.from(await result.stdout.bytes())
    .toString()
    .split("\n")
    .filter((line) => line !== "");
}

export interface Started {
  /** The guest has all of it. */
  readonly running: Promise<void>;
  readonly execution: Promise<ExecutionResult>;
}

export function untilRunning(machine: Machine, argv: readonly string[], signal: AbortSignal): Started {
  const running = Promise.withResolvers<void>();
  const execution = machine.session.execute(request(argv), { signal, onProgress: () => running.resolve() });
  execution.catch(() => running.resolve());
  return { running: running.promise, execution };
}

export function failsWith(...codes: readonly ErrorCode[]) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof HpccError, String(error));
    assert.ok(codes.includes(error.code), `${error.code}: ${error.message}`);
    return true;
  };
}

export function limitedBy(name: string) {
  return (error: unknown): boolean => {
    failsWith("limit.exceeded")(error);
    assert.equal((error as HpccError).details["limit"], name);
    return true;
  };
}
