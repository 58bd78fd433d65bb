// Where the parts of a worker's state are.
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { HpccError } from "../base/errors.ts";

export function stateFolders(stateFolder: string) {
  return {
    store: join(stateFolder, "store"),
    audit: join(stateFolder, "audit"),
    policy: join(stateFolder, "policy"),
    peers: join(stateFolder, "peers"),
  } as const;
}

/** Throws `argument.invalid` for a folder that is no worker's: who reads one makes none. */
export async function checkStateFolder(stateFolder: string): Promise<void> {
  const found = await stat(stateFolders(stateFolder).store).catch(() => null);
  if (found?.isDirectory() !== true)
    throw new HpccError("argument.invalid", `${stateFolder} is no state folder of a worker: it has no store`);
}
