// The console of a machine: a pipe that its process writes and the keeper made. UNTRUSTED: guest
import { constants, openSync } from "node:fs";
import { Socket } from "node:net";
import { ProcessLog } from "../process-log.ts";

export interface ConsoleReader {
  /** The last that was written. */
  readonly log: ProcessLog;
  close(): void;
}

export interface ConsoleOptions {
  /** Path of the pipe. */
  readonly pipe: string;
  /** What a console may carry in a machine's life. */
  readonly bytesMax: number;
  /** Called once when the guest writes more; nothing is read from then on. */
  readonly onFlood: () => void;
  /** Called after each piece that was read. */
  readonly onOutput?: (log: ProcessLog) => void;
}

/** Reads a console from now on. */
export function readConsole({ pipe, bytesMax, onFlood, onOutput }: ConsoleOptions): ConsoleReader {
  const log = new ProcessLog();
  // Neither the opening nor a read may wait for a writer: a thread of the pool would wait with it.
  const fd = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  const socket = new Socket({ fd, readable: true, writable: false });
  socket.on("error", () => undefined);
  socket.on("data", (bytes: Buffer) => {
    log.add(bytes);
    onOutput?.(log);
    if (log.totalBytes <= bytesMax) return;
    socket.destroy();
    onFlood();
  });
  socket.unref();
  return { log, close: () => socket.destroy() };
}
