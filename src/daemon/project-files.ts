// The files of a project that say what hpcc does with its calls.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { type ByteString, bytesOf, displayText } from "../base/byte-string.ts";
import { readCheckoutFile } from "../config/checkout-file.ts";
import { PROJECT_CONFIG } from "../config/client.ts";
import { IMAGE_LOCK } from "../config/image-lock.ts";
import { formatImageName, type ImageName } from "../core/image/image-name.ts";
import type { PlannedConfiguration } from "../wire/launcher/plan-file.ts";

export function configFile(root: ByteString): ByteString {
  return `${root}/${PROJECT_CONFIG}` as ByteString;
}

export function lockFile(root: ByteString): ByteString {
  return `${root}/${IMAGE_LOCK}` as ByteString;
}

/** What a plan is made from, as the launcher reads it: hpcc.toml, and behind a NUL hpcc.lock where there is one. */
export function plannedConfiguration(root: ByteString): PlannedConfiguration {
  const path = configFile(root);
  const content = checkoutFile(path);
  if (content === null) return { path, digest: null };
  const hash = createHash("sha256").update(content);
  const lock = checkoutFile(lockFile(root));
  if (lock !== null) hash.update("\0").update(lock);
  return { path, digest: hash.digest("hex") };
}

/** What a checkout's file holds; null when there is none that may be read. */
function checkoutFile(path: ByteString): Buffer | null {
  try {
    return readCheckoutFile(bytesOf(path));
  } catch {
    return null;
  }
}

/** What a file holds; null when there is none that can be read. */
export function readFile(path: string | Buffer): Buffer | null {
  try {
    return readFileSync(path);
  } catch {
    return null;
  }
}

/** Why nothing runs for a project whose image has a name that no lock pins. */
export function unlocked(root: ByteString, name: ImageName): string {
  return (
    `${displayText(configFile(root))} names ${formatImageName(name)}, and ${displayText(lockFile(root))} does not say ` +
    "which image that is for this machine; run `hpcc image update` in the project and commit hpcc.lock"
  );
}
