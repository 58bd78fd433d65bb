// What witnesses have cosigned of a log. A witness signs no two logs of one name: what enough of them have cosigned is the one log that
// there is, as long as so many of them are honest. Pure.
import { HpccError } from "../../base/errors.ts";
import { readCheckpoint } from "../../core/note/checkpoint.ts";
import { cosignaturesOf } from "../../core/note/cosignature.ts";
import type { NoteVerifier } from "../../core/note/signed-note.ts";
import type { Say } from "./key-history.ts";

/** What is asked of witnesses. */
export interface WitnessDemand {
  /** Keys of witnesses, known from elsewhere. */
  readonly keys: readonly NoteVerifier[];
  /** Of how many of them a cosignature is demanded. */
  readonly quorum: number;
  /** None older than this counts; null for any. */
  readonly sinceMs: number | null;
}

/** The newest word of a witness that counts. */
export interface Witnessed {
  readonly witness: string;
  /** Rows that it has seen. */
  readonly rows: number;
  /** When, ISO 8601. */
  readonly when: string;
}

export class Witnesses {
  readonly #demand: WitnessDemand;
  readonly #newest = new Map<string, { readonly rows: number; readonly timeMs: number }>();
  readonly #problems: string[] = [];

  /** Notes that may bear cosignatures; that the log has signed them too is for others to check. */
  constructor(notes: readonly string[], demand: WitnessDemand) {
    this.#demand = demand;
    for (const note of notes)
      try {
        const { size } = readCheckpoint(note);
        for (const { by, timeMs } of cosignaturesOf(note, demand.keys)) {
          const known = this.#newest.get(by.text);
          if (known === undefined || size > known.rows || (size === known.rows && timeMs > known.timeMs))
            this.#newest.set(by.text, { rows: size, timeMs });
        }
      } catch (error) {
        if (!(error instanceof HpccError)) throw error;
        this.#problems.push(error.message);
      }
  }

  /** Tells what is missing; gives what there is, and up to which row as many witnesses as are demanded have seen the log. */
  end(say: Say): { readonly witnessed: readonly Witnessed[]; readonly witnessedRows: number } {
    const { keys, quorum, sinceMs } = this.#demand;
    for (const problem of this.#problems) say(null, problem);
    const counted = keys.flatMap(({ text, name }) => {
      const newest = this.#newest.get(text);
      return newest === undefined || newest.timeMs < (sinceMs ?? 0) ? [] : [{ witness: name, ...newest }];
    });
    const since = sinceMs === null ? "" : ` since ${new Date(sinceMs).toISOString()}`;
    if (counted.length < quorum)
      say(null, `the log is cosigned${since} by ${counted.length} witnesses, and ${quorum} are demanded`);
    const sizes = counted.map(({ rows }) => rows).sort((a, b) => b - a);
    return {
      witnessed: counted.map(({ witness, rows, timeMs }) => ({ witness, rows, when: new Date(timeMs).toISOString() })),
      witnessedRows: quorum === 0 ? 0 : (sizes[quorum - 1] ?? 0),
    };
  }
}
