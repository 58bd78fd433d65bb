// Where hpcc keeps things for a user: runtime, state, images, configuration. Creates nothing. Folders that variables name are used when they
// are the user's own: a `sudo make` with the caller's environment would leave folders in his home that he cannot write to.

import { readFileSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { HpccError } from "../base/errors.ts";
import { withoutTrailingSlashes } from "../base/trailing-slashes.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Directories {
  /** Sockets and locks; 0700, its owner is checked by who makes it. */
  readonly runtime: string;
  /** Plans, records, caches. */
  readonly state: string;
  /** The local store. */
  readonly cache: string;
  /** Images: `oci/`, `rootfs/<hex>`, `squashfs/<hex>.sqfs`. */
  readonly images: string;
  /** The user's configuration file, which need not exist. */
  readonly userConfig: string;
  /** The machine's configuration file, which need not exist. */
  readonly systemConfig: string;
}

export const SYSTEM_CONFIG = "/etc/hpcc/config.toml";

/** Records from which launchers answer calls alone, and the log of what they so answered. */
export function replayFolder(state: string): string {
  return `${state}/replay`;
}

/** Where launchers and commands reach the daemon. */
export function daemonSocket({ runtime }: Pick<Directories, "runtime">): string {
  return `${runtime}/daemon.sock`;
}

/** Locked by whoever starts a daemon, and by the daemon until it has ended; its time says when the one or the other began. */
export function daemonLock({ runtime }: Pick<Directories, "runtime">): string {
  return `${runtime}/daemon.lock`;
}

/** What the machine knows of folders and users. */
export interface Owners {
  /** Null where there is no folder. */
  folderOwner(path: string): number | null;
  /** Null for a user who is not listed. */
  listedHome(uid: number): string | null;
}

/** The directories of a user; the launcher resolves the first two the same way. */
export function resolveDirectories(env: Environment, uid: number, owners: Owners = OWNERS): Directories {
  const own = (variable: string) => {
    const path = absolute(env, variable);
    return path !== null && isOwnPlace(path, uid, owners) ? path : null;
  };
  const named = absolute(env, "HOME");
  const home = [named, owners.listedHome(uid)].find((path) => path !== null && owners.folderOwner(path) === uid);
  const xdgRuntime = own("XDG_RUNTIME_DIR");
  const runtime =
    absolute(env, "HPCC_RUNTIME_DIR") ?? (xdgRuntime === null ? `/tmp/hpcc-${uid}` : `${xdgRuntime}/hpcc`);
  const under = (variable: string, folder: string, leaf: string) => {
    const above = own(variable) ?? (home === undefined ? null : `${home}/${folder}`);
    return above === null ? null : `${above}/${leaf}`;
  };
  const state =
    absolute(env, "HPCC_STATE_DIR") ?? under("XDG_STATE_HOME", ".local/state", "hpcc") ?? `${runtime}/state`;
  const stateIsNamed = absolute(env, "HPCC_STATE_DIR") !== null && named === null;
  const cache = stateIsNamed && own("XDG_CACHE_HOME") === null ? null : under("XDG_CACHE_HOME", ".cache", "hpcc");
  // Read, never written: whoever acts with another user's settings means them.
  const configHome = absolute(env, "XDG_CONFIG_HOME") ?? `${named ?? home ?? state}/.config`;
  return {
    runtime,
    state,
    // Nobody has to name it who has named the state folder.
    cache: absolute(env, "HPCC_CACHE_DIR") ?? cache ?? `${state}/cache`,
    images:
      absolute(env, "HPCC_IMAGE_DIR") ?? under("XDG_DATA_HOME", ".local/share", "hpcc/images") ?? `${state}/images`,
    userConfig: absolute(env, "HPCC_CONFIG") ?? `${configHome}/hpcc/config.toml`,
    systemConfig: SYSTEM_CONFIG,
  };
}

/** Whether a folder is the user's own, or the nearest one above it that is there is. */
function isOwnPlace(path: string, uid: number, owners: Owners): boolean {
  let at = path;
  while (owners.folderOwner(at) === null && at !== "/") at = dirname(at);
  return owners.folderOwner(at) === uid;
}

const OWNERS: Owners = {
  folderOwner(path) {
    try {
      const stat = statSync(path);
      return stat.isDirectory() ? stat.uid : null;
    } catch {
      return null;
    }
  },
  listedHome(uid) {
    try {
      return homeIn(readFileSync("/etc/passwd", "utf8"), uid);
    } catch {
      return null;
    }
  },
};

function homeIn(list: string, uid: number): string | null {
  const entries = list.split("\n").map((line) => line.split(":"));
  return entries.find(([, , user, , , home]) => user === String(uid) && home?.startsWith("/"))?.[5] ?? null;
}

/** An empty variable counts as unset; a relative path, which would depend on the cwd, is an error. */
function absolute(env: Environment, variable: string): string | null {
  const value = env[variable];
  if (value === undefined || value === "") return null;
  if (!value.startsWith("/")) throw new HpccError("config.invalid", `${variable} must be an absolute path`);
  // Node tries for ever there.
  if (variable.endsWith("_DIR") && /^\/+proc(?:\/|$)/.test(value))
    throw new HpccError("config.invalid", `${variable} is ${value}: no folders can be made below /proc`);
  return withoutTrailingSlashes(value) || "/";
}
