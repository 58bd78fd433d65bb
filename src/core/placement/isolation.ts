// Isolation of a compile, a value with an order (DESIGN.md section 3).

/** Weakest first. */
export const ISOLATIONS = ["namespace", "qemu-tcg", "qemu-kvm", "firecracker"] as const;

export type Isolation = (typeof ISOLATIONS)[number];

/** True when `offered` is at least as strong as `wanted`. */
export function isAtLeast(offered: Isolation, wanted: Isolation): boolean {
  return ISOLATIONS.indexOf(offered) >= ISOLATIONS.indexOf(wanted);
}

/** The number of hpcc.scheduler.v1.Isolation. */
export function isolationNumber(isolation: Isolation): number {
  return ISOLATIONS.indexOf(isolation) + 1;
}

/** Reads such a number; null when it stands for no isolation. UNTRUSTED: peers. */
export function isolationOfNumber(value: number): Isolation | null {
  return ISOLATIONS[value - 1] ?? null;
}
