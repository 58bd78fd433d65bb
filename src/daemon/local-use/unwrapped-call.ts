// A call of a script that only calls a compiler, as a call of that compiler; the scripts become part of what the compiler is made of.
import type { ByteString } from "../../base/byte-string.ts";
import { FieldWriter } from "../../core/action/fields.ts";
import { sha256 } from "../../core/digest/digest.ts";
import type { CallInput } from "../call/answered-call.ts";
import { stampOf } from "../call/file-stamp.ts";
import type { LauncherCall } from "../control/launcher-connection.ts";
import type { FileDigests } from "./file-digests.ts";
import type { HostCompiler } from "./host-compilers.ts";
import { readWrapper, WRAPPER_BYTES_MAX } from "./wrapper-script.ts";

/** Scripts that call scripts. */
const DEPTH_MAX = 4;
/** Makes a shell read another script first. */
const SHELL_SETUP = /^(?:BASH_ENV|ENV|SHELLOPTS|BASHOPTS|BASH_FUNC_[^=]*)=/;

export interface UnwrappedCall {
  readonly call: LauncherCall;
  readonly scripts: readonly CallInput[];
}

/** The call itself where its compiler is no such script. */
export function unwrapped(called: LauncherCall, files: FileDigests): UnwrappedCall {
  if (called.message.environment.some((entry) => SHELL_SETUP.test(entry))) return { call: called, scripts: [] };
  const scripts: CallInput[] = [];
  let { message } = called;
  for (let depth = 0; depth < DEPTH_MAX && message.hostCompiler !== null; depth++) {
    const path = message.hostCompiler;
    const stamp = stampOf(path);
    const read = stamp === null || stamp.size > WRAPPER_BYTES_MAX ? null : files.read(path);
    const wrapper = read === null ? null : readWrapper(read.bytes);
    if (read === null || wrapper === null) break;
    const { program, before, after } = wrapper;
    scripts.push({ path, digest: read.digest, stamp: read.stamp });
    const argv: ByteString[] = [program, ...before, ...message.argv.slice(1), ...after];
    message = { ...message, argv, hostCompiler: program };
  }
  if (scripts.length === 0) return { call: called, scripts };
  const { signal } = called;
  const call: LauncherCall = {
    message,
    signal,
    run: (request) => called.run(request),
    whenDone: (release) => called.whenDone(release),
  };
  return { call, scripts };
}

/** A compiler with the scripts that lead to it. */
export function behindScripts(compiler: HostCompiler, scripts: readonly CallInput[]): HostCompiler {
  if (scripts.length === 0) return compiler;
  const fields = new FieldWriter().ascii(1, "hpcc.wrapped-compiler.v1").digest(2, compiler.identity);
  for (const { path, digest } of scripts) fields.byteString(3, path).digest(4, digest);
  return { ...compiler, identity: sha256(fields.finish()), files: [...scripts, ...compiler.files] };
}
