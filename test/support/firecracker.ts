// Real Firecracker for tests: where it is, and nothing else. It is not part of this project, nor installed by it.
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

export interface FirecrackerPrograms {
  readonly firecracker: string;
  readonly jailer: string;
}

/** The programs of HPCC_FIRECRACKER_DIR, else of the PATH; null when there is none. */
export function findFirecracker(env: NodeJS.ProcessEnv = process.env): FirecrackerPrograms | null {
  const named = env["HPCC_FIRECRACKER_DIR"];
  const folders = named ? [named] : (env["PATH"] ?? "").split(delimiter).filter(Boolean);
  const find = (name: string): string | undefined => folders.map((folder) => join(folder, name)).find(isExecutable);
  const firecracker = find("firecracker");
  const jailer = find("jailer");
  if (firecracker && jailer) return { firecracker, jailer };
  // Who names a folder means to test with it.
  if (named) throw new Error(`HPCC_FIRECRACKER_DIR=${named} lacks ${firecracker ? "jailer" : "firecracker"}`);
  return null;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
