// Real Firecracker for tests: where it is, and whether it can run here. It is not part of this project, nor installed by it.
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
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

/** Why tests of Firecracker under a keeper cannot run here; false where they can. */
export function withoutFirecracker(): string | false {
  // Tests that are counted and not run (skip-all.ts) are all there.
  if (process.env["HPCC_TEST_SKIP_ALL"]) return false;
  if (findFirecracker() === null) return "skipped: no firecracker";
  if (process.getuid?.() !== 0) return "skipped: no firecracker without root";
  if (!existsSync("/dev/kvm")) return "skipped: no firecracker without KVM (make test-kvm)";
  return groupControllers().includes("memory")
    ? false
    : "skipped: no firecracker without cgroup v2 and its controllers (make test-kvm)";
}

function groupControllers(): string {
  const file = "/sys/fs/cgroup/cgroup.controllers";
  return existsSync(file) ? readFileSync(file, "utf8") : "";
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
