// Dials a port of a guest through the Unix socket of its vsock device, which speaks Firecracker's protocol: the host sends
// "CONNECT <port>\n", the device answers "OK <number>\n", and bytes of the guest may follow in the same read.
import { connect, type Socket } from "node:net";
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";

/** "OK 4294967295\n" has 14 bytes. */
const ANSWER_BYTES_MAX = 32;
const RETRY_MS = 10;

export interface DialOptions {
  readonly socketPath: string;
  readonly port: number;
  readonly clock: Clock;
  /** Ends the retries; its reason is thrown. */
  readonly signal: AbortSignal;
}

type Attempt =
  | { readonly t: "connected"; readonly socket: Socket }
  | { readonly t: "refused" }
  | { readonly t: "breach"; readonly detail: string };

/**
 * Tries until the guest's agent listens. An attempt that the device has taken is never given up but with the machine: vhost-
 * device-vsock dies when a guest accepts a connection whose host side is closed. The socket that it gives is paused
 * and yields the guest's first byte first.
 */
export async function dialGuest(options: DialOptions): Promise<Socket> {
  for (;;) {
    options.signal.throwIfAborted();
    const attempt = await dialOnce(options);
    switch (attempt.t) {
      case "connected":
        if (!options.signal.aborted) return attempt.socket;
        attempt.socket.destroy();
        break;
      case "breach":
        throw new HpccError("vm.breach", attempt.detail);
      case "refused":
        await pause(options.clock, options.signal);
    }
  }
}

function dialOnce({ socketPath, port, signal }: DialOptions): Promise<Attempt> {
  return new Promise((resolve) => {
    const socket = connect({ path: socketPath });
    let answer = Buffer.alloc(0);
    const settle = (attempt: Attempt): void => {
      signal.removeEventListener("abort", giveUp);
      socket.off("data", onData);
      if (attempt.t === "connected") {
        socket.off("error", giveUp);
        socket.off("close", giveUp);
      } else {
        socket.destroy();
      }
      resolve(attempt);
    };
    const giveUp = (): void => settle({ t: "refused" });
    // UNTRUSTED: guest (what follows the first line; the line itself is the device's)
    const onData = (bytes: Buffer): void => {
      answer = Buffer.concat([answer, bytes]);
      const end = answer.indexOf(0x0a);
      if (end < 0) {
        if (answer.length > ANSWER_BYTES_MAX) settle({ t: "breach", detail: "the vsock device's answer has no end" });
        return;
      }
      const line = answer.toString("latin1", 0, Math.min(end, ANSWER_BYTES_MAX));
      if (!/^OK \d{1,10}$/.test(line)) {
        settle({ t: "breach", detail: `the vsock device answered ${JSON.stringify(line)}` });
        return;
      }
      socket.pause();
      const rest = answer.subarray(end + 1);
      settle({ t: "connected", socket });
      if (rest.length > 0) socket.unshift(rest);
    };
    signal.addEventListener("abort", giveUp);
    socket.on("error", giveUp);
    socket.on("close", giveUp);
    socket.on("data", onData);
    socket.write(`CONNECT ${port}\n`, "latin1");
  });
}

/** Waits a moment before another attempt, or until the signal aborts. */
export function pause(clock: Clock, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      timer.cancel();
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = clock.after(RETRY_MS, done);
    signal.addEventListener("abort", done);
  });
}
