// What the system says of a path that a command was given, as an error of ours: no bug, and the person can mend it.
import { HpccError } from "../base/errors.ts";
import { withFolderGone } from "./working-folder.ts";

const FAULTS_OF_PATHS = new Set([
  "EACCES",
  "EPERM",
  "EROFS",
  "ENOENT",
  "ENOTDIR",
  "EISDIR",
  "EEXIST",
  "ENOTEMPTY",
  "ELOOP",
  "ENAMETOOLONG",
  "ENOSPC",
  "EDQUOT",
  "ETXTBSY",
  "EXDEV",
]);

/** The error itself where it is one of ours already, or of no path. */
export function knownError(thrown: unknown): unknown {
  const error = withFolderGone(thrown);
  if (error instanceof HpccError || !(error instanceof Error)) return error;
  const { code = "", syscall = "", path, message } = error as NodeJS.ErrnoException;
  if (path === undefined || !FAULTS_OF_PATHS.has(code)) return error;
  // "EACCES: permission denied, mkdir '/x'"
  const words = message.slice(message.indexOf(": ") + 2, message.indexOf(", "));
  return new HpccError("store.io", `${path}: ${words} (${syscall}, ${code})`, {
    cause: error,
    hint: "Check the path, the permissions of its folders and the disk's space.",
  });
}
