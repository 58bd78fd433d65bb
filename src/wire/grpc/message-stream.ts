// One side of a bidirectional call: messages in at the reader's pace, messages out with back-pressure. The same for
// client and server.
import { once } from "node:events";
import type { Duplex } from "node:stream";
import { HpccError } from "../../base/errors.ts";

export interface MessageStream<In, Out> {
  /**
   * The other side's messages, once. Ends when the other side ends, throws HpccError when the call breaks; not reading
   * holds the sender back. On a server a caller that cancels may look like one that ends: its context's signal tells.
   */
  readonly incoming: AsyncIterable<In>;
  /**
   * Sends one message. False when the buffer is full: await `drained()` before the next. Dropped after the end. `flushed`
   * is called when the connection has taken the message, or never will.
   */
  send(message: Out, flushed?: () => void): boolean;
  /** Resolves when there is room, or when the call has ended. */
  drained(): Promise<void>;
  /** No more messages from this side. */
  end(): void;
  /** Aborted when the call is over, whichever way. */
  readonly closed: AbortSignal;
}

/** Wraps grpc-js's duplex; `translate` makes what `incoming` throws out of what the duplex threw. */
export function messageStream<In, Out>(
  duplex: Duplex,
  closed: AbortSignal,
  translate: (error: Error) => HpccError,
): MessageStream<In, Out> {
  async function* incoming(): AsyncGenerator<In, void, undefined> {
    try {
      for await (const message of duplex.iterator({ destroyOnReturn: false })) yield message as In;
    } catch (error) {
      throw error instanceof HpccError ? error : translate(error as Error);
    }
  }
  const ended = () => closed.aborted || duplex.destroyed || duplex.writableEnded;
  return {
    incoming: incoming(),
    closed,
    send(message, flushed) {
      if (!ended()) return duplex.write(message, flushed);
      if (flushed) process.nextTick(flushed);
      return true;
    },
    async drained() {
      if (ended() || !duplex.writableNeedDrain) return;
      const leave = new AbortController();
      const stop = () => leave.abort();
      closed.addEventListener("abort", stop, { once: true });
      duplex.once("close", stop);
      try {
        await once(duplex, "drain", { signal: leave.signal });
      } catch {
        // Over, or broken: the reader of `incoming` learns why.
      } finally {
        closed.removeEventListener("abort", stop);
        duplex.removeListener("close", stop);
      }
    },
    end() {
      if (!ended()) duplex.end();
    },
  };
}
