// Tells, in the arguments of an action, the caller's own from what hpcc added; for `hpcc inspect`. Pure. The counterpart of `oneStepArgv`,
// and of the text form's `compileArgv`.
import type { ByteString } from "../../../base/byte-string.ts";
import { injectedFlags } from "./two-step.ts";

const SECOND_STEP: ReadonlySet<string> = new Set(["-fpreprocessed", "-fdirectives-only"]);
const MAPS = ["-fdebug-prefix-map=/hpcc/project=.", "-fmacro-prefix-map=/hpcc/project=."];
const ADDED: ReadonlySet<string> = new Set([
  ...injectedFlags("gcc"),
  ...injectedFlags("clang"),
  ...SECOND_STEP,
  ...MAPS,
]);
const SEED = /^-frandom-seed=[0-9a-f]{16}$/;
/** The end of every second step: `-x LANGUAGE SOURCE -o OUTPUT`. */
const TAIL_LENGTH = 5;

export interface PartedArguments {
  readonly own: readonly ByteString[];
  readonly injected: readonly ByteString[];
}

/**
 * Parts the arguments of an action, whose source has the form given; null where that is not known. UNTRUSTED: a worker's row; any list is
 * parted somehow.
 */
export function partArguments(argv: readonly ByteString[], form: "files" | "text" | null): PartedArguments {
  const isText = form === "text" || (form === null && argv.some((word) => SECOND_STEP.has(word)));
  const tail = argv.length - TAIL_LENGTH;
  const parted = argv.map((word, at) => {
    const language = isText && argv[tail] === "-x" && (at === tail || at === tail + 1);
    return { word, injected: language || ADDED.has(word) || SEED.test(word) };
  });
  const words = (injected: boolean) => parted.filter((part) => part.injected === injected).map(({ word }) => word);
  return { own: words(false), injected: words(true) };
}
