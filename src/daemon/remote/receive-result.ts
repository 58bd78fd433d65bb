// The bytes of a result: outputs into files, stdout and stderr into memory, each proven by its digest.
import { type FileHandle, open, unlink } from "node:fs/promises";
import { join } from "node:path";
import { HpccError } from "../../base/errors.ts";
import type { BlobRef } from "../../core/action/result-manifest.ts";
import { type FrameSink, inflateFrame } from "../../store/zstd-codec.ts";
import type { BlobReceiver } from "../../wire/worker/blob-receiver.ts";
import type { CheckedResult } from "./check-result.ts";
import type { RemoteOutput, RemoteResult } from "./remote-job.ts";

export type ResultContent = Pick<RemoteResult, "outputs" | "stdout" | "stderr">;

/** A blob up to this size is collected first, and inflated at once. */
const COLLECTED_BYTES_MAX = 128 * 1024;

/** Throws `peer.protocol` when a blob is not what its digest names; then no file is left. UNTRUSTED: the worker. */
export async function receiveResult(
  { blobs }: CheckedResult,
  receiver: BlobReceiver,
  folder: string,
): Promise<ResultContent> {
  const outputs: RemoteOutput[] = [];
  const stdio = { stdout: new Uint8Array(), stderr: new Uint8Array() };
  try {
    for (const blob of blobs) {
      if (blob.kind === "output") {
        const file = join(folder, `output-${blob.output.index}`);
        outputs.push({ ...blob.output, file });
        await writeNew(file, async (sink) => receive(blob, receiver, sink));
      } else {
        const parts: Uint8Array[] = [];
        await receive(blob, receiver, async (part) => void parts.push(part));
        stdio[blob.kind] = Buffer.concat(parts);
      }
    }
    return { outputs, ...stdio };
  } catch (error) {
    for (const { file } of outputs) await unlink(file).catch(() => {});
    throw error;
  }
}

async function receive(ref: BlobRef, receiver: BlobReceiver, sink: FrameSink): Promise<void> {
  if (ref.size === 0) return;
  try {
    const frame = ref.size > COLLECTED_BYTES_MAX ? receiver.next() : await collect(receiver.next());
    await inflateFrame(ref, frame, sink);
  } catch (error) {
    if (error instanceof HpccError && error.code === "argument.invalid")
      throw new HpccError("peer.protocol", `the worker sent a wrong blob: ${error.message}`, { cause: error });
    throw error;
  }
}

async function collect(frame: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of frame) parts.push(part);
  return Buffer.concat(parts);
}

async function writeNew(file: string, fill: (sink: FrameSink) => Promise<void>): Promise<void> {
  let handle: FileHandle | null = null;
  try {
    handle = await open(file, "wx", 0o600);
    const opened = handle;
    await fill(async (bytes) => {
      let done = 0;
      while (done < bytes.length) done += (await opened.write(bytes, done)).bytesWritten;
    });
  } catch (error) {
    if (typeof (error as NodeJS.ErrnoException).errno !== "number") throw error;
    throw new HpccError("store.io", `cannot write ${file}`, { cause: error });
  } finally {
    await handle?.close();
  }
}
