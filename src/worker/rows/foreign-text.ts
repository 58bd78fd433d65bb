// Texts of rows whose length others decide: a guest, a program of the host.

/** A row has some tens of them, and each character may take six bytes. */
const LENGTH_MAX = 256;

/** The text, cut where it is too long for a row. */
export function foreignText(text: string): string {
  return text.length <= LENGTH_MAX ? text : `${text.slice(0, LENGTH_MAX)}...`;
}
