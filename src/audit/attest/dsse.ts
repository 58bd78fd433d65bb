// DSSE envelopes (secure-systems-lab/dsse, version 1.0.2) with Ed25519: a payload, its type, and signatures of both together. Pure.
import { type KeyObject, sign, verify } from "node:crypto";
import { HpccError } from "../../base/errors.ts";
import { decodeBase64 } from "../../core/note/signed-note.ts";

export const STATEMENT_TYPE = "application/vnd.in-toto+json";

/** Longest envelope in characters: the payload holds a row twice, and base64 grows by a third each time. */
export const ENVELOPE_LENGTH_MAX = 4 * 1024 * 1024;
const SIGNATURES_MAX = 16;

export interface DsseEnvelope {
  readonly payload: string;
  readonly payloadType: string;
  readonly signatures: readonly { readonly keyid: string; readonly sig: string }[];
}

/** What is signed, so that a payload of one type is never taken for one of another. */
function preAuthentication(type: string, payload: Uint8Array): Buffer {
  const head = `DSSEv1 ${Buffer.byteLength(type)} ${type} ${payload.length} `;
  return Buffer.concat([Buffer.from(head), payload]);
}

export interface DsseSigner {
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

/** Without a key id: it is a hint that each verifier makes in its own way, and some pass over a signature whose hint is another. */
export function signEnvelope(payload: Uint8Array, type: string, { privateKey }: DsseSigner): DsseEnvelope {
  const sig = sign(null, preAuthentication(type, payload), privateKey).toString("base64");
  return {
    payload: Buffer.from(payload).toString("base64"),
    payloadType: type,
    signatures: [{ keyid: "", sig }],
  };
}

/** The payload, if one of the keys has signed it; throws `audit.corrupt` otherwise. UNTRUSTED: the text. */
export function openEnvelope(text: string, type: string, keys: readonly KeyObject[]): Buffer {
  const { payload, payloadType, signatures } = parseEnvelope(text);
  if (payloadType !== type) throw corrupt(`is not of type ${type}`);
  const bytes = decodeBase64(payload);
  if (bytes === null) throw corrupt("has a payload that is no base64");
  const signed = preAuthentication(payloadType, bytes);
  const good = signatures.some(({ sig }) => {
    const signature = decodeBase64(sig);
    return signature !== null && keys.some((key) => verify(null, signed, key, signature));
  });
  if (!good) throw corrupt("is signed by no key that was given");
  return bytes;
}

function parseEnvelope(text: string): DsseEnvelope {
  if (text.length > ENVELOPE_LENGTH_MAX) throw new HpccError("limit.exceeded", "an attestation is too large");
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw corrupt("is no JSON");
  }
  if (!isObject(json)) throw corrupt("is no JSON object");
  const { payload, payloadType, signatures } = json;
  if (typeof payload !== "string" || typeof payloadType !== "string" || !Array.isArray(signatures))
    throw corrupt("is no envelope of DSSE");
  if (signatures.length > SIGNATURES_MAX) throw corrupt(`has more than ${SIGNATURES_MAX} signatures`);
  const read = signatures.map((one: unknown) => {
    if (!isObject(one) || typeof one["sig"] !== "string") throw corrupt("has a signature that is none");
    return { keyid: String(one["keyid"]), sig: one["sig"] };
  });
  return { payload, payloadType, signatures: read };
}

function isObject(json: unknown): json is Record<string, unknown> {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

function corrupt(problem: string): HpccError {
  return new HpccError("audit.corrupt", `an attestation ${problem}`, {
    hint: "Ask whoever gave it to you for another one, and for the key that signs them.",
  });
}
