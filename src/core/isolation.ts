// Isolation of a compile as an ordered value.
import { NumberTable } from "../base/number-table.ts";

export type Isolation = "namespace" | "qemu-tcg" | "qemu-kvm" | "firecracker" | "hyperv";

/** Their numbers wherever an isolation is stored, signed or sent. A number never changes and is never used again. */
export const ISOLATION_NUMBERS = new NumberTable<Isolation>({
  namespace: 1,
  "qemu-tcg": 2,
  "qemu-kvm": 3,
  firecracker: 4,
  hyperv: 5,
});

/** How strong each is. Firecracker and Hyper-V are each the strongest of their system, and stand side by side. */
const RANKS: Readonly<Record<Isolation, number>> = {
  namespace: 1,
  "qemu-tcg": 2,
  "qemu-kvm": 3,
  firecracker: 4,
  hyperv: 4,
};

/** None is weaker than the one before it. */
export const ISOLATIONS: readonly Isolation[] = ISOLATION_NUMBERS.names.toSorted((a, b) => RANKS[a] - RANKS[b]);

/** True when `actual` is at least as strong as `wanted`. */
export function isolationAtLeast(actual: Isolation, wanted: Isolation): boolean {
  return RANKS[actual] >= RANKS[wanted];
}

/** The one of two floors that asks for more. */
export function strongerIsolation(a: Isolation, b: Isolation): Isolation {
  return isolationAtLeast(a, b) ? a : b;
}
