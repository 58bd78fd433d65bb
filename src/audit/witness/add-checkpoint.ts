// The request of C2SP's tlog-witness: a log's new checkpoint, with the proof that it goes on from the one that the witness knows. Pure.
import { HpccError } from "../../base/errors.ts";
import { HASH_BYTES } from "../../core/merkle/hashes.ts";
import { decodeBase64, NOTE_BYTES_MAX } from "../../core/note/signed-note.ts";

export interface AddCheckpoint {
  /** Rows that the witness knows of. */
  readonly oldSize: number;
  readonly proof: readonly Uint8Array[];
  /** The checkpoint's note. */
  readonly checkpoint: string;
}

const PROOF_HASHES_MAX = 63;
const HASH_LINE_BYTES = 45;
const OLD_LINE = /^old (0|[1-9][0-9]{0,15})$/;
/** Bytes of a request; the first line has 20 at most. */
export const REQUEST_BYTES_MAX = 32 + PROOF_HASHES_MAX * HASH_LINE_BYTES + NOTE_BYTES_MAX;

export function encodeAddCheckpoint({ oldSize, proof, checkpoint }: AddCheckpoint): string {
  const hashes = proof.map((hash) => `${Buffer.from(hash).toString("base64")}\n`).join("");
  return `old ${oldSize}\n${hashes}\n${checkpoint}`;
}

/** Throws `argument.invalid`. UNTRUSTED: anybody who reaches a witness. */
export function decodeAddCheckpoint(text: string): AddCheckpoint {
  const end = text.indexOf("\n\n");
  const [first = "", ...lines] = text.slice(0, Math.max(end, 0)).split("\n");
  const oldSize = Number(OLD_LINE.exec(first)?.[1] ?? Number.NaN);
  const proof = lines.map(decodeBase64);
  if (
    end < 0 ||
    text.length > REQUEST_BYTES_MAX ||
    !Number.isSafeInteger(oldSize) ||
    proof.length > PROOF_HASHES_MAX ||
    proof.some((hash) => hash?.length !== HASH_BYTES)
  )
    throw new HpccError("argument.invalid", "the request is none of C2SP's tlog-witness");
  return { oldSize, proof: proof as Uint8Array[], checkpoint: text.slice(end + 2) };
}
