// Actions, results and isolation between the wire's messages and the core's values.
import { create } from "@bufbuild/protobuf";
import { byteStringOf, bytesOf } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import { NumberTable } from "../../base/number-table.ts";
import {
  type Action,
  checkAction,
  type DeterminismPolicy,
  type OutputFile,
  type OutputKind,
} from "../../core/action/action.ts";
import { parseDigest } from "../../core/digest/digest.ts";
import { ISOLATION_NUMBERS, type Isolation } from "../../core/isolation.ts";
import type { Life } from "../../core/life.ts";
import {
  type Action as ActionMessage,
  ActionSchema,
  DeterminismPolicy as DeterminismNumber,
  Life as LifeNumber,
  OutputKind as OutputKindNumber,
} from "../../gen/hpcc/worker/v1/worker_pb.js";

const OUTPUT_KIND_NUMBERS = new NumberTable<OutputKind, OutputKindNumber>({
  object: OutputKindNumber.OBJECT,
  dwo: OutputKindNumber.DWO,
  gcno: OutputKindNumber.GCNO,
  "stack-usage": OutputKindNumber.STACK_USAGE,
  callgraph: OutputKindNumber.CALLGRAPH,
  listing: OutputKindNumber.LISTING,
  temporary: OutputKindNumber.TEMPORARY,
  dump: OutputKindNumber.DUMP,
  "time-trace": OutputKindNumber.TIME_TRACE,
  "precompiled-header": OutputKindNumber.PRECOMPILED_HEADER,
  "optimization-record": OutputKindNumber.OPTIMIZATION_RECORD,
  diagnostics: OutputKindNumber.DIAGNOSTICS,
});

const DETERMINISM_NUMBERS = new NumberTable<DeterminismPolicy, DeterminismNumber>({
  default: DeterminismNumber.DEFAULT,
  strict: DeterminismNumber.STRICT,
  pin: DeterminismNumber.PIN,
});

const LIFE_WIRE_NUMBERS = new NumberTable<Life, LifeNumber>({ session: LifeNumber.SESSION, clean: LifeNumber.CLEAN });

/** The name that a number of a message stands for. */
function nameOf<T extends string>(table: NumberTable<T>, number: number, what: string): T {
  const name = table.nameOf(number);
  if (name === undefined) throw new HpccError("argument.invalid", `${what} ${number} is not known`);
  return name;
}

export function actionToMessage(action: Action): ActionMessage {
  return create(ActionSchema, {
    imageDigest: action.imageDigest,
    argv: action.argv.map(bytesOf),
    environment: action.environment.map(bytesOf),
    cwd: bytesOf(action.cwd),
    outputs: action.outputs.map((output) => ({
      path: bytesOf(output.path),
      required: output.required,
      kind: OUTPUT_KIND_NUMBERS.numberOf(output.kind),
    })),
    ...(action.terminalColumns === null ? {} : { terminal: { columns: action.terminalColumns } }),
    determinism: DETERMINISM_NUMBERS.numberOf(action.determinism),
  });
}

/** Throws `argument.invalid` for an action that breaks the rules. UNTRUSTED: clients. */
export function actionOfMessage(message: ActionMessage | undefined): Action {
  if (message === undefined) throw new HpccError("argument.invalid", "the job has no action");
  return checkAction({
    imageDigest: parseDigest(message.imageDigest, "the image's digest"),
    argv: message.argv.map(byteStringOf),
    environment: message.environment.map(byteStringOf),
    cwd: byteStringOf(message.cwd),
    outputs: message.outputs.map(
      (output): OutputFile => ({
        path: byteStringOf(output.path),
        required: output.required,
        kind: nameOf(OUTPUT_KIND_NUMBERS, output.kind, "the output's kind"),
      }),
    ),
    terminalColumns: message.terminal === undefined ? null : message.terminal.columns,
    determinism: nameOf(DETERMINISM_NUMBERS, message.determinism, "the determinism policy"),
  });
}

export function isolationToNumber(isolation: Isolation): number {
  return ISOLATION_NUMBERS.numberOf(isolation);
}

/** UNTRUSTED: the peer. */
export function isolationOfNumber(number: number): Isolation {
  return nameOf(ISOLATION_NUMBERS, number, "the isolation");
}

export function lifeToNumber(life: Life): LifeNumber {
  return LIFE_WIRE_NUMBERS.numberOf(life);
}

/** Undefined for a number that stands for none. UNTRUSTED: the worker. */
export function lifeOfNumber(number: number): Life | undefined {
  return LIFE_WIRE_NUMBERS.nameOf(number);
}
