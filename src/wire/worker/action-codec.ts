// Actions, results and isolation between the wire's messages and the core's values.
import { create } from "@bufbuild/protobuf";
import { byteStringOf, bytesOf } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import {
  type Action,
  checkAction,
  DETERMINISM_POLICIES,
  type DeterminismPolicy,
  OUTPUT_KINDS,
  type OutputFile,
  type OutputKind,
} from "../../core/action/action.ts";
import { parseDigest } from "../../core/digest/digest.ts";
import { ISOLATIONS, type Isolation } from "../../core/isolation.ts";
import {
  type Action as ActionMessage,
  ActionSchema,
  DeterminismPolicy as DeterminismNumber,
  OutputKind as OutputKindNumber,
} from "../../gen/hpcc/worker/v1/worker_pb.js";

const OUTPUT_KIND_NUMBERS = {
  object: OutputKindNumber.OBJECT,
  dwo: OutputKindNumber.DWO,
  gcno: OutputKindNumber.GCNO,
  "stack-usage": OutputKindNumber.STACK_USAGE,
  callgraph: OutputKindNumber.CALLGRAPH,
} as const satisfies Record<OutputKind, OutputKindNumber>;

const DETERMINISM_NUMBERS = {
  default: DeterminismNumber.DEFAULT,
  strict: DeterminismNumber.STRICT,
  pin: DeterminismNumber.PIN,
} as const satisfies Record<DeterminismPolicy, DeterminismNumber>;

/** The one of `values` that a number stands for. */
function valueOf<T extends string>(values: readonly T[], numbers: Record<T, number>, number: number, what: string): T {
  const value = values.find((candidate) => numbers[candidate] === number);
  if (value === undefined) throw new HpccError("argument.invalid", `${what} ${number} is not known`);
  return value;
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
      kind: OUTPUT_KIND_NUMBERS[output.kind],
    })),
    ...(action.terminalColumns === null ? {} : { terminal: { columns: action.terminalColumns } }),
    determinism: DETERMINISM_NUMBERS[action.determinism],
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
        kind: valueOf(OUTPUT_KINDS, OUTPUT_KIND_NUMBERS, output.kind, "the output's kind"),
      }),
    ),
    terminalColumns: message.terminal === undefined ? null : message.terminal.columns,
    determinism: valueOf(DETERMINISM_POLICIES, DETERMINISM_NUMBERS, message.determinism, "the determinism policy"),
  });
}

/** The worker's contract carries isolation by the numbers of hpcc.scheduler.v1.Isolation: its order, from 1. */
export function isolationToNumber(isolation: Isolation): number {
  return ISOLATIONS.indexOf(isolation) + 1;
}

/** UNTRUSTED: the peer. */
export function isolationOfNumber(number: number): Isolation {
  const isolation = ISOLATIONS[number - 1];
  if (isolation === undefined) throw new HpccError("argument.invalid", `the isolation ${number} is not known`);
  return isolation;
}
