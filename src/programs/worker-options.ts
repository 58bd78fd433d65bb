// What a worker's configuration says to its drivers, and whether it allows what they offer: for the worker and for the doctor.
import { join } from "node:path";
import type { Environment } from "../config/directories.ts";
import type { WorkerConfig } from "../config/worker.ts";
import type { Isolation } from "../core/isolation.ts";
import { installedProgram, libraryFolder } from "./installation.ts";

export interface IsolationRefusal {
  readonly why: string;
  readonly fix: string;
}

/** Why a worker of this configuration does not start with an isolation; null when it does. */
export function isolationRefusal({ isolation }: WorkerConfig, offered: Isolation): IsolationRefusal | null {
  if (isolation.allowed.includes(offered)) return null;
  return {
    why: `this machine offers ${offered}, which isolation.allowed does not name`,
    fix: `for a trial, add "${offered}" to isolation.allowed`,
  };
}

export function qemuOptions(env: Environment, config: WorkerConfig) {
  const { program, vsockDeviceProgram, guestDir, accelerator, bootDeadlineMs } = config.qemu;
  return {
    qemuProgram: program,
    vsockDeviceProgram: vsockDeviceProgram ?? installedProgram(env, "vhost-device-vsock"),
    channelProgram: installedProgram(env, "channel"),
    guestFolder: guestFolder(env, guestDir),
    kvmVerdictFile: join(config.stateDir, "kvm-verdict.json"),
    accelerator,
    bootDeadlineMs,
  } as const;
}

/** The folder that the configuration names, else the installed one. */
export function guestFolder(env: Environment, named: string | null): string {
  return named ?? join(libraryFolder(env), "guest");
}
