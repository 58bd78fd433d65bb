// What a site's policy says about a tenant's jobs, and the defaults, stated here alone. Pure: who reads the policy file, and when,
// is not known here.
import type { Digest } from "./digest/digest.ts";
import type { Principal } from "./identity/spiffe.ts";
import type { Isolation } from "./isolation.ts";
import type { Life } from "./life.ts";

/** Which golden snapshot a VM may come from: the one that all tenants share, or its tenant's own. */
export const GOLDEN_POLICIES = ["shared", "own"] as const;
export type GoldenPolicy = (typeof GOLDEN_POLICIES)[number];
export const DEFAULT_GOLDEN: GoldenPolicy = "shared";

/**
 * Whom results serve. `clean`: the whole tenant, if their VM ran nothing else. `confirm`: the tenant too, once a clean VM
 * has given the same result as a warm one. `private`: the principal who paid for them, nobody else.
 */
export const SHARINGS = ["clean", "confirm", "private"] as const;
export type Sharing = (typeof SHARINGS)[number];

/** What holds where a policy says nothing of sharing, by what the worker's machines are (docs/adr/0142-default-sharing.md). */
const DEFAULT_SHARING: Readonly<Record<Isolation, Sharing>> = {
  namespace: "private",
  "qemu-tcg": "private",
  "qemu-kvm": "confirm",
  firecracker: "confirm",
  hyperv: "confirm",
};

/** Each null: no limit. */
export interface Quotas {
  /** Jobs at a time. */
  readonly jobsMax: number | null;
  /** Bytes of sources taken from clients in a day (UTC), uncompressed. */
  readonly bytesPerDayMax: number | null;
  /** Microseconds of compiling in a day (UTC). */
  readonly cpuUsPerDayMax: number | null;
}

export const NO_QUOTAS: Quotas = { jobsMax: null, bytesPerDayMax: null, cpuUsPerDayMax: null };

/** What holds for the jobs of one principal. */
export interface JobPolicy {
  readonly life: Life;
  readonly golden: GoldenPolicy;
  readonly sharing: Sharing;
  /** The weakest isolation that may run them; null: whatever the worker allows. */
  readonly isolationMin: Isolation | null;
  /** Images that they may name; null: all that the worker has. */
  readonly images: ReadonlySet<Digest> | null;
  /** The principal's trust tier; null where the tenant has none. */
  readonly tier: string | null;
  /** Tiers whose shared results may be given to them: their own, then those above it in rising trust. */
  readonly readableTiers: readonly (string | null)[];
  /** What all of the tenant, all of the tier, and the principal alone may use. */
  readonly quotas: { readonly tenant: Quotas; readonly tier: Quotas; readonly principal: Quotas };
}

/** The policy in force. A job asks once, when it is admitted, and keeps what it was told. */
export interface PolicySource {
  /** Of the policy file's bytes; null without a file. */
  readonly digest: Digest | null;
  readonly version: number | null;
  /** Null for a principal who is not served. */
  of(principal: Principal): JobPolicy | null;
}

/** What a policy may say about how VMs live and whom results serve; null where it is silent. */
export interface LivesAndSharing {
  readonly life: Life | null;
  readonly sharing: Sharing | null;
}

/** Fills in what is not said, for a worker with machines of `isolation`. The two never contradict each other then. */
export function livesAndSharing(
  said: LivesAndSharing,
  isolation: Isolation,
): { readonly life: Life; readonly sharing: Sharing } {
  const usual = DEFAULT_SHARING[isolation];
  // Who wants warm VMs cannot want that clean ones alone may share.
  const sharing = said.sharing ?? (usual === "clean" && said.life === "session" ? "confirm" : usual);
  return { sharing, life: said.life ?? (sharing === "clean" ? "clean" : "session") };
}

/** What is set for a tenant; the rest has its default. */
export type TenantSettings = Partial<JobPolicy>;

/** Policies that never change, by the tenant's name: for a worker without a policy file. Others have the defaults. */
export function fixedPolicies(
  tenants: ReadonlyMap<string, TenantSettings> = new Map(),
  isolation: Isolation = "firecracker",
): PolicySource {
  return {
    digest: null,
    version: null,
    of({ tenant }) {
      const settings = tenants.get(tenant) ?? {};
      const said = { life: settings.life ?? null, sharing: settings.sharing ?? null };
      return {
        golden: DEFAULT_GOLDEN,
        isolationMin: null,
        images: null,
        tier: null,
        readableTiers: [null],
        quotas: { tenant: NO_QUOTAS, tier: NO_QUOTAS, principal: NO_QUOTAS },
        ...settings,
        ...livesAndSharing(said, isolation),
      };
    },
  };
}
