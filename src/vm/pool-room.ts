// What VMs take of a worker, and whether more of it is left. Pure.
import type { VmPoolLimits } from "./pool.ts";
import type { BootSpec, Parking } from "./runtime.ts";

/** A quantity of what is limited. */
export interface Room {
  /** VMs that may run. */
  readonly vms: number;
  readonly memoryBytes: number;
  readonly vcpus: number;
}

/** What a VM holds: all that it needs to run, its memory alone, or no room but on disk. */
export type Holding = "all" | "memory" | "nothing";

const NO_ROOM: Room = { vms: 0, memoryBytes: 0, vcpus: 0 };

export function roomOfLimits({ vmsMax, memoryBytesMax, vcpusMax }: VmPoolLimits): Room {
  return { vms: vmsMax, memoryBytes: memoryBytesMax, vcpus: vcpusMax };
}

/** What a VM of this making takes while it holds so much. */
export function roomHeld(holding: Holding, { memoryBytes, vcpus }: BootSpec): Room {
  switch (holding) {
    case "all":
      return { vms: 1, memoryBytes, vcpus };
    case "memory":
      return { ...NO_ROOM, memoryBytes };
    case "nothing":
      return NO_ROOM;
  }
  throw new Error("bug: unknown holding of a VM");
}

/** What a VM holds while it is parked. */
export function holdingParked(parking: Parking): Holding {
  return parking === "snapshot" ? "nothing" : "memory";
}

export function plus(a: Room, b: Room): Room {
  return { vms: a.vms + b.vms, memoryBytes: a.memoryBytes + b.memoryBytes, vcpus: a.vcpus + b.vcpus };
}

export function minus(a: Room, b: Room): Room {
  return { vms: a.vms - b.vms, memoryBytes: a.memoryBytes - b.memoryBytes, vcpus: a.vcpus - b.vcpus };
}

export function sumOf(rooms: Iterable<Room>): Room {
  let sum = NO_ROOM;
  for (const room of rooms) sum = plus(sum, room);
  return sum;
}

export function fits(needed: Room, free: Room): boolean {
  return runs(needed, free) && needed.memoryBytes <= free.memoryBytes;
}

/** Whether it would run if only it had memory. */
export function lacksMemoryAlone(needed: Room, free: Room): boolean {
  return runs(needed, free) && needed.memoryBytes > free.memoryBytes;
}

function runs(needed: Room, free: Room): boolean {
  return needed.vms <= free.vms && needed.vcpus <= free.vcpus;
}
