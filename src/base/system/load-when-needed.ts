// Code that is loaded at the first need, and not with what names it: for libraries that few calls need.
import { createRequire } from "node:module";

/**
 * The module at a path beside `here`, the `import.meta.url` of whoever asks: as a source, or in the bundle, whose chunks have a folder of their
 * own. It is an entry of scripts/bundle.ts, and must not await at its top.
 */
export function loadWhenNeeded(here: string, source: string, bundled: string): unknown {
  return createRequire(here)(here.endsWith(".ts") ? source : bundled);
}
