// Boots one QEMU machine: folder, vsock back-end, QEMU, then the agent's answer. Leaves nothing behind when it fails.
import { randomBytes } from "node:crypto";
import { access, type FileHandle, open, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { dialGuest } from "../agent/dial.ts";
import { AGENT_LISTENS, AGENT_PORT, type AgentDeadlines } from "../agent/limits.ts";
import { openSession } from "../agent/session.ts";
import { startChild } from "../child.ts";
import type { GuestFiles } from "../guest-files.ts";
import type { ProcessLog } from "../process-log.ts";
import { makeVmFolder } from "../vm-folder.ts";
import { type Accelerator, DEVICE_SOCKET, qemuCommandLine, VSOCK_SOCKET, vsockCommandLine } from "./command-line.ts";
import { dismantle, type Parts, QemuMachine } from "./machine.ts";

/** A machine's own user, when the worker is root: a random one of a range that nothing else uses. */
const UID_FIRST = 0x70000000;
const UID_COUNT = 0x01000000;
/** What a console may carry in a machine's life; a guest that writes more is up to no good. */
const CONSOLE_BYTES_MAX = 4 * 1024 * 1024;
const SOCKET_POLL_MS = 2;

export interface QemuPrograms {
  readonly qemu: string;
  readonly vsockDevice: string;
  /** As `qemu --version` names it. */
  readonly qemuVersion: string;
}

export interface QemuBootContext {
  readonly programs: QemuPrograms;
  readonly guest: GuestFiles;
  readonly accelerator: Accelerator;
  /** Rate of the host's time stamp counter. */
  readonly tscKhz: number;
  /** Folder of the machines' folders. */
  readonly vmsFolder: string;
  /** Folder for larger outputs of executions. */
  readonly outputsFolder: string;
  readonly bootDeadlineMs: number;
  readonly deadlines: AgentDeadlines;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface QemuBootSpec {
  /** Null boots without a toolchain: the probe of KVM. */
  readonly rootfs: string | null;
  readonly memoryBytes: number;
  readonly vcpus: number;
}

/** Boots a machine; throws `vm.boot`, or the signal's reason when it aborts. */
export async function bootQemu(
  context: QemuBootContext,
  spec: QemuBootSpec,
  signal: AbortSignal,
): Promise<QemuMachine> {
  signal.throwIfAborted();
  const startedMs = context.clock.monotonicMs();
  const id = `vm-${randomBytes(10).toString("hex")}`;
  const uid = process.getuid?.() === 0 ? UID_FIRST + (randomBytes(4).readUInt32LE() % UID_COUNT) : null;
  const deadline = new AbortController();
  const timer = context.clock.after(context.bootDeadlineMs, () => deadline.abort());
  const parts: Parts = { folder: await makeVmFolder(context.vmsFolder, id, uid), children: [], session: null };
  try {
    const failed = new AbortController();
    const during = AbortSignal.any([signal, deadline.signal, failed.signal]);
    let onFlood = (): void => failed.abort(new HpccError("vm.breach", "the guest floods its console"));
    const listening = Promise.withResolvers<void>();
    during.addEventListener("abort", () => listening.resolve());
    await startProcesses(context, spec, parts, uid, {
      signal: during,
      onOutput: (log) => {
        if (log.totalBytes > CONSOLE_BYTES_MAX) onFlood();
        if (log.includes(AGENT_LISTENS)) listening.resolve();
      },
    });
    for (const child of parts.children)
      void child.ended.then((how) => failed.abort(new HpccError("vm.boot", `process ${child.pid} ${how}`)));
    // The device's back-end stops working when it is dialled while the guest's driver sets its queues up.
    await listening.promise;
    const session = await connectAgent(context, parts, during);
    parts.session = session;
    during.throwIfAborted();
    // One connection is all that a machine gets.
    await rm(join(parts.folder.path, VSOCK_SOCKET), { force: true });
    await rm(join(parts.folder.path, DEVICE_SOCKET), { force: true });
    const machine = new QemuMachine({
      id,
      isolation: context.accelerator === "kvm" ? "qemu-kvm" : "qemu-tcg",
      versions: {
        vmm: context.programs.qemuVersion,
        kernelDigest: context.guest.kernelDigest,
        initramfsDigest: context.guest.initramfsDigest,
        agentDigest: context.guest.agentDigest,
        kernelRelease: session.ready.kernelRelease,
        agentVersion: session.ready.agentVersion,
      },
      bootMs: context.clock.monotonicMs() - startedMs,
      parts: { ...parts, session },
      clock: context.clock,
      logger: context.logger,
    });
    onFlood = () => machine.breach("the guest floods its console");
    return machine;
  } catch (cause) {
    const tail = await dismantle(parts);
    if (signal.aborted) throw signal.reason;
    const why = deadline.signal.aborted
      ? `its agent did not answer within ${context.bootDeadlineMs} ms`
      : cause instanceof Error
        ? cause.message
        : String(cause);
    throw new HpccError("vm.boot", `a microVM did not boot: ${why}${tail === "" ? "" : `\n${tail}`}`, { cause });
  } finally {
    timer.cancel();
  }
}

interface Watch {
  readonly signal: AbortSignal;
  readonly onOutput: (log: ProcessLog) => void;
}

async function startProcesses(
  context: QemuBootContext,
  spec: QemuBootSpec,
  parts: Parts,
  uid: number | null,
  { signal, onOutput }: Watch,
): Promise<void> {
  const folder = parts.folder.path;
  const vsock = await startChild({
    program: context.programs.vsockDevice,
    argv: vsockCommandLine(),
    folder,
    uid,
    extraGroup: null,
    files: [],
    onOutput,
  });
  parts.children.push(vsock);
  let ended = false;
  void vsock.ended.then(() => (ended = true));
  while (!(await exists(join(folder, DEVICE_SOCKET)))) {
    signal.throwIfAborted();
    if (ended) throw new HpccError("vm.boot", `${context.programs.vsockDevice} ${await vsock.ended}`);
    await new Promise<void>((resolve) => {
      context.clock.after(SOCKET_POLL_MS, resolve);
    });
  }
  const files: FileHandle[] = [];
  try {
    for (const path of [context.guest.kernel, context.guest.initramfs, ...(spec.rootfs === null ? [] : [spec.rootfs])])
      files.push(await open(path, "r"));
    const { accelerator, tscKhz } = context;
    const { memoryBytes, vcpus } = spec;
    parts.children.push(
      await startChild({
        program: context.programs.qemu,
        argv: qemuCommandLine({ accelerator, tscKhz, memoryBytes, vcpus, hasRootfs: spec.rootfs !== null }),
        folder,
        uid,
        extraGroup: accelerator === "kvm" ? await kvmGroup() : null,
        files: files.map((file) => file.fd),
        onOutput,
      }),
    );
  } finally {
    for (const file of files) await file.close();
  }
}

async function connectAgent(context: QemuBootContext, parts: Parts, signal: AbortSignal) {
  // Through the folder's descriptor the socket's name is short wherever the folder is: the limit is 108 bytes.
  const folder = await open(parts.folder.path, "r");
  try {
    const socket = await dialGuest({
      socketPath: `/proc/self/fd/${folder.fd}/${VSOCK_SOCKET}`,
      port: AGENT_PORT,
      clock: context.clock,
      signal,
    });
    return await openSession(
      socket,
      { clock: context.clock, deadlines: context.deadlines, folder: context.outputsFolder, randomBytes },
      signal,
    );
  } finally {
    await folder.close();
  }
}

/** The group that may open /dev/kvm; null for root's, which no machine gets. */
async function kvmGroup(): Promise<number | null> {
  const { gid } = await stat("/dev/kvm");
  return gid === 0 ? null : gid;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
