// Completes the tree of a call: what the compiler's list does not hold, and what forbids a guest. From the list come files; from their
// texts come names that are only asked for, files that an assembler reads, and files that branches read which only the compile itself
// takes. UNTRUSTED: texts and names are a checkout's.
import { lstatSync } from "node:fs";
import { posix } from "node:path";
import { ascii, type ByteString, bytesOf } from "../../base/byte-string.ts";
import { grammarOf } from "../../core/compile/grammar/gnu-grammar.ts";
import type { Habits } from "../../core/compile/grammar/grammar.ts";
import type { GuestFile } from "../../core/compile/view/guest-file.ts";
import { lineNames } from "../../core/compile/view/line-names.ts";
import { type SourceScan, scanSource, scanTogether } from "../../core/compile/view/source-scan.ts";
import { readingsOf } from "../../core/compile/view/source-text.ts";
import { TestMacro } from "../../core/compile/view/test-macros.ts";
import { toHostPath } from "../../core/compile/view/view.ts";
import type { Digest } from "../../core/digest/digest.ts";
import type { AbsentNames, SearchedState } from "../call/answered-call.ts";
import { folderState } from "../call/folder-state.ts";
import type { PreparedCall } from "../call/prepared-call.ts";
import { includeSearch } from "../call/read-call.ts";
import { bypass, next, type Stage } from "../call/stage.ts";
import { showsDate } from "../inputs/dates.ts";
import { definedMacros, hidesText, isUsedBy, listsSources, namesSource } from "../inputs/defined-macros.ts";
import type { FileCache, ReadFile } from "../inputs/file-cache.ts";
import { type FolderNamesCache, FolderNamesOnce } from "../inputs/folder-names.ts";
import type { ImageHeaders } from "../inputs/image-headers.ts";
import type { ImageScans } from "../inputs/image-scans.ts";
import {
  absentNames,
  escapingLookup,
  type LookupPlaces,
  precompiledHeaders,
  type ReadText,
} from "../inputs/lookups.ts";
import { type Followed, SourceTree } from "../inputs/source-tree.ts";
import { CLOCK_TICK_MS, type FolderIdentities, type SteadyPlaces } from "../inputs/steady-places.ts";
import type { KeptListings } from "./kept-listings.ts";
import { codeDecides, listingBasis } from "./listing-basis.ts";
import type { StrippedUse } from "./stripped-use.ts";

export interface InputCaches {
  readonly files: FileCache;
  readonly names: FolderNamesCache;
  readonly images: ImageScans;
  readonly imageHeaders: ImageHeaders;
  readonly folders: FolderIdentities;
  readonly listings: KeptListings;
  readonly strippedUse: StrippedUse;
}

/** When the list was asked for, and what was known of folders before: what changed since is another one than was listed. */
export interface BeforeList {
  readonly startedMs: number;
  readonly steady: SteadyPlaces;
}

export interface Gathered {
  readonly tree: SourceTree;
  readonly files: readonly GuestFile[];
  /** Links beside those of the tree: they stand for files which GCC takes for one. */
  readonly aliases: readonly { readonly path: ByteString; readonly target: ByteString }[];
  /** What the list rests on; null when it must not be kept. `listedMs`: when it was made, null where it was kept. */
  readonly basis: (listedMs: number | null) => Digest | null;
  /** Whether code of some text may change what directives do, however the lines are counted: then no code may be left out of a list. */
  readonly codeDecides: () => boolean;
  /** Files of the host by the paths by which they are opened, links on the way not resolved. */
  readonly opened: ReadonlyMap<ByteString, ReadFile>;
  /** Names that are sought in folders of the host and are not there. */
  absent(): AbsentNames[];
  /** Folders of the host that are searched, as they are in the tree. */
  readonly searched: readonly SearchedState[];
  /** Whether a precompiled header is among the files. */
  readonly precompiled: boolean;
}

/** Compilers' own headers: they set back each pragma that they give. */
const COMPILERS_OWN = /^\/usr\/(?:local\/)?lib\/(?:gcc|llvm-\d+\/lib\/clang|clang)\//;
const READS_MAX = 16_000;
const NOTHING = scanSource(new Uint8Array(), "c");

export function gatherInputs(
  prepared: PreparedCall,
  names: readonly ByteString[],
  before: BeforeList,
  caches: InputCaches,
): Stage<Gathered> {
  return new Gathering(prepared, before, caches).run(names);
}

class Gathering {
  readonly #prepared: PreparedCall;
  readonly #before: BeforeList;
  readonly #caches: InputCaches;
  readonly #tree: SourceTree;
  readonly #places: LookupPlaces;
  readonly #read = new Map<ByteString, ReadFile>();
  readonly #opened = new Map<ByteString, ByteString>();
  readonly #texts: ReadText[] = [];
  readonly #imagePaths = new Set<ByteString>();
  readonly #found: ByteString[] = [];
  readonly #searchedStates: SearchedState[] = [];
  readonly #scans = new Map<ByteString, SourceScan>();
  /** Folders in which quoted names of a file are sought: its own, and those of links by which it is included. */
  readonly #beside = new Map<ByteString, Set<ByteString>>();
  /** Names that texts ask for and that are not there, by folder of the host. */
  readonly #absent = new Map<ByteString, ByteString[]>();
  /** Names that were asked for on the include path: headers of an image ask for the same ones again and again. */
  readonly #sought = new Set<ByteString>();
  /** Pairs of a macro and a file of whose uses of it the names are known. */
  readonly #macrosRead = new Set<string>();
  readonly #testMacros = new Map<string, TestMacro>();
  readonly #habits: Habits;
  #precompiled = false;

  constructor(prepared: PreparedCall, before: BeforeList, caches: InputCaches) {
    const { project, place, request } = prepared;
    this.#prepared = prepared;
    this.#habits = grammarOf(prepared.compiler).habits;
    this.#before = before;
    this.#caches = caches;
    const { imageRoot, imageEntries } = project;
    this.#tree = new SourceTree({
      view: place.view,
      cwd: request.cwd,
      imageRoot,
      imageEntries,
      imageKinds: caches.images.kinds(project),
    });
    const search = includeSearch(request);
    const names = new FolderNamesOnce(caches.names);
    this.#places = { view: place.view, tree: this.#tree, names, cwd: request.cwd, ...search, found: this.#found };
  }

  run(names: readonly ByteString[]): Stage<Gathered> {
    const refused = this.#searched() ?? this.#listed(names) ?? this.#further() ?? this.#forbidden();
    // The last thing of all: whatever was read before was read on these ways.
    return this.#moved() ?? refused ?? next(this.#gathered(names));
  }

  /** Takes the folders that are searched. One that is no folder goes along, too: compilers say so. */
  #searched(): Stage<never> | null {
    this.#tree.add(this.#prepared.request.pwd);
    for (const folder of this.#places.folders) {
      const found = this.#tree.add(folder);
      const here = toHostPath(this.#prepared.place.view, folder);
      if (found.kind === "outside" && here !== null) return bypass("outside_view", here);
      if (here !== null) {
        const state = folderState(here);
        const isFolder = state !== "nothing" && state !== "no folder";
        // It came or went between the two looks. What a link leads to in the image is the image's.
        if (found.kind !== "image" && isFolder !== (found.kind === "folder"))
          return bypass("modified_input_file", here);
        this.#searchedStates.push({ path: here, state });
      }
      const refused = found.kind === "file" ? this.#take(found, false) : null;
      if (refused !== null) return refused;
    }
    return null;
  }

  #moved(): Stage<never> | null {
    const { place, request } = this.#prepared;
    const host = (guest: ByteString) => toHostPath(place.view, guest) ?? [];
    const { steady, startedMs } = this.#before;
    const way = {
      folders: [...this.#tree.folders.flatMap(host), request.hostCwd, ...place.view.roots.map((root) => root.host)],
      links: this.#tree.links.flatMap(({ path }) => host(path)),
      absent: [...this.#absent].map(([folder, names]) => ({ folder, names })),
    };
    const moved = steady.moved(way, startedMs);
    return moved === null ? null : bypass("modified_input_file", moved);
  }

  #gathered(names: readonly ByteString[]): Gathered {
    const same = this.#habits.readsEqualFilesOnce ? sameFiles(this.#read) : new Map<ByteString, ByteString>();
    const aliases = [...same].map(([path, target]) => ({ path, target }));
    const files = [...this.#read].filter(([guest]) => !same.has(guest)).map(([path, { bytes }]) => ({ path, bytes }));
    const opened = new Map<ByteString, ReadFile>();
    for (const [path, guest] of this.#opened) {
      const read = this.#read.get(guest);
      if (read !== undefined) opened.set(path, read);
    }
    const basis = (listedMs: number | null) =>
      // With a precompiled header, the list knows more files than the compile reads.
      this.#precompiled
        ? null
        : listingBasis({
            prepared: this.#prepared,
            names,
            texts: this.#texts,
            read: this.#read,
            imagePaths: this.#imagePaths,
            aliases,
            places: this.#places,
            images: this.#caches.images,
            listedMs,
          });
    const decides = () =>
      codeDecides(
        {
          prepared: this.#prepared,
          texts: this.#texts,
          read: this.#read,
          imagePaths: this.#imagePaths,
          images: this.#caches.images,
        },
        "countsUses",
      );
    const absent = () => absentNames(this.#texts, this.#places);
    return {
      tree: this.#tree,
      files,
      aliases,
      opened,
      absent,
      searched: this.#searchedStates,
      basis,
      codeDecides: decides,
      precompiled: this.#precompiled,
    };
  }

  /** Takes what the compiler listed, and inputs that options name. */
  #listed(names: readonly ByteString[]): Stage<never> | null {
    const listed = new Set(names);
    this.#found.push(...listed);
    const profile = this.#profiles();
    if (profile !== null) return profile;
    this.#askRoots();
    for (const name of [...names, ...optionInputs(this.#prepared)]) {
      const found = this.#add(name);
      if (found.kind === "absent" || (found.kind === "folder" && listed.has(name)))
        return bypass("modified_input_file", name);
      if (found.kind === "outside" || found.kind === "folder") return bypass("outside_view", name);
      const refused = this.#take(found);
      if (refused !== null) return refused;
      if (found.kind === "file") this.#noteLinked(name, found.guest);
    }
    return null;
  }

  /** What a system root says of itself in a file is asked for as if a text in its folder did. */
  #askRoots(): void {
    const { mapped, cwd } = this.#prepared.request;
    const { describesRoot: name } = this.#habits;
    for (const { option, value } of mapped.arguments) {
      if (option !== "-isysroot" || value === null || name === null) continue;
      const folder = value.startsWith("/") ? value : (`${cwd}/${value}` as ByteString);
      this.#texts.push({ folder, scan: { ...NOTHING, tests: [{ name, quoted: true }] } });
    }
  }

  /** A file that is included by a link: its quoted names are sought beside the link. */
  #noteLinked(name: ByteString, guest: ByteString): void {
    const folder = parentOf(name.startsWith("/") ? name : (`${this.#places.cwd}/${name}` as ByteString));
    const scan = this.#scans.get(guest);
    const beside = this.#beside.get(guest);
    if (scan === undefined || beside === undefined || posix.normalize(folder) === parentOf(guest)) return;
    if (beside.has(folder)) return;
    beside.add(folder);
    this.#texts.push({ folder, scan });
  }

  /** Takes the profiles that a call may use; one that is not there is a matter of the compiler's words. */
  #profiles(): Stage<never> | null {
    const { mapped } = this.#prepared.request;
    const ends = grammarOf(mapped).profileNames(mapped);
    for (const { valueKind, value } of mapped.arguments) {
      if (valueKind !== "profile" || value === null) continue;
      const found = this.#tree.add(value);
      if (found.kind === "outside") return bypass("outside_view", value);
      const host = found.kind === "folder" ? toHostPath(this.#prepared.place.view, found.guest) : null;
      const inFolder = host === null ? [] : [...(this.#places.names.read(host)?.kinds.keys() ?? [])];
      const names = inFolder.filter((name) => ends.some((end) => name.endsWith(end)));
      for (const one of [found, ...names.map((name) => this.#tree.add(`${value}/${name}` as ByteString))]) {
        if (one.kind === "outside" || one.kind === "image") return bypass("outside_view", value);
        const refused = one.kind === "file" ? this.#take(one, false) : null;
        if (refused !== null) return refused;
      }
    }
    return null;
  }

  /** Reads and scans a file that was found. */
  #take(found: Followed, isText = true): Stage<never> | null {
    if (found.kind === "image") {
      if (this.#imagePaths.has(found.path)) return null;
      this.#imagePaths.add(found.path);
      const scan = this.#caches.images.scan(this.#prepared.project, found.path);
      if (scan !== null) this.#texts.push({ folder: null, scan: ownPragmas(scan, found.path) });
      return null;
    }
    if (found.kind !== "file" || this.#read.has(found.guest)) return null;
    if (this.#read.size >= READS_MAX) return bypass("source_too_large", found.guest);
    const read = this.#caches.files.readFile(found.host);
    if (read === null) return bypass(isFile(found.host) ? "source_too_large" : "modified_input_file", found.host);
    if (read.changedMs >= this.#before.startedMs - CLOCK_TICK_MS) return bypass("modified_input_file", found.host);
    this.#read.set(found.guest, read);
    if (isText) {
      const refused = this.#quoted(read.bytes);
      if (refused !== null) return refused;
    }
    if (isText) {
      const [folder, scan] = [parentOf(found.guest), scanSource(read.bytes, this.#kindOf(found.guest))];
      this.#scans.set(found.guest, scan);
      this.#beside.set(found.guest, new Set([folder]));
      this.#texts.push({ folder, scan });
    }
    return null;
  }

  /** Files that line directives name: GCC quotes from them. */
  #quoted(bytes: Buffer): Stage<never> | null {
    const { cwd } = this.#prepared.request;
    const { names, computed } = lineNames(bytes);
    if (computed && this.#habits.quotesNamedFiles) return bypass("unsupported_code_directive", ascii("#line NAME"));
    for (const name of names) {
      const found = this.#tree.look(name);
      const elsewhere = name.startsWith("/") && found.kind !== "file" && found.kind !== "image";
      // The name of a file of this machine, to which no map of the view's paths applies.
      if (elsewhere && this.#prepared.place.view.roots.some(({ host }) => name.startsWith(`${host}/`)))
        return bypass("outside_view", name);
      const refused = this.#habits.quotesNamedFiles ? this.#addIn(cwd, name, false) : null;
      if (refused !== null) return refused;
    }
    return null;
  }

  #kindOf(guest: ByteString): "c" | "assembler" {
    return this.#prepared.request.mapped.language.startsWith("assembler") || /\.(?:s|S|sx|inc|asm)$/.test(guest)
      ? "assembler"
      : "c";
  }

  /** Files that the list lacks, until none names a further one. */
  #further(): Stage<never> | null {
    for (let known = -1; known < this.#texts.length; ) {
      known = this.#texts.length;
      const refused = this.#askedByMacros() ?? this.#asked() ?? this.#branches() ?? this.#copies();
      if (refused !== null) return refused;
    }
    return null;
  }

  /** What is only asked for, and what an assembler reads. `#texts` grows meanwhile. */
  #asked(): Stage<never> | null {
    for (let at = 0; at < this.#texts.length; at++) {
      const { folder, scan } = this.#texts[at]!;
      for (const { name, quoted } of scan.tests) {
        const place = quoted ? folder : null;
        if (place === null && this.#sought.has(name)) continue;
        if (place === null) this.#sought.add(name);
        const refused = this.#addSought(name, place);
        if (refused !== null) return refused;
        this.#noteAbsent(name, quoted ? folder : null);
      }
      if (folder === null) continue;
      const reads = [
        ...scan.assemblerReads.map(({ name, directive }) => ({ name, text: directive === "include" })),
        ...scan.embeds.map((name) => ({ name, text: false })),
      ];
      for (const { name, text } of reads) {
        const refused = this.#addSought(name, folder, text) ?? this.#addIn(this.#places.cwd, name, text);
        if (refused !== null) return refused;
      }
    }
    return null;
  }

  /** What macros that stand for `__has_include` ask for, in any text of the project. */
  #askedByMacros(): Stage<never> | null {
    const { project } = this.#prepared;
    for (const macro of new Set(this.#texts.flatMap(({ scan }) => scan.testMacros))) {
      const computed = bypass("unsupported_code_directive", ascii(`${macro}(NAME)`));
      const uses = this.#testMacros.get(macro) ?? new TestMacro(macro);
      this.#testMacros.set(macro, uses);
      if (isUsedBy(uses, this.#prepared.request.mapped)) return computed;
      for (const path of this.#imagePaths) if (this.#caches.images.holds(project, path, macro)) return computed;
      for (const [guest, { bytes }] of this.#read) {
        const key = `${macro} ${guest}`;
        if (this.#macrosRead.has(key)) continue;
        this.#macrosRead.add(key);
        const tests = uses.read(bytes);
        if (tests === null) return computed;
        if (tests.length > 0)
          for (const folder of this.#beside.get(guest) ?? [parentOf(guest)])
            this.#texts.push({ folder, scan: { ...NOTHING, tests } });
      }
    }
    return null;
  }

  /**
   * Pragmas that change predefined macros act in a compile, not in a list: any branch may be taken. All files of the project that a name
   * in any text can mean go into the tree, and headers of the image that it can mean are texts whose names count, too.
   */
  #branches(): Stage<never> | null {
    if (!this.#habits.pragmasChangeMacros || !this.#texts.some(({ scan }) => scan.macroPragma)) return null;
    for (let at = 0; at < this.#texts.length; at++) {
      const { folder, scan } = this.#texts[at]!;
      if (scan.computedInclude && folder !== null) return bypass("unsupported_code_directive", ascii("#include NAME"));
      for (const { name, quoted } of scan.includes) {
        const before = this.#read.size;
        const refused = this.#addSought(name, quoted ? folder : null);
        if (refused !== null) return refused;
        const answered = this.#read.size > before || this.#answers(name, quoted ? folder : null);
        if (answered) continue;
        const { project, compiler } = this.#prepared;
        const headers = this.#caches.imageHeaders.find(project, compiler, { name, read: this.#imagePaths });
        if (headers === null) return bypass("unsupported_code_directive", name);
        for (const path of headers) this.#take({ kind: "image", path });
      }
    }
    return null;
  }

  /** Copies of files that GCC reads once: it finds one, sees that it knows it, and lists it no more. */
  #copies(): Stage<never> | null {
    if (!this.#habits.readsEqualFilesOnce) return null;
    const once = [...this.#read.values()].filter(({ bytes }) => readOnce(bytes));
    if (once.length === 0) return null;
    // Headers of an image ask for the same names again and again. A copy that is found is a further text, for which this is asked anew.
    const names = new Map<ByteString, Set<ByteString>>(this.#places.folders.map((folder) => [folder, new Set()]));
    for (const { folder, scan } of this.#texts)
      for (const { name, quoted } of scan.includes) {
        for (const place of this.#places.folders) names.get(place)!.add(name);
        if (quoted && folder !== null) names.set(folder, (names.get(folder) ?? new Set()).add(name));
      }
    for (const [folder, sought] of names)
      for (const name of sought) {
        const refused = this.#addCopy(folder, name, once);
        if (refused !== null) return refused;
      }
    return null;
  }

  #addCopy(folder: ByteString, name: ByteString, once: readonly ReadFile[]): Stage<never> | null {
    const host = toHostPath(this.#prepared.place.view, folder);
    const first = name.split("/", 1)[0]!;
    if (host === null || (first !== "." && first !== ".." && !this.#places.names.read(host)?.kinds.has(first)))
      return null;
    const path = (name.startsWith("/") ? name : `${folder}/${name}`) as ByteString;
    const found = this.#tree.look(path);
    if (found.kind !== "file" || this.#read.has(found.guest)) return null;
    const read = this.#caches.files.readFile(found.host);
    const isCopy = once.some(({ bytes, modifiedS }) => read?.modifiedS === modifiedS && read.bytes.equals(bytes));
    return isCopy ? this.#take(this.#tree.add(path)) : null;
  }

  /** Whether a file that is read already is what a name can mean. */
  #answers(name: ByteString, folder: ByteString | null): boolean {
    for (const path of this.#imagePaths) if (path.endsWith(`/${name}`)) return true;
    return [...(folder === null ? [] : [folder]), ...this.#places.folders].some(
      (place) => this.#tree.look(`${place}/${name}` as ByteString).kind === "file",
    );
  }

  #addSought(name: ByteString, folder: ByteString | null, isText = true): Stage<never> | null {
    if (name.startsWith("/")) return this.#addIn("" as ByteString, name, isText);
    for (const place of folder === null ? this.#places.folders : [folder, ...this.#places.folders]) {
      const refused = this.#addIn(place, name, isText);
      if (refused !== null) return refused;
    }
    return null;
  }

  #noteAbsent(name: ByteString, folder: ByteString | null): void {
    const places = name.startsWith("/")
      ? []
      : folder === null
        ? this.#places.folders
        : [folder, ...this.#places.folders];
    for (const place of places) {
      const host = toHostPath(this.#prepared.place.view, place);
      if (host === null || this.#tree.look(`${place}/${name}` as ByteString).kind !== "absent") continue;
      const absent = this.#absent.get(host);
      if (absent === undefined) this.#absent.set(host, [name]);
      else absent.push(name);
    }
  }

  #addIn(folder: ByteString, name: ByteString, isText: boolean): Stage<never> | null {
    const path = (name.startsWith("/") ? name : `${folder}/${name}`) as ByteString;
    if (this.#tree.look(path).kind !== "file") return null;
    return this.#take(this.#add(path), isText);
  }

  #add(name: ByteString): Followed {
    const found = this.#tree.add(name);
    const path = name.startsWith("/") ? name : (`${this.#places.cwd}/${name}` as ByteString);
    const host = found.kind === "file" ? toHostPath(this.#places.view, path) : null;
    if (host !== null && found.kind === "file") this.#opened.set(host, found.guest);
    return found;
  }

  #forbidden(): Stage<never> | null {
    const { mapped } = this.#prepared.request;
    if (hidesText(mapped)) return bypass("unsupported_source_encoding");
    if (listsSources(mapped) && [...this.#read.values()].some(({ bytes }) => readingsOf(bytes).some(namesSource)))
      return bypass("unsupported_code_directive", ascii(".file NAME"));
    const scans = this.#texts.map(({ folder, scan }) => ({ scan, own: folder !== null }));
    const defined = definedMacros(mapped);
    const together = scanTogether([defined, ...scans.flatMap(({ scan, own }) => (own ? [scan] : []))]);
    for (const { scan, own } of [{ scan: defined, own: true }, { scan: together, own: true }, ...scans]) {
      const refused = refusalOf(scan, own, this.#prepared);
      if (refused !== null) return refused;
    }
    if (this.#habits.readsHardLinksOnce) {
      const twice = hardLinkedTwice(this.#read);
      if (twice !== null) return bypass("hard_linked_input", twice);
    }
    const precompiled = this.#takePrecompiled();
    if (precompiled !== null) return precompiled;
    const escaping = escapingLookup(this.#texts, this.#places);
    return escaping === null ? null : bypass("outside_view", escaping);
  }

  /** Takes precompiled headers along: the compiler proper looks whether they are for this call, as it does here. */
  #takePrecompiled(): Stage<never> | null {
    const { place } = this.#prepared;
    for (const name of precompiledHeaders(this.#texts, this.#places)) {
      if (!this.#habits.readsPrecompiled.test(name)) continue;
      const found = this.#tree.add(name);
      // They name files by the paths at which they were made.
      if (found.kind !== "file" || place.paths === "shared" || !this.#habits.takesPrecompiled)
        return bypass("could_not_use_precompiled_header", toHostPath(place.view, name));
      const refused = this.#take(found, false);
      if (refused !== null) return refused;
      this.#precompiled = true;
    }
    return null;
  }
}

/** Why a text that is read forbids a guest; null when it does not. `own`: the project's, not the image's. */
function refusalOf(scan: SourceScan, own: boolean, { request }: PreparedCall): Stage<never> | null {
  if (scan.computedTest) return bypass("unsupported_code_directive", ascii("__has_include(NAME)"));
  // Clang says nothing of dates in system headers or under `-w`; GCC is given a date that it refuses.
  if (showsDate(scan, request.mapped)) return bypass("date_time_macro");
  if (!own) return null;
  if (scan.computedEmbed) return bypass("unsupported_code_directive", ascii("#embed NAME"));
  // A name that an assembler's macro makes is no danger: in a guest there is no other file for it, and the assembler says so.
  if (scan.pragmaDependency) return bypass("unsupported_code_directive", ascii("#pragma GCC dependency"));
  const cxx = request.mapped.language.startsWith("c++");
  if (scan.modules && cxx) return bypass("could_not_use_modules");
  return null;
}

function ownPragmas(scan: SourceScan, path: ByteString): SourceScan {
  return scan.macroPragma && COMPILERS_OWN.test(path) ? { ...scan, macroPragma: false } : scan;
}

/** Files that options name beside the include path: sanitizers' lists, profiles. */
function optionInputs({ request }: PreparedCall): ByteString[] {
  return request.mapped.arguments.flatMap(({ role, valueKind, value }) =>
    (role === "both" || role === "compile" || role === "input") && valueKind === "file" && value !== null
      ? [value]
      : [],
  );
}

function hardLinkedTwice(files: ReadonlyMap<ByteString, ReadFile>): ByteString | null {
  const seen = new Set<string>();
  for (const [guest, { hardLinks, identity }] of files) {
    if (hardLinks < 2) continue;
    if (seen.has(identity)) return guest;
    seen.add(identity);
  }
  return null;
}

/**
 * Files that GCC takes for one under `#pragma once` and `#import`: equal in content and in the second of their change. In a guest each file
 * has a time of its own, so the later one by path becomes a link to the first.
 */
function sameFiles(files: ReadonlyMap<ByteString, ReadFile>): Map<ByteString, ByteString> {
  const first = new Map<string, { readonly guest: ByteString; readonly bytes: Buffer }[]>();
  const same = new Map<ByteString, ByteString>();
  for (const guest of [...files.keys()].sort()) {
    const { bytes, modifiedS } = files.get(guest)!;
    if (!readOnce(bytes)) continue;
    const key = `${modifiedS} ${bytes.length}`;
    const others = first.get(key) ?? [];
    const equal = others.find((other) => other.bytes.equals(bytes));
    if (equal === undefined) first.set(key, [...others, { guest, bytes }]);
    else same.set(guest, equal.guest);
  }
  return same;
}

/** Whether a text may ask to be read once. */
function readOnce(bytes: Buffer): boolean {
  return bytes.includes("once") || bytes.includes("import");
}

function isFile(path: ByteString): boolean {
  return lstatSync(bytesOf(path), { throwIfNoEntry: false })?.isFile() === true;
}

function parentOf(path: ByteString): ByteString {
  return path.slice(0, path.lastIndexOf("/")) as ByteString;
}
