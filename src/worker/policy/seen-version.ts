// The newest policy that a worker has had, kept over its restarts, so that it never goes back to an older one.
import { join } from "node:path";
import { HpccError } from "../../base/errors.ts";
import { isDigest } from "../../core/digest/digest.ts";
import type { SeenVersion } from "../../core/policy/version-order.ts";
import { readBounded, replaceFile } from "./state-file.ts";

const BYTES_MAX = 4096;
const SCHEMA = 1;

export function seenVersionFile(folder: string): string {
  return join(folder, "seen.json");
}

/** Null for a worker that has had none. Throws where the file cannot be read: it is not known then what may follow. */
export async function readSeenVersion(path: string): Promise<SeenVersion | null> {
  try {
    const bytes = await readBounded(path, BYTES_MAX);
    return bytes === null ? null : parse(Buffer.from(bytes).toString("utf8"));
  } catch (error) {
    throw new HpccError(
      "config.invalid",
      `${path}, which keeps the worker from going back to an older policy, cannot be read: ${(error as Error).message}`,
      { cause: error, hint: "Remove it if the policy file that the worker has now is the newest one." },
    );
  }
}

export async function writeSeenVersion(path: string, { version, digest }: SeenVersion): Promise<void> {
  try {
    await replaceFile(path, `${JSON.stringify({ schema: SCHEMA, version, digest })}\n`);
  } catch (error) {
    throw new HpccError("store.io", `cannot write ${path}: ${(error as Error).message}`, { cause: error });
  }
}

function parse(text: string): SeenVersion {
  const { schema, version, digest } = JSON.parse(text) as Record<string, unknown>;
  if (schema !== SCHEMA || !Number.isSafeInteger(version) || typeof digest !== "string" || !isDigest(digest))
    throw new Error("it is not what a worker writes");
  return { version: version as number, digest };
}
