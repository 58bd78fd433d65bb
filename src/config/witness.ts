// A witness's configuration.
import { HpccError } from "../base/errors.ts";
import type { HostPort } from "../core/identity/host-port.ts";
import { type NoteVerifier, parseVerifier } from "../core/note/signed-note.ts";
import { ADDRESS } from "./client.ts";
import type { Environment } from "./directories.ts";
import { loadConfig } from "./load.ts";
import { listOf, oneOf, optional, PATH, text } from "./value.ts";

export interface WitnessConfig {
  readonly listen: HostPort;
  /** Null for plain HTTP, on this machine alone. */
  readonly tls: { readonly certificate: string; readonly key: string } | null;
  /** Its key, and what it has seen of logs. */
  readonly stateDir: string;
  readonly logs: readonly NoteVerifier[];
  readonly logLevel: "debug" | "info" | "warn" | "error";
}

const DEFAULT_LISTEN: HostPort = { host: "127.0.0.1", port: 9444 };
const NO_LOGS: readonly NoteVerifier[] = [];
const LOG_KEY = text("a log's key, as `hpcc ca log-key` prints it", parseVerifier);
const LOOPBACK = ["127.0.0.1", "::1", "localhost"];

export const WITNESS_SCHEMA = {
  listen: { kind: ADDRESS, fallback: DEFAULT_LISTEN, variable: "HPCC_WITNESS_LISTEN" },
  "tls.certificate": { kind: optional(PATH), fallback: null },
  "tls.key": { kind: optional(PATH), fallback: null },
  state_dir: { kind: optional(PATH), fallback: null },
  logs: { kind: listOf(LOG_KEY), fallback: NO_LOGS },
  log_level: { kind: oneOf(["debug", "info", "warn", "error"]), fallback: "info", variable: "HPCC_LOG_LEVEL" },
} as const;

/** Reads a witness's configuration; `file` is the one named by `--config`. */
export function loadWitnessConfig(env: Environment, file: string): WitnessConfig {
  const { values } = loadConfig(WITNESS_SCHEMA, {
    flags: {},
    env,
    files: [{ source: "user", path: file, required: true }],
  });
  const wrong = (problem: string) => new HpccError("config.invalid", `${file}: ${problem}`);
  const { listen, logs, state_dir: stateDir, "tls.certificate": certificate, "tls.key": key } = values;
  if (stateDir === null) throw wrong("state_dir is required");
  if (logs.length === 0) throw wrong("logs names none; a witness knows the keys of the logs that it cosigns");
  if ((certificate === null) !== (key === null)) throw wrong("tls.certificate and tls.key belong together");
  if (certificate === null && !LOOPBACK.includes(listen.host))
    throw wrong("without [tls] a witness listens on this machine alone, such as 127.0.0.1");
  const tls = certificate === null || key === null ? null : { certificate, key };
  return { listen, tls, stateDir, logs, logLevel: values.log_level };
}
