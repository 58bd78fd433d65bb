// The daemon's entry to the second step's files: makes, from what the first step wrote, the text that the guest compiles and
// the files from which its compiler quotes source lines. Pure: files come through a callback. Knows no command line.
// UNTRUSTED: text and files are a checkout's bytes, which may be anything.
import type { ByteString } from "../../base/byte-string.ts";
import type { BypassReason, CompilerFamily, Language } from "./invocation.ts";

export interface RebuildRequest {
  readonly family: CompilerFamily;
  readonly language: Language;
  /** What the first step wrote. */
  readonly text: Uint8Array;
  /** Absolute path in the view of the folder in which both steps run. */
  readonly cwd: ByteString;
  /** The source as named in the first step's argv: relative to `cwd`, or absolute in the view. */
  readonly source: ByteString;
  /**
   * The bytes of a file by its absolute path in the view (project, extra root or image); null when it cannot be read.
   * Handing back the same object for the same unchanged file lets its line index be used again.
   */
  readFile(path: ByteString): Uint8Array | null;
}

/** A file of the guest: absolute normalized path in the view, below the project's root or an extra root, or `TEXT_PATH`. */
export interface GuestFile {
  readonly path: ByteString;
  readonly bytes: Uint8Array;
}

export type Rebuilt =
  | {
      readonly kind: "ready";
      /** The text to compile; `compileArgv` names it. */
      readonly main: GuestFile;
      /** Files that the compiler only quotes; sorted by path, no path twice. */
      readonly quotes: readonly GuestFile[];
      /** Folders (absolute, normalized, sorted) that must exist in the guest besides those of the files and of `cwd`. */
      readonly folders: readonly ByteString[];
      /**
       * Files below the project's root or an extra root that the first step read, absolute, sorted: if one of them changed
       * after the first step began, the result must not be used.
       */
      readonly reads: readonly ByteString[];
    }
  | { readonly kind: "refused"; readonly reason: BypassReason; readonly detail: ByteString | null };

/** Makes the guest's files from the first step's text, or says why the call must be compiled locally. */
export function rebuildTranslationUnit(request: RebuildRequest): Rebuilt {
  return { kind: "refused", reason: `preprocess.unsupported-${request.family}`, detail: null };
}
