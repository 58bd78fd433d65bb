// Which package manager a machine has: by what its os-release says that it is or is like, else by whose database is there.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { HpccError } from "../../base/errors.ts";
import { readOsRelease } from "../os-release.ts";
import { apkPackages } from "./apk.ts";
import { dpkgPackages } from "./dpkg.ts";
import type { HostPackages } from "./host-packages.ts";
import { pacmanPackages } from "./pacman.ts";
import { rpmPackages } from "./rpm.ts";

interface Manager {
  /** Names in ID and ID_LIKE. */
  readonly systems: RegExp;
  /** Where its database is. */
  readonly databases: readonly string[];
  readonly make: () => HostPackages;
}

const MANAGERS: Readonly<Record<"dpkg" | "rpm" | "apk" | "pacman", Manager>> = {
  dpkg: { systems: /^(?:debian|ubuntu)$/, databases: ["/var/lib/dpkg/status"], make: dpkgPackages },
  rpm: {
    systems: /^(?:fedora|rhel|centos|suse|opensuse.*|mageia)$/,
    databases: ["/usr/lib/sysimage/rpm", "/var/lib/rpm"],
    make: rpmPackages,
  },
  apk: { systems: /^alpine$/, databases: ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"], make: apkPackages },
  pacman: { systems: /^arch$/, databases: ["/var/lib/pacman/local"], make: pacmanPackages },
};

export function packageManagerOf(root: string): keyof typeof MANAGERS | null {
  const names = Object.keys(MANAGERS) as (keyof typeof MANAGERS)[];
  const system = readOsRelease(root);
  const systems = [system.get("ID") ?? "", ...(system.get("ID_LIKE") ?? "").split(" ")];
  const here = names.filter((name) => MANAGERS[name].databases.some((path) => existsSync(join(root, path))));
  const fitting = here.find((name) => systems.some((system) => MANAGERS[name].systems.test(system)));
  return fitting ?? here[0] ?? null;
}

/** That of this machine. */
export function findHostPackages(): HostPackages {
  const name = packageManagerOf("");
  if (name !== null) return MANAGERS[name].make();
  throw new HpccError("tool.missing", "this machine has no package database of dpkg, rpm, apk or pacman", {
    hint: "Take an image from a registry (hpcc image pull) or an archive (hpcc image import).",
  });
}

/** How long a package manager may take to name a file's package. */
const QUESTION_MS_MAX = 5_000;

/** The package of this machine that a file belongs to; null when none is known or nobody answers. */
export async function packageOfFile(path: string): Promise<string | null> {
  const name = packageManagerOf("");
  if (name === null) return null;
  const late = new Promise<null>((resolve) => setTimeout(resolve, QUESTION_MS_MAX, null).unref());
  return Promise.race([MANAGERS[name].make().ownerOf(path), late]).catch(() => null);
}
