// Keeps the bytes that a guest made: small ones in memory within a budget, larger ones in files that have no name, so that
// nothing is left of them whatever happens to the worker.
import { randomBytes } from "node:crypto";
import { type FileHandle, open, unlink } from "node:fs/promises";
import { join } from "node:path";
import { HpccError } from "../../base/errors.ts";
import type { ReceivedBytes } from "../execution.ts";

/** Larger streams go to a file. */
const MEMORY_BYTES_PER_STREAM_MAX = 1024 * 1024;
const READ_BYTES = 256 * 1024;

/** Memory that the results of one session may hold together. */
export class MemoryBudget {
  #free: number;

  constructor(bytes: number) {
    this.#free = bytes;
  }

  take(bytes: number): boolean {
    if (bytes > this.#free) return false;
    this.#free -= bytes;
    return true;
  }

  give(bytes: number): void {
    this.#free += bytes;
  }
}

/** Takes a stream of a size known beforehand; the caller sees to it that no more than that comes. */
export interface Receiver {
  readonly received: ReceivedBytes;
  write(bytes: Uint8Array): Promise<void> | undefined;
  dispose(): Promise<void>;
}

export interface ReceiverOptions {
  readonly sizeBytes: number;
  readonly budget: MemoryBudget;
  /** Folder for files; the worker's own. */
  readonly folder: string;
}

export function makeReceiver({ sizeBytes, budget, folder }: ReceiverOptions): Receiver {
  if (sizeBytes <= MEMORY_BYTES_PER_STREAM_MAX && budget.take(sizeBytes)) return new MemoryReceiver(sizeBytes, budget);
  return new FileReceiver(sizeBytes, folder);
}

class MemoryReceiver implements Receiver {
  readonly received: ReceivedBytes;
  readonly #content: Buffer;
  readonly #budget: MemoryBudget;
  #length = 0;
  #disposed = false;

  constructor(sizeBytes: number, budget: MemoryBudget) {
    const content = Buffer.allocUnsafeSlow(sizeBytes);
    this.#content = content;
    this.#budget = budget;
    this.received = {
      sizeBytes,
      async *chunks() {
        if (sizeBytes > 0) yield content;
      },
      bytes: () => Promise.resolve(content),
    };
  }

  write(bytes: Uint8Array): undefined {
    this.#content.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  dispose(): Promise<void> {
    if (!this.#disposed) this.#budget.give(this.#content.length);
    this.#disposed = true;
    return Promise.resolve();
  }
}

class FileReceiver implements Receiver {
  readonly received: ReceivedBytes;
  readonly #folder: string;
  #file: Promise<FileHandle> | null = null;
  #length = 0;
  #disposed = false;

  constructor(sizeBytes: number, folder: string) {
    this.#folder = folder;
    const chunks = (): AsyncIterable<Uint8Array> => this.#chunks(sizeBytes);
    this.received = {
      sizeBytes,
      chunks,
      bytes: async () => {
        const all: Uint8Array[] = [];
        for await (const chunk of chunks()) all.push(chunk);
        return Buffer.concat(all);
      },
    };
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (this.#disposed) return;
    this.#file ??= openUnnamed(this.#folder);
    try {
      const file = await this.#file;
      let done = 0;
      while (done < bytes.length) {
        const { bytesWritten } = await file.write(bytes, done, bytes.length - done, this.#length + done);
        done += bytesWritten;
      }
    } catch (cause) {
      throw new HpccError("store.io", `cannot keep an output of a compile in ${this.#folder}`, { cause });
    }
    this.#length += bytes.length;
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    if (this.#file)
      await this.#file.then(
        (file) => file.close(),
        () => undefined,
      );
  }

  async *#chunks(sizeBytes: number): AsyncIterable<Uint8Array> {
    if (this.#disposed || !this.#file) {
      if (sizeBytes === 0) return;
      throw new Error("bug: the result of an execution is read after its end");
    }
    const file = await this.#file;
    for (let offset = 0; offset < sizeBytes; ) {
      const wanted = Math.min(READ_BYTES, sizeBytes - offset);
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(wanted), 0, wanted, offset);
      if (bytesRead === 0) throw new HpccError("store.io", "an output of a compile was cut short on disk");
      offset += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  }
}

async function openUnnamed(folder: string): Promise<FileHandle> {
  const path = join(folder, `output-${randomBytes(12).toString("hex")}`);
  const file = await open(path, "wx+", 0o600);
  try {
    await unlink(path);
  } catch (error) {
    await file.close();
    throw error;
  }
  return file;
}
