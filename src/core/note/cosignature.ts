// Cosignatures of checkpoints (C2SP tlog-cosignature, cosignature/v1 with Ed25519): a witness's word that a log had this root at this time, and
// that all it had seen of the log before is in it. Pure.
import { sign, verify } from "node:crypto";
import { isTime } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import { type NoteSigner, type NoteVerifier, readNote } from "./signed-note.ts";

/** Key id, seconds since 1970, signature. */
const COSIGNATURE_BYTES = 4 + 8 + 64;

export interface Cosignature {
  readonly by: NoteVerifier;
  readonly timeMs: number;
  /** The line of the note, without its line end. */
  readonly line: string;
}

function messageOf(text: string, seconds: bigint): Buffer {
  return Buffer.from(`cosignature/v1\ntime ${seconds}\n${text}`);
}

/** The line that a witness adds to a checkpoint's note, with its line end. The key is of the kind `cosignature`. */
export function cosign(note: string, { verifier, key }: NoteSigner, timeMs: number): string {
  const seconds = BigInt(Math.floor(timeMs / 1000));
  const time = Buffer.alloc(8);
  time.writeBigUInt64BE(seconds);
  const signature = sign(null, messageOf(readNote(note).text, seconds), key);
  return lineOf(verifier.name, Buffer.concat([verifier.id, time, signature]));
}

/** The cosignatures that a note bears of the keys that are given. Throws `audit.corrupt` for one that is wrong. UNTRUSTED: the note. */
export function cosignaturesOf(note: string, verifiers: readonly NoteVerifier[]): Cosignature[] {
  const { text, signatures } = readNote(note);
  return signatures.flatMap(({ name, bytes }) => {
    const by = verifiers.find((known) => known.name === name && known.id.equals(bytes.subarray(0, 4)));
    if (by === undefined) return [];
    const seconds = bytes.length === COSIGNATURE_BYTES ? bytes.readBigUInt64BE(4) : null;
    if (seconds === null || !verify(null, messageOf(text, seconds), by.key, bytes.subarray(12)))
      throw new HpccError("audit.corrupt", `a checkpoint has a wrong cosignature of ${by.name}`);
    if (!isTime(Number(seconds) * 1000))
      throw new HpccError("audit.corrupt", `a cosignature of ${by.name} is of a time that does not exist`);
    return [{ by, timeMs: Number(seconds) * 1000, line: lineOf(name, bytes).trimEnd() }];
  });
}

function lineOf(name: string, bytes: Buffer): string {
  return `\u2014 ${name} ${bytes.toString("base64")}\n`;
}
