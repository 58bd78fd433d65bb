// Scans of an image's headers, kept by image and path: an image never changes. UNTRUSTED: the image's headers.
import { readFileSync } from "node:fs";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import { countsLines, directiveLines, leavesOpen, pragmaParts } from "../../core/compile/view/directive-lines.ts";
import { type SourceScan, scanSource } from "../../core/compile/view/source-scan.ts";
import type { Project } from "../project.ts";

type Image = Pick<Project, "imageDigest" | "imageFile">;

const SCANS_MAX = 50_000;

export class ImageScans {
  readonly #known = new Map<string, SourceScan | null>();
  readonly #words = new Map<string, boolean>();
  readonly #movers = new Map<string, Movers>();

  /** The scan of a file by its path in the image; null when it cannot be read. */
  scan(project: Image, path: ByteString): SourceScan | null {
    const key = `${project.imageDigest}${path}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const text = textOf(project, path);
    const scan = text === null ? null : scanImageHeader(text);
    if (this.#known.size >= SCANS_MAX) this.#known.clear();
    this.#known.set(key, scan);
    return scan;
  }

  movers(project: Image, path: ByteString): Movers {
    const key = `${project.imageDigest}${path}`;
    const known = this.#movers.get(key);
    if (known !== undefined) return known;
    const text = textOf(project, path) ?? Buffer.alloc(0);
    const movers = moversOf(text, directiveLines(text, { lineComments: true }));
    if (this.#movers.size >= SCANS_MAX) this.#movers.clear();
    this.#movers.set(key, movers);
    return movers;
  }

  /** Whether a file of the image holds a word. */
  holds(project: Image, path: ByteString, word: string): boolean {
    const key = `${project.imageDigest}${path} ${word}`;
    const known = this.#words.get(key);
    if (known !== undefined) return known;
    const holds = textOf(project, path)?.includes(word) === true;
    if (this.#words.size >= SCANS_MAX) this.#words.clear();
    this.#words.set(key, holds);
    return holds;
  }
}

/** What in a text makes the text between directives matter to what is read. */
export interface Movers {
  readonly countsLines: boolean;
  readonly leavesOpen: boolean;
  readonly pragmaOperator: boolean;
  readonly pragmaMoves: boolean;
}

/** Null for what cannot be read here: the compiler cannot read it either. */
function textOf(project: Image, path: ByteString): Buffer | null {
  const host = project.imageFile(path);
  try {
    return host === null ? null : readFileSync(bytesOf(host));
  } catch {
    return null;
  }
}

const DATES = ["__DATE__", "__TIME__"];
const OPTION_PRAGMAS = ["target", "optimize", "push_options", "pop_options", "reset_options"];

/**
 * A scan without what parts of words could be pasted to, or a pragma could be made of: whoever uses a header's macros so spells these
 * parts in a text of his own.
 */
function scanImageHeader(text: Buffer): SourceScan {
  const scan = scanSource(text, "names");
  return {
    ...scan,
    dates: scan.dates && DATES.some((word) => text.includes(word)),
    timestamp: scan.timestamp && text.includes("__TIMESTAMP__"),
    testMacros: [],
    computedTest:
      scan.testMacros.length > 0 ||
      (scan.computedTest && (text.includes("__has_include") || text.includes("__has_embed"))),
    macroPragma: scan.macroPragma && namesOptionPragma(text),
  };
}

/** Whether `GCC` and one of the pragmas that change options stand side by side. */
function namesOptionPragma(text: Buffer): boolean {
  for (let at = text.indexOf("GCC"); at >= 0; at = text.indexOf("GCC", at + 3)) {
    const after = text.toString("latin1", at + 3, at + 64).trimStart();
    if (OPTION_PRAGMAS.some((word) => after.startsWith(word))) return true;
  }
  return false;
}

/** `lines`: the text's directives, null where they are in doubt. */
export function moversOf(text: Buffer, lines: readonly Buffer[] | null): Movers {
  const { operator, moves } = pragmaParts(text);
  return {
    countsLines: countsLines(text, lines),
    leavesOpen: leavesOpen(text),
    pragmaOperator: operator,
    pragmaMoves: moves,
  };
}
