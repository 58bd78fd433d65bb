// Reads files of a log's folder, which may be a copy of somebody else's: a pipe would hold its reader for ever, and a device or a file full of
// holds fill its memory. UNTRUSTED: whoever made the folder.
import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";

/** More than a segment can have: what it may hold before the last group of rows, and that group. */
const PLAIN_FILE_BYTES_MAX = 128 * 1024 * 1024;

const FLAGS = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;

/** Opens a plain file that is not too large, to read it. Throws the system's error, or one that says what is wrong. */
export async function openPlainFile(path: string): Promise<FileHandle> {
  const handle = await open(path, FLAGS);
  try {
    const found = await handle.stat();
    if (!found.isFile()) throw new Error("it is no plain file");
    checkSize(found.size);
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Of any size. */
export function openPlainFileSync(path: string): number {
  const fd = openSync(path, FLAGS);
  try {
    if (!fstatSync(fd).isFile()) throw new Error("it is no plain file");
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** All of a plain file that is not too large; throws as `openPlainFile` does. */
export async function readPlainFile(path: string): Promise<Buffer> {
  const handle = await openPlainFile(path);
  try {
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}

export function readPlainFileSync(path: string): Buffer {
  const fd = openPlainFileSync(path);
  try {
    checkSize(fstatSync(fd).size);
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}

function checkSize(size: number): void {
  if (size > PLAIN_FILE_BYTES_MAX) throw new Error(`it has ${size} bytes, and may have ${PLAIN_FILE_BYTES_MAX}`);
}
