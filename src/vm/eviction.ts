// Who leaves when somebody waits and nothing is free. Pure: it looks at VMs and says who.
//
// A VM that stands still and holds memory goes first. Then clean ones that wait for a job, then warm ones, the one idle longest
// before the others. When none is idle, a busy one takes no more work and leaves when what it runs has ended: at once when its
// owner would still have no fewer VMs than who waits, after its tenure when he would have one fewer, else never. Owners are
// compared where they differ first: tenants, then their users, then their keys. All that is decided counts.
import { compareByParty, PartyCounts } from "./fair-share.ts";
import type { PoolKey } from "./pool-key.ts";
import { fits, lacksMemoryAlone, minus, plus, type Room, sumOf } from "./pool-room.ts";
import type { PooledVm } from "./pooled-vm.ts";

/** Between two compiles of one build a VM is idle for a moment; it is not taken away then. */
const IDLE_BEFORE_EVICTION_MS = 1_000;

/** Somebody who waits for room. */
export interface Demand {
  readonly key: PoolKey;
  readonly room: Room;
  /** Whether the key has VMs and wants another. */
  readonly grows: boolean;
}

export interface Eviction {
  /** To be destroyed, or drained while they are busy. */
  readonly victims: readonly PooledVm[];
  /** When there may be another victim; infinity for not by time alone. */
  readonly nextMs: number;
}

interface View {
  readonly vms: readonly PooledVm[];
  readonly tenureMs: number;
  readonly nowMs: number;
}

/** What has been decided so far. */
interface Decided {
  readonly victims: Set<PooledVm>;
  /** VMs that each party will have when who leaves is gone and who was granted room has it. */
  readonly held: PartyCounts;
}

/** Who must leave for these demands, first come first served, beyond what leaves already. */
export function chooseVictims(demands: readonly Demand[], free: Room, view: View): Eviction {
  const decided: Decided = { victims: new Set(), held: new PartyCounts() };
  const { victims, held } = decided;
  let nextMs = Number.POSITIVE_INFINITY;
  for (const vm of view.vms) if (vm.countsForOwner) held.add(vm.key, 1);
  let coming = plus(free, sumOf(view.vms.map(roomComing)));
  for (const demand of demands) {
    while (!fits(demand.room, coming)) {
      const standing = lacksMemoryAlone(demand.room, coming) ? longestParked(view.vms, victims) : null;
      const victim = standing ?? firstDue(demand, decided, view);
      if (victim === null) break;
      victims.add(victim);
      if (victim.countsForOwner) held.add(victim.key, -1);
      coming = plus(coming, victim.room);
    }
    if (fits(demand.room, coming)) {
      coming = minus(coming, demand.room);
      held.add(demand.key, 1);
    } else nextMs = Math.min(nextMs, nextDueMs(demand, decided, view));
  }
  return { victims: [...victims], nextMs };
}

/** What a VM is about to give back. */
function roomComing(vm: PooledVm): Room {
  if (!vm.leaving) return sumOf([]);
  return vm.state.t === "scrubbing" ? vm.roomByParking : vm.room;
}

function longestParked(vms: readonly PooledVm[], taken: ReadonlySet<PooledVm>): PooledVm | null {
  const sinceMs = ({ state }: PooledVm): number => (state.t === "parked" ? state.sinceMs : 0);
  const holding = vms.filter((vm) => vm.state.t === "parked" && vm.room.memoryBytes > 0 && !taken.has(vm));
  return holding.sort((a, b) => sinceMs(a) - sinceMs(b))[0] ?? null;
}

function firstDue(demand: Demand, decided: Decided, view: View): PooledVm | null {
  const due = view.vms.filter(
    (vm) => !decided.victims.has(vm) && evictableFromMs(vm, demand, decided, view) <= view.nowMs,
  );
  const order = (a: PooledVm, b: PooledVm): number => idleRank(a) - idleRank(b) || a.placeSinceMs - b.placeSinceMs;
  return due.sort(order)[0] ?? null;
}

function nextDueMs(demand: Demand, decided: Decided, view: View): number {
  return Math.min(
    ...view.vms.filter((vm) => !decided.victims.has(vm)).map((vm) => evictableFromMs(vm, demand, decided, view)),
    Number.POSITIVE_INFINITY,
  );
}

/** Spares, then warm ones by the time since when they are idle, then busy ones. */
function idleRank({ key, state }: PooledVm): number {
  if (state.t !== "warm") return Number.MAX_SAFE_INTEGER;
  return key.trust === "clean" ? -1 : state.sinceMs;
}

/** When a VM may be taken from its key for another one; infinity for never. */
function evictableFromMs(vm: PooledVm, wanted: Demand, { held }: Decided, view: View): number {
  const { state, placeSinceMs, key } = vm;
  if (state.t !== "warm" && state.t !== "busy") return Number.POSITIVE_INFINITY;
  if (key.trust === "clean") return placeSinceMs;
  if (key.text === wanted.key.text) return Number.POSITIVE_INFINITY;
  const more = compareByParty(key, wanted.key, (party) => held.of(party));
  if (more > 1) return placeSinceMs;
  const tenureEndMs = placeSinceMs + view.tenureMs;
  if (state.t === "busy") return more > 0 ? tenureEndMs : Number.POSITIVE_INFINITY;
  // Who has VMs does not take the only one of somebody who may be back in a moment.
  if (wanted.grows && more <= 0 && held.of(key.text) === 1) return state.sinceMs + view.tenureMs;
  return Math.min(state.sinceMs + IDLE_BEFORE_EVICTION_MS, tenureEndMs);
}
