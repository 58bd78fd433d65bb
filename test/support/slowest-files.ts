// A reporter of node's test runner: at the end one line that names the files that took longest, so that who wants a shorter run
// knows where to look.
import { basename } from "node:path";
import type { TestEvent } from "node:test/reporters";

/** Begins the line. */
export const SLOWEST = "slowest files:";
const FILES_MAX = 6;

/** Yields the line, with whole seconds; nothing where no file took one. */
// oxlint-disable-next-line import/no-default-export -- node's test runner takes a reporter so
export default async function* slowestFiles(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const files: { readonly name: string; readonly seconds: number }[] = [];
  for await (const event of events) {
    if (event.type !== "test:summary" || event.data.file === undefined) continue;
    files.push({ name: basename(event.data.file, ".test.ts"), seconds: Math.round(event.data.duration_ms / 1000) });
  }
  const slowest = files.filter(({ seconds }) => seconds > 0).sort((a, b) => b.seconds - a.seconds);
  if (slowest.length === 0) return;
  yield `${SLOWEST} ${slowest
    .slice(0, FILES_MAX)
    .map(({ name, seconds }) => `${name} ${seconds} s`)
    .join(", ")}\n`;
}
