// Names of tar members as paths below an image's root. UNTRUSTED: registry. Nothing here follows a link; the tree refuses
// to go through one.
import type { ByteString } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import { NAME_COMPONENT_BYTES_MAX, PATH_BYTES_MAX } from "./image-limits.ts";

/** How a foreign name is shown in messages: shortened, control characters and non-ASCII escaped. */
export function quoteName(name: string): string {
  return JSON.stringify(name.length > 120 ? `${name.slice(0, 120)}...` : name).replace(
    /[\u007f-\uffff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

function refuse(name: string, why: string): never {
  throw new HpccError("image.invalid", `layer entry ${quoteName(name)} ${why}`);
}

/** Components of a member's name; empty for the root itself. UNTRUSTED: registry. */
export function parseEntryPath(name: string): ByteString[] {
  if (name.startsWith("/")) refuse(name, "has an absolute path");
  if (name.length > PATH_BYTES_MAX) refuse(name, `has a path of more than ${PATH_BYTES_MAX} bytes`);
  if (name.includes("\0")) refuse(name, "has a NUL in its path");
  let rest = name.endsWith("/") ? name.slice(0, -1) : name;
  if (rest === "." || name === "./") return [];
  while (rest.startsWith("./")) rest = rest.slice(2);
  const components = rest.split("/");
  for (const component of components) {
    if (component === "") refuse(name, "has an empty path component");
    if (component === "." || component === "..") refuse(name, `has "${component}" in its path`);
    if (component.length > NAME_COMPONENT_BYTES_MAX)
      refuse(name, `has a name of more than ${NAME_COMPONENT_BYTES_MAX} bytes`);
  }
  return components as ByteString[];
}

/** The target of a symbolic link: kept as it is, resolved only inside the image's root. UNTRUSTED: registry. */
export function parseSymlinkTarget(name: string, target: string): ByteString {
  if (target === "") refuse(name, "is a symbolic link without a target");
  if (target.length > PATH_BYTES_MAX) refuse(name, `has a link target of more than ${PATH_BYTES_MAX} bytes`);
  if (target.includes("\0")) refuse(name, "has a NUL in its link target");
  return target as ByteString;
}
