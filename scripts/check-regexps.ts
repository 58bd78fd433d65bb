// Holds every regular expression literal of src/ against recheck, which tells those that can take more than linear time. What it
// cannot decide, and what reads short texts only, stands in the list below with the reason why it may stay.
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseSync, Visitor } from "oxc-parser";
import { checkSync } from "recheck";

const root = join(import.meta.dirname, "..");
/** Milliseconds for one literal; most take one or two. */
const TIMEOUT_MS = 10_000;

const SHORT = "the text is short: its source bounds it";
const DISJOINT = "each attempt looks at bytes that no other attempt looks at";

/** Literals by hand: file and beginning of the literal, then why its time is linear, or its text short. */
const REVIEWED: readonly (readonly [file: string, start: string, reason: string])[] = [
  ["wire/grpc/status.ts", "/^No connection established", SHORT],
  ["wire/grpc/tls-files.ts", "/-----BEGIN CERTIFICATE-----[^-]+", DISJOINT],
  ["vm/qemu/host-tsc.ts", "/^model name", SHORT],
  ["vm/qemu/host-tsc.ts", "/^flags", SHORT],
  ["vm/host/firecracker-releases.ts", "/^(?:Firecracker|Jailer) v", SHORT],
  ["core/compile/view/test-macros.ts", "/(?:#[ \\t]*(?:define|undef", SHORT],
  ["core/identity/host-port.ts", "/^(?=.{1,253}$)", SHORT],
  ["core/compile/text/directives-only.ts", "/_Pragma\\s*", DISJOINT],
  ["core/compile/text/directives-only.ts", "/^\\s*#\\s*pragma", "anchored at the start of the text"],
  ["core/compile/text/directives-only.ts", "/^#define __cplusplus", DISJOINT],
  ["core/compile/text/directives-only.ts", "/^#define __STDC_VERSION__", DISJOINT],
  ["core/compile/text/source-lines.ts", "/^[ \\t\\f\\v]*", DISJOINT],
  ["core/compile/text/two-step.ts", "/^-g(?:0|no-", "anchored at the start of an argument"],
  ["core/compile/text/unfaithful-text.ts", "/(?<![A-Za-z0-9_)\\]>])", DISJOINT],
  ["core/compile/text/unfaithful-text.ts", "/_Pragma\\s*", DISJOINT],
  ["core/compile/text/unfaithful-text.ts", "/(?<!\\\\\\n)^[ \\t]*#[ \\t]*(?:el)?if", DISJOINT],
  ["core/compile/grammar/gnu-pass-through.ts", "/^(?:--(?:noexecstack", "anchored at the start of an argument"],
  // A quoted word ends before the next blank and quote, at which alone another attempt begins.
  ["daemon/local-use/read-probe.ts", '/ (?:"((?:', DISJOINT],
];

interface Found {
  readonly file: string;
  readonly line: number;
  readonly raw: string;
  readonly pattern: string;
  readonly flags: string;
}

function literalsOf(file: string): Found[] {
  const text = readFileSync(join(root, "src", file), "utf8");
  const { program, errors } = parseSync(file, text);
  if (errors.length > 0) throw new Error(`${file}: ${errors[0]!.message}`);
  const found: Found[] = [];
  const visitor = new Visitor({
    Literal(node) {
      if (!("regex" in node)) return;
      const line = text.slice(0, node.start).split("\n").length;
      found.push({ file, line, raw: node.raw ?? "", ...node.regex });
    },
  });
  visitor.visit(program);
  return found;
}

const files = globSync("**/*.ts", { cwd: join(root, "src") }).filter(
  (file) => !file.endsWith(".test.ts") && !file.startsWith("gen/"),
);
const literals = files.flatMap(literalsOf);
const problems: string[] = [];
const used = new Set<unknown>();
for (const { file, line, raw, pattern, flags } of literals) {
  const reviewed = REVIEWED.find(([of, start]) => of === file && raw.startsWith(start));
  if (reviewed !== undefined) {
    used.add(reviewed);
    continue;
  }
  const result = checkSync(pattern, flags, { timeout: TIMEOUT_MS });
  if (result.status !== "safe")
    problems.push(
      `src/${file}:${line}: ${raw} is ${result.status} (${result.status === "vulnerable" ? result.complexity.summary : "undecided"})`,
    );
}
for (const entry of REVIEWED) if (!used.has(entry)) problems.push(`no literal of ${entry[0]} begins with ${entry[1]}`);
for (const problem of problems) console.error(problem);
console.log(
  `${literals.length} regular expressions in ${files.length} files, ${REVIEWED.length} of them reviewed by hand`,
);
process.exitCode = problems.length === 0 && literals.length > 0 ? 0 : 1;
