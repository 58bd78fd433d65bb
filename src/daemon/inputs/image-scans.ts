// Scans of an image's headers, and kinds of its entries, kept by image and path: an image never changes. UNTRUSTED: the image's headers.
import { readFileSync } from "node:fs";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import { dependsOn, directiveLines, leavesOpen, pragmaParts } from "../../core/compile/view/directive-lines.ts";
import { type SourceScan, scanSource } from "../../core/compile/view/source-scan.ts";
import type { Digest } from "../../core/digest/digest.ts";
import type { Project } from "../project.ts";
import type { EntryKinds } from "./source-tree.ts";

type Image = Pick<Project, "imageDigest" | "imageFile">;

const IMAGES_MAX = 8;
/** Of each kind, in each image. */
const ENTRIES_MAX = 50_000;

interface Known {
  readonly scans: Map<ByteString, SourceScan | null>;
  readonly movers: Map<ByteString, Movers>;
  readonly words: Map<string, boolean>;
  readonly kinds: EntryKinds;
}

export class ImageScans {
  readonly #images = new Map<Digest, Known>();

  /** The scan of a file by its path in the image; null when it cannot be read. */
  scan(project: Image, path: ByteString): SourceScan | null {
    return remembered(this.#known(project).scans, path, () => {
      const text = textOf(project, path);
      return text === null ? null : scanImageHeader(text);
    });
  }

  movers(project: Image, path: ByteString): Movers {
    return remembered(this.#known(project).movers, path, () => {
      const text = textOf(project, path) ?? Buffer.alloc(0);
      return moversOf(text, () => directiveLines(text, { lineComments: true }));
    });
  }

  /** Whether a file of the image holds a word. */
  holds(project: Image, path: ByteString, word: string): boolean {
    const key = `${path} ${word}`;
    return remembered(this.#known(project).words, key, () => textOf(project, path)?.includes(word) === true);
  }

  /** What is known of the image's entries. */
  kinds(project: Image): EntryKinds {
    const { kinds } = this.#known(project);
    if (kinds.size >= ENTRIES_MAX) kinds.clear();
    return kinds;
  }

  #known({ imageDigest }: Image): Known {
    let known = this.#images.get(imageDigest);
    if (known !== undefined) return known;
    if (this.#images.size >= IMAGES_MAX) this.#images.clear();
    known = { scans: new Map(), movers: new Map(), words: new Map(), kinds: new Map() };
    this.#images.set(imageDigest, known);
    return known;
  }
}

function remembered<K, V>(entries: Map<K, V>, key: K, find: () => V): V {
  const known = entries.get(key);
  if (known !== undefined) return known;
  const found = find();
  if (entries.size >= ENTRIES_MAX) entries.clear();
  entries.set(key, found);
  return found;
}

/** What in a text makes the text between directives matter to what is read. */
export interface Movers {
  readonly countsLines: boolean;
  /** How often `__COUNTER__` was used. */
  readonly countsUses: boolean;
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
    nameParts: [],
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

/** `lines` gives the text's directives, null where they are in doubt. */
export function moversOf(text: Buffer, lines: () => readonly Buffer[] | null): Movers {
  const { operator, moves } = pragmaParts(text);
  return {
    countsLines: dependsOn("__LINE__", text, lines),
    countsUses: dependsOn("__COUNTER__", text, lines),
    leavesOpen: leavesOpen(text),
    pragmaOperator: operator,
    pragmaMoves: moves,
  };
}
