// Which builds of Firecracker and its jailer are releases. A build for glibc or with debug assertions has empty seccomp filters,
// and nothing that it shows while it runs tells so (`Seccomp: 2` is there all the same): only the bytes do. The table is the
// keeper's own; digests in it are those that unrelated public projects which pin these programs agree on.
import table from "../../../native/crates/keeper/firecracker-releases.json" with { type: "json" };

export interface Version {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
  /** What follows the three numbers, like "-dev"; "" for nothing. */
  readonly suffix: string;
}

/** Older ones lose vsock after a restore (1.16.0) or are known to be broken into. */
export const FIRECRACKER_VERSION_MIN: Version = { ...table.version_min, suffix: "" };

/** Host kernels that Firecracker's authors test with. */
export const FIRECRACKER_HOST_KERNELS = ["5.10", "6.1", "6.18"] as const;

/** Whether a SHA-256, 64 hex digits, is that of a published program of this name, for x86-64. */
export function isKnownRelease(program: "firecracker" | "jailer", sha256: string | null): boolean {
  return table.releases.some((release) => release.program === program && release.sha256 === sha256);
}

/** The version in what `firecracker --version` or `jailer --version` prints; null when there is none. */
export function parseProgramVersion(output: string): Version | null {
  const match = /^(?:Firecracker|Jailer) v(\d{1,5})\.(\d{1,5})\.(\d{1,5})([-+.\w]{0,64})$/im.exec(output);
  if (match === null) return null;
  const [, major, minor, patch, suffix = ""] = match;
  return { major: Number(major), minor: Number(minor), patch: Number(patch), suffix };
}

export function formatVersion({ major, minor, patch, suffix }: Version): string {
  return `${major}.${minor}.${patch}${suffix}`;
}

/** Whether a version is that one or later; one with a suffix comes before the release of its number. */
export function versionAtLeast(version: Version, min: Version): boolean {
  for (const part of ["major", "minor", "patch"] as const)
    if (version[part] !== min[part]) return version[part] > min[part];
  return version.suffix === "" || version.suffix === min.suffix;
}
