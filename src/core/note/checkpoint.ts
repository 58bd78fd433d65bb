// Checkpoints (C2SP tlog-checkpoint): a log's size and root, as a signed note; and proofs that need nothing else (C2SP tlog-proof). Pure.
import { HpccError } from "../../base/errors.ts";
import { HASH_BYTES } from "../merkle/hashes.ts";
import { equal, rootOfInclusion, type TreeHead } from "../merkle/proof.ts";
import { decodeBase64, type NoteSigner, type NoteVerifier, openNote, signNote } from "./signed-note.ts";

export interface Checkpoint extends TreeHead {
  readonly origin: string;
}

export interface SignedCheckpoint extends Checkpoint {
  readonly by: readonly NoteVerifier[];
}

const SIZE = /^(0|[1-9][0-9]{0,15})$/;
const PROOF_HEADER = "c2sp.org/tlog-proof@v1";
export const PROOF_LENGTH_MAX = 24 * 1024;

/** A checkpoint whose origin is the key's name. */
export function signCheckpoint({ size, root }: TreeHead, signer: NoteSigner): string {
  return signNote(`${signer.verifier.name}\n${size}\n${Buffer.from(root).toString("base64")}\n`, signer);
}

/** What a note says, whoever signed it. Throws `audit.corrupt`. UNTRUSTED: a log, a worker. */
export function readCheckpoint(note: string): Checkpoint {
  const [origin = "", size = "", root = ""] = note.slice(0, note.lastIndexOf("\n\n")).split("\n");
  const hash = decodeBase64(root);
  if (origin === "" || !SIZE.test(size) || !Number.isSafeInteger(Number(size)) || hash?.length !== HASH_BYTES)
    throw new HpccError("audit.corrupt", "a checkpoint does not say a log, its size and its root");
  return { origin, size: Number(size), root: hash };
}

/** A checkpoint that one of the keys has signed, each for the log of its own name alone. UNTRUSTED: a log, a worker. */
export function openCheckpoint(note: string, verifiers: readonly NoteVerifier[]): SignedCheckpoint {
  const checkpoint = readCheckpoint(note);
  const { by } = openNote(
    note,
    verifiers.filter(({ name }) => name === checkpoint.origin),
  );
  return { ...checkpoint, by };
}

/** A leaf's place, its path and the checkpoint that the path leads to. */
export interface TlogProof {
  readonly index: number;
  readonly path: readonly Uint8Array[];
  /** The note. */
  readonly checkpoint: string;
}

export function encodeProof({ index, path, checkpoint }: TlogProof): string {
  const hashes = path.map((hash) => `${Buffer.from(hash).toString("base64")}\n`).join("");
  return `${PROOF_HEADER}\nindex ${index}\n${hashes}\n${checkpoint}`;
}

/** Throws `audit.corrupt`. UNTRUSTED: a worker, a receipt. */
export function decodeProof(text: string): TlogProof {
  const end = text.indexOf("\n\n");
  const [header, place = "", ...hashes] = text.slice(0, end).split("\n");
  const [word, index = "", ...more] = place.split(" ");
  const path = hashes.map(decodeBase64);
  const good =
    end > 0 && text.length <= PROOF_LENGTH_MAX && header === PROOF_HEADER && word === "index" && more.length === 0;
  if (!good || !SIZE.test(index) || path.some((hash) => hash?.length !== HASH_BYTES))
    throw new HpccError("audit.corrupt", "a receipt is no proof of C2SP's tlog-proof");
  return { index: Number(index), path: path as Uint8Array[], checkpoint: text.slice(end + 2) };
}

/** Throws `audit.corrupt` unless a key has signed a tree with this leaf at this place. UNTRUSTED: the proof. */
export function checkProof(leaf: Uint8Array, proof: TlogProof, verifiers: readonly NoteVerifier[]): SignedCheckpoint {
  const checkpoint = openCheckpoint(proof.checkpoint, verifiers);
  const root = rootOfInclusion(leaf, { index: proof.index, size: checkpoint.size }, proof.path);
  if (root === null || !equal(root, checkpoint.root))
    throw new HpccError("audit.corrupt", `a receipt does not prove that row ${proof.index + 1} is in the log`);
  return checkpoint;
}
