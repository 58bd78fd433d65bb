// `hpcc stats --why` and `--project`: what the history knows beyond the daemon's counts. UNTRUSTED: paths of the history are a checkout's.
import { existsSync, realpathSync } from "node:fs";
import { resolve } from "node:path";
import { type ByteString, byteStringOf, byteStringOfText, bytesOf, displayText } from "../base/byte-string.ts";
import { findProjectRoot } from "../config/project-root.ts";
import { BYPASS_REASONS } from "../core/compile/bypass-reasons.ts";
import { adviceFor } from "../core/explain/advice.ts";
import type { CallHistory, ReasonCount } from "../core/explain/recorded-call.ts";
import { printable } from "./output.ts";

export interface ProjectStats {
  readonly project: string;
  /** Since when calls are known; milliseconds since 1970. */
  readonly since_ms: number | null;
  readonly calls: number;
  readonly outcomes: Readonly<Record<string, number>>;
}

/** The project of a folder, or the folder itself where it is in none; links resolved. */
export function projectAt(folder: string): ByteString {
  let path: ByteString;
  try {
    path = byteStringOf(realpathSync.native(folder, "buffer"));
  } catch {
    // A project that is gone may still have calls.
    return byteStringOfText(resolve(folder));
  }
  return findProjectRoot(path, (name) => existsSync(bytesOf(name))) ?? path;
}

/** Counts of one project, of all calls that are known. */
export function projectStats(history: CallHistory, project: ByteString): ProjectStats {
  const outcomes = Object.fromEntries(history.outcomes(project));
  return {
    project: displayText(project),
    since_ms: history.oldestMs(),
    calls: Object.values(outcomes).reduce((sum, count) => sum + count, 0),
    outcomes,
  };
}

/** A reason with what to do about it, in the shape of the JSON. */
export interface WhyReason {
  readonly reason: string;
  readonly calls: number;
  readonly meaning: string | null;
  readonly advice: string | null;
  readonly examples: readonly { readonly source: string | null; readonly detail: string | null }[];
}

export function whyReasons(reasons: readonly ReasonCount[]): WhyReason[] {
  const text = (value: ByteString | null) => (value === null ? null : displayText(value));
  return reasons.map(({ reason, calls, examples }) => ({
    reason,
    calls,
    meaning: Object.hasOwn(BYPASS_REASONS, reason) ? BYPASS_REASONS[reason as keyof typeof BYPASS_REASONS] : null,
    advice: adviceFor(reason),
    examples: examples.map(({ source, detail }) => ({ source: text(source), detail: text(detail) })),
  }));
}

const EXAMPLE_MAX = 160;

/** `folder`: where the person stands, with links resolved. */
export function printWhy(reasons: readonly WhyReason[], folder: string): string {
  if (reasons.length === 0) return "every call was kept or came from what was kept\n";
  const lines = ["calls whose results were not kept"];
  for (const { reason, calls, meaning, advice, examples } of reasons) {
    lines.push(`  ${printable(reason)}: ${calls}`);
    if (meaning !== null) lines.push(`      ${meaning}`);
    for (const { source, detail } of examples) {
      const name = source?.startsWith(`${folder}/`) ? source.slice(folder.length + 1) : source;
      const example = [name, detail].flatMap((value) => (value === null ? [] : [printable(value)])).join(": ");
      if (example !== "") lines.push(`      such as ${example.slice(0, EXAMPLE_MAX)}`);
    }
    if (advice !== null) lines.push(`      -> ${advice}`);
  }
  return `${lines.join("\n")}\n`;
}
