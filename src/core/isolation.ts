// Isolation of a compile as an ordered value. `hyperv` will stand beside `firecracker`.

/** From the weakest to the strongest. */
export const ISOLATIONS = ["namespace", "qemu-tcg", "qemu-kvm", "firecracker"] as const;

export type Isolation = (typeof ISOLATIONS)[number];

/** True when `actual` is at least as strong as `wanted`. */
export function isolationAtLeast(actual: Isolation, wanted: Isolation): boolean {
  return ISOLATIONS.indexOf(actual) >= ISOLATIONS.indexOf(wanted);
}
