// Ends a process that was started as the first of its group, with all that it has started in it.
import type { ChildProcess } from "node:child_process";

/**
 * Kills the group of a child that was spawned `detached`, and lets its streams go. A bubblewrap that is killed alone in its first moments
 * leaves a process that waits for it for ever, and holds the streams.
 */
export function killGroup(child: ChildProcess): void {
  try {
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null)
      process.kill(-child.pid, "SIGKILL");
  } catch {
    // It has ended meanwhile.
  }
  for (const stream of child.stdio) stream?.destroy();
}
