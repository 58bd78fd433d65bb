// What waits for a second compile, and what may become of it.
import type { Action } from "../../core/action/action.ts";
import type { Digest } from "../../core/digest/digest.ts";
import type { BuildId } from "../../core/identity/build-id.ts";
import type { Principal, TenantId } from "../../core/identity/spiffe.ts";
import type { JobPolicy } from "../../core/tenant-policy.ts";
import type { CachedAction } from "../../store/action-cache.ts";

export type ConfirmOutcome = "equal" | "different" | "forgotten";

/** A result that waits: all that a second compile needs, its source by digest. */
export interface ToConfirm {
  readonly tenant: TenantId;
  readonly principal: Principal;
  readonly action: Action;
  readonly sourceDigest: Digest;
  readonly policy: JobPolicy;
  /** Digest of the policy file that was in force. */
  readonly policyDigest: Digest | null;
  readonly sharedKey: Digest;
  readonly ownKey: Digest;
  /** As it is kept under the principal's key. */
  readonly first: CachedAction;
  /** What the client of the first compile calls its build. */
  readonly build: BuildId | null;
  readonly attempts: number;
}
