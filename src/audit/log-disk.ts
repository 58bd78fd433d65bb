// What writes and syncs a log's segments.
import type { FileHandle } from "node:fs/promises";

/** What touches the disk; a test's place for faults. */
export interface LogDisk {
  write(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void>;
  sync(handle: FileHandle): Promise<void>;
}

export const LOG_DISK: LogDisk = {
  async write(handle, bytes, position) {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
      done += bytesWritten;
    }
  },
  sync: async (handle) => handle.datasync(),
};
