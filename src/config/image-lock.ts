// hpcc.lock: which images the names in a project's hpcc.toml stand for. It is made by `hpcc image update` and committed, so that
// everybody compiles with the same image until somebody updates it. UNTRUSTED: whoever wrote the checkout.
import { parse, stringify } from "smol-toml";
import { HpccError } from "../base/errors.ts";
import { type Digest, isDigest } from "../core/digest/digest.ts";
import { formatImageName, type ImageName, parseImageName } from "../core/image/image-name.ts";

/** The lock's file name, beside hpcc.toml. */
export const IMAGE_LOCK = "hpcc.lock";

/** By the image's full name, and there by platform ("linux/amd64"). */
export type ImageLock = ReadonlyMap<string, ReadonlyMap<string, Digest>>;

const VERSION = 1;
const HEAD = "# Which images the names in hpcc.toml stand for. Made by `hpcc image update`; commit it.\n";
const LOCK_BYTES_MAX = 1024 * 1024;
const ENTRIES_MAX = 100;
const PLATFORM = /^linux\/[a-z0-9]{1,32}$/;

/** Reads a lock. `shown` is its path. */
export function parseImageLock(text: string, shown: string): ImageLock {
  const refuse = (why: string, cause?: unknown): never => {
    throw new HpccError("config.invalid", `${shown} ${why}`, {
      cause,
      hint: "Restore it from version control, or remove it and run `hpcc image update`.",
    });
  };
  if (text.length > LOCK_BYTES_MAX) refuse(`is larger than ${LOCK_BYTES_MAX} bytes`);
  let file: Record<string, unknown>;
  try {
    file = parse(text, { maxDepth: 4 });
  } catch (cause) {
    return refuse("cannot be read as TOML", cause);
  }
  if (file["version"] !== VERSION) refuse(`is of version ${String(file["version"]).slice(0, 20)}, and not ${VERSION}`);
  const lock = new Map<string, ReadonlyMap<string, Digest>>();
  const list = file["image"] ?? [];
  if (!Array.isArray(list) || list.length > ENTRIES_MAX) return refuse("has no list of images");
  for (const entry of list as Record<string, unknown>[]) {
    const { name, platforms } = entry;
    if (typeof name !== "string" || typeof platforms !== "object" || platforms === null)
      return refuse("has an image without name");
    const digests = new Map<string, Digest>();
    for (const [platform, digest] of Object.entries(platforms)) {
      if (!PLATFORM.test(platform) || typeof digest !== "string" || !isDigest(digest))
        return refuse(
          `has no digest for ${JSON.stringify(platform.slice(0, 40))} of ${JSON.stringify(name.slice(0, 200))}`,
        );
      digests.set(platform, digest);
    }
    const full = fullNameOf(name) ?? refuse(`has ${JSON.stringify(name.slice(0, 200))}, which names no image`);
    // Two branches that were joined may leave both: which of them was meant nobody knows.
    if (lock.has(full)) refuse(`names ${full} twice`);
    lock.set(full, digests);
  }
  return lock;
}

function fullNameOf(name: string): string | null {
  try {
    return formatImageName(parseImageName(name));
  } catch {
    return null;
  }
}

/** The lock as text, with one more name or with other digests of one. */
export function formatImageLock(lock: ImageLock, name: ImageName, platforms: ReadonlyMap<string, Digest>): string {
  const all = new Map(lock).set(formatImageName(name), platforms);
  const sorted = [...all].sort(([a], [b]) => (a < b ? -1 : 1));
  const image = sorted.map(([text, digests]) => ({
    name: text,
    platforms: Object.fromEntries([...digests].sort(([a], [b]) => (a < b ? -1 : 1))),
  }));
  return `${HEAD}${stringify({ version: VERSION, image })}`;
}
