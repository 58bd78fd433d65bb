// Resolves paths of a call on the host, links included, and says where they stand in the view. A path that passes through
// a link with an absolute target is out of view: the same link would lead elsewhere in the image's root.
import { lstatSync, readlinkSync } from "node:fs";
import { ascii, type ByteString, byteStringOf, bytesOf } from "../base/byte-string.ts";
import type { View } from "../core/compile/view.ts";
import { toGuestPath } from "../core/compile/view.ts";

const LINKS_MAX = 40;

/** Where a host path stands: in the view (with its guest path), or outside (with the resolved host path). */
export type Placement =
  | { readonly kind: "view"; readonly guest: ByteString }
  | { readonly kind: "outside"; readonly host: ByteString };

type NodeKind = "folder" | "other" | "missing" | { readonly link: ByteString };

function inspect(path: ByteString): NodeKind {
  try {
    const stat = lstatSync(bytesOf(path), { throwIfNoEntry: false });
    if (stat === undefined) return "missing";
    if (stat.isSymbolicLink()) return { link: byteStringOf(readlinkSync(bytesOf(path), { encoding: "buffer" })) };
    return stat.isDirectory() ? "folder" : "other";
  } catch {
    // ENOTDIR, EACCES, ELOOP: nothing that the compiler could read either.
    return "missing";
  }
}

/**
 * Places an absolute host path. Components are walked as the kernel walks them; once the walk has entered a root of the
 * view, links are followed only to check that they stay in the view, and the path keeps its spelling below the root.
 */
export function placePath(view: View, path: ByteString): Placement {
  const pending = path.split("/").filter((part) => part !== "" && part !== ".");
  let real = ascii("");
  // The guest path as spelled since the walk entered a root; null before.
  let guest: ByteString | null = null;
  let links = 0;
  // Components still to walk that came out of a link: they do not extend the spelling.
  let linkParts = 0;
  while (pending.length > 0) {
    const part = pending.shift() as ByteString;
    const fromLink = linkParts > 0;
    if (fromLink) linkParts -= 1;
    if (part === "..") {
      real = real.slice(0, Math.max(0, real.lastIndexOf("/"))) as ByteString;
      const place = toGuestPath(view, real);
      if (place === null) guest = null;
      else if (!fromLink && guest !== null) guest = `${guest}/..` as ByteString;
      else guest ??= place;
      continue;
    }
    const next = `${real}/${part}` as ByteString;
    const kind = inspect(next);
    if (typeof kind === "object") {
      links += 1;
      if (links > LINKS_MAX) return { kind: "outside", host: next };
      const absolute = kind.link.startsWith("/");
      if (guest !== null && absolute) return { kind: "outside", host: next };
      if (guest !== null && !fromLink) guest = `${guest}/${part}` as ByteString;
      const parts = kind.link.split("/").filter((text) => text !== "" && text !== ".");
      pending.unshift(...parts);
      linkParts += parts.length;
      if (absolute) real = ascii("");
      if (guest !== null && toGuestPath(view, real === "" ? ascii("/") : real) === null) guest = null;
      continue;
    }
    real = next;
    const place = toGuestPath(view, real);
    if (place === null) guest = null;
    else if (guest === null) guest = place;
    else if (!fromLink) guest = `${guest}/${part}` as ByteString;
  }
  if (guest === null || toGuestPath(view, real) === null)
    return { kind: "outside", host: real === "" ? ascii("/") : real };
  return { kind: "view", guest };
}
