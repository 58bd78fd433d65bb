// The action key: the name of a result in the action cache (docs/specs/key.md). A pure function of everything that may
// change the result, and of whom the result may serve.
import { type Digest, sha256 } from "../digest/digest.ts";
import type { TenantId } from "../identity/spiffe.ts";
import { type Action, DETERMINISM_POLICIES, OUTPUT_KINDS } from "./action.ts";
import { FieldWriter } from "./fields.ts";

/** Grows when the meaning of any field changes. */
export const ACTION_KEY_SCHEMA = "hpcc.action.v1";

/** Whom a result serves: a whole tenant, one trust tier of it and those below, or one principal. */
export interface ResultScope {
  readonly tenant: TenantId;
  /** Trust tier of whoever paid for it; null where the tenant has none. */
  readonly tier: string | null;
  /** SPIFFE id of the principal; null when the tenant shares the result. */
  readonly principal: string | null;
}

export interface ActionKeyParts {
  readonly action: Action;
  /** Digest of the source manifest's encoding. */
  readonly sourceDigest: Digest;
  readonly scope: ResultScope;
}

export function deriveActionKey({ action, sourceDigest, scope }: ActionKeyParts): Digest {
  const fields = new FieldWriter()
    .ascii(1, ACTION_KEY_SCHEMA)
    .record(2, (inner) => {
      inner.ascii(1, scope.tenant);
      if (scope.principal !== null) inner.ascii(2, scope.principal);
      if (scope.tier !== null) inner.ascii(3, scope.tier);
    })
    .digest(3, action.imageDigest);
  for (const argument of action.argv) fields.byteString(4, argument);
  for (const variable of action.environment) fields.byteString(5, variable);
  fields.byteString(6, action.cwd);
  for (const output of action.outputs)
    fields.record(7, (inner) =>
      inner
        .byteString(1, output.path)
        .u32(2, output.required ? 1 : 0)
        .u32(3, OUTPUT_KINDS.numberOf(output.kind)),
    );
  fields
    .u32(8, action.terminalColumns ?? 0)
    .u32(9, DETERMINISM_POLICIES.numberOf(action.determinism))
    .digest(10, sourceDigest);
  return sha256(fields.finish());
}
