// The daemon's entry to the second step's files: makes, from what the first step wrote, the text that the guest compiles and
// the files from which its compiler quotes source lines. Pure: files come through a callback. Knows no command line.
// UNTRUSTED: text and files are a checkout's bytes, which may be anything.
import { ascii, type ByteString, byteStringOf } from "../../../base/byte-string.ts";
import type { BypassReason } from "../bypass-reasons.ts";
import type { CompilerFamily, Language } from "../grammar/invocation.ts";
import type { GuestFile } from "../view/guest-file.ts";
import { isSent } from "../view/view.ts";
import { restoreDirectives } from "./directives-only.ts";
import { isPseudoFile, parseLinemarker, resolvePath } from "./linemarkers.ts";
import { SourceLines } from "./source-lines.ts";
import { unfaithfulText } from "./unfaithful-text.ts";

/** Where the text of GCC's first step stands in the guest; nothing that the compiler writes names it. */
export const TEXT_PATH = ascii("/hpcc/tmp/text");

export interface RebuildRequest {
  readonly family: CompilerFamily;
  readonly language: Language;
  /** What the first step wrote. */
  readonly text: Uint8Array;
  /** Absolute path in the view of the folder in which both steps run. */
  readonly cwd: ByteString;
  /** The source as named in the first step's argv: relative to `cwd`, or absolute in the view. */
  readonly source: ByteString;
  /** True under the policy that pins the date, so that its macros give no other value later. */
  readonly pinned?: boolean;
  /** Folders that stand at other paths in the view. */
  readonly hostRoots?: readonly ByteString[];
  /**
   * The bytes of a file by its absolute path in the view (project, extra root or image); null when it cannot be read.
   * Handing back the same object for the same unchanged file lets its line index be used again.
   */
  readFile(path: ByteString): Uint8Array | null;
}

export type Rebuilt =
  | {
      readonly kind: "ready";
      /** The text to compile. */
      readonly main: GuestFile;
      /** How the second step's argv names it: `CompileOptions.sourcePath`. */
      readonly mainName: ByteString;
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
  const preprocessed = byteStringOf(request.text);
  const refusal = unfaithfulText(preprocessed, request.family, request.pinned === true);
  if (refusal !== null) return { kind: "refused", ...refusal };
  if (request.family === "clang") return rebuildClang(request, preprocessed);
  const restored = restoreDirectives(preprocessed, request);
  if (restored.kind === "refused") return restored;
  const { text, quotes, folders, reads } = restored;
  return { kind: "ready", main: { path: TEXT_PATH, bytes: text }, mainName: TEXT_PATH, quotes, folders, reads };
}

/** Clang quotes from the text itself, which stands where the source stood. */
function rebuildClang(request: RebuildRequest, preprocessed: ByteString): Rebuilt {
  const { text, cwd, source } = request;
  const { path, passed } = resolvePath(cwd, source);
  const reads = projectFiles(preprocessed, cwd);
  for (const read of reads) {
    const bytes = request.readFile(read);
    // The text has no byte order marks, so columns of first lines would move.
    // A name that only a line directive gave, or a file that is gone, which the caller finds among the reads.
    if (bytes === null) continue;
    if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf)
      return refused("unfaithful_preprocessing", read, "byte order mark");
    // Clang forgets a `#line` at the next include or condition.
    if (SourceLines.of(bytes).lineDirectives.length > 0)
      return refused("unfaithful_preprocessing", read, "a line directive");
  }
  return {
    kind: "ready",
    main: { path, bytes: text },
    mainName: source,
    quotes: [],
    folders: passed.filter(isSent).sort(),
    reads,
  };
}

function refused(reason: BypassReason, path: ByteString, what: string): Rebuilt {
  return { kind: "refused", reason, detail: `${path}: ${what}` as ByteString };
}

/** Files below the project's root or an extra root that linemarkers name. */
function projectFiles(text: string, cwd: ByteString): ByteString[] {
  return markedFiles(text, cwd).filter(isSent);
}

/** Files that linemarkers name, absolute and sorted. */
export function markedFiles(text: string, cwd: ByteString): ByteString[] {
  const names = new Set<ByteString>();
  for (const match of text.matchAll(/^# \d+ "[^\n]*$/gm)) {
    const marker = parseLinemarker(match[0]);
    if (marker !== null && !isPseudoFile(marker.file)) names.add(marker.file);
  }
  return [...new Set([...names].map((name) => resolvePath(cwd, name).path))].sort();
}
