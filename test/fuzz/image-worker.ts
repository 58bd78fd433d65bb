// A thread of image inputs. Which one it is at stands in memory that the test sees, who so can name one that hangs.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parentPort, workerData } from "node:worker_threads";
import { DrawnRegistry } from "./drawn-registry.ts";
import { type Kind, runInput } from "./image-inputs.ts";

/** What the test gives. */
export interface ImageWork {
  readonly seed: number;
  readonly from: number;
  readonly to: number;
  readonly folder: string;
  readonly outside: string;
  /** Of one place: the input's index. */
  readonly at: SharedArrayBuffer;
}

/** What it says: that a batch is done, or which input did what no input may. */
export type ImageWorkSaid =
  | { readonly t: "done"; readonly kinds: Partial<Record<Kind, number>> }
  | { readonly t: "failed"; readonly index: number; readonly why: string };

const { seed, from, to, folder, outside, at } = workerData as ImageWork;
const index = new Int32Array(at);
const [store, scratch] = ["store", "scratch"].map((name) => join(folder, name)) as [string, string];
for (const path of [store, scratch]) mkdirSync(path, { recursive: true });

async function work(): Promise<ImageWorkSaid> {
  await using registry = await DrawnRegistry.start();
  const kinds: Partial<Record<Kind, number>> = {};
  for (let input = from; input < to; input += 1) {
    Atomics.store(index, 0, input);
    try {
      const kind = await runInput(seed, input, { store, scratch, outside, registry });
      kinds[kind] = (kinds[kind] ?? 0) + 1;
    } catch (error) {
      return {
        t: "failed",
        index: input,
        why: error instanceof Error ? (error.stack ?? error.message) : String(error),
      };
    }
  }
  return { t: "done", kinds };
}

parentPort!.postMessage(await work(), []);
