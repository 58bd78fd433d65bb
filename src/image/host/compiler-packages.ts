// From a compiler's name to the Debian packages that make an image with it.
import { HpccError } from "../../base/errors.ts";
import type { HostPackage } from "./dpkg.ts";

/** Needed by every image though no compiler depends on it: the locale C.UTF-8, and a shell for wrapper scripts such as c99. */
const BASE_PACKAGES = ["libc6-dev", "libc-bin", "dash"];

const NAME = /^[a-z0-9][a-z0-9+.-]+$/;

/**
 * Packages to start from. `gcc` also takes `g++`, `gcc-13` takes `g++-13` when installed; any other name is a package's.
 */
export function compilerPackages(
  installed: readonly HostPackage[],
  compilers: readonly string[],
  extra: readonly string[],
): string[] {
  const names = new Set(installed.map((found) => found.name));
  for (const name of [...compilers, ...extra])
    if (!NAME.test(name)) throw new HpccError("argument.invalid", `${JSON.stringify(name)} is no package name`);
  const roots = [...BASE_PACKAGES.filter((name) => names.has(name)), ...extra];
  for (const compiler of compilers) {
    roots.push(compiler);
    const partner = compiler.replace(/^gcc(?=-|$)/, "g++");
    if (partner !== compiler && names.has(partner)) roots.push(partner);
  }
  return roots;
}
