// Which key signs a log from which row on. The log names its keys in rows; which of them are trusted comes from elsewhere. Pure.
import { HpccError } from "../../base/errors.ts";
import { openCheckpoint, readCheckpoint } from "../../core/note/checkpoint.ts";
import { type NoteVerifier, openNote, parseVerifier } from "../../core/note/signed-note.ts";

export type Say = (row: number | null, problem: string) => void;

export class KeyHistory {
  /** Empty: whatever the log names is taken for its key. */
  readonly #given: readonly NoteVerifier[];
  readonly #named: { readonly row: number; readonly key: NoteVerifier }[] = [];

  constructor(given: readonly NoteVerifier[]) {
    this.#given = given;
  }

  /** Takes a row that names a key. */
  take(row: number, body: { readonly key: string; readonly before: string | null }, say: Say): void {
    const before = this.#named.at(-1)?.key.text ?? null;
    try {
      const key = parseVerifier(body.key);
      this.#named.push({ row, key });
      if (this.#given.length > 0 && !this.#given.some(({ text }) => text === key.text))
        say(row, `names ${key.text} as the log's key, which is none of the keys that were given`);
    } catch (error) {
      if (!(error instanceof HpccError)) throw error;
      say(row, "names a key that is none");
    }
    if (body.before !== before && body.key !== before) say(row, "does not name the key before it");
  }

  /** The key that signed a checkpoint; throws `audit.corrupt` unless it was the log's key for as many rows. */
  open(checkpoint: string, what: string): NoteVerifier {
    const { size } = readCheckpoint(checkpoint);
    return this.#inForce(openCheckpoint(checkpoint, this.#known()).by, size, what);
  }

  /** The key that signed another note about the log when it had so many rows; throws as `open` does. */
  signed(note: string, size: number): NoteVerifier {
    return this.#inForce(openNote(note, this.#known()).by, size, "it");
  }

  #inForce(by: readonly NoteVerifier[], size: number, what: string): NoteVerifier {
    const inForce = this.#named.findLast(({ row }) => row <= size)?.key ?? this.#given[0];
    const signer = by.find(({ text }) => text === inForce?.text);
    if (signer !== undefined) return signer;
    const later = this.#named.find(({ key }) => key.text === inForce?.text);
    const since = later === undefined ? "" : `, from row ${later.row} on`;
    throw new HpccError(
      "audit.corrupt",
      `${what}, of ${size} rows, is signed with ${by[0]?.text}, and the log's key${since} was ${inForce?.text}`,
    );
  }

  /** Whether a log of this name is the one that is judged. */
  isOf(origin: string): boolean {
    return this.#known().some(({ name }) => name === origin);
  }

  #known(): NoteVerifier[] {
    return this.#given.length > 0 ? [...this.#given] : this.#named.map(({ key }) => key);
  }
}
