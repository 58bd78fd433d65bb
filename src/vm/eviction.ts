// Who leaves when somebody waits and nothing is free. Pure: it looks at VMs and says who.
//
// A VM that stands still and holds memory goes first. Then clean ones that wait for a job, then warm ones, the one idle longest
// before the others. When none is idle, the busy one that has had its place longest, beyond its tenure, takes no more work and
// leaves, unless its tenant will have no more places than who waits, all that is decided counted.
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

/** What has been decided so far. */
interface Decided {
  readonly victims: Set<PooledVm>;
  /** Places that each tenant will have when who leaves is gone and who was granted room has it. */
  readonly places: Map<string, number>;
}

/** Who must leave for these demands, first come first served, beyond what leaves already. */
export function chooseVictims(demands: readonly Demand[], free: Room, view: View): Eviction {
  const victims = new Set<PooledVm>();
  const decided: Decided = { victims, places: new Map() };
  for (const vm of view.vms) if (vm.holdsPlace && !isLeaving(vm)) addPlaces(decided, vm.key.tenant, 1);
  let coming = plus(free, sumOf(view.vms.map(roomComing)));
  for (const demand of demands) {
    while (!fits(demand.room, coming)) {
      const standing = lacksMemoryAlone(demand.room, coming) ? longestParked(view.vms, victims) : null;
      const victim = standing ?? firstDue(demand, decided, view);
      if (victim === null) return { victims: [...victims], nextMs: nextDueMs(demand, decided, view) };
      victims.add(victim);
      if (victim.holdsPlace) addPlaces(decided, victim.key.tenant, -1);
      coming = plus(coming, victim.room);
    }
    coming = minus(coming, demand.room);
    addPlaces(decided, demand.tenant, 1);
  }
  return { victims: [...victims], nextMs: Number.POSITIVE_INFINITY };
}

function addPlaces({ places }: Decided, tenant: string, count: number): void {
  places.set(tenant, (places.get(tenant) ?? 0) + count);
}

/** Whether it gives its place back by itself. */
function isLeaving({ state: { t } }: PooledVm): boolean {
  return t === "destroying" || t === "draining" || t === "scrubbing";
}

/** What a VM is about to give back. */
function roomComing(vm: PooledVm): Room {
  if (!isLeaving(vm)) return sumOf([]);
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
function evictableFromMs(vm: PooledVm, wanted: Demand, { places }: Decided, view: View): number {
  const { state, placeSinceMs, key } = vm;
  const tenureEndMs = placeSinceMs + view.tenureMs;
  switch (state.t) {
    case "warm":
      if (key.trust === "clean") return state.sinceMs;
      return Math.min(state.sinceMs + IDLE_BEFORE_EVICTION_MS, tenureEndMs);
    case "busy": {
      const placesOf = (tenant: string): number => places.get(tenant) ?? 0;
      const fair = key.tenant === wanted.tenant || placesOf(key.tenant) > placesOf(wanted.tenant);
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
