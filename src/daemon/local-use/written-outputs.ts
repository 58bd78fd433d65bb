// Which files a compile in place has written: those whose stamps differ from before. UNTRUSTED: anybody may write beside the compiler.
import { type BigIntStats, lstatSync } from "node:fs";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import { grammarOf } from "../../core/compile/grammar/gnu-grammar.ts";
import type { GnuInvocation } from "../../core/compile/grammar/invocation.ts";
import type { OutputManner } from "../../wire/launcher/messages.ts";
import type { FileStamp } from "../call/answered-call.ts";
import { changedMs, sameStamp, stampFrom } from "../call/file-stamp.ts";
import { type Bypass, bypass } from "../call/stage.ts";
import { CLOCK_TICK_MS } from "../inputs/steady-places.ts";

export interface PossibleOutput {
  /** As the compiler names it, relative to the working folder. */
  readonly destination: ByteString;
  readonly path: ByteString;
  readonly manner: OutputManner;
  readonly required: boolean;
}

export interface WrittenOutput extends PossibleOutput {
  readonly stamp: FileStamp;
}

/** The files that a call may write, the dependency file first and the object last: make takes it for the newest. */
export function possibleOutputs({
  invocation,
  cwd,
}: {
  readonly invocation: GnuInvocation;
  readonly cwd: ByteString;
}): PossibleOutput[] {
  const { output, dependencies, sideOutputs } = invocation;
  const grammar = grammarOf(invocation);
  const object = grammar.manner(invocation, "object");
  const at = (destination: ByteString, manner: OutputManner, required: boolean) => ({
    destination,
    path: destination.startsWith("/") ? destination : (`${cwd}/${destination}` as ByteString),
    manner,
    required,
  });
  return [
    ...(dependencies === null ? [] : [at(dependencies.file, "text", lists(invocation))]),
    ...sideOutputs.map(({ kind, path }) => at(path, grammar.manner(invocation, kind), false)),
    at(output, object, true),
  ];
}

function lists({ language }: GnuInvocation): boolean {
  return language === "c" || language === "c++" || language === "assembler-with-cpp";
}

/** Stamps before a compile. */
export class OutputsBefore {
  readonly #stamps = new Map<ByteString, FileStamp>();
  readonly #outputs: readonly PossibleOutput[];
  readonly #startedMs: number;

  constructor(outputs: readonly PossibleOutput[], startedMs: number) {
    this.#outputs = outputs;
    this.#startedMs = startedMs;
    for (const { path } of outputs) {
      const stat = statOf(path);
      if (stat !== null) this.#stamps.set(path, stampFrom(stat));
    }
  }

  /** What was written; a bypass where that cannot be told, or where it is no file that could be written alike. */
  written(): WrittenOutput[] | Bypass {
    const written: WrittenOutput[] = [];
    for (const output of this.#outputs) {
      const before = this.#stamps.get(output.path);
      const stat = statOf(output.path);
      if (stat === null) {
        if (output.required) return bypass("bad_output_file", output.destination);
        continue;
      }
      if (!stat.isFile()) return bypass("bad_output_file", output.destination);
      const stamp = stampFrom(stat);
      if (before !== undefined && sameStamp(before, stamp)) {
        // Written anew within one tick of the clock, it would look the same.
        if (output.required || changedMs(before) >= this.#startedMs - CLOCK_TICK_MS)
          return bypass("overlapping_outputs", output.destination);
        continue;
      }
      written.push({ ...output, stamp });
    }
    return written;
  }
}

function statOf(path: ByteString): BigIntStats | null {
  try {
    return lstatSync(bytesOf(path), { bigint: true, throwIfNoEntry: false }) ?? null;
  } catch {
    return null;
  }
}
