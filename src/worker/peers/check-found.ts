// What a peer gave, held against what was asked and against what its maker has signed. UNTRUSTED: the peer, and the maker as far as
// this worker does not trust it.
import { HpccError } from "../../base/errors.ts";
import type { Action } from "../../core/action/action.ts";
import { decodeResultManifest, type ResultManifest, resultDigest } from "../../core/action/result-manifest.ts";
import type { Digest } from "../../core/digest/digest.ts";
import type { TenantId } from "../../core/identity/spiffe.ts";
import { type Isolation, isolationAtLeast } from "../../core/isolation.ts";
import { type Life, lifeSuffices } from "../../core/life.ts";
import { believes, type PeerTrust } from "../../core/sharing/peer-trust.ts";
import { mayBeShared, type Statement } from "../../core/sharing/statement.ts";
import type { StatementVerifier } from "../../wire/peer/signed-statement.ts";

/** A result that serves a tenant, as a job of this worker wants it. */
export interface WantedResult {
  readonly tenant: TenantId;
  readonly tier: string | null;
  /** Derived here, with the tenant's scope. */
  readonly key: Digest;
  readonly action: Action;
  readonly isolationMin: Isolation;
  readonly life: Life;
}

export interface ResultSizes {
  /** Of one output. */
  readonly outputBytes: number;
  /** Of stdout, and of stderr. */
  readonly stdioBytes: number;
  /** Of all together. */
  readonly resultBytes: number;
}

/** What was found cannot be true, or is not what was asked for: whoever gave it lied. */
export class PeerLie extends Error {
  override readonly name = "PeerLie";
}

export interface Checked {
  readonly statement: Statement;
  readonly manifest: ResultManifest;
}

export interface CheckFoundOptions {
  readonly verifier: StatementVerifier;
  readonly trust: PeerTrust;
  readonly sizes: ResultSizes;
  readonly nowMs: number;
}

/** Throws `PeerLie`; null for what may be true and is of no use here. Its blobs are still to be checked. */
export function checkFound(
  found: { readonly statement: Uint8Array; readonly manifest: Uint8Array },
  wanted: WantedResult,
  { verifier, trust, sizes, nowMs }: CheckFoundOptions,
): Checked | null {
  const [statement, manifest] = lieUnless(() => [
    verifier.verify(found.statement, nowMs),
    decodeResultManifest(found.manifest),
  ]);
  const digest = resultDigest(found.manifest);
  const lies: readonly (readonly [boolean, string])[] = [
    [statement.tenant !== wanted.tenant, "it is of another tenant"],
    [statement.tier !== wanted.tier, "it is of another tier"],
    [statement.key !== wanted.key, "it is about another key"],
    [statement.image !== wanted.action.imageDigest, "it names another image"],
    [statement.result !== digest, "the manifest is not the one that it is about"],
    [!mayBeShared(statement), "it is of a VM that had run other jobs, and nobody has confirmed it"],
    [manifest.exitCode !== 0, "it is a failure"],
    [!fits(manifest, wanted.action), "it has outputs that the action has not"],
  ];
  for (const [holds, why] of lies) if (holds) throw new PeerLie(why);
  if (!believes(trust, statement.worker.name)) return null;
  const { isolation, life } = statement;
  if (!isolationAtLeast(isolation, wanted.isolationMin) || !lifeSuffices(life, wanted.life)) return null;
  if (!isWithin(manifest, sizes)) return null;
  return { statement, manifest };
}

/** What a parser refuses is a lie; a bug is none. */
export function lieUnless<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw lieOf(error);
  }
}

/** The lie that an error of a check proves; any other error as it is. */
export function lieOf(error: unknown): unknown {
  if (!(error instanceof HpccError)) return error;
  return error.code === "argument.invalid" || error.code.startsWith("identity.") || error.code === "peer.protocol"
    ? new PeerLie(error.message, { cause: error })
    : error;
}

function fits({ outputs }: ResultManifest, { outputs: declared }: Action): boolean {
  const kinds = outputs.every(({ index, kind }) => declared[index]?.kind === kind);
  return kinds && declared.every(({ required }, at) => !required || outputs.some(({ index }) => index === at));
}

function isWithin({ outputs, stdout, stderr }: ResultManifest, sizes: ResultSizes): boolean {
  const total = [...outputs, stdout, stderr].reduce((sum, { size }) => sum + size, 0);
  return (
    outputs.every(({ size }) => size <= sizes.outputBytes) &&
    Math.max(stdout.size, stderr.size) <= sizes.stdioBytes &&
    total <= sizes.resultBytes
  );
}
