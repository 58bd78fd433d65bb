// `hpcc image prune`: the room that images of this machine take.
import { HpccError } from "../base/errors.ts";
import type { Environment } from "../config/directories.ts";
import { byteSize } from "../config/value.ts";
import type { EvictReport, ImageUse } from "../image/evict.ts";
import type { ImageStore } from "../image/image-store.ts";
import { currentClientConfig } from "./current-config.ts";
import { printable } from "./output.ts";

const DAY_MS = 24 * 60 * 60_000;
const DAYS_MAX = 10_000;
const DAYS = /^[0-9]{1,5}(?:\.[0-9]{1,3})?$/;
const GIBIBYTE = 1024 ** 3;
const SIZE = byteSize(0, 1024 ** 5);

export interface PruneOptions {
  readonly size?: string;
  readonly unused?: string;
  readonly dryRun?: true;
}

export async function imagePrune(images: ImageStore, env: Environment, options: PruneOptions): Promise<EvictReport> {
  const { size, unused = "1", dryRun = false } = options;
  const bytesMax =
    size === undefined ? currentClientConfig(env).config.imageBytesMax : SIZE.parse(SIZE.fromText(size), "");
  if (bytesMax === undefined)
    throw new HpccError("argument.invalid", `--size ${JSON.stringify(size)} is no size: ${SIZE.expected}`);
  const days = DAYS.test(unused) ? Number(unused) : Number.NaN;
  if (!(days <= DAYS_MAX))
    throw new HpccError("argument.invalid", `--unused takes a number of days, up to ${DAYS_MAX}`);
  return images.evict({ bytesMax, keepMs: days * DAY_MS }, dryRun);
}

export function printPrune({ evicted, bytesBefore, bytesAfter }: EvictReport, dryRun: boolean): string {
  const lines = evicted.map(
    (use) => `${dryRun ? "would go" : "gone"}  ${use.digest}  ${gibibytes(use.bytes)}  ${nameOf(use)}\n`,
  );
  const rest = `images ${dryRun ? "would take" : "take"} ${gibibytes(bytesAfter)} of ${gibibytes(bytesBefore)} before\n`;
  return lines.join("") + rest;
}

function nameOf({ pulledAs }: ImageUse): string {
  return pulledAs === null ? "-" : printable(pulledAs);
}

function gibibytes(bytes: number): string {
  return `${(bytes / GIBIBYTE).toFixed(2)} GiB`;
}
