// Where the installed parts are: the folder that holds node, the bundle, the guest and the vsock device's back-end.
import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import type { Environment } from "../config/directories.ts";

/** The library folder: HPCC_LIB_DIR, else that of the bundle, else out/lib/hpcc of the source tree. */
export function libraryFolder(env: Environment): string {
  const named = env["HPCC_LIB_DIR"];
  if (named) return resolve(named);
  const own = dirname(process.argv[1] ?? import.meta.filename);
  return existsSync(join(own, "hpcc.mjs")) ? own : resolve(import.meta.dirname, "../../out/lib/hpcc");
}

/** A program of the library folder when it is there, else its name, to be found on PATH. */
export function installedProgram(env: Environment, name: string): string {
  const installed = join(libraryFolder(env), name);
  return existsSync(installed) ? installed : name;
}
