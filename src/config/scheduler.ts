// A scheduler's configuration.
import { HpccError } from "../base/errors.ts";
import type { HostPort } from "../core/identity/host-port.ts";
import { ADDRESS, type IdentityFiles, identityFiles } from "./client.ts";
import type { Environment } from "./directories.ts";
import { type Loaded, loadConfig } from "./load.ts";
import { integer, oneOf, optional, PATH } from "./value.ts";

export interface SchedulerConfig {
  readonly listen: HostPort;
  readonly identity: IdentityFiles;
  readonly heartbeatIntervalMs: number;
  readonly expiryMs: number;
  readonly workersMax: number;
  readonly watchersMax: number;
  readonly watchersPerUserMax: number;
  readonly logLevel: "debug" | "info" | "warn" | "error";
}

/** Port of a scheduler when none is named. */
const DEFAULT_LISTEN: HostPort = { host: "127.0.0.1", port: 9440 };

export const SCHEDULER_SCHEMA = {
  listen: { kind: ADDRESS, fallback: DEFAULT_LISTEN, variable: "HPCC_SCHEDULER_LISTEN" },
  "identity.certificate": { kind: optional(PATH), fallback: null, variable: "HPCC_SCHEDULER_CERTIFICATE" },
  "identity.key": { kind: optional(PATH), fallback: null, variable: "HPCC_SCHEDULER_KEY" },
  "identity.ca": { kind: optional(PATH), fallback: null, variable: "HPCC_SCHEDULER_CA" },
  "heartbeat.interval_ms": { kind: integer(100, 60_000), fallback: 2_000 },
  "heartbeat.expiry_ms": { kind: integer(300, 600_000), fallback: 7_000 },
  "limits.workers_max": { kind: integer(1, 100_000), fallback: 20_000 },
  "limits.watchers_max": { kind: integer(1, 1_000_000), fallback: 100_000 },
  "limits.watchers_per_user_max": { kind: integer(1, 10_000), fallback: 64 },
  log_level: { kind: oneOf(["debug", "info", "warn", "error"]), fallback: "info", variable: "HPCC_LOG_LEVEL" },
} as const;

export interface LoadedSchedulerConfig {
  readonly config: SchedulerConfig;
  readonly loaded: Loaded<typeof SCHEDULER_SCHEMA>;
}

/** Reads a scheduler's configuration; `file` is the one named by `--config`. */
export function loadSchedulerConfig(
  env: Environment,
  file: string,
  flags: Readonly<Record<string, string>> = {},
): LoadedSchedulerConfig {
  const loaded = loadConfig(SCHEDULER_SCHEMA, { flags, env, files: [{ source: "user", path: file, required: true }] });
  const { values } = loaded;
  const identity = identityFiles(values["identity.certificate"], values["identity.key"], values["identity.ca"]);
  if (identity === null)
    throw new HpccError("config.invalid", `${file}: [identity] certificate, key and ca are required`);
  if (values["heartbeat.expiry_ms"] < 2 * values["heartbeat.interval_ms"])
    throw new HpccError("config.invalid", `${file}: heartbeat.expiry_ms must be at least twice heartbeat.interval_ms`);
  const config = {
    listen: values.listen,
    identity,
    heartbeatIntervalMs: values["heartbeat.interval_ms"],
    expiryMs: values["heartbeat.expiry_ms"],
    workersMax: values["limits.workers_max"],
    watchersMax: values["limits.watchers_max"],
    watchersPerUserMax: values["limits.watchers_per_user_max"],
    logLevel: values.log_level,
  };
  return { config, loaded };
}
