// Writes calls into the history: each thing that calls share once, by its digest. Keeps the number of calls and bytes within limits by dropping
// the oldest generation. Synchronous; who calls it sees to it that little is written at a time.
import { createHash } from "node:crypto";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import { normalPath } from "../../core/explain/include-chain.ts";
import { RECORDED_OUTCOMES } from "../../core/explain/recorded-call.ts";
import type { AnsweredCall, CallCompiler, FileStamp } from "../call/answered-call.ts";
import type { HistoryDatabase } from "./history-database.ts";
import { digestBytes, encodeFile, encodeList, type ItemKind, itemKey } from "./item-codec.ts";

export interface HistoryLimits {
  readonly callsMax: number;
  readonly bytesMax: number;
}

/** The oldest of so many generations goes when a limit is reached. */
const GENERATIONS = 10;
/** What a row takes beside its own bytes, its entries in indexes included. */
const ITEM_BYTES = 80;
const CALL_BYTES = 400;
const ROWS_AT_ONCE = 1_000;
/** Numbers of items that are remembered, so that they need not be looked up. */
const NUMBERS_MAX = 20_000;
/** The same of names that were sought in vain, of which a call has thousands: most are those of the calls before it. */
const ABSENT_NUMBERS_MAX = 60_000;
/** Of a call; more would be a program that writes sources to fill the disk. */
const NAMES_MAX = 100_000;
const TEXT_BYTES_MAX = 256 * 1024;

/** What a replay has in common with the call whose result it gave. */
const SHARED_COLUMNS = `kept, reason, detail, output_key, source_key, project_key, content_key, call_digest, project,
  source, output, source_file, cwd, words, environment, compiler, inputs, absent, configuration`;
const INSERT_CALL = `INSERT INTO call (generation, started_ms, duration_ms, outcome, calls, ${SHARED_COLUMNS})
  VALUES (?,?,?,?,1,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`;
/** It belongs to that call's generation, whose items it names. */
const INSERT_REPLAY = `INSERT INTO call (generation, started_ms, duration_ms, outcome, calls, ${SHARED_COLUMNS})
  SELECT generation, ?, ?, ?, ?, ${SHARED_COLUMNS} FROM call
    WHERE output_key = ? AND kept = 1 AND started_ms <= ? ORDER BY id DESC LIMIT 1`;

/** Calls of one output that launchers answered alone. */
export interface ReplayedCalls {
  readonly output: ByteString;
  readonly count: number;
  /** When the last of them was, in milliseconds since 1970. */
  readonly lastMs: number;
  /** Of all of them. */
  readonly totalUs: number;
}

export class HistoryWriter {
  readonly #database: HistoryDatabase;
  readonly #limits: HistoryLimits;
  readonly #numbers = new Map<string, number>();
  readonly #absentNumbers = new Map<ByteString, Map<ByteString, number>>();
  #absentCount = 0;
  #generation = 0;
  #bytes = 0;

  constructor(database: HistoryDatabase, limits: HistoryLimits) {
    this.#database = database;
    this.#limits = limits;
  }

  /** Writes calls in one transaction until `enough` says so or a generation is full; how many were written. */
  write(calls: readonly AnsweredCall[], enough: () => boolean): number {
    let written = 0;
    try {
      this.#database.transaction("IMMEDIATE", () => {
        const room = this.#enterGeneration();
        for (const call of calls) {
          if (this.#absentCount > ABSENT_NUMBERS_MAX) this.#forgetAbsent();
          this.#writeCall(call);
          written += 1;
          if (enough() || written >= room.calls || this.#bytes >= room.bytes) break;
        }
        this.#database
          .prepare("UPDATE generation SET calls = calls + ?, bytes = bytes + ? WHERE id = ?")
          .run(written, this.#bytes, this.#generation);
      });
    } catch (error) {
      // Numbers that were given in a transaction that is undone stand for nothing.
      this.#forget();
      throw error;
    }
    return written;
  }

  /** Writes replays as calls with what is known of the call that they repeat; those of calls that are not known are left out. */
  writeReplays(replays: readonly ReplayedCalls[]): void {
    this.#database.transaction("IMMEDIATE", () => {
      for (const { output, count, lastMs, totalUs } of replays) {
        const durationMs = Math.round(totalUs / 1000 / Math.max(1, count));
        const outcome = RECORDED_OUTCOMES.numberOf("replayed");
        const values = [Math.round(lastMs), durationMs, outcome, count, pathKey(output), Math.round(lastMs)];
        const { changes } = this.#database.prepare(INSERT_REPLAY).run(...values);
        if (Number(changes) > 0)
          this.#database
            .prepare(
              "UPDATE generation SET calls = calls + 1, bytes = bytes + ? WHERE id = (SELECT generation FROM call ORDER BY id DESC LIMIT 1)",
            )
            .run(CALL_BYTES);
      }
    });
  }

  /** Drops some rows of the oldest generation if a limit is reached; whether there may be more to drop. */
  dropOldest(): boolean {
    const { callsMax, bytesMax } = this.#limits;
    return this.#database.transaction("IMMEDIATE", () => {
      const row = this.#database
        .prepare("SELECT count(*) AS n, min(id) AS oldest, sum(calls) AS calls, sum(bytes) AS bytes FROM generation")
        .get() as { n: number; oldest: number | null; calls: number | null; bytes: number | null };
      const over =
        (row.calls ?? 0) > callsMax - callsMax / GENERATIONS ||
        Math.max(row.bytes ?? 0, this.#usedBytes()) > bytesMax - (2 * bytesMax) / GENERATIONS;
      if (!over || row.n < 2 || row.oldest === null) return false;
      for (const table of ["call", "item"]) {
        const sql = `DELETE FROM ${table} WHERE id IN (SELECT id FROM ${table} WHERE generation = ? LIMIT ${ROWS_AT_ONCE})`;
        if (Number(this.#database.prepare(sql).run(row.oldest).changes) > 0) return true;
      }
      this.#database.prepare("DELETE FROM generation WHERE id = ?").run(row.oldest);
      return true;
    });
  }

  /** What is written of the file; what was dropped is written over. */
  #usedBytes(): number {
    const number = (pragma: string) => Number(Object.values(this.#database.prepare(`PRAGMA ${pragma}`).get() ?? {})[0]);
    return (number("page_count") - number("freelist_count")) * number("page_size");
  }

  /** Another daemon may have begun a generation, or dropped this one. What the one that is entered has room for. */
  #enterGeneration(): { readonly calls: number; readonly bytes: number } {
    const [calls, bytes] = [this.#limits.callsMax / GENERATIONS, this.#limits.bytesMax / GENERATIONS];
    const newest = this.#database.prepare("SELECT id, calls, bytes FROM generation ORDER BY id DESC LIMIT 1").get() as
      | { id: number; calls: number; bytes: number }
      | undefined;
    const isFull = newest === undefined || newest.calls >= calls || newest.bytes >= bytes;
    const generation = isFull ? (newest?.id ?? 0) + 1 : newest.id;
    if (isFull) this.#database.prepare("INSERT INTO generation VALUES (?, 0, 0)").run(generation);
    if (generation !== this.#generation) this.#forget();
    this.#generation = generation;
    this.#bytes = 0;
    return isFull ? { calls, bytes } : { calls: calls - newest.calls, bytes: bytes - newest.bytes };
  }

  #writeCall(call: AnsweredCall): void {
    const { message, source, output, project, callDigest } = call;
    const isSource = ({ path }: { path: ByteString }) => path === source;
    const own = call.inputs.find(isSource) ?? null;
    const sourceFile = own === null ? null : this.#file(own.path, own.digest);
    const inputs = this.#list(call.inputs.filter((file) => !isSource(file)).map((f) => this.#file(f.path, f.digest)));
    const absent = this.#list(this.#absent(call.absent));
    const configuration = call.configuration.map(({ path, stamp }) => this.#file(path, stampDigest(stamp)));
    this.#bytes += CALL_BYTES;
    this.#database
      .prepare(INSERT_CALL)
      .run(
        this.#generation,
        Math.round(call.startedMs),
        Math.max(0, Math.round(call.durationMs)),
        RECORDED_OUTCOMES.numberOf(call.outcome),
        call.result === null ? 0 : 1,
        call.reason,
        call.detail === null ? null : bytesOf(call.detail).subarray(0, TEXT_BYTES_MAX),
        keyOf(output),
        keyOf(source),
        keyOf(project),
        callDigest === null || own === null
          ? null
          : contentKey(callDigest, [this.#generation, sourceFile ?? 0, inputs]),
        callDigest === null ? null : digestBytes(callDigest),
        this.#pathOrNull(project),
        this.#pathOrNull(source),
        this.#pathOrNull(output),
        sourceFile,
        this.#path(message.cwd),
        this.#json(shortened(call.words)),
        this.#json(Object.fromEntries(call.environment)),
        call.compiler === null ? null : this.#compiler(call.compiler),
        inputs,
        absent,
        this.#list(configuration),
      );
  }

  #compiler({ identity, image, files }: CallCompiler): number {
    return this.#json({ identity, image, files: this.#list(files.map((file) => this.#file(file.path, file.digest))) });
  }

  #absent(groups: AnsweredCall["absent"]): number[] {
    const numbers: number[] = [];
    for (const { folder, names } of groups) {
      const known = this.#absentNumbers.get(folder) ?? new Map<ByteString, number>();
      this.#absentNumbers.set(folder, known);
      for (const name of names.slice(0, NAMES_MAX - numbers.length)) {
        let number = known.get(name);
        if (number === undefined) {
          const path = `${folder === "/" ? "" : folder}/${name}` as ByteString;
          number = this.#numbers.get(path) ?? this.#item("path", bytesOf(path));
          known.set(name, number);
          this.#absentCount += 1;
        }
        numbers.push(number);
      }
    }
    return numbers;
  }

  #pathOrNull(path: ByteString | null): number | null {
    return path === null ? null : this.#path(path);
  }

  #path(path: ByteString): number {
    return this.#numbers.get(path) ?? this.#remember(path, this.#item("path", bytesOf(path)));
  }

  #file(path: ByteString, digest: Digest): number {
    // No path holds that byte.
    const name = `${path}\0${digest}`;
    return this.#numbers.get(name) ?? this.#remember(name, this.#item("file", encodeFile(this.#path(path), digest)));
  }

  #list(items: readonly number[]): number {
    return this.#item("list", encodeList(items));
  }

  #json(value: unknown): number {
    return this.#item("json", Buffer.from(JSON.stringify(value), "utf8"));
  }

  #forget(): void {
    this.#numbers.clear();
    this.#forgetAbsent();
  }

  #forgetAbsent(): void {
    this.#absentNumbers.clear();
    this.#absentCount = 0;
  }

  #remember(name: string, number: number): number {
    if (this.#numbers.size >= NUMBERS_MAX) this.#numbers.clear();
    this.#numbers.set(name, number);
    return number;
  }

  #item(kind: ItemKind, bytes: Uint8Array): number {
    const key = itemKey(kind, bytes);
    const known = this.#database
      .prepare("SELECT id FROM item WHERE generation = ? AND digest = ?")
      .get(this.#generation, key);
    if (known !== undefined) return Number(known["id"]);
    this.#bytes += bytes.length + ITEM_BYTES;
    const added = this.#database
      .prepare("INSERT INTO item (generation, digest, bytes) VALUES (?, ?, ?)")
      .run(this.#generation, key, bytes);
    return Number(added.lastInsertRowid);
  }
}

/** By which calls are found that have to do with a path, however they spell it. */
export function pathKey(path: ByteString): Uint8Array {
  return itemKey("path", bytesOf(normalPath(path) as ByteString));
}

function keyOf(path: ByteString | null): Uint8Array | null {
  return path === null ? null : pathKey(path);
}

/** The same for calls that depend on the same; within one generation, whose numbers it is made of. */
function contentKey(callDigest: Digest, numbers: readonly number[]): Uint8Array {
  const hash = createHash("sha256")
    .update(`${callDigest} ${numbers.join(" ")}`)
    .digest();
  return Uint8Array.prototype.slice.call(hash, 0, 16);
}

function stampDigest(stamp: FileStamp | null): Digest {
  return sha256(Buffer.from(stamp === null ? "absent" : Object.values(stamp).join(" ")));
}

/** A command line that is longer than any that a person reads is cut. */
function shortened(words: readonly ByteString[]): readonly ByteString[] {
  let bytes = 0;
  return words.filter((word) => (bytes += word.length) <= TEXT_BYTES_MAX);
}
