// The policy file of a running worker: read at the start, watched from then on, exchanged whole when a newer one is good. A bad or
// older one changes nothing. Each file that comes into force or is refused leaves a row. How the file is written is not known here.
import { stat } from "node:fs/promises";
import type { Clock, Timer } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import type { Principal } from "../../core/identity/spiffe.ts";
import type { Isolation } from "../../core/isolation.ts";
import { jobPolicyOf, type SitePolicy } from "../../core/policy/site-policy.ts";
import { refusalOf, type SeenVersion } from "../../core/policy/version-order.ts";
import type { JobPolicy, PolicySource } from "../../core/tenant-policy.ts";
import { readSeenVersion, seenVersionFile, writeSeenVersion } from "./seen-version.ts";
import { readBounded } from "./state-file.ts";

/** A file came into force (no problem), or was refused. */
export interface PolicyRowEvent {
  readonly digest: Digest | null;
  readonly version: number | null;
  readonly problem: string | null;
}

export interface PolicyFile {
  readonly path: string;
  /** Throws `config.invalid`. UNTRUSTED: whoever may write the file. */
  readonly parse: (bytes: Uint8Array, shown: string) => SitePolicy;
}

export interface WatchedPolicyOptions {
  readonly file: PolicyFile;
  /** Where it is kept which version was seen. */
  readonly folder: string;
  readonly isolation: Isolation;
  /** Resolves when the row is durable. */
  readonly record: (event: PolicyRowEvent) => Promise<void>;
  readonly clock: Clock;
  readonly logger: Logger;
}

export const POLICY_POLL_MS = 2_000;
/** Each so many polls the content is read whatever the file's times say. */
const CONTENT_POLLS = 30;
const BYTES_MAX = 1024 * 1024;

export class WatchedPolicy implements PolicySource {
  readonly #options: WatchedPolicyOptions;
  readonly #seenFile: string;
  #policy: SitePolicy;
  #seen: SeenVersion | null;
  /** What was refused last, so that it is refused aloud once. */
  #refused: string | null = null;
  /** Signatures of the file at the last poll, and when its content was read last. */
  #polled = "";
  #read = "";
  #polls = 0;
  #looking: Promise<void> = Promise.resolve();
  #timer: Timer | null = null;
  #closed = false;

  private constructor(options: WatchedPolicyOptions, policy: SitePolicy, seen: SeenVersion | null) {
    this.#options = options;
    this.#seenFile = seenVersionFile(options.folder);
    this.#policy = policy;
    this.#seen = seen;
  }

  /** Throws where the file is bad, or older than one that the worker has had. */
  static async open(options: WatchedPolicyOptions): Promise<WatchedPolicy> {
    const { file, folder, record } = options;
    const seen = await readSeenVersion(seenVersionFile(folder));
    let digest: Digest | null = null;
    try {
      const bytes = await contentOf(file.path);
      digest = sha256(bytes);
      const policy = file.parse(bytes, file.path);
      const refusal = refusalOf(policy, seen);
      if (refusal !== null) throw refused(file.path, refusal, policy.version);
      const watched = new WatchedPolicy(options, policy, seen);
      await watched.#comeIntoForce(policy);
      watched.#schedule();
      return watched;
    } catch (error) {
      if (error instanceof HpccError && error.code === "config.invalid")
        await record({ digest, version: versionIn(error), problem: error.message });
      throw error;
    }
  }

  get digest(): Digest {
    return this.#policy.digest;
  }

  get version(): number {
    return this.#policy.version;
  }

  /** The file in force. */
  get site(): SitePolicy {
    return this.#policy;
  }

  of(principal: Principal): JobPolicy | null {
    return jobPolicyOf(this.#policy, principal, this.#options.isolation);
  }

  /** Looks at the file now, for who has just changed it; never throws. */
  async check(): Promise<void> {
    await this.#after(async () => this.#take());
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await this.#looking;
  }

  #schedule(): void {
    if (this.#closed) return;
    this.#timer = this.#options.clock.after(POLICY_POLL_MS, () => {
      void this.#after(async () => this.#poll()).then(() => this.#schedule());
    });
  }

  /** One look after another. */
  async #after(look: () => Promise<void>): Promise<void> {
    this.#looking = this.#looking.then(look).catch((error: unknown) => {
      // What could not be written down does not count; the next poll tries again.
      this.#read = "";
      this.#options.logger.error("worker.policy.not_taken", { error: String(error) });
    });
    await this.#looking;
  }

  async #poll(): Promise<void> {
    const signature = await signatureOf(this.#options.file.path);
    const settled = signature === this.#polled;
    this.#polled = signature;
    this.#polls += 1;
    // One that changes between two polls may still be being written.
    if (settled && (signature !== this.#read || this.#polls % CONTENT_POLLS === 0)) await this.#take();
  }

  async #take(): Promise<void> {
    const { file } = this.#options;
    const signature = await signatureOf(file.path);
    let digest: Digest | null = null;
    try {
      const bytes = await contentOf(file.path);
      digest = sha256(bytes);
      if (digest === this.#policy.digest) this.#refused = null;
      else if (digest !== this.#refused) await this.#change(file.parse(bytes, file.path));
    } catch (error) {
      if (!(error instanceof HpccError) || error.code !== "config.invalid") throw error;
      await this.#refuse(digest, error);
    }
    this.#read = signature;
  }

  async #change(policy: SitePolicy): Promise<void> {
    const refusal = refusalOf(policy, this.#seen);
    if (refusal !== null) throw refused(this.#options.file.path, refusal, policy.version);
    await this.#comeIntoForce(policy);
  }

  async #comeIntoForce(policy: SitePolicy): Promise<void> {
    const { version, digest } = policy;
    if (this.#seen?.digest !== digest) await writeSeenVersion(this.#seenFile, { version, digest });
    this.#seen = { version, digest };
    await this.#options.record({ digest, version, problem: null });
    this.#policy = policy;
    this.#refused = null;
    this.#options.logger.info("worker.policy.in_force", { version, digest, file: this.#options.file.path });
  }

  async #refuse(digest: Digest | null, error: HpccError): Promise<void> {
    const what = digest ?? error.message;
    if (this.#refused === what) return;
    const { version, digest: inForce } = this.#policy;
    this.#options.logger.error("worker.policy.refused", { problem: error.message, digest, inForce, version });
    await this.#options.record({ digest, version: versionIn(error), problem: error.message });
    this.#refused = what;
  }
}

function refused(path: string, why: string, version: number): HpccError {
  const hint = "`hpcc policy check NEW --against OLD` tells whether workers will take a file.";
  return new HpccError("config.invalid", `${path}: ${why}`, { details: { version }, hint });
}

/** Of a file that could be read and was refused; null for one that could not. */
function versionIn({ details }: HpccError): number | null {
  return typeof details["version"] === "number" ? details["version"] : null;
}

async function contentOf(path: string): Promise<Uint8Array> {
  const unreadable = (why: string) => new HpccError("config.invalid", `cannot read ${path}: ${why}`);
  try {
    // A pipe would hold up whoever opens it.
    if (!(await stat(path)).isFile()) throw new Error("it is no file");
    const bytes = await readBounded(path, BYTES_MAX);
    if (bytes === null) throw new Error("there is none");
    return bytes;
  } catch (error) {
    throw unreadable((error as Error).message);
  }
}

/** Changes when the file does, as far as its folder tells. */
async function signatureOf(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(" ");
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}
