// What `-march=native` means here: the kind of this machine's processor, for stores that more than one machine may use.
import { readFileSync } from "node:fs";
import { type Digest, sha256 } from "../../core/digest/digest.ts";

/** Lines of /proc/cpuinfo that compilers' idea of a processor follows from. */
const TELLS = /^(?:vendor_id|cpu family|model|model name|stepping|cache size|flags|Features|CPU \w+|isa|uarch|cpu)\s*:/;

let known: Digest | null = null;

/** The digest of the first processor's kind. */
export function processorDigest(): Digest {
  known ??= sha256(Buffer.from(processorKind(readFileSync("/proc/cpuinfo", "latin1"))));
  return known;
}

export function processorKind(cpuinfo: string): string {
  const [first = ""] = cpuinfo.split("\n\n", 1);
  return first
    .split("\n")
    .filter((line) => TELLS.test(line))
    .join("\n");
}
