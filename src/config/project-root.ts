// The root of the project that a folder belongs to. Pure over a probe; the launcher does the same
// (docs/specs/launcher-protocol.md).
import { ascii, type ByteString } from "../base/byte-string.ts";
import { PROJECT_CONFIG } from "./client.ts";

const OWN_MARKERS = [ascii(PROJECT_CONFIG)] as const;
const VERSION_CONTROL_MARKERS = [ascii(".git"), ascii(".hg"), ascii(".svn")] as const;

/**
 * The nearest folder from `folder` upwards that holds hpcc.toml; if there is none, the nearest that holds a
 * version-control folder; else null. The root folder is never a project: it cannot stand at another path. `folder` is absolute with links resolved; `exists` tells whether a path exists.
 */
export function findProjectRoot(folder: ByteString, exists: (path: ByteString) => boolean): ByteString | null {
  for (const markers of [OWN_MARKERS, VERSION_CONTROL_MARKERS])
    for (let at = folder.replace(/\/+$/, ""); at !== ""; at = at.slice(0, at.lastIndexOf("/")))
      if (markers.some((marker) => exists(`${at}/${marker}` as ByteString))) return at as ByteString;
  return null;
}
