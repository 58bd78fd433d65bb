// How many VMs may be parked, and what their states may take on disk: the one that was parked first goes first. Pure.
import type { VmPoolLimits } from "./pool.ts";
import type { PooledVm } from "./pooled-vm.ts";
import type { Parking } from "./runtime.ts";

type ParkedLimits = Pick<VmPoolLimits, "parkedMax" | "parkedDiskBytesMax" | "vmMemoryBytes">;

interface Kept {
  readonly vm: PooledVm;
  readonly sinceMs: number;
  readonly diskBytes: number;
}

/** Whether a VM may be parked while `scrubbing` others are on their way, if need be in the place of all that are parked. */
export function mayPark(scrubbing: number, parking: Parking, limits: ParkedLimits): boolean {
  const coming = scrubbing + 1;
  return coming <= limits.parkedMax && coming * expectedDiskBytes(parking, limits) <= limits.parkedDiskBytesMax;
}

/**
 * The parked ones that must go, so that those who are left and `coming` more are within the limits. A state that is being
 * written counts with all of its VM's memory.
 */
export function overQuota(vms: Iterable<PooledVm>, coming: number, parking: Parking, limits: ParkedLimits): PooledVm[] {
  const kept = parkedOnes(vms);
  let count = kept.length + coming;
  let diskBytes = coming * expectedDiskBytes(parking, limits);
  for (const one of kept) diskBytes += one.diskBytes;
  const over: PooledVm[] = [];
  for (const one of kept) {
    if (count <= limits.parkedMax && diskBytes <= limits.parkedDiskBytesMax) break;
    over.push(one.vm);
    count -= 1;
    diskBytes -= one.diskBytes;
  }
  return over;
}

/** Parked VMs, the one parked first before the others. */
function parkedOnes(vms: Iterable<PooledVm>): Kept[] {
  const kept: Kept[] = [];
  for (const vm of vms)
    if (vm.state.t === "parked") kept.push({ vm, sinceMs: vm.state.sinceMs, diskBytes: vm.state.diskBytes });
  return kept.sort((a, b) => a.sinceMs - b.sinceMs);
}

function expectedDiskBytes(parking: Parking, { vmMemoryBytes }: ParkedLimits): number {
  return parking === "snapshot" ? vmMemoryBytes : 0;
}
