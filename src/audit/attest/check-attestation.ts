// Holds an attestation against the key that signs them and the key of the log that it is about. Needs neither log nor network: the record
// and its proof are in it, and a statement that is not exactly what they say is refused, whoever signed it. Pure.
import type { KeyObject } from "node:crypto";
import { HpccError } from "../../base/errors.ts";
import { decodeBase64, type NoteVerifier } from "../../core/note/signed-note.ts";
import { type AuditRecord, decodeFrame, encodeRecord } from "../segment.ts";
import { openEnvelope, STATEMENT_TYPE } from "./dsse.ts";
import {
  type Attested,
  checkRecord,
  encodeStatement,
  PROOF_NAME,
  RECORD_NAME,
  RESULT_NAME,
  type Statement,
  statementOf,
} from "./statement.ts";

export interface AttestationKeys {
  /** Of those who sign attestations. */
  readonly attestation: readonly KeyObject[];
  /** Of the logs. */
  readonly log: readonly NoteVerifier[];
}

/** Throws `audit.corrupt` for one that does not hold. UNTRUSTED: the text. */
export function checkAttestation(text: string, keys: AttestationKeys): Attested & { readonly statement: Statement } {
  const payload = openEnvelope(text, STATEMENT_TYPE, keys.attestation);
  const attested = attestedOf(payload);
  checkRecord(attested, keys.log);
  const statement = statementOf(attested);
  if (!encodeStatement(statement).equals(payload)) throw corrupt("does not say what its row says");
  return { ...attested, statement };
}

/** What the statement says that it was made of. UNTRUSTED, although it is signed. */
function attestedOf(payload: Buffer): Attested {
  let byproducts: unknown;
  try {
    byproducts = (JSON.parse(payload.toString("utf8")) as Statement).predicate.runDetails.byproducts;
  } catch {
    throw corrupt("has no provenance of hpcc");
  }
  const contentOf = (name: string): Buffer | null => {
    const found: unknown = Array.isArray(byproducts)
      ? byproducts.find((one: unknown) => (one as { name?: unknown } | null)?.name === name)
      : undefined;
    const content = (found as { content?: unknown } | undefined)?.content;
    return typeof content === "string" ? decodeBase64(content) : null;
  };
  const [record, proof] = [contentOf(RECORD_NAME), contentOf(PROOF_NAME)];
  if (record === null || proof === null) throw corrupt("lacks its record or the proof of it");
  return { record: recordOf(record), proof: proof.toString("utf8"), manifest: contentOf(RESULT_NAME) };
}

function recordOf(bytes: Buffer): AuditRecord {
  const [line = "", envelope = ""] = bytes.toString("latin1").split("\n");
  if (line.length + envelope.length + 2 !== bytes.length) throw corrupt("has a record that is not two lines");
  let record: AuditRecord | undefined;
  if (bytes.length < 64 * 1024) record = decodeFrame(Buffer.from(encodeRecord(line, envelope, 1).frame), 0)?.record;
  if (record === undefined) throw corrupt("has a record that is none");
  return record;
}

function corrupt(problem: string): HpccError {
  return new HpccError("audit.corrupt", `an attestation ${problem}`, {
    hint: "Ask for the row itself, and hold the log against its checkpoint with `hpcc audit verify`.",
  });
}
