// Boots one QEMU machine: folder, vsock back-end, QEMU, then the agent's answer. Leaves nothing behind when it fails.
import { randomBytes } from "node:crypto";
import { access, type FileHandle, open, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { pause } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import { AGENT_LISTENS } from "../agent/limits.ts";
import { startChild } from "../child.ts";
import type { ProcessLog } from "../process-log.ts";
import { makeVmFolder } from "../vm-folder.ts";
import { deviceSocket, qemuCommandLine, vsockCommandLine } from "./command-line.ts";
import type { QemuBootContext } from "./context.ts";
import { Hull } from "./hull.ts";
import { QemuMachine } from "./machine.ts";

/** A machine's own user, when the worker is root: a random one of a range that nothing else uses. */
const UID_FIRST = 0x70000000;
const UID_COUNT = 0x01000000;
/** What a console may carry in a machine's life; a guest that writes more is up to no good. */
const CONSOLE_BYTES_MAX = 4 * 1024 * 1024;
const SOCKET_POLL_MS = 2;
/** The kernel's list of sockets, and its flag of those that listen (`__SO_ACCEPTCON`; proc_pid_net(5)). */
const SOCKET_LIST = "/proc/net/unix";
const ACCEPTS = 0x10000;

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
  const hull = new Hull(context, id, await makeVmFolder(context.vmsFolder, id, uid));
  const deadline = new AbortController();
  const timer = context.clock.after(context.bootDeadlineMs, () => deadline.abort());
  try {
    const failed = new AbortController();
    void hull.lost.then((detail) => failed.abort(new HpccError("vm.boot", detail)));
    void hull.misbehaved.then((detail) => failed.abort(new HpccError("vm.breach", detail)));
    const during = AbortSignal.any([signal, deadline.signal, failed.signal]);
    const listening = Promise.withResolvers<void>();
    during.addEventListener("abort", () => listening.resolve());
    if (during.aborted) listening.resolve();
    await startProcesses(hull, spec, uid, {
      signal: during,
      onOutput: (log) => {
        if (log.totalBytes > CONSOLE_BYTES_MAX) hull.flooded();
        if (log.includes(AGENT_LISTENS)) listening.resolve();
      },
    });
    // The device's back-end stops working when it is dialled while the guest's driver sets its queues up.
    await listening.promise;
    during.throwIfAborted();
    await hull.seal();
    const session = await hull.openSession(during);
    hull.versions = {
      vmm: context.programs.qemuVersion,
      kernelDigest: context.guest.kernelDigest,
      initramfsDigest: context.guest.initramfsDigest,
      agentDigest: context.guest.agentDigest,
      kernelRelease: session.ready.kernelRelease,
      agentVersion: session.ready.agentVersion,
    };
    return new QemuMachine(hull, session, { origin: "boot", bootMs: context.clock.monotonicMs() - startedMs });
  } catch (cause) {
    const tail = await hull.dismantle();
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
  hull: Hull,
  spec: QemuBootSpec,
  uid: number | null,
  { signal, onOutput }: Watch,
): Promise<void> {
  const { context } = hull;
  const folder = hull.folder.shared;
  const device = deviceSocket(hull.id);
  const common = { folder, uid, onOutput };
  const vsock = await startChild({
    ...common,
    program: context.programs.vsockDevice,
    argv: vsockCommandLine(device),
    extraGroup: null,
    files: [],
  });
  hull.add(vsock);
  while (!((await exists(join(folder, device))) && (await listens(device)))) {
    signal.throwIfAborted();
    await pause(context.clock, SOCKET_POLL_MS, signal);
  }
  const files: FileHandle[] = [];
  try {
    for (const path of [context.guest.kernel, context.guest.initramfs, ...(spec.rootfs === null ? [] : [spec.rootfs])])
      files.push(await open(path, "r"));
    const { accelerator, tscKhz } = context;
    const { memoryBytes } = spec;
    const vcpus = Math.min(spec.vcpus, context.vcpusMax);
    hull.add(
      await startChild({
        ...common,
        program: context.programs.qemu,
        argv: qemuCommandLine({ accelerator, tscKhz, memoryBytes, vcpus, hasRootfs: spec.rootfs !== null, device }),
        extraGroup: accelerator === "kvm" ? await kvmGroup() : null,
        files: files.map((file) => file.fd),
      }),
    );
  } finally {
    for (const file of files) await file.close();
  }
}

/** The group that may open /dev/kvm; null for root's, which no machine gets. */
async function kvmGroup(): Promise<number | null> {
  const { gid } = await stat("/dev/kvm");
  return gid === 0 ? null : gid;
}

/**
 * Whether a socket takes connections: its name is there a moment before, and QEMU, which would connect then, is refused and ends. The kernel's
 * list has names as they were bound. Where it cannot be read, the name alone must do.
 */
async function listens(name: string): Promise<boolean> {
  const list = await readFile(SOCKET_LIST, "latin1").catch(() => null);
  if (list === null) return true;
  const line = list.split("\n").find((one) => one.endsWith(` ${name}`));
  return line !== undefined && (Number.parseInt(line.split(/ +/)[3] ?? "", 16) & ACCEPTS) !== 0;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
