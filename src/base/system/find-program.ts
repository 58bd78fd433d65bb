// Where a program is on this machine: for command lines that others execute, who search no PATH.
import { accessSync, constants, statSync } from "node:fs";
import { isAbsolute, join } from "node:path";

const FOLDERS_DEFAULT = "/usr/local/bin:/usr/bin:/bin";

/** The absolute path of an executable of this name on PATH; null when there is none. A path stays as it is. */
export function findProgram(name: string, path: string | undefined = process.env["PATH"]): string | null {
  if (name.includes("/")) return name;
  const folders = (path === undefined || path === "" ? FOLDERS_DEFAULT : path).split(":").filter(isAbsolute);
  return folders.map((folder) => join(folder, name)).find(isExecutable) ?? null;
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
