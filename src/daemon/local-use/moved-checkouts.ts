// Whether a result may answer the same call in a checkout at another place: nothing of the place may be in what is asked or in what came
// of it. Pure.
import type { ByteString } from "../../base/byte-string.ts";
import { DEVICE_CODE } from "../../core/objects/device-code.ts";
import type { LocalCall } from "./read-local-call.ts";

/** Options that put the working folder into outputs, or take it from them. */
const NAMES_FOLDER = /^(?:-g(?!0$|no-)|--?coverage$|-fprofile|-ftest-coverage|-fcoverage-mapping|-fdebug-)/;

/** Spellings of the place that a result must not hold. */
export function placeNames(cwd: ByteString, pwd: ByteString | undefined, project: ByteString | null): ByteString[] {
  const names = [cwd, ...(pwd === undefined ? [] : [pwd]), ...(project === null ? [] : [project])];
  return [...new Set(names)].filter((name) => name !== "");
}

/** Whether a call asks for what would be the same elsewhere. `isMapped`: debug information is relative to the project's root. */
export function isMovable(
  { invocation, words, variables }: LocalCall,
  names: readonly ByteString[],
  isMapped = false,
): boolean {
  if (invocation.ownPaths || (!isMapped && words.some((word) => NAMES_FOLDER.test(word)))) return false;
  return ![...words, ...variables.values()].some((text) => names.some((name) => text.includes(name)));
}

/** Whether bytes name the place, as it is or as outputs spell it, or may name it unseen. */
export function namesPlace(bytes: Uint8Array, names: readonly ByteString[]): boolean {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (buffer.includes(DEVICE_CODE)) return true;
  return names.some((name) => spellings(name).some((spelled) => buffer.includes(spelled, 0, "latin1")));
}

/** Whether a path leads there by its own words. */
export function isBelowPlace(path: ByteString, names: readonly ByteString[]): boolean {
  return names.some((name) => path === name || path.startsWith(`${name}/`));
}

/** A name as such, in a rule of Make, and between the quotes of a text for an assembler. */
function spellings(name: ByteString): readonly string[] {
  const inRule = withEscapedBlanks(name);
  const inQuotes = name.replace(/["\\]/g, "\\$&");
  return [
    name,
    inRule.replace(/\$/g, "$$$$").replace(/#/g, "\\#"),
    inQuotes,
    inQuotes.replace(/[^ -~]/g, (byte) => `\\${byte.charCodeAt(0).toString(8).padStart(3, "0")}`),
  ];
}

/** Backslashes before a blank are doubled. */
function withEscapedBlanks(name: string): string {
  let escaped = "";
  let slashes = 0;
  for (const char of name) {
    if (char === " " || char === "\t") escaped += "\\".repeat(slashes + 1);
    slashes = char === "\\" ? slashes + 1 : 0;
    escaped += char;
  }
  return escaped;
}
