// `hpcc witness --config FILE`.
import { mkdir, readFile } from "node:fs/promises";
import { readLogSigner } from "../audit/log-key-file.ts";
import { Witness } from "../audit/witness/witness.ts";
import { WitnessServer } from "../audit/witness/witness-server.ts";
import { HpccError } from "../base/errors.ts";
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import type { Environment } from "../config/directories.ts";
import { loadWitnessConfig, type WitnessConfig } from "../config/witness.ts";
import { programLogger, serveUntilSignal } from "./process.ts";

/** Is a witness until a signal ends it. */
export async function runWitness(env: Environment, file: string): Promise<void> {
  const config = loadWitnessConfig(env, file);
  const { stateDir: folder, listen, logs } = config;
  const logger = programLogger("witness", config.logLevel);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const signer = await readLogSigner(folder, "cosignature");
  if (signer === null)
    throw new HpccError("config.invalid", `${folder} has no key of a witness`, {
      hint: `\`hpcc ca witness-key --state ${folder} --new NAME\` makes one.`,
    });
  using witness = await Witness.open({ folder, signer, logs, clock: SYSTEM_CLOCK, logger });
  const server = await WitnessServer.listen({ witness, listen, tls: await tlsOf(config), logger });
  logger.info("witness.started", {
    host: listen.host,
    port: server.port,
    key: signer.verifier.text,
    logs: logs.length,
  });
  await serveUntilSignal({ logger, close: () => server.close() });
}

async function tlsOf({ tls }: WitnessConfig) {
  if (tls === null) return null;
  try {
    return { certificate: await readFile(tls.certificate, "utf8"), key: await readFile(tls.key, "utf8") };
  } catch (error) {
    throw new HpccError("config.invalid", "the witness's certificate or key cannot be read", { cause: error });
  }
}
