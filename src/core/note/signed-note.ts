// Signed notes (C2SP signed-note) with Ed25519 keys, and keys in the text form that Go's sumdb/note reads. Pure.
import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import { HpccError } from "../../base/errors.ts";

/** A key that a note's signature is held against. */
export interface NoteVerifier {
  readonly name: string;
  /** Four bytes that tell keys of one name apart. */
  readonly id: Buffer;
  /** "<name>+<id>+<key>": what others are given. */
  readonly text: string;
  readonly key: KeyObject;
}

export interface NoteSigner {
  readonly verifier: NoteVerifier;
  readonly key: KeyObject;
}

export const NOTE_BYTES_MAX = 16 * 1024;
const SIGNATURES_MAX = 64;
/** What a key signs: notes, or cosignatures of checkpoints. */
const KEY_KINDS = { note: 1, cosignature: 4 } as const;
export type KeyKind = keyof typeof KEY_KINDS;
const KEY_BYTES = 32;
const SIGNATURE_BYTES = 4 + 64;
const NAME = /^[!-*,-~]{1,512}$/;
const VERIFIER = /^([!-*,-~]{1,512})\+([0-9a-f]{8})\+([A-Za-z0-9+/]{43,44}={0,2})$/;
const SIGNER = /^PRIVATE\+KEY\+([!-*,-~]{1,512})\+([0-9a-f]{8})\+([A-Za-z0-9+/]{43,44}={0,2})$/;
const MADE_BY: Record<KeyKind, string> = { note: "hpcc ca log-key", cosignature: "hpcc ca witness-key" };
const SIGNATURE = /^\u2014 ([!-*,-~]{1,512}) ([A-Za-z0-9+/]+={0,2})$/;
/** What stands before the 32 bytes of a key in DER. */
const SPKI_PREFIX = Buffer.from("302a300506032b6570032100", "hex");
const PKCS8_PREFIX = Buffer.from("302e020100300506032b657004220420", "hex");

/** A signer of a name and the 32 random bytes of a private key. */
export function noteSigner(name: string, seed: Uint8Array, kind: KeyKind = "note"): NoteSigner {
  if (!NAME.test(name))
    throw new HpccError("argument.invalid", "a key's name is printable, without spaces and plus signs");
  const key = createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, seed]), format: "der", type: "pkcs8" });
  const spki = createPublicKey(key).export({ format: "der", type: "spki" });
  return { key, verifier: verifierOf(name, spki.subarray(SPKI_PREFIX.length), kind) };
}

/** The signer's text, a secret. */
export function encodeSigner({ name, id }: NoteVerifier, seed: Uint8Array, kind: KeyKind = "note"): string {
  const key = Buffer.concat([Buffer.of(KEY_KINDS[kind]), seed]).toString("base64");
  return `PRIVATE+KEY+${name}+${id.toString("hex")}+${key}`;
}

export function parseSigner(text: string, kind: KeyKind = "note"): NoteSigner {
  const [, name = "", id, key] = SIGNER.exec(text) ?? [];
  const bytes = keyBytes(key, kind);
  const signer = bytes === null ? null : noteSigner(name, bytes, kind);
  if (signer === null || signer.verifier.id.toString("hex") !== id)
    throw new HpccError(
      "config.invalid",
      `a private key is not in its form; make one with \`${MADE_BY[kind]} --state DIR --new NAME\``,
    );
  return signer;
}

/** A log's public key. UNTRUSTED: anybody. */
export function parseVerifier(text: string): NoteVerifier {
  return parseKey(text, "note");
}

/** A witness's public key. UNTRUSTED: anybody. */
export function parseWitnessKey(text: string): NoteVerifier {
  return parseKey(text, "cosignature");
}

function parseKey(text: string, kind: KeyKind): NoteVerifier {
  const [, name = "", id, key] = VERIFIER.exec(text) ?? [];
  const bytes = keyBytes(key, kind);
  const verifier = bytes === null ? null : verifierOf(name, bytes, kind);
  if (verifier === null || verifier.id.toString("hex") !== id)
    throw new HpccError(
      "argument.invalid",
      `a ${kind === "note" ? "log" : "witness"}'s key is "<name>+<8 hex digits>+<base64>", as \`${MADE_BY[kind]}\` prints it`,
    );
  return verifier;
}

function keyBytes(base64: string | undefined, kind: KeyKind): Buffer | null {
  const bytes = decodeBase64(base64 ?? "");
  return bytes?.length === 1 + KEY_BYTES && bytes[0] === KEY_KINDS[kind] ? bytes.subarray(1) : null;
}

function verifierOf(name: string, bytes: Buffer, kind: KeyKind): NoteVerifier {
  const key = Buffer.concat([Buffer.of(KEY_KINDS[kind]), bytes]);
  const id = createHash("sha256").update(`${name}\n`).update(key).digest().subarray(0, 4);
  const text = `${name}+${id.toString("hex")}+${key.toString("base64")}`;
  return {
    name,
    id,
    text,
    key: createPublicKey({ key: Buffer.concat([SPKI_PREFIX, bytes]), format: "der", type: "spki" }),
  };
}

/** The note of a text, which ends with a line end and has no control characters but these. */
export function signNote(text: string, { verifier, key }: NoteSigner): string {
  const signature = Buffer.concat([verifier.id, sign(null, Buffer.from(text), key)]).toString("base64");
  return `${text}\n\u2014 ${verifier.name} ${signature}\n`;
}

export interface OpenedNote {
  readonly text: string;
  /** The keys, of those given, whose signatures it bears; at least one. */
  readonly by: readonly NoteVerifier[];
}

/** Throws `audit.corrupt` unless a given key has signed the note, and no signature under a given key's name and id is wrong. UNTRUSTED: the note. */
export function openNote(note: string, verifiers: readonly NoteVerifier[]): OpenedNote {
  const { text, signatures } = readNote(note);
  const by: NoteVerifier[] = [];
  for (const { name, bytes } of signatures) {
    const verifier = verifiers.find((known) => known.name === name && known.id.equals(bytes.subarray(0, 4)));
    if (verifier === undefined) continue;
    if (bytes.length !== SIGNATURE_BYTES || !verify(null, Buffer.from(text), verifier.key, bytes.subarray(4)))
      throw corrupt(`has a wrong signature of ${verifier.name}`);
    by.push(verifier);
  }
  if (by.length === 0) throw corrupt("is signed by no key that is trusted here");
  return { text, by };
}

export interface NoteSignature {
  readonly name: string;
  /** The key's id and what it has signed. */
  readonly bytes: Buffer;
}

/** A note's text and signatures, whoever made them. Throws `audit.corrupt`. UNTRUSTED: anybody. */
export function readNote(note: string): { readonly text: string; readonly signatures: readonly NoteSignature[] } {
  const end = note.lastIndexOf("\n\n");
  const text = note.slice(0, end + 1);
  const lines = note.slice(end + 2).split("\n");
  if (
    end < 0 ||
    note.length > NOTE_BYTES_MAX ||
    lines.pop() !== "" ||
    lines.length === 0 ||
    lines.length > SIGNATURES_MAX
  )
    throw corrupt("is no signed note");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  if (/[\0-\x09\x0b-\x1f]/.test(note)) throw corrupt("has control characters");
  const signatures = lines.map((line) => {
    const [, name = "", base64 = ""] = SIGNATURE.exec(line) ?? [];
    const bytes = decodeBase64(base64);
    if (bytes === null || bytes.length < 5) throw corrupt("has a line that is no signature");
    return { name, bytes };
  });
  return { text, signatures };
}

/** Bytes of canonical base64; null for anything else. */
export function decodeBase64(text: string): Buffer | null {
  const bytes = Buffer.from(text, "base64");
  return bytes.toString("base64") === text ? bytes : null;
}

function corrupt(problem: string): HpccError {
  return new HpccError("audit.corrupt", `a checkpoint ${problem}`);
}
