// The folder in which a command runs. It may have been removed meanwhile, as the folder of a test's build is while its shell still stands in it.
import { realpathSync } from "node:fs";
import { type ByteString, byteStringOf } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";

/** With links resolved. */
export function workingFolder(): ByteString {
  try {
    return byteStringOf(realpathSync.native(".", "buffer"));
  } catch (error) {
    throw isFolderGone(error) ? folderGone() : error;
  }
}

/** The error of a command that asked for its folder by one of Node's own functions. */
export function withFolderGone(error: unknown): unknown {
  return isFolderGone(error) ? folderGone() : error;
}

function isFolderGone(error: unknown): boolean {
  const { code, syscall, path } = error as NodeJS.ErrnoException;
  return code === "ENOENT" && (syscall === "uv_cwd" || (syscall === "realpath" && path === "."));
}

function folderGone(): HpccError {
  return new HpccError("argument.invalid", "the folder in which this command runs has been removed", {
    hint: "Change to a folder that is there, and run it again.",
  });
}
