// What drivers hand on unread: `-Wp,` and `-Xpreprocessor` to the preprocessor, `-Wa,` and `-Xassembler` to the assembler. Allow-lists:
// the preprocessor's dependency options and macros, and assembler options that write nothing and read nothing. The assembler's own debug
// information is not among them: it names the temporary file that the compiler wrote.
import type { ByteString } from "../../../base/byte-string.ts";
import type { BypassReason } from "../bypass-reasons.ts";
import type { ArgumentRole, CompilerFamily } from "./invocation.ts";

const ASSEMBLER_OPTIONS =
  /^(?:--(?:noexecstack|execstack|fatal-warnings|no-warn|warn|32|64|x32|divide|keep-locals|strip-local-absolute|reduce-memory-overheads|no-pad-sections|(?:no)?compress-debug-sections(?:=[a-z0-9-]+)?|size-check=[a-z]+|elf-stt-common=[a-z]+|generate-missing-build-notes=[a-z]+|gdwarf-sections|gdwarf-cie-version=\d)|-m[A-Za-z0-9_+=.,-]*|-W|-L|-n|-Q[yn])$/;
const LISTING = /^-a([cdghilmns]*)(?:=(.*))?$/s;
/** A listing that begins with the time and with the assembler's options. */
const DATED = "g";

/** The words of `-Wa,a,b`. */
export function assemblerWords(word: ByteString): ByteString[] {
  return word.slice(4).split(",") as ByteString[];
}

export interface AssemblerWords {
  /** Why these words are refused; null when all are understood. */
  readonly reason: BypassReason | null;
  /** Whether a listing is asked for, which shows the compiler's own text. */
  readonly lists: boolean;
  /** Files that listings go to, relative to the working directory; one without a file goes to standard output. */
  readonly listings: readonly ByteString[];
}

/** Reads words to the assembler. */
export function classifyAssemblerWords(words: readonly ByteString[]): AssemblerWords {
  const listings: ByteString[] = [];
  let lists = false;
  for (const word of words) {
    const refused = (reason: BypassReason): AssemblerWords => ({ reason, lists, listings });
    if (word === "--MD" || word.startsWith("--listing")) return refused("side_outputs");
    const listing = LISTING.exec(word);
    if (listing !== null) {
      lists = true;
      const [, kinds = "", file] = listing;
      if (kinds.includes(DATED)) return refused("side_outputs");
      // A folder of its own or a path of the host means another file in the guest.
      if (file?.startsWith("/") === true || file?.includes("..") === true || file === "")
        return refused("side_outputs");
      if (file !== undefined) listings.push(file as ByteString);
    } else if (!ASSEMBLER_OPTIONS.test(word)) return refused("unsupported_compiler_option");
  }
  return { reason: null, lists, listings };
}

export type PassThroughResult =
  | { readonly kind: "roles"; readonly roles: ReadonlyMap<number, ArgumentRole> }
  | { readonly kind: "refused"; readonly word: ByteString };

interface Piece {
  readonly text: ByteString;
  readonly argument: number;
}

/** Collects the words for GCC's preprocessor, which may spread one option over several `-Xpreprocessor`. */
export class PassThroughPreprocessor {
  request: { readonly kind: "MD" | "MMD"; readonly file: ByteString } | null = null;
  /** A later `-MF`. */
  file: ByteString | null = null;
  readonly targets: { readonly text: ByteString; readonly quoted: boolean }[] = [];
  phony = false;
  readonly #pieces: Piece[] = [];
  readonly #roles = new Map<number, ArgumentRole>();

  /** Notes words; `argument` is their place in the command line. */
  take(argument: number, words: readonly ByteString[]): void {
    for (const text of words) this.#pieces.push({ text, argument });
  }

  /** Reads what was taken: each argument's role, or the word that is not understood. */
  finish(family: CompilerFamily): PassThroughResult {
    for (let index = 0; index < this.#pieces.length; ) {
      const piece = this.#pieces[index] as Piece;
      const next = this.#pieces[index + 1] ?? null;
      const taken = this.#macro(piece) || this.#dependency(family, piece, next);
      if (taken === false) return { kind: "refused", word: piece.text };
      index += taken === true ? 1 : taken;
    }
    return { kind: "roles", roles: this.#roles };
  }

  #role(piece: Piece, role: ArgumentRole): boolean {
    const before = this.#roles.get(piece.argument);
    this.#roles.set(piece.argument, role);
    return before === undefined || before === role;
  }

  #macro(piece: Piece): boolean {
    return /^-[DU]./s.test(piece.text) && this.#role(piece, "preprocess");
  }

  #dependency(family: CompilerFamily, piece: Piece, next: Piece | null): number | false {
    if (!this.#role(piece, "dependency")) return false;
    if (piece.text === "-MP" && family === "gcc") {
      this.phony = true;
      return 1;
    }
    if (next === null || next.text === "" || !this.#role(next, "dependency")) return false;
    const option: string = piece.text;
    if (option === "-MD" || option === "-MMD") {
      if (this.request !== null) return false;
      this.request = { kind: option === "-MD" ? "MD" : "MMD", file: next.text };
    } else if (family !== "gcc") return false;
    else if (option === "-MF") this.file = next.text;
    else if (option === "-MT" || option === "-MQ") this.targets.push({ text: next.text, quoted: option === "-MQ" });
    else return false;
    return 2;
  }
}
