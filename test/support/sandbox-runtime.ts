// A runtime for the real pool whose machines are no VMs: each execution runs in a sandbox of the unpacked image, and waits before it
// does until the test lets it. It tells who runs where; it isolates nothing that matters.
import { HpccError } from "../../src/base/errors.ts";
import type { ExecuteOptions, ExecutionRequest, ExecutionResult } from "../../src/vm/execution.ts";
import type { BootSpec, Machine, MachineEnd, Runtime } from "../../src/vm/runtime.ts";
import { runInSandbox } from "./sandbox-pool.ts";

const VERSIONS = {
  vmm: "sandbox",
  kernelDigest: "-",
  initramfsDigest: "-",
  agentDigest: "-",
  kernelRelease: "local",
  agentVersion: "0.0.0",
};

export class SandboxRuntime implements Runtime {
  readonly isolation = "qemu-tcg";
  readonly parking = "stopped";
  /** Executions that were begun and have not ended, with their machines, in the order of their begin. */
  readonly running = new Set<{ readonly vm: string; readonly go: () => void }>();
  /** The most that ran at a time. */
  runningMax = 0;
  /** Whether executions wait for `go`. */
  held = true;
  booted = 0;

  async boot(spec: BootSpec): Promise<Machine> {
    this.booted += 1;
    const id = `vm-${this.booted}`;
    const ended = Promise.withResolvers<MachineEnd>();
    const gone = new AbortController();
    const unable = (): Promise<never> => Promise.reject(new HpccError("vm.lost", "a sandbox clears nothing away"));
    return {
      id,
      isolation: this.isolation,
      versions: VERSIONS,
      origin: "boot",
      bootMs: 1,
      session: { execute: (request, options) => this.#execute(id, spec, request, options, gone.signal) },
      get alive() {
        return !gone.signal.aborted;
      },
      ended: ended.promise,
      scrub: unable,
      park: unable,
      async destroy() {
        gone.abort(new HpccError("vm.lost", "it was destroyed"));
        ended.resolve({ t: "destroyed" });
        await ended.promise;
      },
    };
  }

  /** Lets all go that wait now, and those to come if `held` is false by then. */
  letGo(): void {
    for (const { go } of this.running) go();
  }

  async #execute(
    vm: string,
    spec: BootSpec,
    request: ExecutionRequest,
    options: ExecuteOptions,
    gone: AbortSignal,
  ): Promise<ExecutionResult> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const signal = AbortSignal.any([options.signal, gone]);
    const stop = (): void => reject(signal.reason as Error);
    signal.addEventListener("abort", stop, { once: true });
    const one = { vm, go: resolve };
    this.running.add(one);
    this.runningMax = Math.max(this.runningMax, this.running.size);
    if (!this.held) resolve();
    const startMs = performance.now();
    try {
      await promise;
      const result = await runInSandbox(spec.rootfs, request, signal);
      return { ...result, wallUs: Math.round((performance.now() - startMs) * 1000) };
    } finally {
      signal.removeEventListener("abort", stop);
      this.running.delete(one);
    }
  }
}
