// What a worker's configuration says of the other workers of its site.
import { HpccError } from "../base/errors.ts";
import { type IdentityName, parseIdentityName } from "../core/identity/spiffe.ts";
import type { PeerTrust } from "../core/sharing/peer-trust.ts";
import { BOOLEAN, integer, type ValueKind } from "./value.ts";

export interface PeersConfig {
  /** Whether it asks other workers, answers them, and exchanges revocations with them. */
  readonly enabled: boolean;
  /** Whose results it takes. */
  readonly trust: PeerTrust;
  /** How long a job waits until a peer says that it has the result. */
  readonly answerMs: number;
  /** How long the result may take from then on. */
  readonly fetchMs: number;
}

const NAMES_MAX = 1_000;
const SITE: PeerTrust = "site";

const TRUST: ValueKind<PeerTrust> = {
  expected: '"site", "none", or a list of names of workers',
  parse(value) {
    if (value === "site" || value === "none") return value;
    if (!Array.isArray(value) || value.length > NAMES_MAX) return undefined;
    const names = value.map(nameOf);
    return names.includes(null) ? undefined : new Set(names as IdentityName[]);
  },
  fromText: (text) => (text === "site" || text === "none" ? text : text.split(",").map((name) => name.trim())),
};

function nameOf(value: unknown): IdentityName | null {
  try {
    return typeof value === "string" ? parseIdentityName(value, "a worker's name") : null;
  } catch (error) {
    if (error instanceof HpccError) return null;
    throw error;
  }
}

export const PEERS_SCHEMA = {
  "peers.enabled": { kind: BOOLEAN, fallback: true, variable: "HPCC_WORKER_PEERS" },
  "peers.trust": { kind: TRUST, fallback: SITE, variable: "HPCC_WORKER_PEERS_TRUST" },
  "peers.answer_ms": { kind: integer(10, 10_000), fallback: 300 },
  "peers.fetch_ms": { kind: integer(100, 60_000), fallback: 5_000 },
} as const;

export function peersConfig(values: {
  readonly "peers.enabled": boolean;
  readonly "peers.trust": PeerTrust;
  readonly "peers.answer_ms": number;
  readonly "peers.fetch_ms": number;
}): PeersConfig {
  return {
    enabled: values["peers.enabled"],
    trust: values["peers.trust"],
    answerMs: values["peers.answer_ms"],
    fetchMs: values["peers.fetch_ms"],
  };
}
