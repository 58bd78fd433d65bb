// The driver `namespace`: makes and keeps the client's two namespaces for each image and project root. It claims no
// boundary; it gives a compile the image's toolchain and one view of files. Knows nothing of compilers or calls.
import { closeSync, fstatSync, openSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import type { ByteString } from "../../base/byte-string.ts";
import { ascii, byteStringOfText, bytesOf } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { findProgram } from "../../base/system/find-program.ts";
import type { Digest } from "../../core/digest/digest.ts";
import { listFolder } from "./folder-listing.ts";
import { type HeldNamespace, type Holder, startHolder } from "./holder.ts";
import {
  type FolderEntry,
  type MountRoots,
  type MountSources,
  planListing,
  planLocal,
  planRun,
  planStrict,
  type RunMounts,
  type ShownFolders,
} from "./mount-plan.ts";

export interface NamespaceRequest extends MountRoots {
  /** The image, and the host path at which it is unpacked. */
  readonly image: Digest;
  readonly rootfs: string;
  /** For a namespace of `hpcc run` beside the others; null for none. */
  readonly run?: RunMounts | null;
}

export interface KeptNamespaces {
  /** For preprocessing: image and roots alone. */
  readonly strict: HeldNamespace;
  /** For local compiles: the image's toolchain in the host's tree. */
  readonly local: HeldNamespace;
  /** For `hpcc run`: whoever is in it can enter the others. */
  readonly run: HeldNamespace | null;
  /** `strict` or `local` with some folders of the image replaced, made at the first question and kept with the others. */
  readonly listing: (base: "strict" | "local", shown: ShownFolders) => Promise<HeldNamespace>;
  /** Makes `local` without a holder: append "--", the program and its arguments. bubblewrap keeps the caller's cwd. */
  readonly localCommand: readonly ByteString[];
}

export interface NamespaceKeeperOptions {
  readonly logger: Logger;
  /** bubblewrap; found on PATH by default. */
  readonly bwrap?: string;
}

interface Entry {
  readonly made: Promise<{
    readonly kept: KeptNamespaces;
    readonly holders: readonly Holder[];
    readonly listings: Listings;
  }>;
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

/** A namespace that `hpcc run` enters. While it is open here, the kernel gives its number to no other one. */
interface KnownRun {
  readonly fd: number;
  readonly holderPid: number;
  readonly request: NamespaceRequest;
}

/** Distinct (image, roots) that are kept at a time; the oldest go first. */
const KEPT_MAX = 64;
/** How long a namespace that was replaced can still be entered by calls that were told of it. */
const RETIRED_MS = 60_000;
/** Namespaces of `hpcc run` that are known at a time; the oldest are forgotten first. */
const RUNS_MAX = 256;

export class NamespaceKeeper {
  readonly #options: NamespaceKeeperOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #retired = new Map<Entry, NodeJS.Timeout>();
  /** By their numbers, from their making to the end of the last process in them, which a command may be. */
  readonly #runs = new Map<bigint, KnownRun>();
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
    const key = JSON.stringify([request.rootfs, request.project, request.extraRoots, request.callFiles, request.run]);
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
      hostEtc: (listFolder(ascii("/etc")) ?? []).map(({ name }) => name).filter(isThere),
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

  /** What the namespace of `hpcc run` with this number was made for; null for any other. */
  runRequest(mountNamespace: bigint): NamespaceRequest | null {
    return this.#runs.get(mountNamespace)?.request ?? null;
  }

  /** Those of them that a command is in; those that nobody is in any more are forgotten. */
  runsInUse(): NamespaceRequest[] {
    const inside = processesByMountNamespace();
    const inUse: NamespaceRequest[] = [];
    for (const [number, { holderPid, request }] of this.#runs) {
      const pids = inside.get(`mnt:[${number}]`) ?? [];
      if (pids.length === 0) this.#forgetRun(number);
      else if (pids.some((pid) => pid !== holderPid)) inUse.push(request);
    }
    return inUse;
  }

  #knowRun({ pid, mountNamespaceInode }: Holder, request: NamespaceRequest): void {
    this.runsInUse();
    for (const oldest of this.#runs.keys()) {
      if (this.#runs.size < RUNS_MAX) break;
      this.#forgetRun(oldest);
    }
    const fd = openSync(`/proc/${pid}/ns/mnt`, "r");
    const number = fstatSync(fd, { bigint: true }).ino;
    if (number === BigInt(mountNamespaceInode)) this.#runs.set(number, { fd, holderPid: pid, request });
    else closeSync(fd);
  }

  #forgetRun(number: bigint): void {
    const known = this.#runs.get(number);
    this.#runs.delete(number);
    if (known !== undefined) closeSync(known.fd);
  }

  /** Ends all kept namespaces. */
  async close(): Promise<void> {
    this.#closed = true;
    const entries = [...this.#entries.values(), ...this.#retired.keys()];
    for (const timer of this.#retired.values()) clearTimeout(timer);
    this.#entries.clear();
    this.#retired.clear();
    for (const number of this.#runs.keys()) this.#forgetRun(number);
    await Promise.all(entries.map(closeEntry));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /**
   * Where a user namespace is needed, the one of `hpcc run` is above the others': only from above, or from the host, can they be
   * entered.
   */
  async #make(sources: MountSources, request: NamespaceRequest): Promise<Awaited<Entry["made"]>> {
    const plans = { strict: planStrict(sources, request), local: planLocal(sources, request) };
    // Launchers execute `localCommand` from a plan, and search no PATH for it.
    const bwrap = findProgram(this.#options.bwrap ?? "bwrap") ?? "bwrap";
    const holders: Holder[] = [];
    try {
      const first = await this.#start(bwrap, runPlan(sources, request) ?? plans.strict);
      holders.push(first.holder);
      const { user } = first;
      const run = request.run == null ? null : first.holder;
      const command = run === null || user.length === 0 ? ([bwrap] as const) : within(run, bwrap);
      const keep = async (plan: readonly ByteString[]) => {
        const holder = await startHolder(command, [...user, ...plan]);
        holders.push(holder);
        return holder;
      };
      const strict = run === null ? first.holder : await keep(plans.strict);
      const local = await keep(plans.local);
      if (run !== null) this.#knowRun(run, request);
      const localCommand = [byteStringOfText(bwrap), ascii("--die-with-parent"), ...user, ...plans.local];
      const namespaces = { strict: identity(strict), local: identity(local), run: run && identity(run) };
      const listings = new Listings((base, shown) =>
        startHolder(command, [...user, ...planListing(plans[base], shown)]),
      );
      const listing: KeptNamespaces["listing"] = (base, shown) => listings.get(base, shown);
      return { kept: { ...namespaces, listing, localCommand }, holders, listings };
    } catch (error) {
      await Promise.all(holders.map((holder) => holder.close()));
      throw error;
    }
  }

  /** Root needs no user namespace, unless its powers were taken away. */
  async #start(bwrap: string, plan: readonly ByteString[]): Promise<{ holder: Holder; user: ByteString[] }> {
    const user = [ascii("--unshare-user")];
    if (process.geteuid?.() === 0) {
      try {
        return { holder: await startHolder([bwrap], plan), user: [] };
      } catch (error) {
        if (!(error instanceof HpccError) || error.code !== "namespace.unavailable") throw error;
        this.#options.logger.debug("namespace.root.refused", { message: error.message });
      }
    }
    return { holder: await startHolder([bwrap], [...user, ...plan]), user };
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

function runPlan(sources: MountSources, request: NamespaceRequest): ByteString[] | null {
  return request.run == null ? null : planRun(sources, request, request.run);
}

/** bubblewrap in the user namespace of a holder. */
function within({ pid }: Holder, bwrap: string): readonly [string, ...string[]] {
  const nsenter = findProgram("nsenter") ?? "nsenter";
  return [nsenter, "--user", `--target=${pid}`, "--preserve-credentials", "--", bwrap];
}

/** Whether a name in /etc leads to something. */
function isThere(name: ByteString): boolean {
  return statSync(bytesOf(`/etc/${name}` as ByteString), { throwIfNoEntry: false }) !== undefined;
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
function placesOf({ rootfs, project, extraRoots, callFiles, run }: NamespaceRequest): string {
  const own = run == null ? [] : [run.launcher, ...run.folders];
  const roots = [project, callFiles, ...extraRoots.map(({ host }) => host), ...own];
  const paths = [Buffer.from(rootfs), ...roots.map(bytesOf)];
  const folders = paths.map((path) => {
    const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
    return stat === undefined ? "-" : `${stat.dev}:${stat.ino}`;
  });
  const mounts = readFileSync("/proc/self/mountinfo", "latin1").split("\n");
  return [...folders, ...mounts.filter((line) => !line.includes(" shared:"))].join("\n");
}

/** Processes that can be seen, by the mount namespace that their links in /proc name. */
function processesByMountNamespace(): Map<string, number[]> {
  const found = new Map<string, number[]>();
  for (const pid of readdirSync("/proc").map(Number).filter(Number.isInteger))
    try {
      const namespace = readlinkSync(`/proc/${pid}/ns/mnt`);
      found.set(namespace, [...(found.get(namespace) ?? []), pid]);
    } catch {
      // It is gone, or somebody else's.
    }
  return found;
}

function identity({ pid, mountNamespaceInode, userNamespaceInode }: Holder): HeldNamespace {
  return { pid, mountNamespaceInode, userNamespaceInode };
}

async function closeEntry(entry: Entry): Promise<void> {
  const made = await entry.made.catch(() => null);
  if (made !== null) await Promise.all([...made.holders.map((holder) => holder.close()), made.listings.close()]);
}

/** The namespaces in which files are listed, of one image and its roots. One that ended is made anew. */
class Listings {
  readonly #make: (base: "strict" | "local", shown: ShownFolders) => Promise<Holder>;
  readonly #made = new Map<string, Promise<Holder>>();
  #closed = false;

  constructor(make: (base: "strict" | "local", shown: ShownFolders) => Promise<Holder>) {
    this.#make = make;
  }

  async get(base: "strict" | "local", shown: ShownFolders): Promise<HeldNamespace> {
    if (this.#closed) throw new HpccError("namespace.unavailable", "the namespaces are closed");
    const key = `${base} ${shown.root} ${shown.stamp}`;
    const known = this.#made.get(key);
    if (known !== undefined) return identity(await known);
    const made = this.#make(base, shown);
    this.#made.set(key, made);
    const forget = () => void (this.#made.get(key) === made && this.#made.delete(key));
    made.then((holder) => holder.ended.then(forget), forget);
    return identity(await made);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#made.values()].map(async (made) => (await made.catch(() => null))?.close()));
  }
}
