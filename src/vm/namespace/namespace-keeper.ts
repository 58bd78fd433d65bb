// The driver `namespace`: makes and keeps the client's two namespaces for each image and project root. It claims no
// boundary; it gives a compile the image's toolchain and one view of files. Knows nothing of compilers or calls.
import { readFileSync, statSync } from "node:fs";
import type { ByteString } from "../../base/byte-string.ts";
import { ascii, byteStringOfText, bytesOf } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { findProgram } from "../../base/system/find-program.ts";
import { listFolder } from "./folder-listing.ts";
import { type HeldNamespace, type Holder, startHolder } from "./holder.ts";
import { type FolderEntry, type MountRoots, type MountSources, planLocal, planStrict } from "./mount-plan.ts";

export interface NamespaceRequest extends MountRoots {
  /** Host path of the unpacked image. */
  readonly rootfs: string;
}

export interface KeptNamespaces {
  /** For preprocessing: image and roots alone. */
  readonly strict: HeldNamespace;
  /** For local compiles: the image's toolchain in the host's tree. */
  readonly local: HeldNamespace;
  /** Makes `local` without a holder: append "--", the program and its arguments. bubblewrap keeps the caller's cwd. */
  readonly localCommand: readonly ByteString[];
}

export interface NamespaceKeeperOptions {
  readonly logger: Logger;
  /** bubblewrap; found on PATH by default. */
  readonly bwrap?: string;
}

interface Entry {
  readonly made: Promise<{ readonly kept: KeptNamespaces; readonly holders: readonly Holder[] }>;
  hostTop: HostTop;
  /** What its mounts were made of. */
  readonly places: string;
}

/** What the host's root folder held. */
interface HostTop {
  readonly entries: readonly FolderEntry[];
  /** When it was last changed: while that stays, it need not be read. */
  readonly changedNs: bigint;
}

/** Distinct (image, roots) that are kept at a time; the oldest go first. */
const KEPT_MAX = 64;
/** How long a namespace that was replaced can still be entered by calls that were told of it. */
const RETIRED_MS = 60_000;

export class NamespaceKeeper {
  readonly #options: NamespaceKeeperOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #retired = new Map<Entry, NodeJS.Timeout>();
  #closed = false;

  constructor(options: NamespaceKeeperOptions) {
    this.#options = options;
  }

  /**
   * The namespaces of an image and its roots, made when they are not there or their holders died. Throws `tool.missing`
   * without bubblewrap, `namespace.unavailable` where the host forbids namespaces, `argument.invalid` for impossible roots.
   */
  async get(request: NamespaceRequest): Promise<KeptNamespaces> {
    if (this.#closed) throw new HpccError("namespace.unavailable", "the keeper is closed");
    const key = JSON.stringify([request.rootfs, request.project, request.extraRoots, request.callFiles]);
    const known = this.#entries.get(key);
    const hostTop = readHostTop(known?.hostTop ?? null);
    const places = placesOf(request);
    if (known !== undefined) {
      if (known.hostTop.entries === hostTop.entries && known.places === places) {
        known.hostTop = hostTop;
        return (await known.made).kept;
      }
      this.#drop(key, known, "host.changed");
    }
    const rootfs = byteStringOfText(request.rootfs);
    const sources: MountSources = {
      rootfs,
      listImage: (path) => listFolder((rootfs + path) as ByteString),
      hostTop: hostTop.entries,
      hostShare: (listFolder(ascii("/usr/share")) ?? []).filter(({ t }) => t === "directory").map(({ name }) => name),
    };
    const entry: Entry = { hostTop, places, made: this.#make(sources, request) };
    this.#entries.set(key, entry);
    this.#limit();
    try {
      const { kept, holders } = await entry.made;
      for (const holder of holders) void holder.ended.then(() => this.#drop(key, entry, "holder.ended"));
      return kept;
    } catch (error) {
      if (this.#entries.get(key) === entry) this.#entries.delete(key);
      throw error;
    }
  }

  /** Ends all kept namespaces. */
  async close(): Promise<void> {
    this.#closed = true;
    const entries = [...this.#entries.values(), ...this.#retired.keys()];
    for (const timer of this.#retired.values()) clearTimeout(timer);
    this.#entries.clear();
    this.#retired.clear();
    await Promise.all(entries.map(closeEntry));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #make(sources: MountSources, roots: MountRoots): Promise<Awaited<Entry["made"]>> {
    const strictPlan = planStrict(sources, roots);
    const localPlan = planLocal(sources, roots);
    // Launchers execute `localCommand` from a plan, and search no PATH for it.
    const bwrap = findProgram(this.#options.bwrap ?? "bwrap") ?? "bwrap";
    const { holder: strict, user } = await this.#start(bwrap, strictPlan);
    try {
      const local = await startHolder(bwrap, [...user, ...localPlan]);
      const localCommand = [byteStringOfText(bwrap), ascii("--die-with-parent"), ...user, ...localPlan];
      return { kept: { strict: identity(strict), local: identity(local), localCommand }, holders: [strict, local] };
    } catch (error) {
      await strict.close();
      throw error;
    }
  }

  /** Root needs no user namespace, unless its powers were taken away. */
  async #start(bwrap: string, plan: readonly ByteString[]): Promise<{ holder: Holder; user: ByteString[] }> {
    const user = [ascii("--unshare-user")];
    if (process.geteuid?.() === 0) {
      try {
        return { holder: await startHolder(bwrap, plan), user: [] };
      } catch (error) {
        if (!(error instanceof HpccError) || error.code !== "namespace.unavailable") throw error;
        this.#options.logger.debug("namespace.root.refused", { message: error.message });
      }
    }
    return { holder: await startHolder(bwrap, [...user, ...plan]), user };
  }

  /** Stops handing out an entry and ends it, soon or at once. */
  #drop(key: string, entry: Entry, why: "host.changed" | "holder.ended" | "limit"): void {
    if (this.#entries.get(key) !== entry) return;
    this.#entries.delete(key);
    this.#options.logger.debug("namespace.dropped", { why });
    const end = () => {
      this.#retired.delete(entry);
      closeEntry(entry).catch((error: unknown) => {
        this.#options.logger.warn("namespace.close.failed", { message: String(error) });
      });
    };
    if (why === "holder.ended") end();
    else this.#retired.set(entry, setTimeout(end, RETIRED_MS).unref());
  }

  #limit(): void {
    for (const [key, entry] of this.#entries) {
      if (this.#entries.size <= KEPT_MAX) return;
      this.#drop(key, entry, "limit");
    }
  }
}

/** Reads the host's root folder; the entries of `before` themselves when they are the same. */
function readHostTop(before: HostTop | null): HostTop {
  const changedNs = statSync("/", { bigint: true }).mtimeNs;
  if (before?.changedNs === changedNs) return before;
  const entries = listFolder(ascii("/")) ?? [];
  const same = before !== null && JSON.stringify(before.entries) === JSON.stringify(entries);
  return { entries: same ? before.entries : entries, changedNs };
}

/**
 * The folders that the roots' paths lead to, and the mounts that reach no namespace by themselves. A mount shows the folder that it
 * was made of, also when another one stands at its path by now; as long as it does, the folder's number is nobody else's.
 */
function placesOf({ rootfs, project, extraRoots, callFiles }: NamespaceRequest): string {
  const paths = [Buffer.from(rootfs), ...[project, callFiles, ...extraRoots.map(({ host }) => host)].map(bytesOf)];
  const folders = paths.map((path) => {
    const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
    return stat === undefined ? "-" : `${stat.dev}:${stat.ino}`;
  });
  const mounts = readFileSync("/proc/self/mountinfo", "latin1").split("\n");
  return [...folders, ...mounts.filter((line) => !line.includes(" shared:"))].join("\n");
}

function identity({ pid, mountNamespaceInode, userNamespaceInode }: Holder): HeldNamespace {
  return { pid, mountNamespaceInode, userNamespaceInode };
}

async function closeEntry(entry: Entry): Promise<void> {
  const made = await entry.made.catch(() => null);
  if (made !== null) await Promise.all(made.holders.map((holder) => holder.close()));
}
