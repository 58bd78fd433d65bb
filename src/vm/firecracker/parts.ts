// What a machine is made of, filled while it starts and ended in one place; and the one way to its agent.
import { randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { Digest } from "../../core/digest/digest.ts";
import { dialGuest } from "../agent/dial.ts";
import { AGENT_PORT, type AgentDeadlines } from "../agent/limits.ts";
import { dialSession } from "../agent/scrub.ts";
import type { OpenSession, SessionOptions } from "../agent/session.ts";
import type { OpenStream } from "../agent/stream.ts";
import type { GuestFiles } from "../guest-files.ts";
import type { Jail, Keeper } from "../keeper/keeper.ts";
import type { MachineOrigin } from "../runtime.ts";
import type { FirecrackerApi } from "./api.ts";
import type { SnapshotBinding } from "./binding.ts";
import type { ConsoleReader } from "./console.ts";
import type { VsockDoor } from "./vsock-door.ts";

export interface FirecrackerContext {
  readonly keeper: Keeper;
  readonly guest: GuestFiles;
  /** Folder for larger outputs of executions. */
  readonly outputsFolder: string;
  readonly openStream: OpenStream;
  readonly bootDeadlineMs: number;
  readonly restoreDeadlineMs: number;
  /** What a console may carry in a machine's life; a guest that writes more is up to no good. */
  readonly consoleBytesMax: number;
  /** Whether Firecracker writes its counters into the jail. */
  readonly metrics: boolean;
  readonly deadlines: AgentDeadlines;
  /** Machines that are parked: they end with the keeper. */
  readonly parked: Set<{ lost(detail: string): void }>;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface MachineStart {
  readonly id: string;
  readonly binding: SnapshotBinding;
  readonly origin: MachineOrigin;
  /** What it is restored from; null boots it. */
  readonly snapshot: { readonly id: string; readonly binding: Digest } | null;
}

export interface Parts {
  jail: Jail | null;
  api: FirecrackerApi | null;
  console: ConsoleReader | null;
  door: VsockDoor | null;
  session: OpenSession | null;
}

export type CompleteParts = { readonly [part in Exclude<keyof Parts, "session">]: NonNullable<Parts[part]> } & {
  session: OpenSession;
};

/** Kills, waits and removes. Gives the last lines of the console. Never rejects: what stays is logged. */
export async function dismantle(parts: Parts, logger: Logger): Promise<string> {
  letGo(parts);
  try {
    await parts.jail?.destroy();
  } catch (error) {
    logger.error("vm.leaked", { vm: parts.jail?.vm, error: String(error) });
  }
  const tail = parts.console?.log.tail() ?? "";
  parts.console?.close();
  return tail;
}

/** Closes what this process holds of a machine; the console, which may still say why it ends, stays open. */
export function letGo(parts: Parts): void {
  parts.session?.close();
  parts.api?.close();
  parts.door?.close();
}

export function sessionOptions(context: FirecrackerContext): SessionOptions {
  const { clock, deadlines, outputsFolder, openStream } = context;
  return { clock, deadlines, folder: outputsFolder, randomBytes, openStream };
}

/** Dials the guest's agent once it listens. */
export function dialAgent(context: FirecrackerContext, door: VsockDoor, signal: AbortSignal): Promise<Duplex> {
  return dialGuest({ socketPath: door.socketPath, port: AGENT_PORT, clock: context.clock, signal });
}

/** Dials the guest's agent and opens the stream, again and again until it lets one in or the signal aborts. */
export function connectAgent(context: FirecrackerContext, door: VsockDoor, signal: AbortSignal): Promise<OpenSession> {
  return dialSession((during) => dialAgent(context, door, during), sessionOptions(context), signal);
}
