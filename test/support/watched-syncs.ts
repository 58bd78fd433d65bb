// Tells which files and folders are really synced: the calls are the machine's own, and go on to it.
import { type FileHandle, open } from "node:fs/promises";

export interface SyncedFile {
  readonly ino: number;
  readonly kind: "file" | "folder";
}

type Syncing = Record<"datasync" | "sync", () => Promise<void>>;

/** Calls `synced` before each sync of this process while `run` runs. */
export async function watchSyncs(synced: (file: SyncedFile) => void, run: () => Promise<void>): Promise<void> {
  const any = await open("/dev/null");
  const handles = Object.getPrototypeOf(any) as Syncing;
  await any.close();
  const { datasync, sync } = handles;
  const watched = (real: () => Promise<void>) =>
    async function (this: FileHandle): Promise<void> {
      const info = await this.stat();
      synced({ ino: info.ino, kind: info.isDirectory() ? "folder" : "file" });
      await real.call(this);
    };
  Object.assign(handles, { datasync: watched(datasync), sync: watched(sync) });
  try {
    await run();
  } finally {
    Object.assign(handles, { datasync, sync });
  }
}
