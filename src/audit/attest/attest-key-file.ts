// The key that signs attestations: Ed25519 in PEM, which any verifier of DSSE reads. It is not a log's key: attestations are made
// wherever a copy of a log is, and a log's private key stays with its worker.
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { open, readFile } from "node:fs/promises";
import { HpccError } from "../../base/errors.ts";
import type { DsseSigner } from "./dsse.ts";

const KEY_BYTES_MAX = 16 * 1024;

/** Makes a key; throws `argument.invalid` where there is one. */
export async function makeAttestKey(path: string): Promise<DsseSigner> {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  try {
    const handle = await open(path, "wx", 0o600);
    try {
      await handle.writeFile(privateKey.export({ format: "pem", type: "pkcs8" }));
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST")
      throw new HpccError("argument.invalid", `${path} is there; a key is never overwritten`, { cause: error });
    throw new HpccError("audit.io", `the key ${path} cannot be written`, { cause: error });
  }
  return { privateKey, publicKey };
}

/** Throws `config.invalid` for a file that others can read, or that is no such key. */
export async function readAttestKey(path: string): Promise<DsseSigner> {
  const text = await readKeyFile(path, true);
  try {
    const privateKey = createPrivateKey(text);
    if (privateKey.asymmetricKeyType === "ed25519") return { privateKey, publicKey: createPublicKey(privateKey) };
  } catch {
    // Said below.
  }
  throw noKey(path, "no private Ed25519 key in PEM; `hpcc ca attest-key` makes one");
}

/** A public key's file. */
export async function readAttestPublicKey(path: string): Promise<KeyObject> {
  const text = await readKeyFile(path, false);
  try {
    const key = createPublicKey(text);
    if (key.asymmetricKeyType === "ed25519" && !text.includes("PRIVATE")) return key;
  } catch {
    // Said below.
  }
  throw noKey(path, "no public Ed25519 key in PEM, as `hpcc ca attest-key` prints it");
}

export function publicKeyText({ publicKey }: DsseSigner): string {
  return publicKey.export({ format: "pem", type: "spki" }).toString();
}

async function readKeyFile(path: string, isSecret: boolean): Promise<string> {
  let text: string;
  try {
    const handle = await open(path, "r");
    try {
      const { mode, size } = await handle.stat();
      if (isSecret && (mode & 0o077) !== 0)
        throw new HpccError("config.invalid", `${path} can be read by others; chmod 600 it, or make a new key`);
      text = size > KEY_BYTES_MAX ? "" : await readFile(handle, "latin1");
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error instanceof HpccError) throw error;
    throw new HpccError("argument.invalid", `the key ${path} cannot be read`, { cause: error });
  }
  return text;
}

function noKey(path: string, problem: string): HpccError {
  return new HpccError("config.invalid", `${path} is ${problem}`);
}
