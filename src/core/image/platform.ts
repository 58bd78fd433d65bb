// This machine in the words of OCI.

export function ociArchitecture(): string {
  const names: Record<string, string> = { x64: "amd64", ia32: "386", arm64: "arm64", ppc64: "ppc64le" };
  return names[process.arch] ?? process.arch;
}

/** "linux/amd64" */
export function ociPlatform(): string {
  return `linux/${ociArchitecture()}`;
}
