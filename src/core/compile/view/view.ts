// The one view of files: where the project and its extra roots stand in the image's root, on the client and in the guest
// alike, so that checkouts at any place share results. Pure: it resolves no links; callers resolve first.
import { ascii, type ByteString } from "../../../base/byte-string.ts";

/** Where the project's root stands in every namespace and guest. */
export const PROJECT_ROOT = ascii("/hpcc/project");
/** Where configured extra roots stand, each by its name. */
export const EXTRA_ROOTS = ascii("/hpcc/roots");
/** Where the daemon's files of a call stand in the client's namespace. */
export const CALL_FILES = ascii("/hpcc/tmp");
/** Where a guest execution writes outputs whose names nothing embeds. */
export const OUTPUT_FOLDER = ascii("/hpcc/out");

export interface ViewRoot {
  /** Absolute host path, links resolved, no trailing slash. */
  readonly host: ByteString;
  /** Absolute path in the view. */
  readonly guest: ByteString;
}

export interface View {
  /** The project's root first, then extra roots; no host path is below another one. */
  readonly roots: readonly ViewRoot[];
}

function below(path: ByteString, root: ByteString): boolean {
  return path === root || path.startsWith(`${root}/`);
}

/** The view's path of a resolved host path; null when it is in no root. */
export function toGuestPath(view: View, hostPath: ByteString): ByteString | null {
  for (const root of view.roots)
    if (below(hostPath, root.host)) return (root.guest + hostPath.slice(root.host.length)) as ByteString;
  return null;
}

/** The host path of a path of the view; null when it is in no root (an image path, say). */
export function toHostPath(view: View, guestPath: ByteString): ByteString | null {
  for (const root of view.roots)
    if (below(guestPath, root.guest)) return (root.host + guestPath.slice(root.guest.length)) as ByteString;
  return null;
}

/** True for a path of the view whose file a guest does not have by itself: below the project's root or an extra root. */
export function isSent(guestPath: ByteString): boolean {
  return below(guestPath, PROJECT_ROOT) || guestPath.startsWith(`${EXTRA_ROOTS}/`);
}
