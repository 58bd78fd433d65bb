// Which locales an unpacked image has, and in which languages its programs speak. Judged by its files; answers are remembered.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { type ByteString, bytesOf } from "../base/byte-string.ts";

const ARCHIVE = "/usr/lib/locale/locale-archive";
const LOCALES = "/usr/lib/locale";
const MESSAGES = "/usr/share/locale";
const KNOWN_MAX = 256;

interface LocaleName {
  readonly language: string;
  readonly territory: string;
  readonly codeset: string;
  readonly modifier: string;
}

/** "de_AT.UTF-8@euro" in its parts, each with its separator; null for what is no locale's name. */
function parseLocaleName(name: string): LocaleName | null {
  const match = /^([A-Za-z]{1,8})(_[A-Za-z0-9]{1,8})?(\.[A-Za-z0-9-]{1,32})?(@[A-Za-z0-9]{1,32})?$/.exec(name);
  if (match === null) return null;
  const [, language = "", territory = "", codeset = "", modifier = ""] = match;
  return { language, territory, codeset, modifier };
}

/** Locales of one unpacked image, which never changes. */
export class ImageLocaleFiles {
  readonly #rootfs: ByteString;
  readonly #has = new Map<string, boolean>();
  readonly #speaks = new Map<string, boolean>();

  constructor(rootfs: ByteString) {
    this.#rootfs = rootfs;
  }

  /** Whether the C library of the image has the locale of this name. */
  hasLocale(name: string): boolean {
    return this.#remember(this.#has, name, () => this.#lookForLocale(name));
  }

  /** Whether the image holds messages in the language of this locale's name. */
  translates(name: string): boolean {
    return this.#remember(this.#speaks, name, () => this.#lookForMessages(name));
  }

  #remember(known: Map<string, boolean>, name: string, look: () => boolean): boolean {
    const before = known.get(name);
    if (before !== undefined) return before;
    const answer = look();
    if (known.size < KNOWN_MAX) known.set(name, answer);
    return answer;
  }

  #host(path: string): Buffer {
    return bytesOf((this.#rootfs + path) as ByteString);
  }

  #lookForLocale(name: string): boolean {
    const parts = parseLocaleName(name);
    if (parts === null) return false;
    const { language, territory, codeset, modifier } = parts;
    const normal = codeset === "" ? "" : `.${codeset.slice(1).toLowerCase().replaceAll("-", "")}`;
    const spelled = `${language}${territory}${normal}${modifier}`;
    for (const folder of [spelled, name])
      if (statSync(this.#host(`${LOCALES}/${folder}`), { throwIfNoEntry: false }) !== undefined) return true;
    if (statSync(this.#host(ARCHIVE), { throwIfNoEntry: false }) === undefined) return false;
    return readFileSync(this.#host(ARCHIVE)).includes(`${spelled}\0`, 0, "latin1");
  }

  #lookForMessages(name: string): boolean {
    const parts = parseLocaleName(name);
    if (parts === null) return false;
    const { language, territory } = parts;
    return [`${language}${territory}`, language].some((folder) => {
      try {
        const files = readdirSync(this.#host(`${MESSAGES}/${folder}/LC_MESSAGES`));
        return files.some((file) => file.endsWith(".mo"));
      } catch {
        return false;
      }
    });
  }
}
