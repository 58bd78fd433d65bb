// Where commands of `hpcc run` stand in a project's image: the launcher in the place of the compilers, and what commands and their
// compilers are called there. UNTRUSTED: names are the image's and the caller's.
import { type ByteString, byteStringOfText } from "../../base/byte-string.ts";
import type { ImageToolchain } from "../../image/toolchain.ts";
import type { NamespaceRef } from "../../wire/launcher/messages.ts";

/** What `hpcc run` needs of a project. */
export interface RunPlace {
  /** The kept namespace, made when there is none, with this launcher in the compilers' places. */
  namespace(launcher: ByteString): Promise<NamespaceRef>;
  /** Folders in which the image keeps its programs, in the order of its PATH. */
  readonly folders: readonly ByteString[];
  /** Variables of the image's configuration, PATH not among them. */
  readonly environment: readonly ByteString[];
  /** The word for a compiler that was called by a path of the namespace: its name where that leads to the same program, else the path. */
  word(path: ByteString): ByteString;
}

const COMPILERS_MAX = 1024;

/** Programs of the image that are compilers, links resolved: where the launcher stands. */
export function launcherPlaces(toolchain: ImageToolchain): ByteString[] {
  return [...new Set([...toolchain.all()].map(({ resolved }) => resolved))].sort().slice(0, COMPILERS_MAX);
}

export function calledWord(toolchain: ImageToolchain, path: ByteString): ByteString {
  const name = path.slice(path.lastIndexOf("/") + 1) as ByteString;
  const exact = toolchain.find(path);
  return exact === null || toolchain.find(name)?.resolved === exact.resolved ? name : path;
}

export function imageVariables(environment: readonly string[]): ByteString[] {
  return environment
    .filter((entry) => /^[A-Za-z_]\w*=/.test(entry) && !entry.startsWith("PATH="))
    .map(byteStringOfText);
}
