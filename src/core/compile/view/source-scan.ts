// Tells what a source file may seek or depend on beyond what its compiler lists: names in branches not taken, names that the assembler
// reads, macros of the date, pragmas that change macros. It errs towards telling more: what is not told may give a wrong object.
// Pure. UNTRUSTED: the texts are a checkout's, and the time is linear in their size whatever they hold.
import { AssemblerSearch } from "./source-assembler.ts";
import { Findings, type SourceScan } from "./source-findings.ts";
import { LiteralText } from "./source-literals.ts";
import { findPasted, joinedFlags } from "./source-paste.ts";
import { readingsOf } from "./source-text.ts";
import { SourceWalk } from "./source-walk.ts";

export type { SourceScan } from "./source-findings.ts";

/** `names`: of C, what its directives and operators say, and neither what an assembler reads nor what pasting may make. */
export type SourceKind = "c" | "assembler" | "names";

const known: Record<SourceKind, WeakMap<Uint8Array, SourceScan>> = {
  c: new WeakMap(),
  assembler: new WeakMap(),
  names: new WeakMap(),
};

/** Names of a text may be told this many times over, for lines that are read in more than one way. */
const NAME_BYTES_FACTOR = 8;
const NAME_BYTES_MIN = 65_536;

/** What a file's text may seek; kept as long as its bytes. */
export function scanSource(bytes: Uint8Array, kind: SourceKind): SourceScan {
  const before = known[kind].get(bytes);
  if (before !== undefined) return before;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const readings = readingsOf(text);
  const findings = new Findings(text.length * NAME_BYTES_FACTOR * readings.length + NAME_BYTES_MIN);
  for (const reading of readings) {
    const literals = kind === "c" ? new LiteralText(reading) : null;
    const walk = new SourceWalk(reading, findings, { literals });
    walk.run();
    if (kind === "names") continue;
    if (literals !== null) new AssemblerSearch(literals.finish(), "literals", findings).run();
    new AssemblerSearch(reading, kind === "c" ? "source" : "assembler", findings).run();
    findPasted(reading, walk.inert, findings);
  }
  // The assembler joins no lines.
  if (kind === "assembler" && !readings.includes(text)) new AssemblerSearch(text, "assembler", findings).run();
  const scan = findings.result();
  known[kind].set(bytes, scan);
  return scan;
}

/** What several texts tell together that none of them does: names that are put together of their parts. */
export function scanTogether(scans: readonly SourceScan[]): SourceScan {
  const findings = new Findings(0);
  for (const flag of joinedFlags(scans)) findings.flag(flag);
  return findings.result();
}
