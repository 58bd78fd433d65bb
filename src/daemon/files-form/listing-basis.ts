// What a list of a call's files rests on, beside its command line: the directives of every file read, and what each name that any of them
// includes or asks for leads to in every folder where it may be sought. While that is the same, so is the list; another list is not made.
// Errs towards a difference. UNTRUSTED: texts, names and links are a checkout's.
import { createHash } from "node:crypto";
import { lstatSync } from "node:fs";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import { directiveLines } from "../../core/compile/view/directive-lines.ts";
import type { SourceScan } from "../../core/compile/view/source-scan.ts";
import { toHostPath } from "../../core/compile/view/view.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import type { PreparedCall } from "../call/prepared-call.ts";
import type { ReadFile } from "../inputs/file-cache.ts";
import { type ImageScans, type Movers, moversOf } from "../inputs/image-scans.ts";
import type { LookupPlaces, ReadText } from "../inputs/lookups.ts";
import { CLOCK_TICK_MS } from "../inputs/steady-places.ts";

export interface BasisParts {
  readonly prepared: PreparedCall;
  /** As the compiler spells them. */
  readonly names: readonly ByteString[];
  readonly texts: readonly ReadText[];
  /** Files of the project, by their paths in the view. */
  readonly read: ReadonlyMap<ByteString, ReadFile>;
  readonly imagePaths: ReadonlySet<ByteString>;
  readonly aliases: readonly { readonly path: ByteString; readonly target: ByteString }[];
  readonly places: LookupPlaces;
  readonly images: ImageScans;
  /** When the list was asked for: what came about since may not have been there for it. Null when it only has to be compared. */
  readonly listedMs: number | null;
}

/** Changes whenever what is in a basis changes. */
const VERSION = "hpcc.listing.v1";

/** Null when the list must not be kept: a name is computed, or something came about while the list was made. */
export function listingBasis(parts: BasisParts): Digest | null {
  if (parts.texts.some(({ scan }) => scan.computedInclude || scan.computedTest)) return null;
  const leads = new Leads(parts).all();
  if (leads === null) return null;
  const { tree } = parts.places;
  const hash = createHash("sha256");
  const add = (kind: string, entries: readonly string[]) =>
    void hash.update(`${kind} ${entries.length}\n${entries.map((entry) => `${entry.length} ${entry}\n`).join("")}`);
  add("version", [VERSION]);
  add("files", filesOf(parts));
  add("links", [...tree.links, ...parts.aliases].map(({ path, target }) => `${path}\0${target}`).sort());
  add("leads", leads.toSorted());
  return `sha256:${hash.digest("hex")}` as Digest;
}

function filesOf(parts: BasisParts): string[] {
  const lineComments = hasLineComments(parts.prepared);
  const assembler = parts.prepared.request.mapped.language.startsWith("assembler");
  const whole = assembler || codeDecides(parts, "countsLines") || codeDecides(parts, "countsUses");
  return [...parts.read]
    .map(([guest, { bytes }]) => {
      const { directives } = factsOf(bytes, lineComments);
      return whole || directives === null ? `${guest}\0=${digestOf(bytes)}` : `${guest}\0#${directives}`;
    })
    .sort();
}

/** What of a call tells whether its code decides what directives do. */
export type DecidingParts = Pick<BasisParts, "prepared" | "texts" | "read" | "imagePaths" | "images">;

/** Whether a line of code may change what a directive does: by a pragma, a raw string that is left open, or a count that a directive depends on. */
export function codeDecides(
  { prepared, texts, read, imagePaths, images }: DecidingParts,
  count: "countsLines" | "countsUses",
): boolean {
  const lineComments = hasLineComments(prepared);
  const movers: Movers[] = [...read.values()].map(({ bytes }) => factsOf(bytes, lineComments).movers);
  for (const path of imagePaths) movers.push(images.movers(prepared.project, path));
  const some = (test: (one: Movers) => boolean) => movers.some(test);
  return (
    some((one) => one[count] || one.leavesOpen) ||
    (some((one) => one.pragmaOperator) && some((one) => one.pragmaMoves)) ||
    texts.some(({ scan }) => isMoving(scan))
  );
}

function isMoving(scan: SourceScan): boolean {
  return scan.macroPragma || scan.modules || scan.pragmaDependency;
}

/** Strict C90 has none. */
function hasLineComments({ request: { mapped } }: PreparedCall): boolean {
  if (mapped.language.startsWith("c++")) return true;
  const words = mapped.arguments.flatMap((argument) => argument.words);
  return !words.some((word) => word === "-ansi" || /^--?std=(?:c8|c90|iso9899:199)/.test(word));
}

interface Facts {
  /** Digest of the directives; null where they are in doubt. */
  readonly directives: Digest | null;
  readonly movers: Movers;
}

const facts = { true: new WeakMap<Buffer, Facts>(), false: new WeakMap<Buffer, Facts>() };
const digests = new WeakMap<Buffer, Digest>();

function factsOf(bytes: Buffer, lineComments: boolean): Facts {
  const known = facts[`${lineComments}`];
  const before = known.get(bytes);
  if (before !== undefined) return before;
  const lines = directiveLines(bytes, { lineComments });
  const newline = Buffer.from("\n");
  const directives = lines === null ? null : sha256(Buffer.concat(lines.flatMap((line) => [line, newline])));
  const made = { directives, movers: moversOf(bytes, () => lines) };
  known.set(bytes, made);
  return made;
}

function digestOf(bytes: Buffer): Digest {
  const known = digests.get(bytes);
  if (known !== undefined) return known;
  const digest = sha256(bytes);
  digests.set(bytes, digest);
  return digest;
}

/** What names lead to, wherever they may be sought. */
class Leads {
  readonly #parts: BasisParts;
  readonly #found: string[] = [];

  constructor(parts: BasisParts) {
    this.#parts = parts;
  }

  /** Null when one of them came about while the list was made. */
  all(): readonly string[] | null {
    const { texts, places } = this.#parts;
    const own = new Set<ByteString>(places.forced);
    const everywhere = new Set<ByteString>(places.forced);
    for (const { folder, scan } of texts)
      for (const { name } of [...scan.includes, ...scan.tests]) {
        everywhere.add(name);
        if (folder !== null) own.add(name);
      }
    const searched = new Set(places.folders);
    for (const folder of this.#folders())
      if (!this.#lookIn(folder, searched.has(folder) ? everywhere : own)) return null;
    for (const name of everywhere) if (name.startsWith("/") && !this.#look("" as ByteString, name)) return null;
    return this.#found;
  }

  /** Folders that are searched, and those that quoted names are sought in first: of files as they are spelled, and as they are. */
  #folders(): Set<ByteString> {
    const { places, names, texts } = this.#parts;
    const spelled = names.map((name) => {
      const path = name.startsWith("/") ? name : `${places.cwd}/${name}`;
      return path.slice(0, path.lastIndexOf("/")) as ByteString;
    });
    return new Set([...places.folders, places.cwd, ...spelled, ...texts.flatMap(({ folder }) => folder ?? [])]);
  }

  #lookIn(folder: ByteString, names: ReadonlySet<ByteString>): boolean {
    const { view, names: listed } = this.#parts.places;
    const host = toHostPath(view, folder);
    // Of the image: it never changes.
    if (host === null) return true;
    const kinds = listed.read(host)?.kinds;
    if (kinds === undefined) return true;
    for (const name of names) {
      const slash = name.indexOf("/");
      const first = slash < 0 ? name : name.slice(0, slash);
      if (first !== "." && first !== ".." && (first === "" || !kinds.has(first))) continue;
      if (!this.#look(folder, name)) return false;
    }
    return true;
  }

  #look(folder: ByteString, name: ByteString): boolean {
    const { places, read } = this.#parts;
    const path = (folder === "" ? name : `${folder}/${name}`) as ByteString;
    const lead = places.tree.look(path);
    if (lead.kind === "absent") return true;
    const end = lead.kind === "image" ? lead.path : lead.kind === "outside" ? "" : lead.guest;
    this.#found.push(`${path}\0${lead.kind}\0${end}`);
    return (read.has(path) && end === path) || !this.#isYoung(folder, name);
  }

  /** Whether anything on the way from a folder to a name may be younger than the list. */
  #isYoung(folder: ByteString, name: ByteString): boolean {
    const { listedMs, places } = this.#parts;
    if (listedMs === null) return false;
    let path = folder as string;
    for (const component of name.split("/")) {
      if (component === "") continue;
      path += `/${component}`;
      const host = toHostPath(places.view, path as ByteString);
      const changedMs = host === null ? 0 : changedMsOf(host);
      if (changedMs === null || changedMs >= listedMs - CLOCK_TICK_MS) return true;
    }
    return false;
  }
}

function changedMsOf(host: ByteString): number | null {
  try {
    const stat = lstatSync(bytesOf(host), { throwIfNoEntry: false });
    return stat === undefined ? null : Math.max(stat.ctimeMs, stat.mtimeMs);
  } catch {
    return null;
  }
}
