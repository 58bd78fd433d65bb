// What the host's dpkg says: installed packages, their dependencies and their files. UNTRUSTED: nobody else; it is the
// machine's own database, read through its own programs.
import { execFile } from "node:child_process";
import { HpccError } from "../../base/errors.ts";
import { runTool } from "../tool-process.ts";

export interface HostPackage {
  readonly name: string;
  readonly architecture: string;
  readonly version: string;
  /** Groups of alternatives: one name of each group has to be there. */
  readonly depends: readonly (readonly string[])[];
  readonly provides: readonly string[];
}

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

/** The installed packages of this machine. */
export async function installedPackages(): Promise<HostPackage[]> {
  const { stdout, exitCode, stderr } = await runTool("dpkg-query", ["-W", "-f", FIELDS], "dpkg");
  if (exitCode !== 0) throw new HpccError("tool.missing", `dpkg-query failed: ${stderr}`);
  return parsePackages(stdout.toString("utf8"));
}

/** The packages named and all that they depend on, sorted by name; `native` is this machine's architecture. */
export function dependencyClosure(
  installed: readonly HostPackage[],
  roots: readonly string[],
  native: string,
): HostPackage[] {
  const byName = new Map<string, HostPackage>();
  const byProvided = new Map<string, HostPackage>();
  // Of a package installed for several architectures, this machine's own.
  const ranked = [...installed].sort((a, b) => Number(b.architecture === native) - Number(a.architecture === native));
  for (const found of ranked) {
    if (!byName.has(found.name)) byName.set(found.name, found);
    for (const name of found.provides) if (!byProvided.has(name)) byProvided.set(name, found);
  }
  const find = (name: string) => byName.get(name) ?? byProvided.get(name);
  const taken = new Map<string, HostPackage>();
  const waiting = roots.map((name) => {
    const found = find(name);
    if (found === undefined)
      throw new HpccError("argument.invalid", `package ${name} is not installed here (apt-get install ${name})`);
    return found;
  });
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    if (taken.has(next.name)) continue;
    taken.set(next.name, next);
    for (const group of next.depends) {
      if (group.some((name) => SKIPPED.has(name))) continue;
      const found = group.map(find).find((candidate) => candidate !== undefined);
      if (found !== undefined) waiting.push(found);
    }
  }
  return [...taken.values()].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

/** The files that a package's list names, as bytes in latin1. */
export async function packageFiles(found: HostPackage): Promise<string[]> {
  const { stdout, exitCode, stderr } = await runTool(
    "dpkg-query",
    ["-L", `${found.name}:${found.architecture}`],
    "dpkg",
  );
  if (exitCode === 0) return listedPaths(stdout.toString("latin1"));
  // Packages of architecture "all" are known without it on some releases.
  const plain = await runTool("dpkg-query", ["-L", found.name], "dpkg");
  if (plain.exitCode !== 0) throw new HpccError("image.invalid", `dpkg lists no files of ${found.name}: ${stderr}`);
  return listedPaths(plain.stdout.toString("latin1"));
}

/** How long dpkg may take to name a file's package. */
const QUESTION_MS_MAX = 5_000;

/** The package that a file of this machine belongs to; null when dpkg knows none or is not there. The path is no pattern. */
export async function packageOfFile(path: string): Promise<string | null> {
  const options = { timeout: QUESTION_MS_MAX, env: { ...process.env, LC_ALL: "C" } };
  const text = await new Promise<string>((resolve) => {
    execFile("dpkg-query", ["-S", path], options, (_error, stdout) => resolve(stdout));
  });
  return ownerOf(text, path);
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
