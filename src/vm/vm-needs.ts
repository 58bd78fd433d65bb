// How many more VMs those who wait need. Pure: it looks at lines and VMs.
//
// A key of the `session` life needs VMs for its share of the places and no more than wait; of the `clean` life each job needs its
// own. Who has none at all needs one even while no place is free, so that the next one is his.
import { assert } from "../base/errors.ts";
import type { PoolKey } from "./pool-key.ts";
import type { PooledVm } from "./pooled-vm.ts";

export interface VmNeed {
  readonly key: PoolKey;
  readonly rootfs: string;
  /** How many, above zero; who starts one takes it off. */
  count: number;
  /** Whether the key has VMs already. */
  readonly grows: boolean;
}

interface Line {
  readonly key: PoolKey;
  readonly rootfs: string;
  readonly length: number;
}

export interface Sharing {
  readonly executionsPerVmMax: number;
  /** Executions of a key in VMs now. */
  readonly running: (key: PoolKey) => number;
  /** Places that a key may have. */
  readonly share: (key: PoolKey) => number;
  /** Whether a key may have further VMs. */
  readonly mayGrow: (key: PoolKey) => boolean;
}

export function vmNeeds(lines: readonly Line[], vms: readonly PooledVm[], sharing: Sharing): VmNeed[] {
  const sessions = lines.filter(({ key }) => key.trust === "session");
  const clean = Map.groupBy(
    lines.filter(({ key }) => key.trust === "clean"),
    ({ key }) => key.spareText,
  );
  const all = sessions.map((line) => sessionNeed(line, vms, sharing));
  for (const group of clean.values()) all.push(...cleanNeeds(group, vms, sharing));
  return all.filter(({ count }) => count > 0);
}

function sessionNeed({ key, rootfs, length }: Line, vms: readonly PooledVm[], sharing: Sharing): VmNeed {
  const own = vms.filter((vm) => vm.servesKey(key));
  // What is being parked is restored when it is: nobody boots beside it for its work.
  const present = own.filter((vm) => (vm.leaving ? vm.state.t === "scrubbing" : vm.state.t !== "parked"));
  const inLeaving = own.reduce((sum, vm) => sum + (vm.leaving ? vm.executions : 0), 0);
  const wanted = Math.min(sharing.share(key), sharing.running(key) + length) - inLeaving;
  const target = Math.max(1, Math.ceil(wanted / sharing.executionsPerVmMax));
  const grows = present.length > 0;
  const count = grows && !sharing.mayGrow(key) ? 0 : Math.max(0, target - present.length);
  return { key, rootfs, count, grows };
}

/** Those of one tenant and image: whoever's VM it was to be, any of them may get it. */
function cleanNeeds(group: readonly Line[], vms: readonly PooledVm[], sharing: Sharing): VmNeed[] {
  const [first] = group;
  assert(first !== undefined, "a group of lines is empty");
  const coming = vms.filter((vm) => vm.servesKey(first.key) && (vm.state.t === "booting" || vm.state.t === "warm"));
  let ready = coming.length;
  const wanted = group.map((line) =>
    Math.min(line.length, Math.max(0, sharing.share(line.key) - sharing.running(line.key))),
  );
  if (!wanted.some((count) => count > 0)) wanted[0] = 1;
  return group.map(({ key, rootfs }, index) => {
    const served = Math.min(ready, wanted[index]!);
    ready -= served;
    return { key, rootfs, count: wanted[index]! - served, grows: false };
  });
}
