// A pool on a HeldRuntime, with time moved by hand.
import assert from "node:assert/strict";
import { ManualClock } from "../../src/base/clock.ts";
import { HpccError } from "../../src/base/errors.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { sha256 } from "../../src/core/digest/digest.ts";
import { parseSpiffeId } from "../../src/core/identity/spiffe.ts";
import type { GoldenPolicy } from "../../src/core/tenant-policy.ts";
import type { VmPoolLimits } from "../../src/vm/pool.ts";
import { makePoolKey, type PoolKey, type TrustTier } from "../../src/vm/pool-key.ts";
import type { VmEvent } from "../../src/vm/vm-event.ts";
import { WarmVmPool } from "../../src/vm/warm-vm-pool.ts";
import { HeldRuntime, heldRequest } from "./held-runtime.ts";

export const HELD_LIMITS: VmPoolLimits = {
  placesMax: 64,
  vmsMax: 2,
  memoryBytesMax: 2 ** 30,
  vcpusMax: 64,
  vmMemoryBytes: 2 ** 28,
  vmVcpus: 1,
  executionsPerVmMax: 2,
  queuePerTenantMax: 4,
  idleMs: 60_000,
  tenureMs: 10_000,
  parkedMs: 600_000,
  parkedMax: 4,
  parkedDiskBytesMax: 2 ** 30,
  sessionMs: 3_600_000,
  sparesMax: 1,
};

export interface HeldKeyParts {
  readonly user?: string;
  readonly image?: string;
  readonly trust?: TrustTier;
  readonly golden?: GoldenPolicy;
}

export function heldKey(tenant: string, { user = "ann", image = "gcc", trust = "session", golden }: HeldKeyParts = {}) {
  const principal = parseSpiffeId(`spiffe://example.org/tenant/${tenant}/user/${user}`);
  assert.ok(principal.kind === "user");
  return makePoolKey({ principal, image: sha256(Buffer.from(image)), trust, ...(golden && { golden }) });
}

export interface HeldPoolOptions {
  readonly limits?: Partial<VmPoolLimits>;
  readonly runtime?: HeldRuntime;
  /** Called with each event before it is kept. */
  readonly onEvent?: (event: VmEvent) => Promise<void>;
}

export function heldPool({ limits = {}, runtime = new HeldRuntime(), onEvent }: HeldPoolOptions = {}) {
  const clock = new ManualClock();
  const events: VmEvent[] = [];
  const pool = new WarmVmPool({
    runtime,
    limits: { ...HELD_LIMITS, ...limits },
    events: async (event) => {
      await onEvent?.(event);
      events.push(event);
    },
    clock,
    logger: SILENT_LOGGER,
  });
  return {
    runtime,
    clock,
    events,
    pool,
    execute: (key: PoolKey, signal = new AbortController().signal) =>
      pool.execute(key, `/rootfs/${key.image}`, heldRequest(key.text), { signal }),
    /** Runs one execution from its begin to its end, in a machine that is there or comes. */
    runOne: async (key: PoolKey): Promise<string> => {
      const running = pool.execute(key, `/rootfs/${key.image}`, heldRequest(key.text), {
        signal: new AbortController().signal,
      });
      await settle();
      for (const machine of runtime.alive) machine.finishAll();
      return (await running).vm.id;
    },
    /** What was told, as rows would say it. */
    told: () =>
      events.map((event) => {
        const id = event.t === "boot-failed" ? "" : ` ${event.vm.id}`;
        return `${event.t}${id}${event.t === "destroyed" ? ` ${event.reason}` : ""}`;
      }),
  };
}

/** Lets all that is due happen. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

export function rejectsWith(code: string) {
  return (error: unknown): boolean => error instanceof HpccError && error.code === code;
}
