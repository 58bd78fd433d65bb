// The stub of a prune: what is left of a tenant's removed rows for whoever asks later. A note that the log's key has signed
// (docs/specs/audit-log.md). Pure.
import { HpccError } from "../base/errors.ts";
import { HASH_BYTES, leafHash } from "../core/merkle/hashes.ts";
import { TileTree } from "../core/merkle/tile-tree.ts";
import { decodeBase64, type NoteSigner, signNote } from "../core/note/signed-note.ts";
import type { PruneId } from "./pruned-frame.ts";

/** What a stub says. */
export interface PrunedStub extends PruneId {
  /** The log's name. */
  readonly origin: string;
  /** The log's root when it had `size` rows. */
  readonly root: Uint8Array;
  readonly first: number;
  readonly last: number;
  readonly rows: number;
  /** `RemovedRows.root` of the rows. */
  readonly removed: Uint8Array;
  readonly whenMs: number;
  readonly by: string;
  readonly why: string;
}

const FIRST_LINE = "hpcc audit pruned v1";
const TEXT_LENGTH_MAX = 512;
const FIELDS = ["tenant", "size", "root", "first", "last", "rows", "removed", "when", "by", "why"] as const;
const COUNT = /^[1-9][0-9]{0,15}$/;

/** A text of somebody else's as a stub and a row have it: one printable line. */
export function stubText(text: string): string {
  return text.replace(/[^ -~]/g, "?").slice(0, TEXT_LENGTH_MAX);
}

/** The root over removed rows: a tree of RFC 6962 whose entries are the number (u64, big endian) and leaf hash of each, in order. */
export class RemovedRows {
  readonly #tree = new TileTree();

  get rows(): number {
    return this.#tree.size;
  }

  add(sequence: number, leaf: Uint8Array): void {
    const entry = Buffer.alloc(8 + leaf.length);
    entry.writeBigUInt64BE(BigInt(sequence));
    entry.set(leaf, 8);
    this.#tree.append(leafHash(entry));
    if (this.#tree.size % 65_536 === 0) this.#tree.takeFull();
  }

  root(): Uint8Array {
    return this.#tree.root();
  }
}

export function signStub(stub: Omit<PrunedStub, "origin">, signer: NoteSigner): string {
  const values: Record<(typeof FIELDS)[number], string> = {
    tenant: stub.tenant,
    size: String(stub.size),
    root: Buffer.from(stub.root).toString("base64"),
    first: String(stub.first),
    last: String(stub.last),
    rows: String(stub.rows),
    removed: Buffer.from(stub.removed).toString("base64"),
    when: new Date(stub.whenMs).toISOString(),
    by: stubText(stub.by),
    why: stubText(stub.why),
  };
  const lines = [FIRST_LINE, signer.verifier.name, ...FIELDS.map((field) => `${field} ${values[field]}`)];
  return signNote(`${lines.join("\n")}\n`, signer);
}

/** What a stub says, whoever signed it. Throws `audit.corrupt`. UNTRUSTED: a log. */
export function readStub(note: string): PrunedStub {
  const [first, origin = "", ...lines] = note.slice(0, note.lastIndexOf("\n\n")).split("\n");
  const values = lines.map((line, at) => {
    const name = `${FIELDS[at] ?? ""} `;
    return line.startsWith(name) ? line.slice(name.length) : null;
  });
  if (first !== FIRST_LINE || origin === "" || values.length !== FIELDS.length || values.includes(null)) throw noStub();
  const [tenant, size, root, from, last, rows, removed, when, by, why] = values as string[];
  const whenMs = Date.parse(when!);
  if (!Number.isFinite(whenMs)) throw noStub();
  return {
    origin,
    tenant: tenant!,
    size: countOf(size!),
    root: hashOf(root!),
    first: countOf(from!),
    last: countOf(last!),
    rows: countOf(rows!),
    removed: hashOf(removed!),
    whenMs,
    by: by!,
    why: why!,
  };
}

function countOf(text: string): number {
  const count = COUNT.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(count)) throw noStub();
  return count;
}

function hashOf(text: string): Buffer {
  const root = decodeBase64(text);
  if (root?.length !== HASH_BYTES) throw noStub();
  return root;
}

function noStub(): HpccError {
  return new HpccError("audit.corrupt", "a stub of removed rows does not say what it should");
}
