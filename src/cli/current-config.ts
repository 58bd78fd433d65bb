// The client's configuration of the folder in which a command runs, and what it leads to.
import { existsSync } from "node:fs";
import { type ByteString, bytesOf } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import { type ClientConfig, type LoadedClientConfig, loadClientConfig } from "../config/client.ts";
import type { Environment } from "../config/directories.ts";
import { bindingProject, findProjectRoot } from "../config/project-root.ts";
import { type Identity, sameTrustDomain } from "../core/identity/spiffe.ts";
import { SchedulerService } from "../gen/hpcc/scheduler/v1/scheduler_pb.js";
import { RpcClient } from "../wire/grpc/client.ts";
import { type OwnCredentials, readTlsFiles } from "../wire/grpc/tls-files.ts";
import { parseWatchResponse, toWatchRequest, type WorkerChoice } from "../wire/scheduler/mapping.ts";
import { workingFolder } from "./working-folder.ts";

const SCHEDULER_DEADLINE_MS = 5_000;

export interface CurrentConfig extends LoadedClientConfig {
  /** The root of the current folder's project, links resolved; null when it is in none. */
  readonly root: ByteString | null;
}

/** Reads the configuration for the current folder. */
export function currentClientConfig(env: Environment): CurrentConfig {
  const folder = workingFolder();
  const exists = (path: ByteString) => existsSync(bytesOf(path));
  const load = (projectRoot: ByteString | null) => loadClientConfig({ env, projectRoot });
  const own = findProjectRoot(folder, exists);
  const root = own === null ? null : bindingProject(own, exists, (around) => readable(() => load(around).config));
  return { ...load(root), root };
}

/** What a file says; null when that cannot be understood. */
function readable<T>(read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (error instanceof HpccError && error.code === "config.invalid") return null;
    throw error;
  }
}

/** The user's own credentials. */
export function credentialsOf(config: ClientConfig, nowMs: number): OwnCredentials {
  if (config.identity === null)
    throw new HpccError("identity.invalid", "no identity is configured: set [identity] certificate, key and ca");
  return readTlsFiles(config.identity, nowMs);
}

/** The workers that a scheduler names for the project's image; the next scheduler is asked when one fails. */
export async function workersOf(config: ClientConfig, credentials: OwnCredentials): Promise<readonly WorkerChoice[]> {
  if (config.image.kind !== "allowed")
    throw new HpccError(
      "image.missing",
      "this folder's project names no image that is allowed; use --worker HOST:PORT",
    );
  const query = { image: config.image.digest, isolationMin: config.isolationMin };
  let last: unknown = new HpccError("peer.unavailable", "no scheduler is configured");
  for (const address of config.schedulers) {
    const accept = (server: Identity) => server.kind === "scheduler" && sameTrustDomain(server, credentials.identity);
    const client = new RpcClient({ address, tls: credentials.tls, accept });
    const options = { signal: AbortSignal.timeout(SCHEDULER_DEADLINE_MS) };
    try {
      for await (const response of client.serverStream(SchedulerService.method.watch, toWatchRequest(query), options))
        return parseWatchResponse(response, query, credentials.identity);
    } catch (error) {
      if (!(error instanceof HpccError)) throw error;
      last = error;
    } finally {
      client.close();
    }
  }
  throw last;
}
