// Which libraries a link names, and where it looks for them before the compiler's own folders. Pure. UNTRUSTED: the caller's argv.
import type { ByteString } from "../../base/byte-string.ts";

export interface LinkedLibraries {
  /** `z` of `-lz`. */
  readonly names: readonly ByteString[];
  /** As the caller spelled them. */
  readonly folders: readonly ByteString[];
}

const NAMES_MAX = 256;
/** A name that a file can have, and neither a shell nor a package manager takes for a pattern. */
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_+.-]*$/;
/** Words with which a link looks elsewhere: nothing can be told of it. */
const ELSEWHERE = /^(?:@|--sysroot|-B|-nostdlib|-nodefaultlibs|-specs|-target|--target|-m32|-mx32|-Wl,|-Xlinker$|-T)/;

/** Null when nothing can be told. */
export function linkedLibraries(argv: readonly ByteString[]): LinkedLibraries | null {
  const names = new Set<ByteString>();
  const folders: ByteString[] = [];
  for (let at = 1; at < argv.length; at += 1) {
    const word = argv[at]!;
    if (word === "-c" || word === "-E" || word === "-S" || ELSEWHERE.test(word)) return null;
    const option = word.slice(0, 2);
    if (option !== "-l" && option !== "-L") continue;
    const value = (word.length > 2 ? word.slice(2) : (argv[(at += 1)] ?? "")) as ByteString;
    if (option === "-L") folders.push(value);
    else if (NAME.test(value) && names.size < NAMES_MAX) names.add(value);
  }
  return names.size === 0 ? null : { names: [...names], folders };
}
