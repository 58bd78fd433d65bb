// Puts hpcc's own prefix maps beside the caller's, so that the caller's keep what they say. GCC applies every -ffile-prefix-map after
// every -fmacro-prefix-map, wherever they stand, and takes the last map that fits; Clang 14 the first of two maps of one prefix. Pure.
import type { ByteString } from "../../../base/byte-string.ts";

const MAP = /^-f(file|debug|macro)-prefix-map=([^=]*)=(.*)$/s;

export interface PlacedFlags {
  /** To stand before the caller's own words, so that these come later. */
  readonly before: readonly ByteString[];
  readonly after: readonly ByteString[];
}

/** Places hpcc's flags around the caller's words. They all stay behind when the caller maps no prefixes. */
export function placeInjected(own: readonly ByteString[], injected: readonly ByteString[]): PlacedFlags {
  const maps = own.flatMap((word) => {
    const [, kind, old] = MAP.exec(word) ?? [];
    return kind === undefined || old === undefined ? [] : [{ kind, old }];
  });
  if (maps.length === 0) return { before: [], after: injected };
  const before = injected.flatMap((word) => {
    const [, kind, old = "", to = ""] = MAP.exec(word) ?? [];
    if (kind !== "file") return [];
    const isCallers = (wanted: string) =>
      maps.some((map) => (map.kind === "file" || map.kind === wanted) && old.startsWith(map.old));
    const kinds = ["debug", "macro"].filter((wanted) => !isCallers(wanted));
    return kinds.map((wanted) => `-f${wanted}-prefix-map=${old}=${to}` as ByteString);
  });
  return { before, after: injected.filter((word) => !word.startsWith("-ffile-prefix-map=")) };
}
