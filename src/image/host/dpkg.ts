// What the host's dpkg says: installed packages, their dependencies and their files. UNTRUSTED: nobody else; it is the
// machine's own database, read through its own programs.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { HpccError } from "../../base/errors.ts";
import { runTool } from "../tool-process.ts";
import type { HostPackage, HostPackages, KnownDigest, RunTool } from "./host-packages.ts";

/** Packages that a toolchain's programs never open: tools of maintainer scripts. */
const SKIPPED: ReadonlySet<string> = new Set([
  "adduser",
  "debconf",
  "debianutils",
  "dpkg",
  "init-system-helpers",
  "install-info",
  "perl",
  "perl-base",
  "python3",
  "python3-minimal",
  "sensible-utils",
  "tar",
  "ucf",
]);

const FIELDS =
  "${Package}\\t${Architecture}\\t${db:Status-Abbrev}\\t${Version}\\t${Pre-Depends}, ${Depends}\\t${Provides}\\n";

/** "a (>= 1) | b, c:any" to groups of names. */
export function parseDependencies(text: string): string[][] {
  return text
    .split(",")
    .map((group) =>
      group
        .split("|")
        .map(
          (name) =>
            name
              .replace(/[([<].*$/s, "")
              .trim()
              .split(":", 1)[0]!,
        )
        .filter((name) => name !== ""),
    )
    .filter((group) => group.length > 0);
}

/** Lines of `dpkg-query -W` in our format to the packages that are installed. */
export function parsePackages(text: string): HostPackage[] {
  const packages: HostPackage[] = [];
  for (const line of text.split("\n")) {
    const [name, architecture, status, version, depends, provides] = line.split("\t");
    if (name === undefined || architecture === undefined || status?.[1] !== "i" || version === undefined) continue;
    packages.push({
      name,
      architecture,
      version,
      depends: parseDependencies(depends ?? ""),
      provides: parseDependencies(provides ?? "").flat(),
    });
  }
  return packages;
}

const INFORMATION = "/var/lib/dpkg/info";

export function dpkgPackages(run: RunTool = runTool): HostPackages {
  const ask = (...args: string[]) => run("dpkg-query", args, "dpkg");
  return {
    async installed() {
      const { stdout, exitCode, stderr } = await ask("-W", "-f", FIELDS);
      if (exitCode !== 0) throw new HpccError("tool.missing", `dpkg-query failed: ${stderr}`);
      return parsePackages(stdout.toString("utf8"));
    },
    native: async () => (await run("dpkg", ["--print-architecture"], "dpkg")).stdout.toString("latin1").trim(),
    async files({ name, architecture }) {
      const { stdout, exitCode, stderr } = await ask("-L", `${name}:${architecture}`);
      if (exitCode === 0) return listedPaths(stdout.toString("latin1"));
      // Packages of architecture "all" are known without it on some releases.
      const plain = await ask("-L", name);
      if (plain.exitCode !== 0) throw new HpccError("image.invalid", `dpkg lists no files of ${name}: ${stderr}`);
      return listedPaths(plain.stdout.toString("latin1"));
    },
    digests: packageDigests,
    ownerOf: async (path) => ownerOf((await ask("-S", path)).stdout.toString("utf8"), path),
    base: ["libc6-dev", "libc-bin", "dash"],
    partners: (compiler) => (/^gcc(?=-|$)/.test(compiler) ? [compiler.replace(/^gcc/, "g++")] : []),
    skipped: SKIPPED,
    unlisted: [],
    install: "apt-get install",
  };
}

/** MD5 by path, from the lists that packages came with. */
async function packageDigests(packages: readonly HostPackage[]): Promise<Map<string, KnownDigest>> {
  const digests = new Map<string, KnownDigest>();
  for (const { name, architecture } of packages)
    for (const file of [`${name}:${architecture}.md5sums`, `${name}.md5sums`]) {
      const text = await readFile(join(INFORMATION, file), "latin1").catch(() => "");
      for (const line of text.split("\n")) {
        const [, hex = "", path = ""] = /^([0-9a-f]{32}) {2}(.+)$/.exec(line) ?? [];
        if (path === "") continue;
        digests.set(`/${path}`, { algorithm: "md5", hex });
        // Where /lib is a link to usr/lib, the file stands below /usr.
        digests.set(`/usr/${path}`, { algorithm: "md5", hex });
      }
    }
  return digests;
}

/** The package that `dpkg-query -S` names for a path, without its remarks about diversions. */
export function ownerOf(text: string, path: string): string | null {
  for (const line of text.split("\n")) {
    if (!line.endsWith(`: ${path}`)) continue;
    const name = /^[a-z0-9][a-z0-9+.-]*(?=[:,])/.exec(line)?.[0];
    if (name !== undefined) return name;
  }
  return null;
}

/** Paths of `dpkg-query -L`, without its remarks about diversions. */
export function listedPaths(text: string): string[] {
  return text.split("\n").filter((line) => line.startsWith("/") && line !== "/.");
}
