// Where the parts of a worker's state are.
import { join } from "node:path";

export function stateFolders(stateFolder: string) {
  return {
    store: join(stateFolder, "store"),
    audit: join(stateFolder, "audit"),
    policy: join(stateFolder, "policy"),
    peers: join(stateFolder, "peers"),
  } as const;
}
