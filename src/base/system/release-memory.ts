// Gives memory that is not in use back to the system, for a program that will do nothing for a while.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

type Collect = (options: { type: "major"; execution: "sync"; flavor: "last-resort" }) => void;

let collect: Collect | null = null;

/** Collects all garbage and shrinks the heap; the program stands still for some 50 ms. */
export function releaseMemory(): void {
  if (collect === null) {
    // The one way to the collector for a program that was not started with this flag.
    setFlagsFromString("--expose-gc");
    collect = runInNewContext("gc") as Collect;
  }
  collect({ type: "major", execution: "sync", flavor: "last-resort" });
}
