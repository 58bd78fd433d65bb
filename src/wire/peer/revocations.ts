// Revocations as workers tell them to each other. Everything that a peer said is checked here.
import { create } from "@bufbuild/protobuf";
import { HpccError } from "../../base/errors.ts";
import { NumberTable } from "../../base/number-table.ts";
import { parseTenantId, type TenantId } from "../../core/identity/spiffe.ts";
import {
  CLOCK_SKEW_MS_MAX,
  checkRevocationValue,
  type Revocation,
  type RevocationKind,
} from "../../core/revocation.ts";
import {
  RevocationKind as RevocationKindNumber,
  type Revocation as RevocationMessage,
  type WatchRevocationsResponse,
  WatchRevocationsResponseSchema,
} from "../../gen/hpcc/peer/v1/peer_pb.js";
import { REVOCATIONS_PER_MESSAGE_MAX } from "./limits.ts";

const KIND_NUMBERS = new NumberTable<RevocationKind, RevocationKindNumber>({
  vm: RevocationKindNumber.VM,
  image: RevocationKindNumber.IMAGE,
  principal: RevocationKindNumber.PRINCIPAL,
  key: RevocationKindNumber.KEY,
});

/** One of the own list. */
export interface ListedRevocation {
  readonly sequence: number;
  /** Null: of all tenants. */
  readonly tenant: TenantId | null;
  readonly revocation: Revocation;
}

/** One as a peer told it. */
export interface ToldRevocation {
  readonly sequence: number;
  readonly tenant: TenantId | null;
  /** Null for one that cannot be meant: it is passed over. */
  readonly revocation: Revocation | null;
}

export function toRevocations(revocations: readonly ListedRevocation[]): WatchRevocationsResponse {
  return create(WatchRevocationsResponseSchema, {
    revocations: revocations.map(({ sequence, tenant, revocation: { kind, value, atMs } }) => ({
      sequence: BigInt(sequence),
      tenant: tenant ?? "",
      kind: KIND_NUMBERS.numberOf(kind),
      value,
      atMs: BigInt(atMs),
    })),
  });
}

/** UNTRUSTED: a worker. A message that breaks the order is refused as a whole. */
export function parseRevocations({ revocations }: WatchRevocationsResponse, nowMs: number): ToldRevocation[] {
  if (revocations.length > REVOCATIONS_PER_MESSAGE_MAX) throw protocol("too many revocations in one message");
  let before = 0;
  return revocations.map((message) => {
    const sequence = Number(message.sequence);
    if (!Number.isSafeInteger(sequence) || sequence <= before) throw protocol("revocations are out of order");
    before = sequence;
    return { sequence, ...readRevocation(message, nowMs) };
  });
}

function readRevocation(message: RevocationMessage, nowMs: number): Pick<ToldRevocation, "tenant" | "revocation"> {
  try {
    const tenant = message.tenant === "" ? null : parseTenantId(message.tenant);
    const kind = KIND_NUMBERS.nameOf(message.kind);
    if (kind === undefined) throw protocol("a revocation of no known kind");
    checkRevocationValue(kind, message.value);
    // One of the future would take back what is not made yet.
    const atMs = Math.min(Number(message.atMs), nowMs + CLOCK_SKEW_MS_MAX);
    return { tenant, revocation: { kind, value: message.value, atMs } };
  } catch (error) {
    if (error instanceof HpccError) return { tenant: null, revocation: null };
    throw error;
  }
}

function protocol(problem: string): HpccError {
  return new HpccError("peer.protocol", problem);
}
