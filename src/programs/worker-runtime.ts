// The driver that a worker's configuration and its start ask for.
import { join } from "node:path";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import type { Environment } from "../config/directories.ts";
import { runsFirecracker, type WorkerConfig } from "../config/worker.ts";
import type { Digest } from "../core/digest/digest.ts";
import { FIRECRACKER_VCPUS_MAX, openFirecrackerRuntime } from "../vm/firecracker/runtime.ts";
import { connectKeeper } from "../vm/keeper/connect-keeper.ts";
import { openQemuRuntime } from "../vm/qemu/runtime.ts";
import type { Runtime } from "../vm/runtime.ts";
import type { WorkerImages } from "../worker/images.ts";
import { installedProgram } from "./installation.ts";
import { guestFolder, isolationRefusal, qemuOptions } from "./worker-options.ts";

const KEEPER_DEADLINE_MS = 30_000;

export interface WorkerRuntime {
  readonly runtime: Runtime;
  /** Says why the worker must end: without its keeper it can start no machine. Never settles where there is none. */
  readonly ended: Promise<string>;
  /** Makes what a first machine of each of these images will be restored from. Detached: never rejects, logs what fails. */
  prepare(images: WorkerImages, digests: readonly Digest[]): Promise<void>;
  close(): Promise<void>;
}

/** Opens the driver; throws `config.invalid` when the worker's start or the isolation that it finds do not fit. */
export async function openWorkerRuntime(
  env: Environment,
  config: WorkerConfig,
  logger: Logger,
  signal: AbortSignal,
): Promise<WorkerRuntime> {
  const opened = runsFirecracker(config)
    ? await openJailed(env, config, logger)
    : await openQemu(env, config, logger, signal);
  const refusal = isolationRefusal(config, opened.runtime.isolation);
  if (refusal === null) return opened;
  await opened.close();
  throw new HpccError("config.invalid", refusal.why, {
    hint: `\`hpcc doctor --worker FILE\` tells why it offers no more; ${refusal.fix}.`,
  });
}

async function openJailed(env: Environment, config: WorkerConfig, logger: Logger): Promise<WorkerRuntime> {
  const { keeperFd, firecracker, vms } = config;
  if (keeperFd === null)
    throw new HpccError("config.invalid", 'runtime = "firecracker" needs the keeper, which did not start this worker', {
      hint: "Start it as root's `lib/hpcc/keeper --user USER ... -- hpcc worker --config FILE`; docs/operations/worker.md has the whole line.",
    });
  if (vms.vmVcpus > FIRECRACKER_VCPUS_MAX)
    throw new HpccError(
      "config.invalid",
      `vms.vm_vcpus is above ${FIRECRACKER_VCPUS_MAX}, the most that Firecracker gives`,
    );
  const keeper = await connectKeeper(keeperFd, { clock: SYSTEM_CLOCK, logger, deadlineMs: KEEPER_DEADLINE_MS });
  const runtime = await openFirecrackerRuntime({
    keeper,
    guestFolder: guestFolder(env, firecracker.guestDir),
    outputsFolder: join(config.stateDir, "outputs"),
    channelProgram: installedProgram(env, "channel"),
    bootDeadlineMs: firecracker.bootDeadlineMs,
    restoreDeadlineMs: firecracker.restoreDeadlineMs,
    goldens: {
      goldensMax: firecracker.goldensMax,
      maxAgeMs: firecracker.goldenAgeMsMax,
      restoresMax: firecracker.goldenRestoresMax,
    },
    clock: SYSTEM_CLOCK,
    logger,
  }).catch((error: unknown) => {
    keeper.close();
    throw error;
  });
  const { vmMemoryBytes: memoryBytes, vmVcpus: vcpus } = vms;
  return {
    runtime,
    ended: keeper.ended,
    prepare: async (images, digests) => {
      for (const digest of digests)
        try {
          await runtime.prepare({ rootfs: await images.rootfs(digest), memoryBytes, vcpus, goldenOwner: null });
        } catch (error) {
          logger.warn("worker.image.not_prepared", { image: digest, error: String(error) });
        }
    },
    async close() {
      await runtime.close();
      keeper.close();
    },
  };
}

async function openQemu(
  env: Environment,
  config: WorkerConfig,
  logger: Logger,
  signal: AbortSignal,
): Promise<WorkerRuntime> {
  const runtime = await openQemuRuntime(
    {
      ...qemuOptions(env, config),
      vmsFolder: join(config.stateDir, "vms"),
      outputsFolder: join(config.stateDir, "outputs"),
      clock: SYSTEM_CLOCK,
      logger,
    },
    signal,
  );
  return {
    runtime,
    ended: new Promise(() => undefined),
    prepare: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
}
