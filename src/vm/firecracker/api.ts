// The calls of Firecracker's API that the driver makes (its swagger file, version 1.16). Paths are the jail's.
import { HpccError } from "../../base/errors.ts";
import { JAIL_FILES } from "../keeper/keeper.ts";
import { ApiClient, type ApiClientOptions, type ApiMethod, parseJson } from "./api-client.ts";
import { checkVmConfig, type MachineShape, machineConfig, processConfig } from "./vm-config.ts";

/** Calls that only change a setting. */
const SETTING_DEADLINE_MS = 10_000;
/** Loading maps the memory file; creating writes all of it, at this rate at least. */
const LOAD_DEADLINE_MS = 30_000;
const CREATE_DEADLINE_MS = 60_000;
const CREATE_BYTES_PER_MS_MIN = 20_000;

const VERSION_PATTERN = /^[0-9A-Za-z.+-]{1,64}$/;

export class FirecrackerApi {
  readonly #client: ApiClient;

  constructor(options: ApiClientOptions) {
    this.#client = new ApiClient(options);
  }

  close(): void {
    this.#client.close();
  }

  /** The version that the process says it has. */
  async version(signal: AbortSignal): Promise<string> {
    const value = parseJson(await this.#call("GET", "/version", null, signal));
    const version =
      typeof value === "object" && value !== null && "firecracker_version" in value ? value.firecracker_version : "";
    if (typeof version !== "string" || !VERSION_PATTERN.test(version))
      throw new HpccError("vm.boot", "Firecracker does not say its version");
    return version;
  }

  /** Gives a process all that its machine is made of; it does not run yet. */
  async configure(shape: MachineShape, metrics: boolean, signal: AbortSignal): Promise<void> {
    for (const { path, body } of [...processConfig(metrics), ...machineConfig(shape)])
      await this.#call("PUT", path, body, signal);
    await this.checkConfig(signal);
  }

  async instanceStart(signal: AbortSignal): Promise<void> {
    await this.#call("PUT", "/actions", { action_type: "InstanceStart" }, signal);
  }

  /** Makes Firecracker write its metrics; only where they are configured. */
  async flushMetrics(signal: AbortSignal): Promise<void> {
    await this.#call("PUT", "/actions", { action_type: "FlushMetrics" }, signal);
  }

  /**
   * Loads the jail's snapshot; its machine stands still until `resume`. A load that fails ends the process. The guest's clock stays: the
   * agent is told the time.
   */
  async loadSnapshot(metrics: boolean, signal: AbortSignal): Promise<void> {
    for (const { path, body } of processConfig(metrics)) await this.#call("PUT", path, body, signal);
    const body = {
      snapshot_path: JAIL_FILES.state,
      mem_backend: { backend_type: "File", backend_path: JAIL_FILES.memory },
      track_dirty_pages: false,
      resume_vm: false,
      vsock_override: { uds_path: JAIL_FILES.vsock },
    };
    await this.#call("PUT", "/snapshot/load", body, signal, LOAD_DEADLINE_MS);
    await this.checkConfig(signal);
  }

  /** Throws `vm.boot` when the machine has what no machine of ours has. */
  async checkConfig(signal: AbortSignal): Promise<void> {
    checkVmConfig(await this.#call("GET", "/vm/config", null, signal));
  }

  /** Stops the processors. Only before a snapshot: in 1.16 vsock hangs after a bare pause and resume. */
  async pause(signal: AbortSignal): Promise<void> {
    await this.#call("PATCH", "/vm", { state: "Paused" }, signal);
  }

  /** Lets a loaded machine run. */
  async resume(signal: AbortSignal): Promise<void> {
    await this.#call("PATCH", "/vm", { state: "Resumed" }, signal);
  }

  /** Writes a full snapshot of a paused machine into its jail. */
  async createSnapshot(memoryBytes: number, signal: AbortSignal): Promise<void> {
    const body = {
      snapshot_type: "Full",
      snapshot_path: JAIL_FILES.newState,
      mem_file_path: JAIL_FILES.newMemory,
    };
    const deadlineMs = CREATE_DEADLINE_MS + memoryBytes / CREATE_BYTES_PER_MS_MIN;
    await this.#call("PUT", "/snapshot/create", body, signal, deadlineMs);
  }

  #call(method: ApiMethod, path: string, body: object | null, signal: AbortSignal, deadlineMs = SETTING_DEADLINE_MS) {
    return this.#client.call({ method, path, body, deadlineMs }, signal);
  }
}
