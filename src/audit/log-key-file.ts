// The key that signs a worker's audit log, or a witness's cosignatures: a file of its own in a state folder, for its user alone.
import { randomBytes } from "node:crypto";
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { HpccError } from "../base/errors.ts";
import {
  encodeSigner,
  type KeyKind,
  type NoteSigner,
  type NoteVerifier,
  noteSigner,
  parseSigner,
} from "../core/note/signed-note.ts";

const FILES: Record<KeyKind, string> = { note: "log-key", cosignature: "witness-key" };
const SEED_BYTES = 32;

/** The key of a state folder; null when there is none. */
export async function readLogSigner(stateFolder: string, kind: KeyKind = "note"): Promise<NoteSigner | null> {
  const path = join(stateFolder, FILES[kind]);
  let text: string;
  try {
    const handle = await open(path, "r");
    try {
      const { mode } = await handle.stat();
      if ((mode & 0o077) !== 0)
        throw new HpccError("config.invalid", `${path} can be read by others; chmod 600 it, or make a new key`);
      text = await readFile(handle, "latin1");
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error instanceof HpccError) throw error;
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new HpccError("audit.io", `the key ${path} cannot be read`, { cause: error });
  }
  return parseSigner(text.trim(), kind);
}

/** The key of a state folder, made when there is none. */
export async function readOrMakeLogSigner(stateFolder: string, origin: string): Promise<NoteSigner> {
  const signer = await readLogSigner(stateFolder);
  if (signer !== null) return signer;
  await makeLogKey(stateFolder, origin);
  return (await readLogSigner(stateFolder))!;
}

/** Puts a new key into a state folder, in place of the one that is there; a worker or a witness uses it from its next start on. */
export async function makeLogKey(stateFolder: string, name: string, kind: KeyKind = "note"): Promise<NoteVerifier> {
  const seed = randomBytes(SEED_BYTES);
  const { verifier } = noteSigner(name, seed, kind);
  const path = join(stateFolder, FILES[kind]);
  const temporary = `${path}.${randomBytes(6).toString("hex")}.new`;
  try {
    await mkdir(stateFolder, { recursive: true, mode: 0o700 });
    const handle = await open(temporary, "wx", 0o600);
    try {
      await handle.writeFile(`${encodeSigner(verifier, seed, kind)}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
    const folder = await open(stateFolder, "r");
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST" || code === "ENOTDIR")
      throw new HpccError("argument.invalid", `${stateFolder} is no state folder`, { cause: error });
    throw new HpccError("audit.io", `the key ${path} cannot be written`, { cause: error });
  }
  return verifier;
}
