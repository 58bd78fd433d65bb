// Where the caller's C library looks for a locale, and where programs look for their messages in its language: what is installed there later
// changes what compilers say. UNTRUSTED: the caller's environment.
import { readdirSync } from "node:fs";
import { type ByteString, byteStringOf, bytesOf } from "../../base/byte-string.ts";
import { categoryLocale, type Environment, isCUtf8, isPlainC } from "../../core/compile/grammar/environment.ts";
import { stampKey } from "./file-stamp.ts";
import { folderChange } from "./folder-state.ts";
import { Remembered } from "./remembered.ts";

export interface LocalePlaces {
  /** Files that make a locale. */
  readonly files: readonly ByteString[];
  /** Folders of messages. */
  readonly folders: readonly ByteString[];
}

const SYSTEM = "/usr/lib/locale";
const SHARE = "/usr/share/locale";
/** All locales of a system in one file, and other names of them. */
const TABLES = [`${SYSTEM}/locale-archive`, `${SHARE}/locale.alias`];
/** Messages of the compiler, the assembler and their libraries. */
const CATALOGUE = /^(?:gcc|cpplib|gas|bfd|opcodes|libc)(?:-[0-9.]+)?\.mo$/;
const NAME = /^([A-Za-z]+)(_[A-Za-z0-9]+)?(\.[^@/]*)?(@[^/]*)?$/;
const LANGUAGES_MAX = 16;
const FOLDERS_MAX = 256;

/** None for a call in C, or in C.UTF-8 without languages: every system has those. */
export function localePlaces(environment: Environment, cwd: ByteString): LocalePlaces {
  const messages = categoryLocale(environment, "LC_MESSAGES");
  const names = new Set([messages, categoryLocale(environment, "LC_CTYPE")].filter((name) => !isPlainC(name)));
  const installed = [...names].filter((name) => !isCUtf8(name));
  const wanted = isPlainC(messages) ? [] : [...(environment.get("LANGUAGE") ?? "").split(":"), messages];
  const languages = wanted.filter((name) => !isCUtf8(name)).slice(0, LANGUAGES_MAX);
  const own = (environment.get("LOCPATH") ?? "").split(":").filter((folder) => folder !== "");
  const folders = [...own.map((folder) => (folder.startsWith("/") ? folder : `${cwd}/${folder}`)), SYSTEM];
  const files = folders.flatMap((folder) =>
    installed.flatMap((name) => spellings(name).map((spelled) => `${folder}/${spelled}/LC_CTYPE`)),
  );
  return {
    files: (files.length === 0 ? [] : [...files, ...TABLES]) as ByteString[],
    folders: [...new Set(languages.flatMap(spellings))].map((name) => `${SHARE}/${name}/LC_MESSAGES` as ByteString),
  };
}

/** As the C library tries them: with and without territory, character set and modifier. */
function spellings(name: string): string[] {
  const [, language, territory = "", codeset = "", modifier = ""] = NAME.exec(name) ?? [];
  if (language === undefined) return [];
  const plain = codeset.toLowerCase().replace(/[^a-z0-9]/g, "");
  const codesets = codeset === "" ? [""] : [codeset, `.${/^\d+$/.test(plain) ? "iso" : ""}${plain}`, ""];
  const all = [modifier, ""].flatMap((end) =>
    [territory, ""].flatMap((middle) => codesets.map((set) => `${language}${middle}${set}${end}`)),
  );
  return [...new Set(all)];
}

const catalogues = new Remembered<string>(FOLDERS_MAX);

/** Part of a key: changes when a locale comes, goes or is another, or messages in its language do. */
export function localeState(environment: Environment, cwd: ByteString): string {
  const { files, folders } = localePlaces(environment, cwd);
  return [...files.map(stampKey), ...folders.map(cataloguesIn)].filter((state) => state !== "-").join();
}

function cataloguesIn(folder: ByteString): string {
  const change = folderChange(folder);
  if (change === null) return "-";
  const key = `${change} ${folder}`;
  let known = catalogues.get(key);
  if (known === undefined) {
    const names = readdirSync(bytesOf(folder), { encoding: "buffer" }).map(byteStringOf);
    const held = names.filter((name) => CATALOGUE.test(name)).sort();
    known = held.map((name) => `${name} ${stampKey(`${folder}/${name}` as ByteString)}`).join();
    catalogues.set(key, known);
  }
  return known === "" ? "-" : known;
}
