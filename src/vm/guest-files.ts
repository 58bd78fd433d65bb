// The guest that scripts/guest/build.sh made: kernel and initramfs, read and checked against their digests once.
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { HpccError } from "../base/errors.ts";
import { type Digest, parseDigest } from "../core/digest/digest.ts";

export interface GuestFiles {
  readonly kernel: string;
  readonly initramfs: string;
  readonly kernelDigest: Digest;
  readonly initramfsDigest: Digest;
  readonly agentDigest: Digest;
  /** Name, version and digest of the package that the kernel was taken from; null when the builder did not say. */
  readonly kernelPackage: string | null;
  /** Whether that is the package that the source tree pins. */
  readonly locked: boolean;
}

/** Reads the guest in `folder`; throws `vm.boot` when it is not there or not what its description says. */
export async function loadGuestFiles(folder: string): Promise<GuestFiles> {
  const description = await readFile(join(folder, "guest.json"), "utf8").catch((cause: unknown) => {
    throw new HpccError("vm.boot", `no guest in ${folder}; \`make guest\` builds it`, { cause });
  });
  const parsed = parse(description, folder);
  const checked = async (part: unknown, what: string): Promise<{ path: string; digest: Digest }> => {
    const { file, digest } = entry(part, what);
    if (file === "" || file.includes("/") || file.includes("\0"))
      throw new HpccError("vm.boot", `${folder}/guest.json names no file of its folder as ${what}`);
    const path = join(folder, file);
    if ((await digestOfFile(path)) !== digest)
      throw new HpccError("vm.boot", `${path} is not what guest.json says; \`make guest\` builds it again`);
    return { path, digest };
  };
  const kernel = await checked(parsed["kernel"], "kernel");
  const initramfs = await checked(parsed["initramfs"], "initramfs");
  return {
    kernel: kernel.path,
    initramfs: initramfs.path,
    kernelDigest: kernel.digest,
    initramfsDigest: initramfs.digest,
    agentDigest: entry(parsed["agent"], "agent").digest,
    ...packageOf(parsed["kernel"]),
  };
}

function parse(text: string, folder: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new HpccError("vm.boot", `${folder}/guest.json is no JSON; \`make guest\` builds it again`, { cause });
  }
  if (typeof value !== "object" || value === null || !("format" in value) || value.format !== 1)
    throw new HpccError("vm.boot", `${folder}/guest.json has another format; \`make guest\` builds it again`);
  return { ...value };
}

function packageOf(kernel: unknown): Pick<GuestFiles, "kernelPackage" | "locked"> {
  const { package: name, packageDigest, locked } = { ...(kernel as object) } as Record<string, unknown>;
  const known = typeof name === "string" && typeof packageDigest === "string";
  return { kernelPackage: known ? `${name} ${packageDigest}` : null, locked: known && locked === true };
}

function entry(value: unknown, what: string): { file: string; digest: Digest } {
  if (typeof value !== "object" || value === null || !("digest" in value) || typeof value.digest !== "string")
    throw new HpccError("vm.boot", `guest.json says nothing of its ${what}`);
  const file = "file" in value && typeof value.file === "string" ? value.file : "";
  return { file, digest: parseDigest(value.digest, `the ${what}'s digest`) };
}

async function digestOfFile(path: string): Promise<Digest> {
  const hash = createHash("sha256");
  try {
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  } catch (cause) {
    throw new HpccError("vm.boot", `${path} cannot be read; \`make guest\` builds it`, { cause });
  }
  return `sha256:${hash.digest("hex")}` as Digest;
}
