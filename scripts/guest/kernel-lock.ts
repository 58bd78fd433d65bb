// The pin of the guest's kernel package, and the decision which package a build takes. Pure.

export interface KernelPackage {
  readonly name: string;
  readonly version: string;
  /** SHA-256 of the .deb file, hex digits. */
  readonly sha256: string;
}

/** What apt, which has checked Debian's signature, offers on this machine. */
export interface Offers {
  /** The pinned name and version; null when the mirror has it no more, or never had. */
  readonly pinned: KernelPackage | null;
  /** What linux-image-cloud-amd64 stands for today; null when apt knows none. */
  readonly newest: KernelPackage | null;
}

/** `locked`: the pinned package or none. `update`: the newest, which is pinned then. */
export type Mode = "default" | "locked" | "update";

export interface Choice {
  readonly take: KernelPackage;
  /** Whether it is the pinned one. */
  readonly locked: boolean;
  /** What the person should know; null for nothing. */
  readonly warning: string | null;
}

const NAME = /^linux-image-[a-z0-9][a-z0-9.+-]{0,127}$/;
const VERSION = /^[0-9][A-Za-z0-9.+:~-]{0,127}$/;
const SHA256 = /^[0-9a-f]{64}$/;

/** Reads a lock file or a package's record of apt; throws when a field is missing or is none. */
export function parseKernelPackage(text: string, source: string): KernelPackage {
  const field = (name: string, pattern: RegExp): string => {
    const values = [...text.matchAll(new RegExp(`^${name}: (.*)$`, "gm"))].map((match) => (match[1] ?? "").trim());
    const [value] = values;
    if (value === undefined || values.length > 1 || !pattern.test(value))
      throw new Error(`${source} has no single, proper ${name}`);
    return value;
  };
  return { name: field("Package", NAME), version: field("Version", VERSION), sha256: field("SHA256", SHA256) };
}

/** A lock file with another package, its comments kept. */
export function withPackage(lock: string, { name, version, sha256 }: KernelPackage): string {
  const comments = lock.split("\n").filter((line) => line.startsWith("#"));
  return `${[...comments, `Package: ${name}`, `Version: ${version}`, `SHA256: ${sha256}`].join("\n")}\n`;
}

/** Which package to take; throws when there is none that may be taken, and says the way out. */
export function choosePackage(lock: KernelPackage, { pinned, newest }: Offers, mode: Mode): Choice {
  if (mode === "update") {
    if (newest === null) throw new Error("apt knows no linux-image-cloud-amd64; run apt-get update");
    return { take: newest, locked: true, warning: null };
  }
  const shown = `${lock.name} ${lock.version}`;
  if (pinned !== null && pinned.sha256 !== lock.sha256)
    throw new Error(
      `the mirror's ${shown} is another file than kernel.lock pins (sha256 ${pinned.sha256}, pinned ${lock.sha256}); ` +
        "find out why before anything is built of it",
    );
  if (pinned !== null) return { take: pinned, locked: true, warning: null };
  if (mode === "locked")
    throw new Error(
      `apt has ${shown} of kernel.lock no more; pin the newest with scripts/guest/build.sh --update, or get the package of ` +
        "snapshot.debian.org into apt's sources",
    );
  if (newest === null)
    throw new Error(`apt has neither ${shown} of kernel.lock nor a linux-image-cloud-amd64; run apt-get update`);
  return {
    take: newest,
    locked: false,
    warning:
      `apt has ${shown} of kernel.lock no more: this guest is built of ${newest.name} ${newest.version}, as Debian signed it; ` +
      "pin it with scripts/guest/build.sh --update",
  };
}
