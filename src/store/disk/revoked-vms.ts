// VMs of one tenant whose results are no answers any more. A mark on disk says so before any entry is removed, and goes when none
// is left, so that a process that is killed between goes on where it was. It knows no entries; whoever sweeps them is told whose.
import { HpccError } from "../../base/errors.ts";
import { type DiskFiles, storeError } from "./disk-files.ts";

const AREA = "revoked";
/** Swept ones that are remembered, for a result that was on its way into the cache meanwhile. */
const SWEPT_REMEMBERED_MAX = 4096;
/** Of a VM's name, so that its mark's name fits into a file system. */
const NAME_BYTES_MAX = 120;

/** Removes the entries of these VMs; gives how many of each. What it gives is durable. */
export type Sweep = (vms: ReadonlySet<string>) => Promise<ReadonlyMap<string, number>>;

export interface RevokedVmsOptions {
  readonly files: DiskFiles;
  readonly sweep: Sweep;
  readonly swept: (vm: string, entries: number) => void;
  readonly failed: (error: unknown) => void;
}

export class RevokedVms {
  readonly #options: RevokedVmsOptions;
  /** With marks: their entries may still be there. */
  readonly #pending = new Set<string>();
  /** In the order in which they were swept. */
  readonly #swept = new Set<string>();
  /** Not before anybody looks anything up: who opens a store to read of rows changes nothing. */
  #loading: Promise<void> | null = null;
  #sweeping: Promise<void> | null = null;

  constructor(options: RevokedVmsOptions) {
    this.#options = options;
  }

  /** Throws when the marks cannot be read: nobody knows then what is revoked. */
  async has(vm: string): Promise<boolean> {
    await (this.#loading ??= this.#load());
    return this.#pending.has(vm) || this.#swept.has(vm);
  }

  /** Its results are no answers from this call on; resolves when that is durable. */
  async add(vm: string): Promise<void> {
    if (this.#pending.has(vm) || this.#swept.has(vm)) return;
    this.#pending.add(vm);
    try {
      await this.#options.files.create(true, async () => this.#mark(vm));
    } catch (error) {
      throw storeError(error, `cannot note that ${vm} is revoked`);
    } finally {
      this.#sweep();
    }
  }

  /** Resolves when no sweep is under way. */
  async settled(): Promise<void> {
    await this.#loading?.catch(() => undefined);
    while (this.#sweeping !== null) await this.#sweeping;
  }

  async #load(): Promise<void> {
    try {
      for (const name of await this.#options.files.names(AREA)) this.#pending.add(Buffer.from(name, "hex").toString());
    } catch (error) {
      throw storeError(error, "cannot read which VMs are revoked");
    }
    if (this.#pending.size > 0) this.#sweep();
  }

  #sweep(): void {
    this.#sweeping ??= this.#sweepAll()
      .catch((error: unknown) => this.#options.failed(error))
      .finally(() => {
        this.#sweeping = null;
      });
  }

  async #sweepAll(): Promise<void> {
    const { files, sweep, swept } = this.#options;
    while (this.#pending.size > 0) {
      const vms = new Set(this.#pending);
      const removed = await sweep(vms);
      for (const vm of vms) {
        this.#swept.add(vm);
        this.#pending.delete(vm);
        swept(vm, removed.get(vm) ?? 0);
      }
      await files.removeDurably([...vms].map((vm) => this.#mark(vm)));
      for (const vm of this.#swept) {
        if (this.#swept.size <= SWEPT_REMEMBERED_MAX) break;
        this.#swept.delete(vm);
      }
    }
  }

  #mark(vm: string): string {
    const name = Buffer.from(vm);
    if (name.length === 0 || name.length > NAME_BYTES_MAX)
      throw new HpccError("argument.invalid", "the name of a VM is empty or too long");
    return this.#options.files.plainPath(AREA, name.toString("hex"));
  }
}
