// The root of the project that a folder belongs to. Pure over a probe; the launcher does the same
// (docs/specs/launcher-protocol.md).

import { ascii, type ByteString } from "../base/byte-string.ts";
import { withoutTrailingSlashes } from "../base/trailing-slashes.ts";
import { type ClientConfig, PROJECT_CONFIG } from "./client.ts";

const OWN_MARKERS = [ascii(PROJECT_CONFIG)] as const;
const VERSION_CONTROL_MARKERS = [ascii(".git"), ascii(".hg"), ascii(".svn")] as const;

/**
 * The nearest folder from `folder` upwards that holds hpcc.toml; if there is none, the nearest that holds a
 * version-control folder; else null. The root folder is never a project: it cannot stand at another path. `folder` is absolute with links resolved; `exists` tells whether a path exists.
 */
export function findProjectRoot(folder: ByteString, exists: (path: ByteString) => boolean): ByteString | null {
  for (const markers of [OWN_MARKERS, VERSION_CONTROL_MARKERS])
    for (const at of upwards(folder)) if (markers.some((marker) => exists(`${at}/${marker}` as ByteString))) return at;
  return null;
}

/** The projects around one, the nearest first: folders above it that hold hpcc.toml. */
export function projectsAround(root: ByteString, exists: (path: ByteString) => boolean): ByteString[] {
  const [, ...above] = upwards(root);
  return above.filter((at) => exists(`${at}/${PROJECT_CONFIG}` as ByteString));
}

/**
 * The project to whose image a folder with an hpcc.toml is bound: the outermost one around it that takes in the projects below
 * it (`nested_projects = "outer"`), else itself. One whose configuration cannot be read (`load` gives null) takes in nothing.
 */
export function bindingProject(
  root: ByteString,
  exists: (path: ByteString) => boolean,
  load: (root: ByteString) => Pick<ClientConfig, "nestedProjects" | "image"> | null,
): ByteString {
  const takesIn = (around: ByteString) => {
    const config = load(around);
    return config?.nestedProjects === "outer" && config.image.kind !== "none";
  };
  if (!exists(`${root}/${PROJECT_CONFIG}` as ByteString)) return root;
  return projectsAround(root, exists).findLast(takesIn) ?? root;
}

function* upwards(folder: ByteString): Generator<ByteString> {
  for (let at: string = withoutTrailingSlashes(folder); at !== ""; at = at.slice(0, at.lastIndexOf("/")))
    yield at as ByteString;
}
