// Reads the way to a path: who owns each name on it, and who may change it.
import { lstat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { FACT_DEPTH_MAX, type PathFacts, type PathStep } from "./host-facts.ts";

/** The names on the way from the root to an absolute path, links not followed. */
export async function readPath(root: string, path: string): Promise<PathFacts> {
  const absolute = resolve("/", path);
  const names = absolute.split("/").filter((name) => name !== "");
  const steps: PathStep[] = [];
  for (let length = 0; length <= names.length; length += 1) {
    const here = `/${names.slice(0, length).join("/")}`;
    if (length > FACT_DEPTH_MAX) return { path: absolute, steps, stopped: { path: here, why: "too deep" } };
    try {
      const found = await lstat(join(root, here));
      const kind = found.isDirectory() ? "folder" : found.isFile() ? "file" : found.isSymbolicLink() ? "link" : "other";
      steps.push({ path: here, kind, uid: found.uid, mode: found.mode & 0o7777 });
      if (kind === "link") break;
    } catch (error) {
      return { path: absolute, steps, stopped: { path: here, why: codeOf(error) } };
    }
  }
  return { path: absolute, steps, stopped: null };
}

/** The code of a system's error. */
export function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}
