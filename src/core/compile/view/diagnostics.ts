// A compile's stderr: the way back from the view's paths to the host's. Pure.
// UNTRUSTED: the text may come from a guest; it is changed byte by byte and never parsed further.
import type { ByteString } from "../../../base/byte-string.ts";
import type { View } from "./view.ts";

/** Bytes that may stand before an absolute path in a message, and after a whole path prefix. */
const BEFORE = /[^A-Za-z0-9_./~+-]/;
/** A colour sequence ends with a letter, which is no part of the path after it. */
const COLOUR = /\x1b\[[0-9;]*[A-Za-z]$/;
const COLOUR_MAX = 24;
const AFTER = /[^A-Za-z0-9_.~+-]/;

/**
 * Puts the host's paths in the place of the view's: `roots` pairs each guest root with the host root as the user spells it.
 * Only whole path prefixes are replaced, all else is kept byte by byte.
 */
export function mapDiagnostics(text: ByteString, view: View): ByteString {
  let mapped: string = text;
  for (const { guest, host } of view.roots) mapped = replacePrefix(mapped, guest, host);
  return mapped as ByteString;
}

function replacePrefix(text: string, from: string, to: string): string {
  let at = text.indexOf(from);
  if (at < 0) return text;
  const pieces: string[] = [];
  let copied = 0;
  for (; at >= 0; at = text.indexOf(from, at + from.length)) {
    const end = at + from.length;
    const starts = at === 0 || BEFORE.test(text[at - 1]!) || COLOUR.test(text.slice(Math.max(0, at - COLOUR_MAX), at));
    const ends = end === text.length || AFTER.test(text[end]!);
    if (!starts || !ends) continue;
    pieces.push(text.slice(copied, at), to);
    copied = end;
  }
  pieces.push(text.slice(copied));
  return pieces.join("");
}
