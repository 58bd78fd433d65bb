// What a compile that has run depends on: the files that it listed, those that no list holds, and the names that it sought in vain. It
// errs towards more: what is missing here makes a stale object. UNTRUSTED: texts and names are a checkout's.

import { statSync } from "node:fs";
import { posix } from "node:path";
import { ascii, type ByteString } from "../../base/byte-string.ts";
import { grammarOf } from "../../core/compile/grammar/gnu-grammar.ts";
import type { GnuInvocation } from "../../core/compile/grammar/invocation.ts";
import { definedBodies, type IncludeBodies, includeBodies } from "../../core/compile/view/include-macros.ts";
import { type LineNames, lineNames } from "../../core/compile/view/line-names.ts";
import { type SourceKind, type SourceScan, scanSource, scanTogether } from "../../core/compile/view/source-scan.ts";
import { readingsOf } from "../../core/compile/view/source-text.ts";
import { TestMacro } from "../../core/compile/view/test-macros.ts";
import type { Digest } from "../../core/digest/digest.ts";
import { changedMs, type FileStamp, movedMs, stampOf } from "../call/file-stamp.ts";
import { type FolderState, folderState } from "../call/folder-state.ts";
import { realPath } from "../call/real-path.ts";
import { Remembered } from "../call/remembered.ts";
import { type Bypass, bypass, next, type Stage } from "../call/stage.ts";
import { definedMacros, hidesText, isUsedBy, listsSources, namesSource } from "../inputs/defined-macros.ts";
import { CLOCK_TICK_MS } from "../inputs/steady-places.ts";
import type { DigestedFile, FileDigests } from "./file-digests.ts";
import type { RecordedNames } from "./local-record.ts";
import type { SearchedFolder } from "./search-path.ts";
import type { SeenNames } from "./seen-names.ts";

export interface InputsQuestion {
  readonly invocation: GnuInvocation;
  /** Names as the compiler listed them, the source first. */
  readonly listed: readonly ByteString[];
  /** Whether the list holds system headers. */
  readonly listsAll: boolean;
  readonly folders: readonly SearchedFolder[];
  readonly seen: SeenNames;
  /** When the compile began, in milliseconds since 1970. */
  readonly startedMs: number;
  /** Whether SOURCE_DATE_EPOCH, which is in the key, says what the date is. */
  readonly datesAreKnown: boolean;
}

/** A file that the call depends on, by its path as the call means it. */
export interface FoundInput extends DigestedFile {
  readonly path: ByteString;
}

export interface FoundInputs {
  readonly inputs: readonly FoundInput[];
  readonly absent: readonly RecordedNames[];
}

/** What a text says, kept by its digest. */
interface TextFindings {
  readonly scan: SourceScan;
  readonly lines: LineNames;
  /** Whether it makes what it includes the system's. */
  readonly system: boolean;
  /** Whether it may ask to be read once. */
  readonly once: boolean;
  /** Whether it may ask that of others. */
  readonly imports: boolean;
  /** Whether it may name a source to an assembler. */
  readonly namesSource: boolean;
}

interface Text {
  /** Folder of the file, as spelled. */
  readonly folder: ByteString;
  readonly path: ByteString;
  readonly findings: TextFindings;
  /** Whether what it includes may be missing in the list. */
  readonly unlisted: boolean;
  /** Whether the same file in the same folder is a text by another spelling: what it names beside itself is held, and followed no further. */
  readonly again: boolean;
}

const INPUTS_MAX = 16_000;
/** Where the headers of compilers and C libraries lie. */
const SYSTEM = /^\/usr\/(?:include|lib\w*)\//;
const NAMES_MAX = 400_000;
const SCANS_MAX = 4000;
/** What macros stand for in a text, for so many of both together. */
const BODIES_MAX = 40_000;
/** Macros that stand for each other. */
const MACROS_MAX = 64;
const HERE = ascii(".");

/** Kept by the daemon. */
export class TextScans {
  readonly #known = new Remembered<TextFindings>(SCANS_MAX);
  readonly #bodies = new Remembered<{ readonly found: IncludeBodies | null }>(BODIES_MAX);

  /** What a text's definitions of a macro stand for in an `#include`; null when that cannot be told. */
  bodies(digest: Digest, macro: string, read: () => Buffer | null): IncludeBodies | null {
    const key = `${digest}${macro}`;
    const known = this.#bodies.get(key);
    if (known !== undefined) return known.found;
    const bytes = read();
    if (bytes === null) return null;
    const found = includeBodies(macro, bytes);
    this.#bodies.set(key, { found });
    return found;
  }

  of(digest: Digest, kind: SourceKind, read: () => Uint8Array | null): TextFindings | null {
    const key = `${kind}${digest}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const bytes = read();
    if (bytes === null) return null;
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const readings = readingsOf(text);
    const has = (word: string) => readings.some((reading) => reading.includes(word));
    const lines = lineNames(bytes);
    const findings: TextFindings = {
      scan: scanSource(bytes, kind),
      lines,
      // A line marker may say so, too.
      system: has("system_header") || lines.names.length > 0,
      once: has("once"),
      imports: has("import"),
      namesSource: readings.some(namesSource),
    };
    this.#known.set(key, findings);
    return findings;
  }
}

export function findInputs(question: InputsQuestion, files: FileDigests, scans: TextScans): Stage<FoundInputs> {
  return new Finding(question, files, scans).run();
}

const TRIGRAPH = /\?\?[=/'()!<>-]/;
const NOT_ASCII = /[^\0-\x7f]/;

/** No file system has longer names. */
const NAME_BYTES_MAX = 255;

/** Whether a file can have the name. Texts between quotes that a macro stands for are often folders, or no names at all. */
function canBeFile(name: ByteString): boolean {
  const parts = name.split("/");
  return !/^\.{0,2}$/.test(parts.at(-1)!) && parts.every(({ length }) => length <= NAME_BYTES_MAX);
}

class Finding {
  readonly #question: InputsQuestion;
  readonly #files: FileDigests;
  readonly #scans: TextScans;
  readonly #inputs = new Map<ByteString, FoundInput>();
  readonly #readAsText = new Set<ByteString>();
  readonly #identities = new Set<string>();
  readonly #sizes = new Set<bigint>();
  readonly #onceSizes = new Set<bigint>();
  #hasImports = false;
  readonly #texts: Text[] = [];
  /** What is a text already: its file, in its folder, however both are spelled. */
  readonly #textPlaces = new Set<string>();
  readonly #folderStates = new Map<ByteString, FolderState>();
  readonly #absent = new Map<ByteString, Set<ByteString>>();
  readonly #sought = new Set<string>();
  readonly #testMacros = new Map<string, TestMacro>();
  /** Last parts of the names that the compiler listed. */
  readonly #listedNames: ReadonlySet<string>;
  /** Folders that are searched, and those of them that are the system's. */
  readonly #places: readonly ByteString[];
  readonly #systems: ReadonlySet<ByteString>;
  /** Whether sources are in another encoding than the names of files. */
  readonly #hasCharset: boolean;
  /** Where names that were sought do stand. */
  readonly #reached = new Set<ByteString>();
  /** Whether names were made of what was read. */
  #guesses = false;
  #names = 0;

  constructor(question: InputsQuestion, files: FileDigests, scans: TextScans) {
    this.#question = question;
    this.#files = files;
    this.#scans = scans;
    this.#places = question.folders.map(({ path }) => path);
    this.#listedNames = new Set(question.listed.map(lastPart));
    this.#hasCharset = question.invocation.arguments.some(({ option }) => option === "-finput-charset=");
    this.#systems = new Set(question.folders.flatMap(({ path, system }) => (system ? [path] : [])));
  }

  run(): Stage<FoundInputs> {
    const refused =
      this.#listed() ??
      this.#named() ??
      this.#followed() ??
      this.#unexplained() ??
      this.#forbidden() ??
      this.#precompiled();
    if (refused !== null) return refused;
    // What is an image's never changes.
    const { seen } = this.#question;
    const inputs = [...this.#inputs.values()].filter(({ path }) => !seen.isForeign(path));
    const absent = [...this.#absent].flatMap(([folder, names]) =>
      seen.isForeign(folder) ? [] : [{ folder, names: [...names].sort() }],
    );
    return next({ inputs, absent });
  }

  #listed(): Bypass | null {
    const { listed, listsAll } = this.#question;
    for (const name of listed) {
      // A header of a list without the system's is none of them, whatever folder it is in.
      const refused = this.#take(plainPath(name), { text: true, unlisted: !listsAll && this.#isSystem(name) });
      if (refused !== null) return refused;
    }
    return null;
  }

  /** What the command line itself names: lists, profiles, and headers that are included first. */
  #named(): Bypass | null {
    const { invocation } = this.#question;
    for (const { role, valueKind, value, option } of invocation.arguments) {
      if (value === null) continue;
      if (valueKind === "file" && (role === "both" || role === "compile")) {
        const refused = this.#take(plainPath(value), { text: false, unlisted: false });
        if (refused !== null) return refused;
      }
      if (valueKind === "include") this.#include(value, HERE, true);
      if (option === "-F" || option === "-iframework") return bypass("unsupported_compiler_option", option);
    }
    const { includesFirst, describesRoot } = grammarOf(invocation).habits;
    for (const { option, value } of invocation.arguments) {
      if (option !== "-isysroot" || value === null || describesRoot === null) continue;
      const refused = this.#all(describesRoot, [value], (at) => this.#take(at, { text: false, unlisted: false }));
      if (refused !== null) return refused;
    }
    if (includesFirst !== null && !/assembler$|output$/.test(invocation.language))
      return this.#include(includesFirst, null, true);
    return null;
  }

  #isSystem(name: ByteString): boolean {
    return this.#question.folders.some(({ path, system }) => system && name.startsWith(`${path}/`));
  }

  /** Reads and scans a file that was found. */
  #take(path: ByteString, { text, unlisted }: { readonly text: boolean; readonly unlisted: boolean }): Bypass | null {
    const known = this.#inputs.get(path);
    // What was only asked for may be read as well.
    if (known !== undefined && (!text || this.#readAsText.has(path))) return null;
    if (this.#inputs.size >= INPUTS_MAX) return bypass("source_too_large", path);
    const host = this.#question.seen.readable(path);
    const file = known ?? this.#files.digest(host);
    if (file === null || changedMs(file.stamp) >= this.#question.startedMs - CLOCK_TICK_MS)
      return bypass("modified_input_file", path);
    if (known === undefined) this.#inputs.set(path, { path, ...file });
    this.#identities.add(identityOf(file.stamp));
    if (!text) return null;
    this.#readAsText.add(path);
    const findings = this.#scans.of(file.digest, this.#kindOf(path), () => {
      const read = this.#files.read(host);
      return read?.digest === file.digest ? read.bytes : null;
    });
    if (findings === null) return bypass("modified_input_file", path);
    this.#sizes.add(file.stamp.size);
    if (findings.once) this.#onceSizes.add(file.stamp.size);
    this.#hasImports ||= findings.imports;
    const isUnlisted = unlisted || findings.system;
    // A header may include itself by a longer path each time, `../inc/a.h`.
    const identity = `${isUnlisted} ${this.#kindOf(path)} ${file.stamp.dev}:${file.stamp.ino} ${this.#folder(folderOf(host))}`;
    const again = this.#textPlaces.has(identity);
    this.#textPlaces.add(identity);
    this.#texts.push({ folder: folderOf(path), path, findings, unlisted: isUnlisted, again });
    return null;
  }

  #folder(path: ByteString): FolderState {
    let state = this.#folderStates.get(path);
    if (state === undefined) {
      state = folderState(path);
      this.#folderStates.set(path, state);
    }
    return state;
  }

  #kindOf(path: ByteString): SourceKind {
    const { language } = this.#question.invocation;
    return language.startsWith("assembler") || /\.(?:s|S|sx|inc|asm)$/.test(path) ? "assembler" : "c";
  }

  /** Follows what texts name, until none names anything new. */
  #followed(): Bypass | null {
    for (let known = -1; known < this.#texts.length; ) {
      known = this.#texts.length;
      for (let at = 0; at < this.#texts.length; at++) {
        const refused = this.#followText(this.#texts[at]!);
        if (refused !== null) return refused;
      }
      const refused = this.#askedByMacros() ?? this.#computed();
      if (refused !== null) return refused;
    }
    return null;
  }

  #followText({ folder, path, findings: { scan, lines }, unlisted, again }: Text): Bypass | null {
    if (this.#sought.has(`text ${path}`)) return null;
    this.#sought.add(`text ${path}`);
    for (const { name, quoted } of scan.includes) {
      const refused =
        again && quoted ? this.#hold(name, folder) : this.#include(name, quoted ? folder : null, unlisted);
      if (refused !== null) return refused;
    }
    for (const { name, quoted } of scan.tests) {
      const refused = this.#ask(name, quoted ? folder : null);
      if (refused !== null) return refused;
    }
    const reads = [
      ...scan.assemblerReads.map(({ name, directive }) => ({ name, text: directive === "include" && !again })),
      ...scan.embeds.map((name) => ({ name, text: false })),
    ];
    for (const { name, text } of reads) {
      const refused = this.#all(name, [folder, HERE, ...this.#places], (at) =>
        this.#take(at, { text, unlisted: false }),
      );
      if (refused !== null) return refused;
    }
    // GCC quotes from files that line directives name.
    if (lines.computed) return bypass("unsupported_code_directive", ascii("#line NAME"));
    for (const name of lines.names) {
      const refused = this.#all(name, [HERE], (at) => this.#take(at, { text: false, unlisted: false }));
      if (refused !== null) return refused;
    }
    return null;
  }

  /** A name of an `#include`, taken or not: what answers it was listed, unless the list lacks such files. */
  #include(name: ByteString, beside: ByteString | null, unlisted: boolean): Bypass | null {
    const { listsAll } = this.#question;
    const key = `include ${unlisted} ${beside ?? ""} ${name}`;
    if (this.#sought.has(key)) return null;
    this.#sought.add(key);
    const places = [...(beside === null ? [] : [beside]), ...this.#places];
    let isFirst = true;
    return this.#all(name, places, (at, place) => {
      const first = isFirst;
      isFirst = false;
      const lacks = !listsAll && (unlisted || this.#systems.has(place));
      if (lacks) return this.#take(at, { text: true, unlisted: true });
      if (this.#inputs.has(at)) return null;
      if (first && this.#isTwin(at)) return this.#take(at, { text: true, unlisted: false });
      // It may have come after the compiler had looked for it. An absolute name is looked for in one place: without it no compile succeeds.
      if (name.startsWith("/") && !this.#mayBeTaken(name, places)) return null;
      const isNew =
        this.#isNew(at) || (this.#isWayNew(at, place) && this.#mayBeTaken(name, places) && !this.#isHeldElsewhere(at));
      if (isNew) return bypass("modified_input_file", at);
      // The way to a file that was listed by its real path is held as well; what it names is beside the real one.
      return this.#isTwin(at) ? this.#take(at, { text: false, unlisted: false }) : null;
    });
  }

  /** What is beside a text that was followed by another spelling. An absolute name is beside none. */
  #hold(name: ByteString, beside: ByteString): Bypass | null {
    if (name.startsWith("/")) return null;
    return this.#all(name, [beside], (at) => this.#take(at, { text: false, unlisted: false }));
  }

  /** Whether a compiler may take a file for one that it has read, and skip it unlisted. */
  #isTwin(path: ByteString): boolean {
    const stamp = stampOf(this.#question.seen.readable(path));
    if (stamp === null) return false;
    const sizes = this.#hasImports ? this.#sizes : this.#onceSizes;
    return this.#identities.has(identityOf(stamp)) || sizes.has(stamp.size);
  }

  /**
   * Whether an `#include` may be in a branch that was taken. A compiler that succeeded has found a file then and listed it, unless it took it
   * for one that it had read; system headers it may have listed by their real paths, or not at all. The text that has the `#include` is none
   * of them where the list lacks those.
   */
  #mayBeTaken(name: ByteString, places: readonly ByteString[]): boolean {
    const { seen } = this.#question;
    if (this.#listedNames.has(lastPart(name))) return true;
    return (name.startsWith("/") ? [ascii("")] : places).some((place) => {
      const below = (place === "" ? name.replace(/^\/+/, "") : name) as ByteString;
      if (seen.kind(place, below) === "absent") return false;
      return this.#systems.has(place) || this.#isTwin(joined(place, below));
    });
  }

  /** Whether a file, or a link that stands for it, may be newer than the compile. */
  #isNew(path: ByteString): boolean {
    const { seen } = this.#question;
    if (seen.isForeign(path)) return false;
    const absolute = seen.absolute(path);
    const target = movedMs(absolute, statSync);
    if (this.#isRecent(movedMs(absolute))) return true;
    // The kernel's own files, as /etc/mtab leads to one, are as new as the look at them.
    return target !== null && this.#isRecent(target) && !realPath(absolute).startsWith("/proc/");
  }

  /** Whether a folder or link that leads to a file from another folder may be newer than the compile. */
  #isWayNew(path: ByteString, place: ByteString): boolean {
    const { seen } = this.#question;
    if (seen.isForeign(path)) return false;
    const top = seen.absolute(place).length;
    for (let at = folderOf(seen.absolute(path)); at.length > top; at = folderOf(at))
      if (this.#isRecent(movedMs(at))) return true;
    return false;
  }

  /** Whether a path without links leads to a file that was read by another spelling: its folders are seen to be those of before. */
  #isHeldElsewhere(path: ByteString): boolean {
    const { seen } = this.#question;
    const absolute = seen.absolute(path);
    const others = [...this.#inputs.keys()].filter((other) => lastPart(other) === lastPart(path));
    return others.some((other) => realPath(seen.absolute(other)) === absolute);
  }

  #isRecent(changed: number | null): boolean {
    return changed === null || changed >= this.#question.startedMs - CLOCK_TICK_MS;
  }

  /** A name that is only asked for. */
  #ask(name: ByteString, beside: ByteString | null): Bypass | null {
    const key = `ask ${beside ?? ""} ${name}`;
    if (this.#sought.has(key)) return null;
    this.#sought.add(key);
    const places = [...(beside === null ? [] : [beside]), ...this.#places];
    return this.#all(name, places, (at) => this.#take(at, { text: false, unlisted: false }));
  }

  /** Whether a compiler may look for another name than the bytes say. */
  #isSpelledOddly(name: ByteString): boolean {
    return TRIGRAPH.test(name) || (this.#hasCharset && NOT_ASCII.test(name));
  }

  /** Notes where a name is not, and hands on where it is. */
  #all(
    name: ByteString,
    places: readonly ByteString[],
    found: (path: ByteString, place: ByteString) => Bypass | null,
  ): Bypass | null {
    const { seen } = this.#question;
    if (this.#isSpelledOddly(name)) return bypass("unsupported_code_directive", name);
    const isAbsolute = name.startsWith("/");
    const below = (isAbsolute ? name.replace(/^\/+/, "") : name) as ByteString;
    if (!canBeFile(below)) return null;
    for (const place of isAbsolute ? [ascii("")] : places) {
      if (seen.kind(place, below) === "absent") {
        const names = this.#absent.get(place) ?? new Set();
        if (!names.has(below) && (this.#names += 1) > NAMES_MAX) return bypass("source_too_large", name);
        this.#absent.set(place, names.add(below));
        continue;
      }
      const at = joined(place, below);
      this.#reached.add(at);
      const refused = found(at, place);
      if (refused !== null) return refused;
    }
    return null;
  }

  /** What macros that stand for `__has_include` ask for, in any text. */
  #askedByMacros(): Bypass | null {
    for (const macro of new Set(this.#texts.flatMap(({ findings }) => findings.scan.testMacros))) {
      const computed = bypass("unsupported_code_directive", ascii(`${macro}(NAME)`));
      const uses = this.#testMacros.get(macro) ?? new TestMacro(macro);
      this.#testMacros.set(macro, uses);
      if (isUsedBy(uses, this.#question.invocation)) return computed;
      for (const { path, folder } of this.#texts) {
        const key = `macro ${macro} ${path}`;
        if (this.#sought.has(key)) continue;
        this.#sought.add(key);
        const bytes = this.#files.read(this.#question.seen.readable(path))?.bytes;
        const tests = bytes === undefined ? null : uses.read(bytes);
        if (tests === null) return computed;
        for (const { name, quoted } of tests) {
          const refused = this.#ask(name, quoted ? folder : null);
          if (refused !== null) return refused;
        }
      }
    }
    return null;
  }

  /** Names that macros may make, where one makes the name of an include. */
  #computed(): Bypass | null {
    const makers = this.#texts.filter(({ findings }) => findings.scan.computedInclude);
    if (makers.length === 0) return null;
    // A list without system headers does not tell which of them such a name has led to.
    const hasSystem = this.#systems.size > 0;
    const lacks = makers.some(({ unlisted, findings }) => unlisted || (hasSystem && findings.scan.madeInclude));
    if (lacks && !this.#question.listsAll) return bypass("unsupported_code_directive", ascii("#include NAME"));
    for (const name of this.#namesOfMacros(makers) ?? this.#anyNames(makers))
      for (const { folder, unlisted, again } of makers) {
        const refused = again ? this.#hold(name, folder) : this.#include(name, folder, unlisted);
        if (refused !== null) return refused;
      }
    return null;
  }

  /** What the macros stand for that are operands, by all of their definitions; null when that cannot be told. */
  #namesOfMacros(makers: readonly Text[]): ReadonlySet<ByteString> | null {
    if (makers.some(({ findings }) => findings.scan.oddInclude)) return null;
    const macros = new Set(makers.flatMap(({ findings }) => findings.scan.includeMacros));
    const names = new Set<ByteString>();
    // Those that are found on the way come at the end.
    for (const macro of macros) {
      // The compiler's own macros have such names.
      if (macro.startsWith("_") || macros.size > MACROS_MAX) return null;
      const all = [definedBodies(macro, this.#question.invocation.arguments)];
      for (const { path } of this.#texts) all.push(this.#bodiesIn(path, macro));
      for (const bodies of all) {
        if (bodies === null) return null;
        for (const name of bodies.names) names.add(name);
        for (const other of bodies.macros) macros.add(other);
      }
    }
    return names;
  }

  #bodiesIn(path: ByteString, macro: string): IncludeBodies | null {
    const digest = this.#inputs.get(path)?.digest;
    if (digest === undefined) return null;
    return this.#scans.bodies(digest, macro, () => {
      const read = this.#files.read(this.#question.seen.readable(path));
      return read?.digest === digest ? read.bytes : null;
    });
  }

  /** All that definitions hold, and of names made of parts, those that what was read may have had. */
  #anyNames(makers: readonly Text[]): ReadonlySet<ByteString> {
    this.#guesses = true;
    const { seen } = this.#question;
    // GCC lists system headers by their real paths where these are shorter.
    const real = [...this.#systems].flatMap((place) => (seen.isForeign(place) ? [] : [realPath(seen.absolute(place))]));
    const places = new Set([...makers.map(({ folder }) => folder), ...this.#places, ...real]);
    const names = new Set(this.#texts.flatMap(({ findings }) => findings.scan.definitions));
    for (const path of this.#inputs.keys())
      for (const place of places) {
        if (place === HERE && !path.startsWith("/")) names.add(path);
        if (path.startsWith(`${place}/`)) names.add(path.slice(place.length + 1) as ByteString);
      }
    return names;
  }

  /** A file that was listed by its real path, and that no name leads to which was told: the way to it cannot be held. */
  #unexplained(): Bypass | null {
    const { listed, seen, invocation } = this.#question;
    if (!this.#guesses || !grammarOf(invocation).habits.listsRealPaths) return null;
    const known = new Set([...this.#reached].map((path) => identityOf(stampOf(seen.readable(path)))));
    for (const name of listed.slice(1).map(plainPath)) {
      const file = this.#inputs.get(name);
      if (file === undefined || !name.startsWith("/") || known.has(identityOf(file.stamp))) continue;
      return bypass("unsupported_code_directive", ascii("#include NAME"));
    }
    return null;
  }

  #forbidden(): Bypass | null {
    const { invocation, datesAreKnown } = this.#question;
    const known = datesAreKnown && grammarOf(invocation).habits.datesByEnvironment;
    if (hidesText(invocation)) return bypass("unsupported_source_encoding");
    if (listsSources(invocation) && this.#texts.some(({ findings }) => findings.namesSource))
      return bypass("unsupported_code_directive", ascii(".file NAME"));
    const defined = definedMacros(invocation);
    // Most system headers paste something, and hold underscores as parts of that: whoever uses them so spells a name's rest himself.
    const own = this.#texts
      .filter(({ path }) => !SYSTEM.test(posix.normalize(path)))
      .map(({ findings }) => findings.scan);
    const scans = this.#texts.map(({ findings }) => findings.scan);
    for (const scan of [defined, scanTogether([defined, ...own]), ...scans]) {
      if (scan.timestamp || (scan.dates && !known)) return bypass("date_time_macro");
      if (scan.computedTest) return bypass("unsupported_code_directive", ascii("__has_include(NAME)"));
      if (scan.computedEmbed) return bypass("unsupported_code_directive", ascii("#embed NAME"));
      if (scan.computedAssemblerRead) return bypass("unsupported_code_directive", ascii(".incbin NAME"));
      if (scan.pragmaDependency) return bypass("unsupported_code_directive", ascii("#pragma GCC dependency"));
      if (scan.modules && invocation.language.startsWith("c++")) return bypass("could_not_use_modules");
    }
    return null;
  }

  /** The first header that a compile includes may be taken from a precompiled one, wherever the header is sought. */
  #precompiled(): Bypass | null {
    const source = this.#texts[0];
    const forced = this.#question.invocation.arguments.flatMap(({ valueKind, value }) =>
      valueKind === "include" && value !== null ? [{ name: value, quoted: true }] : [],
    );
    const beside = source?.folder ?? HERE;
    // A name that a macro makes is one of these.
    const makers = source?.findings.scan.computedInclude ? [source] : [];
    const made = makers.length === 0 ? [] : [...(this.#namesOfMacros(makers) ?? this.#anyNames(makers))];
    const included = [...(source?.findings.scan.includes ?? []), ...made.map((name) => ({ name, quoted: true }))];
    const taken = (path: ByteString) => bypass("could_not_use_precompiled_header", path);
    for (const { name, quoted } of [...forced, ...included]) {
      const places = [...(quoted ? [beside, HERE] : []), ...this.#places];
      for (const suffix of [".gch", ".pch"]) {
        const refused = this.#all(`${name}${suffix}` as ByteString, places, taken);
        if (refused !== null) return refused;
      }
    }
    return null;
  }
}

function identityOf(stamp: Pick<FileStamp, "dev" | "ino"> | null): string {
  return stamp === null ? "" : `${stamp.dev}:${stamp.ino}`;
}

function folderOf(path: ByteString): ByteString {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? HERE : (path.slice(0, slash) as ByteString);
}

function lastPart(path: ByteString): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

function joined(place: ByteString, name: ByteString): ByteString {
  return plainPath((place === HERE ? name : `${place}/${name}`) as ByteString);
}

/** Without `./` at its beginning, as compilers list names. */
export function plainPath(path: ByteString): ByteString {
  return path.replace(/^(?:\.\/+)+/, "") as ByteString;
}
