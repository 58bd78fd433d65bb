// A call whose compiler stands behind a launcher's link on PATH. GCC seeks its own parts beside the program that PATH has for argv[0], and the
// link would lead it astray: it is called by its path then, as a launcher that has no daemon calls it. UNTRUSTED: the caller's argv and PATH.
import { statSync } from "node:fs";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import type { LauncherCall } from "../control/launcher-connection.ts";

/** The call, by the compiler's path where PATH has something else of that name before it. */
export function calledByItself(call: LauncherCall): LauncherCall {
  const { argv, environment, hostCompiler, cwd } = call.message;
  const [name, ...rest] = argv;
  if (name === undefined || hostCompiler === null || name.includes("/")) return call;
  const path = environment.find((entry) => entry.startsWith("PATH="))?.slice("PATH=".length) ?? "";
  const first = path
    .split(":")
    .map((folder) => `${folder.startsWith("/") ? folder : `${cwd}/${folder}`}/${name}` as ByteString)
    .find(isProgram);
  if (first === undefined || first === hostCompiler || isSameFile(first, hostCompiler)) return call;
  return { ...call, message: { ...call.message, argv: [hostCompiler, ...rest] } };
}

function isProgram(path: ByteString): boolean {
  const stat = statSync(bytesOf(path), { throwIfNoEntry: false });
  return stat?.isFile() === true && (stat.mode & 0o111) !== 0;
}

function isSameFile(a: ByteString, b: ByteString): boolean {
  const [one, other] = [a, b].map((path) => statSync(bytesOf(path), { bigint: true, throwIfNoEntry: false }));
  return one !== undefined && other !== undefined && one.dev === other.dev && one.ino === other.ino;
}
