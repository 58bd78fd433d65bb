// One second compile: the same action from the kept source in a clean VM, the comparison, the row, and what follows from it.
import type { AuditLog } from "../../audit/audit-log.ts";
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { decodeResultManifest, type ResultManifest, resultDigest } from "../../core/action/result-manifest.ts";
import { decodeSourceManifest, SOURCE_MANIFEST_BYTES_MAX } from "../../core/action/source-manifest.ts";
import type { TenantId } from "../../core/identity/spiffe.ts";
import { partiesOf } from "../../core/policy/quota-ledger.ts";
import type { TenantStore } from "../../store/action-cache.ts";
import type { BlobStore } from "../../store/blob-store.ts";
import { readBlob } from "../../store/read-blob.ts";
import type { ExecutionLimits } from "../../vm/execution.ts";
import type { VmPool } from "../../vm/pool.ts";
import { makePoolKey } from "../../vm/pool-key.ts";
import { putUnlessOutranked } from "../cached-result.ts";
import { executeAction } from "../execute-action.ts";
import type { WorkerImages } from "../images.ts";
import { JobRecord } from "../job-record.ts";
import { VmTime } from "../layers/vm-time.ts";
import type { UsageKeeper } from "../policy/usage-keeper.ts";
import { confirmRow, type RecordedResult } from "../rows/job-rows.ts";
import type { SharedEntry } from "../shared-entry.ts";
import { takeBack } from "../take-back.ts";
import type { ConfirmOutcome, ToConfirm } from "./to-confirm.ts";

export interface SecondCompilesOptions {
  readonly worker: string;
  readonly images: WorkerImages;
  readonly limits: ExecutionLimits;
  readonly pool: VmPool;
  readonly store: (tenant: TenantId) => TenantStore;
  readonly log: AuditLog;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What a second compile costs is the user's who had the first. */
  readonly usage: Pick<UsageKeeper, "charge" | "ledger">;
  /** Told of each result that serves the tenant from now on. */
  readonly shared?: (entry: SharedEntry) => void;
}

/** Alarms whose objects are kept for good, since the worker started; of later ones the cache may lose them. */
const KEPT_ALARMS_MAX = 100;
/** Largest blob of them. */
const KEPT_BYTES_MAX = 16 * 1024 * 1024;

export class SecondCompiles {
  readonly #options: SecondCompilesOptions;
  #keptAlarms = 0;

  constructor(options: SecondCompilesOptions) {
    this.#options = options;
  }

  /** Throws what kept the second compile from its end; then nothing is shared, and nothing said. */
  async run(entry: ToConfirm, signal: AbortSignal): Promise<ConfirmOutcome> {
    const store = this.#options.store(entry.tenant);
    if (!(await isStillWanted(entry, store))) return "forgotten";
    const record = new JobRecord(entry.principal, this.#options.clock);
    record.build(entry.build);
    record.source(entry.sourceDigest);
    record.action(entry.action);
    record.key(entry.sharedKey);
    record.policy(entry.policyDigest, entry.policy.tier);
    const second = await this.#execute(entry, store, signal);
    const first = { vm: entry.first.vm, resultDigest: resultDigest(entry.first.result), row: entry.first.row };
    const outcome = second.resultDigest === first.resultDigest ? "equal" : "different";
    const { log, worker } = this.#options;
    if (outcome === "different") await this.#keepBoth(entry, second, store.blobs);
    await record.appendRow({ log, blobs: store.blobs, worker }, (job) => confirmRow(job, { outcome, second, first }));
    if (outcome === "different") return this.#alarm(entry, second, store);
    return (await this.#share(entry, second, store)) ? "equal" : "forgotten";
  }

  async #execute(entry: ToConfirm, store: TenantStore, signal: AbortSignal): Promise<RecordedResult> {
    const { images, limits, pool, worker, clock, logger, usage } = this.#options;
    const { principal, action, policy } = entry;
    usage.ledger.check(partiesOf(principal, policy), clock.wallMs());
    const encoded = await readBlob(store.blobs, entry.sourceDigest, SOURCE_MANIFEST_BYTES_MAX);
    if (encoded === null)
      throw new HpccError("store.corrupt", `the source ${entry.sourceDigest} is not there any more`);
    const source = decodeSourceManifest(encoded);
    const poolKey = makePoolKey({ principal, image: action.imageDigest, trust: "clean", golden: policy.golden });
    const rootfs = await images.rootfs(action.imageDigest);
    signal.throwIfAborted();
    const meter = new VmTime(clock);
    try {
      const on = { rootfs, limits, pool, worker, clock, onProgress: meter.onProgress };
      const { recorded, cpuUs } = await executeAction({ action, source, principal, poolKey, store, signal }, on);
      meter.said(cpuUs);
      const { life, vm } = recorded.origin;
      if (life !== "clean" || vm === entry.first.vm)
        throw new HpccError("job.failed", `the second compile ran in ${vm}, which was not clean`);
      return recorded;
    } catch (error) {
      if (error instanceof HpccError && error.code === "vm.breach" && typeof error.details["vm"] === "string")
        await takeBack(error.details["vm"], store.actions, { clock, logger });
      throw error;
    } finally {
      usage.charge(entry, { bytes: 0, cpuUs: meter.us });
    }
  }

  /** False when one of the two was revoked meanwhile. */
  async #share(entry: ToConfirm, second: RecordedResult, store: TenantStore): Promise<boolean> {
    const { sharedKey, ownKey, first } = entry;
    const shared = { ...first, confirmedBy: second.origin.vm };
    // Its own key names it alone; a revocation of that must reach the copy, too.
    const revoked = async () =>
      (await store.actions.revoked(ownKey, first)) || (await store.actions.revoked(sharedKey, shared));
    if (await revoked()) return false;
    const kept = await putUnlessOutranked(store, sharedKey, shared);
    if (!(await revoked())) {
      const { tenant, policy } = entry;
      if (kept) this.#options.shared?.({ tenant, tier: policy.tier, key: sharedKey, action: shared, store });
      return true;
    }
    const atMs = this.#options.clock.wallMs();
    await store.actions.revoke({ kind: "key", value: sharedKey, atMs }, { cause: "confirmation", askedBy: null });
    return false;
  }

  async #alarm(entry: ToConfirm, second: RecordedResult, store: TenantStore): Promise<"different"> {
    const { logger, clock } = this.#options;
    const { ownKey, sharedKey, first, tenant } = entry;
    logger.error("worker.confirmation.differs", {
      tenant,
      key: sharedKey,
      firstVm: first.vm,
      secondVm: second.origin.vm,
      first: resultDigest(first.result),
      second: second.resultDigest,
    });
    const atMs = clock.wallMs();
    await store.actions.revoke({ kind: "key", value: ownKey, atMs }, { cause: "confirmation", askedBy: null });
    return "different";
  }

  /** So that both can be looked at later. */
  async #keepBoth(entry: ToConfirm, second: RecordedResult, blobs: BlobStore): Promise<void> {
    if (this.#keptAlarms >= KEPT_ALARMS_MAX) return;
    this.#keptAlarms++;
    for (const manifest of [decodeResultManifest(entry.first.result), second.manifest])
      await keepBlobs(manifest, blobs);
  }
}

/** Neither shared already, nor revoked, evicted or replaced. */
async function isStillWanted({ sharedKey, ownKey, first }: ToConfirm, { actions }: TenantStore): Promise<boolean> {
  const [shared, own] = await Promise.all([actions.get(sharedKey), actions.get(ownKey)]);
  return (
    shared.kind === "miss" && own.kind === "hit" && own.action.vm === first.vm && own.action.madeMs === first.madeMs
  );
}

async function keepBlobs({ outputs, stdout, stderr }: ResultManifest, blobs: BlobStore): Promise<void> {
  for (const ref of [...outputs, stdout, stderr]) {
    if (ref.size === 0 || ref.size > KEPT_BYTES_MAX || (await blobs.frameSize(ref.digest, "kept")) !== null) continue;
    const found = await blobs.get(ref.digest);
    if (found.kind === "miss") continue;
    try {
      await blobs.putFrame({ digest: ref.digest, size: ref.size }, found.frame.chunks(), "kept");
    } finally {
      await found.frame.close();
    }
  }
}
