// What this process may use of its machine.
import { availableParallelism, totalmem } from "node:os";

export interface MachineSize {
  /** Processors that it may run on. */
  readonly processors: number;
  /** Memory of the machine, or of its control group where that has less. */
  readonly memoryBytes: number;
}

export function machineSize(): MachineSize {
  const bounded = process.constrainedMemory();
  const memoryBytes = bounded > 0 ? Math.min(bounded, totalmem()) : totalmem();
  return { processors: availableParallelism(), memoryBytes };
}
