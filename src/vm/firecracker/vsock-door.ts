// The way into a guest: the vsock device's socket, held by its inode. Its names are gone from jail and host before the guest is
// dialled, so that nobody else ever can; this process can dial again, after a scrub, through the descriptor that it holds.
import { closeSync, fstatSync, openSync } from "node:fs";
import { HpccError } from "../../base/errors.ts";
import type { Jail } from "../keeper/keeper.ts";

/** Linux's open(2): a handle that names a file and reads nothing of it. */
const O_PATH = 0o10000000;
const O_NOFOLLOW = 0o400000;

export class VsockDoor {
  readonly #fd: number;
  #open = true;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Takes hold of the socket, then has its names removed. The VMM has made it. */
  static async take(jail: Jail): Promise<VsockDoor> {
    const fd = openSync(await jail.exposeVsock(), O_PATH | O_NOFOLLOW);
    try {
      if (!fstatSync(fd).isSocket()) throw new HpccError("vm.breach", "the vsock device's socket is none");
      await jail.sealVsock();
      return new VsockDoor(fd);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** Where it can be dialled, in this process alone. */
  get socketPath(): string {
    if (!this.#open) throw new HpccError("vm.lost", "the microVM is gone");
    return `/proc/self/fd/${this.#fd}`;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.#fd);
  }
}
