// What the maker of a result states about it (docs/specs/peer-protocol.md): which result answers which key, and how it was made.
// One value has one encoding, which is what is signed; the decoder takes no other. Pure; knows no signature.
import { HpccError } from "../../base/errors.ts";

import { FieldReader, FieldWriter } from "../action/fields.ts";
import type { Digest } from "../digest/digest.ts";
import { type Identity, NAME, parseSpiffeId, parseTenantId, spiffeId, type TenantId } from "../identity/spiffe.ts";
import { ISOLATION_NUMBERS, type Isolation } from "../isolation.ts";
import { LIFE_NUMBERS, type Life } from "../life.ts";

export type WorkerIdentity = Identity & { readonly kind: "worker" };

export interface Statement {
  readonly tenant: TenantId;
  /** The trust tier that shared it; null where the tenant has none. */
  readonly tier: string | null;
  /** The action key, whose scope is the tenant's. */
  readonly key: Digest;
  /** Digest of the result manifest. */
  readonly result: Digest;
  readonly isolation: Isolation;
  readonly life: Life;
  /** The VM that gave the same result again, as its row names it; null when none has. */
  readonly confirmedBy: string | null;
  readonly image: Digest;
  /** The VM that made it, as its row names it. */
  readonly vm: string;
  /** Who states this, and made it. */
  readonly worker: WorkerIdentity;
  /** SPIFFE id of the user who paid for it. */
  readonly principal: string;
  /** Digest of the row of the compile, in the maker's log. */
  readonly row: Digest;
  readonly madeMs: number;
  readonly compileUs: number;
}

/** Signatures of a TLS handshake begin otherwise, so that neither can be taken for the other. */
const SCHEMA = "hpcc.statement.v1";

/** Largest encoding. */
export const STATEMENT_BYTES_MAX = 4096;
/** As rows name VMs. */
const VM = /^[A-Za-z0-9][A-Za-z0-9._-]{0,119}$/;

export function encodeStatement(statement: Statement): Uint8Array {
  const fields = new FieldWriter().ascii(1, SCHEMA).ascii(2, statement.tenant);
  if (statement.tier !== null) fields.ascii(3, statement.tier);
  fields
    .digest(4, statement.key)
    .digest(5, statement.result)
    .u32(6, ISOLATION_NUMBERS.numberOf(statement.isolation))
    .u32(7, LIFE_NUMBERS.numberOf(statement.life));
  if (statement.confirmedBy !== null) fields.ascii(8, statement.confirmedBy);
  return fields
    .digest(9, statement.image)
    .ascii(10, statement.vm)
    .ascii(11, spiffeId(statement.worker))
    .ascii(12, statement.principal)
    .digest(13, statement.row)
    .u64(14, statement.madeMs)
    .u64(15, statement.compileUs)
    .finish();
}

/** Throws `argument.invalid` or `identity.invalid`. UNTRUSTED: other workers. */
export function decodeStatement(bytes: Uint8Array): Statement {
  const fields = new FieldReader(bytes, "the statement");
  if (bytes.length > STATEMENT_BYTES_MAX) fields.fail(`has more than ${STATEMENT_BYTES_MAX} bytes`);
  if (fields.byteString(1) !== SCHEMA) fields.fail("has another schema");
  const tenant = parseTenantId(String(fields.byteString(2)));
  const tier = fields.peek() === 3 ? tierOf(fields) : null;
  const key = fields.digest(4);
  const result = fields.digest(5);
  const isolation = ISOLATION_NUMBERS.nameOf(fields.u32(6)) ?? fields.fail("has an unknown isolation");
  const life = LIFE_NUMBERS.nameOf(fields.u32(7)) ?? fields.fail("has an unknown life");
  const confirmedBy = fields.peek() === 8 ? vmOf(fields, 8) : null;
  const image = fields.digest(9);
  const vm = vmOf(fields, 10);
  const worker = workerOf(String(fields.byteString(11)));
  const principal = principalOf(String(fields.byteString(12)), tenant, worker);
  const row = fields.digest(13);
  const madeMs = fields.u64(14);
  const compileUs = fields.u64(15);
  fields.end();
  return {
    tenant,
    tier,
    key,
    result,
    isolation,
    life,
    confirmedBy,
    image,
    vm,
    worker,
    principal,
    row,
    madeMs,
    compileUs,
  };
}

/** Whether what was made so may serve a whole tenant. */
export function mayBeShared({ life, confirmedBy }: Pick<Statement, "life" | "confirmedBy">): boolean {
  return life === "clean" || confirmedBy !== null;
}

function tierOf(fields: FieldReader): string {
  const tier = String(fields.byteString(3));
  if (!NAME.test(tier)) fields.fail("names no tier");
  return tier;
}

function vmOf(fields: FieldReader, tag: number): string {
  const vm = String(fields.byteString(tag));
  if (!VM.test(vm)) fields.fail("names no VM");
  return vm;
}

function workerOf(uri: string): WorkerIdentity {
  const worker = parseSpiffeId(uri);
  if (worker.kind !== "worker") throw new HpccError("identity.invalid", "the statement's maker is no worker");
  return worker;
}

function principalOf(uri: string, tenant: TenantId, worker: WorkerIdentity): string {
  const principal = parseSpiffeId(uri);
  if (principal.kind !== "user" || principal.tenant !== tenant || principal.trustDomain !== worker.trustDomain)
    throw new HpccError("identity.invalid", "the statement's principal is no user of its tenant");
  return uri;
}
