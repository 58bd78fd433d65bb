// What the contract suite needs of a driver beyond its `Runtime`: how to open it, and how to look at a machine from the host.
// A driver's factory is a few lines beside its test file; `qemu.test.ts` is the example.
import type { Logger } from "../../../src/base/log.ts";
import type { AgentDeadlines } from "../../../src/vm/agent/limits.ts";
import type { Parking, Runtime } from "../../../src/vm/runtime.ts";

/** A driver under the contract. */
export interface DriverUnderTest {
  /** With the accelerator, as reports name it: "qemu, tcg". */
  readonly name: string;
  /** What `Runtime.parking` must be. */
  readonly parking: Parking;
  /** Size of the suite's machines; 512 MiB and 2 processors are enough. */
  readonly memoryBytes: number;
  readonly vcpus: number;
  /**
   * Opens a runtime with folders, users and logs of its own. The suite opens several, one after the other or beside each other,
   * and disposes each.
   */
  open(options?: OpenOptions): Promise<OpenedDriver>;
}

export interface OpenOptions {
  /** Folder of a guest that `scripts/guest/pack.ts` made, instead of the installed one. */
  readonly guestFolder?: string;
  /** Silences that a guest is allowed, for tests of guests that hang. */
  readonly deadlines?: Partial<AgentDeadlines>;
  /** How long a scrub may take. */
  readonly scrubDeadlineMs?: number;
  readonly logger?: Logger;
}

export interface OpenedDriver extends AsyncDisposable {
  readonly runtime: Runtime;
  /**
   * Names everything that machines of this runtime have on the host: processes, folders, sockets, mounts, control groups,
   * snapshots that are not golden, each with the machine's id in its text. Empty when none lives. It looks at the host, not at
   * what the driver remembers.
   */
  leaks(): Promise<string[]>;
  /** The process that runs the processors of the machine `id`. */
  vmmPid(id: string): Promise<number>;
  /** Asserts from /proc, and from whatever else the host shows, that a running machine's processes are as confined as docs say. */
  assertConfined(id: string): Promise<void>;
  /**
   * Files that hold all that the memory of machine `id` holds now: of a running one what the VMM maps, of a parked one
   * its snapshot's files or the stopped VMM's memory. Read, never written.
   */
  memoryFiles(id: string): Promise<MemoryFile[]>;
}

export interface MemoryFile {
  readonly name: string;
  readonly path: string;
  /** Which parts to read, for a process's memory; all of it unless said. */
  readonly ranges?: readonly { readonly start: number; readonly end: number }[];
}
