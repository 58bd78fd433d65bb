// Starts one Firecracker machine in a jail of its own: configured and booted, or restored from a snapshot. Leaves nothing behind
// when it fails.
import { HpccError } from "../../base/errors.ts";
import { AGENT_LISTENS } from "../agent/limits.ts";
import { FirecrackerApi } from "./api.ts";
import { readConsole } from "./console.ts";
import { FirecrackerMachine } from "./machine.ts";
import { ParkedFirecracker } from "./parked.ts";
import {
  type CompleteParts,
  connectAgent,
  dismantle,
  type FirecrackerContext,
  type MachineStart,
  type Parts,
} from "./parts.ts";
import { VsockDoor } from "./vsock-door.ts";

/** A machine's files beside its snapshot: counters, at most. */
const FILE_BYTES_SPARE = 16 * 1024 * 1024;

/** Starts a machine whose agent has answered; throws `vm.boot`, or the signal's reason when it aborts. */
export async function startMachine(
  context: FirecrackerContext,
  start: MachineStart,
  signal: AbortSignal,
): Promise<FirecrackerMachine> {
  signal.throwIfAborted();
  const { clock } = context;
  const startedMs = clock.monotonicMs();
  const restores = start.snapshot !== null;
  const deadlineMs = restores ? context.restoreDeadlineMs : context.bootDeadlineMs;
  const failed = new AbortController();
  const fail = (why: string): void => failed.abort(new HpccError("vm.boot", why));
  const timer = clock.after(deadlineMs, () => fail(`its agent did not answer within ${deadlineMs} ms`));
  const parts: Parts = { jail: null, api: null, console: null, door: null, session: null };
  let onFlood = (): void => failed.abort(new HpccError("vm.breach", "the guest floods its console"));
  try {
    const complete = await assemble(context, start, parts, {
      signal: AbortSignal.any([signal, failed.signal]),
      onFlood: () => onFlood(),
      onEnd: fail,
    });
    const { keeper, guest } = context;
    const machine = new FirecrackerMachine({
      context,
      start,
      versions: {
        vmm: `Firecracker v${keeper.hello.vmm.version}`,
        kernelDigest: guest.kernelDigest,
        initramfsDigest: guest.initramfsDigest,
        agentDigest: guest.agentDigest,
        kernelRelease: complete.session.ready.kernelRelease,
        agentVersion: complete.session.ready.agentVersion,
      },
      bootMs: clock.monotonicMs() - startedMs,
      parts: complete,
      parked: (kept, binding) =>
        new ParkedFirecracker({
          context,
          id: start.id,
          kept,
          restore: (during) =>
            startMachine(context, { ...start, origin: "parked", snapshot: { id: kept.id, binding } }, during),
        }),
    });
    onFlood = () => machine.breach("the guest floods its console");
    return machine;
  } catch (cause) {
    // Taking it apart ends its VMM, which is no reason.
    const error: unknown = failed.signal.aborted ? failed.signal.reason : cause;
    const tail = await dismantle(parts, context.logger);
    signal.throwIfAborted();
    const why = error instanceof Error ? error.message : String(error);
    const what = restores ? "was not restored" : "did not boot";
    const details = error instanceof HpccError ? error.details : {};
    throw new HpccError("vm.boot", `a microVM ${what}: ${why}${tail === "" ? "" : `\n${tail}`}`, { cause, details });
  } finally {
    timer.cancel();
  }
}

interface Watch {
  readonly signal: AbortSignal;
  readonly onFlood: () => void;
  readonly onEnd: (why: string) => void;
}

async function assemble(
  context: FirecrackerContext,
  { id, binding, snapshot }: MachineStart,
  parts: Parts,
  { signal, onFlood, onEnd }: Watch,
): Promise<CompleteParts> {
  const { keeper, clock, metrics } = context;
  const { memoryBytes } = binding;
  const jail = await keeper.start(
    {
      vm: id,
      memoryBytes,
      vcpus: binding.vcpus,
      kernel: binding.kernelDigest,
      initramfs: binding.initramfsDigest,
      rootfs: binding.rootfsDigest,
      snapshot,
      fileBytesMax: memoryBytes + FILE_BYTES_SPARE,
    },
    signal,
  );
  parts.jail = jail;
  void jail.ended.then((how) => onEnd(`Firecracker ended: ${how}`));
  const listening = Promise.withResolvers<void>();
  signal.addEventListener("abort", () => listening.resolve(), { once: true });
  const console = readConsole({
    pipe: jail.consolePipe,
    bytesMax: context.consoleBytesMax,
    onFlood,
    onOutput: (log) => {
      if (log.includes(AGENT_LISTENS)) listening.resolve();
    },
  });
  parts.console = console;
  const api = new FirecrackerApi({ socketPath: jail.apiSocket, clock });
  parts.api = api;
  const version = await api.version(signal);
  if (version !== keeper.hello.vmm.version)
    throw new HpccError("vm.boot", `Firecracker says it is ${version}, not ${keeper.hello.vmm.version}`);
  if (snapshot === null) await api.configure(binding, metrics, signal);
  else await api.loadSnapshot(metrics, signal);
  // The socket is there now and the guest does not run yet: nobody has dialled it, and nobody else will.
  const door = await VsockDoor.take(jail);
  parts.door = door;
  signal.throwIfAborted();
  if (snapshot === null) {
    await api.instanceStart(signal);
    // Dialled before, the guest would refuse, and each attempt is a connection.
    await listening.promise;
  } else await api.resume(signal);
  const session = await connectAgent(context, door, signal);
  parts.session = session;
  signal.throwIfAborted();
  return { jail, api, console, door, session };
}
