// Finds `__has_include` operands that would be answered differently in the view: files that exist on the host but not in the
// view (DESIGN.md section 4: such a file gives a wrong object). UNTRUSTED: text is a file of a checkout.
import { lstatSync } from "node:fs";
import { ascii, type ByteString, byteStringOf, bytesOf } from "../base/byte-string.ts";

/** An operand as spelled without its delimiters, or null when it is computed by macros. */
type Operand = ByteString | null;

const MENTION = /__has_include(?:_next)?[ \t]*\([ \t]*(?:<([^>\n]*)>|"([^"\n]*)"|([^)\n]*))/g;

/** The operands of all `__has_include(...)` in a text; a computed one is null. */
export function hasIncludeOperands(text: Uint8Array): readonly Operand[] {
  if (!Buffer.from(text.buffer, text.byteOffset, text.byteLength).includes("__has_include")) return [];
  const operands = new Set<Operand>();
  for (const match of byteStringOf(text).matchAll(MENTION)) {
    const literal = match[1] ?? match[2];
    operands.add(literal === undefined ? null : (literal as ByteString));
  }
  return [...operands];
}

function existsOnHost(path: ByteString): boolean {
  try {
    return lstatSync(bytesOf(path), { throwIfNoEntry: false }) !== undefined;
  } catch {
    return false;
  }
}

/**
 * The first operand that cannot be answered in the view as on the host; null when all can.
 * `inView` tells whether a host path means the same in the view; `folders` are the host paths of the include folders, and of the
 * folder of the file itself.
 */
export function escapingOperand(
  inView: (hostPath: ByteString) => boolean,
  folders: Iterable<ByteString>,
  operands: readonly Operand[],
): ByteString | null {
  const searched = [...folders];
  for (const operand of operands) {
    if (operand === null) return ascii("computed operand of __has_include");
    const candidates = operand.startsWith("/")
      ? [operand]
      : searched.map((folder) => `${folder}/${operand}` as ByteString);
    for (const candidate of candidates) if (!inView(candidate) && existsOnHost(candidate)) return candidate;
  }
  return null;
}
