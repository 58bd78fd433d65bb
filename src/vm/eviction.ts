// Who leaves when somebody waits and nothing is free. Pure: it looks at VMs and says who.
//
// A VM that stands still and holds memory goes first. Then clean ones that wait for a job, then warm ones, the one idle longest
// before the others. When none is idle, the busy one that has had its place longest, beyond its tenure, takes no more work and
// leaves, unless its tenant has no more places than who waits.
import { fits, lacksMemoryAlone, minus, plus, type Room, sumOf } from "./pool-room.ts";
import type { PooledVm } from "./pooled-vm.ts";

/** Between two compiles of one build a VM is idle for a moment; it is not taken away then. */
const IDLE_BEFORE_EVICTION_MS = 1_000;

/** Somebody who waits for room. */
export interface Demand {
  readonly tenant: string;
  readonly room: Room;
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

/** Who must leave for these demands, first come first served, beyond what leaves already. */
export function chooseVictims(demands: readonly Demand[], free: Room, view: View): Eviction {
  const victims = new Set<PooledVm>();
  let coming = plus(free, sumOf(view.vms.map(roomComing)));
  for (const demand of demands) {
    while (!fits(demand.room, coming)) {
      const standing = lacksMemoryAlone(demand.room, coming) ? longestParked(view.vms, victims) : null;
      const victim = standing ?? firstDue(demand, victims, view);
      if (victim === null) return { victims: [...victims], nextMs: nextDueMs(demand, victims, view) };
      victims.add(victim);
      coming = plus(coming, victim.room);
    }
    coming = minus(coming, demand.room);
  }
  return { victims: [...victims], nextMs: Number.POSITIVE_INFINITY };
}

/** What a VM is about to give back. */
function roomComing(vm: PooledVm): Room {
  const { t } = vm.state;
  if (t === "destroying" || t === "draining") return vm.room;
  return t === "scrubbing" ? vm.roomByParking : sumOf([]);
}

function longestParked(vms: readonly PooledVm[], taken: ReadonlySet<PooledVm>): PooledVm | null {
  const sinceMs = ({ state }: PooledVm): number => (state.t === "parked" ? state.sinceMs : 0);
  const holding = vms.filter((vm) => vm.state.t === "parked" && vm.room.memoryBytes > 0 && !taken.has(vm));
  return holding.sort((a, b) => sinceMs(a) - sinceMs(b))[0] ?? null;
}

function firstDue(demand: Demand, taken: ReadonlySet<PooledVm>, view: View): PooledVm | null {
  const due = view.vms.filter((vm) => !taken.has(vm) && evictableFromMs(vm, demand, taken, view) <= view.nowMs);
  const order = (a: PooledVm, b: PooledVm): number => idleRank(a) - idleRank(b) || a.placeSinceMs - b.placeSinceMs;
  return due.sort(order)[0] ?? null;
}

function nextDueMs(demand: Demand, taken: ReadonlySet<PooledVm>, view: View): number {
  return Math.min(
    ...view.vms.filter((vm) => !taken.has(vm)).map((vm) => evictableFromMs(vm, demand, taken, view)),
    Number.POSITIVE_INFINITY,
  );
}

/** Spares, then warm ones by the time since when they are idle, then busy ones. */
function idleRank({ key, state }: PooledVm): number {
  if (state.t !== "warm") return Number.MAX_SAFE_INTEGER;
  return key.trust === "clean" ? -1 : state.sinceMs;
}

/** When a VM may be taken from its key for another one; infinity for never. */
function evictableFromMs(vm: PooledVm, wanted: Demand, taken: ReadonlySet<PooledVm>, view: View): number {
  const { state, placeSinceMs, key } = vm;
  const tenureEndMs = placeSinceMs + view.tenureMs;
  switch (state.t) {
    case "warm":
      if (key.trust === "clean") return state.sinceMs;
      return Math.min(state.sinceMs + IDLE_BEFORE_EVICTION_MS, tenureEndMs);
    case "busy": {
      const held = (tenant: string): number =>
        view.vms.filter((other) => other.holdsPlace && !taken.has(other) && other.key.tenant === tenant).length;
      const fair = key.tenant === wanted.tenant || held(key.tenant) > held(wanted.tenant);
      return fair ? tenureEndMs : Number.POSITIVE_INFINITY;
    }
    case "booting":
    case "draining":
    case "scrubbing":
    case "parked":
    case "restoring":
    case "destroying":
      return Number.POSITIVE_INFINITY;
  }
  throw new Error("bug: unknown state of a VM");
}
