// Revocations: which results are no answers any more. Pure; what keeps them is in the store.
import { HpccError } from "../base/errors.ts";
import { isDigest } from "./digest/digest.ts";
import { parseSpiffeId } from "./identity/spiffe.ts";

/**
 * What a revocation names. `vm`: a microVM that compiled or confirmed a result. `image`: the image of the compile.
 * `principal`: SPIFFE id of who paid for it. `key`: the action key under which it is kept.
 */
export const REVOCATION_KINDS = ["vm", "image", "principal", "key"] as const;
export type RevocationKind = (typeof REVOCATION_KINDS)[number];

export interface Revocation {
  readonly kind: RevocationKind;
  readonly value: string;
  /**
   * When it was made, in milliseconds since 1970. All that a VM ever made is revoked; of the other kinds, what had begun to be
   * made up to this moment.
   */
  readonly atMs: number;
}

export const REVOCATION_CAUSES = ["breach", "confirmation", "operator", "peer"] as const;

/** Why it was made, and who asked where that was a person or a peer. */
export interface RevokedBy {
  readonly cause: (typeof REVOCATION_CAUSES)[number];
  readonly askedBy: string | null;
}

/** What decides whether a result is revoked, beside its key. */
export interface Made {
  readonly vm: string;
  readonly worker: string;
  /** SPIFFE id of who paid for it. */
  readonly principal: string;
  readonly image: string;
  /** When its compile began. */
  readonly madeMs: number;
  /** The second VM that gave the same bytes; null when none was asked. */
  readonly confirmedBy: string | null;
}

/** Wall clocks of the workers of a site differ by no more than this. */
export const CLOCK_SKEW_MS_MAX = 5 * 60 * 1000;

const VM_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,119}$/;

/** Throws `argument.invalid`, with what a value of this kind is. UNTRUSTED: a person, a peer. */
export function checkRevocationValue(kind: RevocationKind, value: string): void {
  const shape = SHAPES[kind];
  if (!shape.fits(value)) throw new HpccError("argument.invalid", `the ${shape.what}, not "${value.slice(0, 80)}"`);
}

const SHAPES = {
  vm: { what: "name of a microVM is as the column vm of the audit log has it", fits: (value) => VM_NAME.test(value) },
  image: { what: "digest of an image is sha256: and 64 hex digits", fits: isDigest },
  key: { what: "action key is sha256: and 64 hex digits", fits: isDigest },
  principal: {
    what: "principal is the SPIFFE id of a tenant's user, spiffe://DOMAIN/tenant/T/user/U",
    fits: isPrincipal,
  },
} as const satisfies Record<RevocationKind, { what: string; fits: (value: string) => boolean }>;

function isPrincipal(value: string): boolean {
  try {
    return parseSpiffeId(value).kind === "user";
  } catch (error) {
    if (error instanceof HpccError) return false;
    throw error;
  }
}
