// argv[0] of an image's compiler that runs on this machine: the caller's own word where the compiler takes it for itself, else its path.
// UNTRUSTED: the caller's argv and PATH.
import { existsSync } from "node:fs";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import type { CallMessage } from "../../wire/launcher/messages.ts";
import type { ImageCompiler, Project } from "../project.ts";

/**
 * GCC seeks its own files beside the program that PATH has for argv[0], and names itself by argv[0] where it tells others of itself. A
 * launcher's link that stands before the compiler on PATH would lead it astray: it gets its path then.
 */
export function calledName(
  { argv, environment }: Pick<CallMessage, "argv" | "environment">,
  { path }: ImageCompiler,
  { imageFile }: Pick<Project, "imageFile">,
): ByteString {
  const name = argv[0]!;
  const folders = environment.find((entry) => entry.startsWith("PATH="))?.slice("PATH=".length) ?? "";
  for (const folder of name.includes("/") ? [] : folders.split(":")) {
    const candidate = `${folder}/${name}` as ByteString;
    if (candidate === path) return name;
    // The namespace shows a folder of the machine or the image's: neither may have something of that name.
    if (!folder.startsWith("/") || existsSync(bytesOf(candidate)) || imageFile(candidate) !== null) return path;
  }
  return path;
}
