// One answer of several: a call with several sources writes the files of each, and says what each says, in their order.
import type { Content } from "../../wire/launcher/messages.ts";
import type { Answered } from "../tiers/tier.ts";
import { type Bypass, bypass } from "./stage.ts";

/** A bypass where one of them is no success: what a driver does after a failure is its own. */
export function joinAnswers(answers: readonly Answered[]): Answered | Bypass {
  if (answers.some(({ answer }) => answer.exitCode !== 0)) return bypass("compile_failed");
  const outcomes = new Set(answers.map(({ end }) => end.outcome));
  const [only] = outcomes;
  return {
    kind: "answer",
    answer: {
      type: "outputs",
      exitCode: 0,
      stdout: joined(answers.map(({ answer }) => answer.stdout)),
      stderr: joined(answers.map(({ answer }) => answer.stderr)),
      files: answers.flatMap(({ answer }) => answer.files),
    },
    end: { outcome: outcomes.size === 1 ? only! : "remote_compiled", reason: null, detail: null },
  };
}

function joined(contents: readonly (Content | null)[]): Content | null {
  const parts = contents.flatMap((content) => (content?.kind === "inline" ? [content.bytes] : []));
  return parts.length === 0 ? null : { kind: "inline", bytes: Buffer.concat(parts) };
}
