// Which builds of Firecracker and its jailer are releases. A build for glibc or with debug assertions has empty seccomp filters,
// and nothing that it shows while it runs tells so (`Seccomp: 2` is there all the same): only the bytes do.

export interface Version {
  readonly major: number;
  readonly minor: number;
  readonly patch: number;
  /** What follows the three numbers, like "-dev"; "" for nothing. */
  readonly suffix: string;
}

/** Older ones lose vsock after a restore (1.16.0) or are known to be broken into. */
export const FIRECRACKER_VERSION_MIN: Version = { major: 1, minor: 16, patch: 1, suffix: "" };

/** Host kernels that Firecracker's authors test with. */
export const FIRECRACKER_HOST_KERNELS = ["5.10", "6.1", "6.18"] as const;

/**
 * SHA-256 of the x86-64 programs in the archives of Firecracker's releases, as unrelated public projects that pin them agree on.
 * An operator holds his own against the release's SHA256SUMS, as the guide says.
 */
export const KNOWN_RELEASES: Readonly<
  Record<string, { readonly program: "firecracker" | "jailer"; readonly version: string }>
> = {
  "2fd0171309af7e24cf8dafc8a6f921c1434c49b5f9349bb996b7ed0a4deb8aa7": { program: "firecracker", version: "1.16.1" },
  "1f3a0c1fe86212d0001819bfe0819071c01208b3ccc9398c3b3bc1b84cf21edd": { program: "jailer", version: "1.16.1" },
};

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
