// What the caller's environment tells the loader of compilers, and whether it may load others by now. UNTRUSTED: the caller's paths.
import { statSync } from "node:fs";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import type { Environment } from "../../core/compile/grammar/environment.ts";

/** Folders below those that LD_LIBRARY_PATH names in which the loader seeks first. */
const SUBFOLDERS = ["glibc-hwcaps", "tls", "haswell", "x86_64"].concat(
  ["v2", "v3", "v4"].map((level) => `glibc-hwcaps/x86-64-${level}`),
);

export function loaderVariables(environment: Environment): string[] {
  return [...environment].flatMap(([name, value]) => (name.startsWith("LD_") ? [`${name}=${value}`] : [])).sort();
}

/** What changes when a library comes to stand where the caller tells the loader to seek. */
export function loaderPlaces(environment: Environment, cwd: ByteString): string {
  const folders = environment.get("LD_LIBRARY_PATH");
  if (folders === undefined || folders === "") return "";
  const places = folders.split(/[:;]/).flatMap((spelled) => {
    const folder = spelled === "" ? "." : spelled;
    const path = folder.startsWith("/") ? folder : `${cwd}/${folder}`;
    return [path, ...SUBFOLDERS.map((name) => `${path}/${name}`)];
  });
  return placeStamps(places);
}

/** Of folders: what changes when a name appears in one of them or goes. */
export function placeStamps(paths: readonly string[]): string {
  return paths
    .map((path) => {
      const stat = statSync(bytesOf(path as ByteString), { bigint: true, throwIfNoEntry: false });
      return `${path}:${stat?.ino}:${stat?.ctimeNs}`;
    })
    .join();
}
