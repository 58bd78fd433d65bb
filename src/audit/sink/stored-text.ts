// Texts as PostgreSQL can hold them. Pure.

/** The text without U+0000 and halves of surrogate pairs, which PostgreSQL does not take; the row's own lines keep them, escaped. */
export function storedText(text: string | null): string | null {
  return text === null ? null : text.replaceAll("\0", "\ufffd").toWellFormed();
}
