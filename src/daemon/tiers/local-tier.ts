// The last tier: the image's compiler on this machine, or a refusal where policy forbids that.
import type { BypassReason } from "../../core/compile/bypass-reasons.ts";
import type { CallEnd } from "../call/call-record.ts";
import type { Bypass } from "../call/stage.ts";
import type { CallAnswer, LauncherCall } from "../control/launcher-connection.ts";
import { forbiddenAnswer, imageAnswer, type LocalCompile } from "./local-answer.ts";

/** Reasons of calls that no policy turns away: they compile nothing that a worker could have compiled. */
const NOT_A_COMPILE: ReadonlySet<BypassReason> = new Set<BypassReason>([
  "bad_compiler_arguments",
  "called_for_link",
  "called_for_preprocessing",
  "compiler_query",
  "no_input_file",
  "standard_input",
  "syntax_only",
]);

export interface LocalEnd {
  readonly answer: CallAnswer;
  readonly end: CallEnd;
}

/** Answers a call that left the pipeline. */
export async function answerLocally(
  { message }: LauncherCall,
  { reason, detail, advice }: Bypass,
  compile: LocalCompile,
): Promise<LocalEnd> {
  if (compile.project.config.fallback === "none" && !NOT_A_COMPILE.has(reason))
    return { answer: forbiddenAnswer(reason, detail), end: { outcome: "refused", reason, detail } };
  const answer = await imageAnswer(message, compile, reason !== "compiler_query");
  // Programs that read what a compiler says get its own words alone.
  const warning = message.terminal.stderr ? advice : null;
  return { answer: { ...answer, warning }, end: { outcome: "local", reason, detail } };
}
