// Reads the keeper's answers, and says what its refusals mean to a driver.

import { type ErrorCode, HpccError } from "../../base/errors.ts";
import { type Digest, parseDigest } from "../../core/digest/digest.ts";
import { asObject, type Fields, KeeperRefusal } from "./channel.ts";
import type { KeeperHello, KeptProgram, KeptSnapshot } from "./keeper.ts";

export const KEEPER_PROTOCOL_VERSION = 1;

function bad(what: string): HpccError {
  return new HpccError("peer.protocol", `the keeper's ${what} is not what this version expects`);
}

function text(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value !== "string") throw bad(name);
  return value;
}

function count(fields: Fields, name: string): number {
  const value = fields[name];
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) throw bad(name);
  return value;
}

function object(fields: Fields, name: string): Fields {
  const value = asObject(fields[name]);
  if (value === null) throw bad(name);
  return value;
}

function digest(fields: Fields, name: string): Digest {
  return parseDigest(text(fields, name), `the keeper's ${name}`);
}

function program(fields: Fields): KeptProgram {
  const knownRelease = fields["known_release"];
  if (typeof knownRelease !== "boolean") throw bad("known_release");
  return { version: text(fields, "version"), digest: digest(fields, "sha256"), knownRelease };
}

export function readHello(fields: Fields): KeeperHello {
  if (fields["version"] !== KEEPER_PROTOCOL_VERSION) throw bad("version");
  const host = object(fields, "host");
  return {
    keeper: text(fields, "keeper"),
    vmm: program(object(fields, "vmm")),
    jailer: program(object(fields, "jailer")),
    host: { cpuModel: text(host, "cpu_model"), microcode: text(host, "microcode"), kernel: text(host, "kernel") },
  };
}

export interface StartedJail {
  readonly uid: number;
  readonly api: string;
  readonly console: string;
}

export function readStarted(fields: Fields): StartedJail {
  return { uid: count(fields, "uid"), api: text(fields, "api"), console: text(fields, "console") };
}

export function readPath(fields: Fields): string {
  return text(fields, "path");
}

export function readSnapshot(fields: Fields): KeptSnapshot {
  return {
    id: text(fields, "snapshot"),
    stateBytes: count(fields, "state_bytes"),
    memoryBytes: count(fields, "memory_bytes"),
    digest: digest(fields, "digest"),
  };
}

/** The name of a machine of which nothing is left, and how its VMM ended; null for other events. */
export function readExited(event: Fields): { readonly vm: string; readonly status: string } | null {
  const { event: kind, vm, status } = event as { event?: unknown; vm?: unknown; status?: unknown };
  return kind === "exited" && typeof vm === "string" && typeof status === "string" ? { vm, status } : null;
}

/** A refusal as an error of ours; `code` is for the refusals that have no code of their own. */
export function refused(error: unknown, code: ErrorCode): unknown {
  if (!(error instanceof KeeperRefusal)) return error;
  const own: ErrorCode = error.code === "jail-hostile" ? "vm.breach" : code;
  return new HpccError(own, `the keeper refused: ${error.message}`, { cause: error, details: { keeper: error.code } });
}
