// What a worker and the thread that answers questions about its log say to each other.
import type { TenantId } from "../../core/identity/spiffe.ts";
import type { Inspection } from "./inspection.ts";

export interface ThreadFolders {
  readonly audit: string;
  readonly store: string;
}

/** No row after number `sequenceMax` is looked at: the others are not durable yet. */
export type ToThread =
  | { readonly t: "find"; readonly hash: string; readonly tenant: TenantId | null; readonly sequenceMax: number }
  | { readonly t: "catch up"; readonly sequenceMax: number }
  /** Rows were removed from the log. */
  | { readonly t: "forget" }
  | { readonly t: "close" };

/** Each `find` is answered in turn by `found` or `failed`. */
export type FromThread =
  | { readonly t: "found"; readonly inspection: Inspection }
  | { readonly t: "failed"; readonly code: string; readonly message: string }
  /** How far the index is. */
  | { readonly t: "at"; readonly sequence: number }
  | { readonly t: "warn"; readonly event: string; readonly error: string };
