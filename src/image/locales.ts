// Which locales an unpacked image has, and in which languages its programs speak. Judged by its files; answers are remembered.
import { lstatSync, readdirSync, readFileSync } from "node:fs";
import { type ByteString, bytesOf } from "../base/byte-string.ts";
import { resolveInImage } from "./image-path.ts";

const ARCHIVE = "/usr/lib/locale/locale-archive";
const LOCALES = "/usr/lib/locale";
const MESSAGES = "/usr/share/locale";
const KNOWN_MAX = 256;
/** Largest archive that is searched; glibc's with every locale has some 220 MB. */
const ARCHIVE_BYTES_MAX = 512 * 1024 * 1024;

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

  /** Where a path of the image leads to within it, for `node:fs`; null for nothing that can be looked at. */
  #host(path: string): Buffer | null {
    try {
      const inside = resolveInImage(this.#rootfs, path as ByteString);
      return inside === null ? null : bytesOf((this.#rootfs + inside) as ByteString);
    } catch {
      return null;
    }
  }

  #lookForLocale(name: string): boolean {
    const parts = parseLocaleName(name);
    if (parts === null) return false;
    const { language, territory, codeset, modifier } = parts;
    const normal = codeset === "" ? "" : `.${codeset.slice(1).toLowerCase().replaceAll("-", "")}`;
    const spelled = `${language}${territory}${normal}${modifier}`;
    if ([spelled, name].some((folder) => this.#host(`${LOCALES}/${folder}`) !== null)) return true;
    const archive = this.#host(ARCHIVE);
    if (archive === null) return false;
    // No link any more, so a file is one of the image's.
    const stat = lstatSync(archive);
    return (
      stat.isFile() && stat.size <= ARCHIVE_BYTES_MAX && readFileSync(archive).includes(`${spelled}\0`, 0, "latin1")
    );
  }

  #lookForMessages(name: string): boolean {
    const parts = parseLocaleName(name);
    if (parts === null) return false;
    const { language, territory } = parts;
    return [`${language}${territory}`, language].some((folder) => {
      const messages = this.#host(`${MESSAGES}/${folder}/LC_MESSAGES`);
      if (messages === null) return false;
      try {
        return readdirSync(messages).some((file) => file.endsWith(".mo"));
      } catch {
        return false;
      }
    });
  }
}
