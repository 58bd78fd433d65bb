// Ends the stream of a guest that sends bytes without saying anything: HTTP/2 has frames (PING, SETTINGS, WINDOW_UPDATE) that the
// channel answers or swallows for as long as they come, which costs the worker its time. It counts the guest's bytes and reads
// none of them.
import { Breach } from "./agent/reply.ts";
import type { OpenStream } from "./agent/stream.ts";

/**
 * Bytes from one message to the next. What is on its way to a busy worker is the channel's window of 1 MiB and the sockets'
 * buffers; what a guest says of the windows of its own input is less than a thousandth of that input.
 */
const SILENT_BYTES_MAX = 8 * 1024 * 1024;

/** The same stream, with a Breach once more than `bytesMax` of the guest's bytes have come since its last message. */
export function limitFlood(openStream: OpenStream, bytesMax = SILENT_BYTES_MAX): OpenStream {
  return (connection, requests, signal) => {
    const flood = new AbortController();
    let silentBytes = 0;
    const count = (chunk: Buffer): void => {
      silentBytes += chunk.length;
      if (silentBytes > bytesMax) flood.abort(new Breach(`${bytesMax} bytes came without a message`));
    };
    const responses = openStream(connection, requests, AbortSignal.any([signal, flood.signal]));
    connection.on("data", count);
    return (async function* () {
      try {
        for await (const response of responses) {
          flood.signal.throwIfAborted();
          silentBytes = 0;
          yield response;
        }
      } catch (error) {
        // How the stream fails when it is cut off is not why.
        flood.signal.throwIfAborted();
        throw error;
      } finally {
        connection.off("data", count);
      }
    })();
  };
}
