// What rpm says, on hosts of dnf, yum and zypper. UNTRUSTED: nobody else; it is the machine's own database, read through its own program.
import { HpccError } from "../../base/errors.ts";
import { runTool } from "../tool-process.ts";
import type { HostPackage, HostPackages, KnownDigest, RunTool } from "./host-packages.ts";

const PACKAGE = "rpm";
/** Capabilities and names of files end in "|", which none holds. */
const FIELDS = "%{NAME}\\t%{ARCH}\\t%{EPOCHNUM}:%{VERSION}-%{RELEASE}\\t[%{REQUIRENAME}|]\\t[%{PROVIDENAME}|]\\n";
const FILES = "[%{FILEDIGESTS}\\t%{FILENAMES}\\n]";
const SHA256_HEX = /^[0-9a-f]{64}$/;

/** Lines of `rpm -qa` in our format. Conditions such as "(a if b)" and what concerns rpm itself are no packages. */
export function parseRpmPackages(text: string): HostPackage[] {
  const packages: HostPackage[] = [];
  for (const line of text.split("\n")) {
    const [name, architecture, version, requires, provides] = line.split("\t");
    // Keys that packages are signed with stand among them.
    if (name === undefined || version === undefined || name === "" || name === "gpg-pubkey") continue;
    const capabilities = (field = "") => field.split("|").filter((word) => word !== "" && word !== "(none)");
    packages.push({
      name,
      architecture: architecture ?? "",
      version: version.replace(/^0:/, ""),
      depends: [...new Set(capabilities(requires))].filter((word) => !/^\(|^rpmlib\(/.test(word)).map((word) => [word]),
      provides: capabilities(provides),
    });
  }
  return packages;
}

/** Lines of a package's files: digest, path. A folder, a link, and what the package only owns have no digest. */
export function parseRpmFiles(text: string): { readonly path: string; readonly digest: KnownDigest | null }[] {
  return text.split("\n").flatMap((line) => {
    const at = line.indexOf("\t");
    const path = line.slice(at + 1);
    if (at === -1 || !path.startsWith("/")) return [];
    const hex = line.slice(0, at);
    return [{ path, digest: SHA256_HEX.test(hex) ? ({ algorithm: "sha256", hex } as const) : null }];
  });
}

export function rpmPackages(run: RunTool = runTool): HostPackages {
  const ask = async (...args: string[]): Promise<string> => {
    const { stdout, exitCode, stderr } = await run("rpm", args, PACKAGE);
    if (exitCode !== 0) throw new HpccError("tool.missing", `rpm failed: ${stderr}`);
    return stdout.toString("latin1");
  };
  const list = async ({ name, architecture }: HostPackage) =>
    parseRpmFiles(await ask("-q", "--qf", FILES, `${name}.${architecture}`));
  return {
    installed: async () => parseRpmPackages(await ask("-qa", "--qf", FIELDS)),
    native: async () => (await ask("--eval", "%{_arch}")).trim(),
    files: async (found) => (await list(found)).map(({ path }) => path),
    async digests(packages) {
      const known = new Map<string, KnownDigest>();
      for (const found of packages)
        for (const { path, digest } of await list(found)) if (digest !== null) known.set(path, digest);
      return known;
    },
    async ownerOf(path) {
      const { stdout, exitCode } = await run("rpm", ["-qf", "--qf", "%{NAME}\\n", "--", path], PACKAGE);
      return exitCode === 0 ? (stdout.toString("latin1").split("\n")[0] ?? null) : null;
    },
    base: ["glibc-devel", "glibc-common", "glibc-minimal-langpack", "bash"],
    // "gcc", "gcc14" of SUSE's, "gcc-toolset-14-gcc" of Red Hat's.
    partners: (compiler) => (/(?:^|-)gcc[0-9]*$/.test(compiler) ? [`${compiler}-c++`] : []),
    skipped: new Set(["rpm", "info", "systemd", "python3", "python3-libs", "perl-interpreter", "ca-certificates"]),
    unlisted: [],
    install: "dnf install",
  };
}
