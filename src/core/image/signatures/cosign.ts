// cosign's signatures with a key: "simple signing" payloads, which name a repository. Pure. UNTRUSTED: registry. Format: cosign's
// specification of signatures.
import { type KeyObject, verify } from "node:crypto";
import { type Digest, isDigest } from "../../digest/digest.ts";
import { parseImageName, repositoryOf } from "../image-name.ts";
import { anotherImage, anotherRepository, type Fault, objectOf, parseJson, type Wanted } from "./fault.ts";

const SIGNATURE_BYTES_MAX = 1024;

/** Why a signature does not count; null when it does. */
export function cosignFault(
  { payload, signature }: { readonly payload: Buffer; readonly signature: Buffer },
  by: { readonly key: KeyObject; readonly path: string },
  wanted: Wanted,
): Fault | null {
  if (signature.length > SIGNATURE_BYTES_MAX) return NOT_UNDERSTOOD;
  let isBySigner = false;
  try {
    isBySigner = verify("sha256", payload, by.key, signature);
  } catch {
    // Bytes that are no signature are none by this key.
  }
  // Nothing of a payload is looked at before it is known to be the signer's.
  if (!isBySigner) return notByKey(by.path);
  const said = parsePayload(payload);
  if (said === null) return NOT_UNDERSTOOD;
  if (!wanted.signed.has(said.digest)) return anotherImage(said.digest);
  if (said.repository !== wanted.repository) return anotherRepository(said.repository);
  return null;
}

const NOT_UNDERSTOOD: Fault = { kind: "malformed", words: "is signed in a form that is not understood" };

export function notByKey(path: string): Fault {
  return {
    kind: "key",
    words: `has a signature that is not by the key ${path}: it was made with another key, or altered`,
  };
}

function parsePayload(bytes: Buffer): { readonly digest: Digest; readonly repository: string } | null {
  const critical = objectOf(objectOf(parseJson(bytes))["critical"]);
  const digest = objectOf(critical["image"])["docker-manifest-digest"];
  const reference = objectOf(critical["identity"])["docker-reference"];
  if (critical["type"] !== "cosign container image signature") return null;
  if (typeof digest !== "string" || !isDigest(digest) || typeof reference !== "string") return null;
  try {
    return { digest, repository: repositoryOf(parseImageName(reference)) };
  } catch {
    return null;
  }
}
