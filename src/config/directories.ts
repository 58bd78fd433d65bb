// Where hpcc keeps things for a user: runtime, state, images, configuration. Pure over the environment; creates nothing.

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

/** The directories of a user; the launcher resolves the first two the same way. */
export function resolveDirectories(env: Environment, uid: number): Directories {
  const home = () => {
    const path = absolute(env, "HOME");
    if (path === null)
      throw new HpccError("config.invalid", "HOME is not set; set HPCC_STATE_DIR, HPCC_IMAGE_DIR, HPCC_CONFIG");
    return path;
  };
  const under = (variable: string, folder: string, leaf: string) =>
    `${absolute(env, variable) ?? `${home()}/${folder}`}/${leaf}`;
  const state = absolute(env, "HPCC_STATE_DIR") ?? under("XDG_STATE_HOME", ".local/state", "hpcc");
  const xdgRuntime = absolute(env, "XDG_RUNTIME_DIR");
  return {
    runtime: absolute(env, "HPCC_RUNTIME_DIR") ?? (xdgRuntime === null ? `/tmp/hpcc-${uid}` : `${xdgRuntime}/hpcc`),
    state,
    // Nobody has to name it who has named the others.
    cache:
      absolute(env, "HPCC_CACHE_DIR") ??
      (absolute(env, "XDG_CACHE_HOME") === null && absolute(env, "HOME") === null
        ? `${state}/cache`
        : under("XDG_CACHE_HOME", ".cache", "hpcc")),
    images: absolute(env, "HPCC_IMAGE_DIR") ?? under("XDG_DATA_HOME", ".local/share", "hpcc/images"),
    userConfig: absolute(env, "HPCC_CONFIG") ?? under("XDG_CONFIG_HOME", ".config", "hpcc/config.toml"),
    systemConfig: SYSTEM_CONFIG,
  };
}

/** An empty variable counts as unset; a relative path, which would depend on the cwd, is an error. */
function absolute(env: Environment, variable: string): string | null {
  const value = env[variable];
  if (value === undefined || value === "") return null;
  if (!value.startsWith("/")) throw new HpccError("config.invalid", `${variable} must be an absolute path`);
  return withoutTrailingSlashes(value) || "/";
}
