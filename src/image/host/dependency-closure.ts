// The packages that an image is made of: those asked for, and what they depend on. Pure.
import { HpccError } from "../../base/errors.ts";
import { BUILD_TOOLS } from "./build-tools.ts";
import type { HostPackage, HostPackages } from "./host-packages.ts";

const NAME = /^[A-Za-z0-9][A-Za-z0-9+._-]*$/;

export interface RootRequest {
  readonly compilers: readonly string[];
  readonly packages: readonly string[];
  readonly buildTools?: boolean;
}

/** Packages to start from: `gcc` also takes the C++ compiler of its version, where that is installed; any other name is a package's. */
export function rootPackages(
  installed: readonly HostPackage[],
  { compilers, packages, buildTools = false }: RootRequest,
  { base, partners }: Pick<HostPackages, "base" | "partners">,
): string[] {
  const names = new Set(installed.map((found) => found.name));
  for (const name of [...compilers, ...packages])
    if (!NAME.test(name)) throw new HpccError("argument.invalid", `${JSON.stringify(name)} is no package name`);
  const further = (candidates: readonly string[]) => candidates.filter((name) => names.has(name));
  return [
    ...further(base),
    ...packages,
    ...(buildTools ? further(BUILD_TOOLS) : []),
    ...compilers.flatMap((compiler) => [compiler, ...further(partners(compiler))]),
  ];
}

export interface ClosureOptions {
  /** This machine's architecture. */
  readonly native: string;
  readonly skipped: ReadonlySet<string>;
  /** The command that installs a package. */
  readonly install: string;
}

/** The packages named and all that they depend on, sorted by name. */
export function dependencyClosure(
  installed: readonly HostPackage[],
  roots: readonly string[],
  { native, skipped, install }: ClosureOptions,
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
      throw new HpccError("argument.invalid", `package ${name} is not installed here (${install} ${name})`);
    return found;
  });
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    if (taken.has(next.name)) continue;
    taken.set(next.name, next);
    for (const group of next.depends) {
      if (group.some((name) => skipped.has(name))) continue;
      const found = group.map(find).find((candidate) => candidate !== undefined && !skipped.has(candidate.name));
      if (found !== undefined) waiting.push(found);
    }
  }
  return [...taken.values()].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}
