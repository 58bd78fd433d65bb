// HTTP over the API socket of one Firecracker process: one connection, one request at a time, a deadline for each. The other
// side runs a guest and may be taken over by it, so its answers are bounded in size and time and its words are made printable.
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";

/** The longest answer asked for is the VM's configuration, of two kilobytes. */
const ANSWER_BYTES_MAX = 64 * 1024;
const HEADER_BYTES_MAX = 8 * 1024;
const FAULT_LENGTH_MAX = 400;

export type ApiMethod = "GET" | "PUT" | "PATCH";

export interface ApiCall {
  readonly method: ApiMethod;
  readonly path: string;
  /** Sent as JSON; null for none. */
  readonly body: object | null;
  readonly deadlineMs: number;
}

export interface ApiClientOptions {
  readonly socketPath: string;
  readonly clock: Clock;
}

export class ApiClient {
  readonly #options: ApiClientOptions;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1, maxFreeSockets: 1 });

  constructor(options: ApiClientOptions) {
    this.#options = options;
  }

  /**
   * Makes one call and gives the text of a successful answer. Throws `vm.boot` with Firecracker's own words when it refuses, or when
   * it does not answer in time or within bounds; the signal's reason when it aborts.
   */
  async call(call: ApiCall, signal: AbortSignal): Promise<string> {
    signal.throwIfAborted();
    const what = `${call.method} ${call.path}`;
    const deadline = new AbortController();
    const timer = this.#options.clock.after(call.deadlineMs, () =>
      deadline.abort(new HpccError("vm.boot", `Firecracker did not answer ${what} within ${call.deadlineMs} ms`)),
    );
    const during = AbortSignal.any([signal, deadline.signal]);
    try {
      const { status, text } = await this.#exchange(call, during);
      if (status >= 200 && status < 300) return text;
      throw new HpccError("vm.boot", `Firecracker refused ${what}: ${faultOf(text, status)}`);
    } catch (cause) {
      during.throwIfAborted();
      if (cause instanceof HpccError) throw cause;
      throw new HpccError("vm.boot", `Firecracker did not answer ${what}: ${printable(String(cause))}`, { cause });
    } finally {
      timer.cancel();
    }
  }

  /** Ends the connection; a call that runs fails. */
  close(): void {
    this.#agent.destroy();
  }

  #exchange({ method, path, body }: ApiCall, signal: AbortSignal): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const payload = body === null ? null : Buffer.from(JSON.stringify(body));
      const headers: Record<string, string | number> = { Accept: "application/json" };
      if (payload !== null) {
        headers["Content-Type"] = "application/json";
        headers["Content-Length"] = payload.length;
      }
      const request = httpRequest(
        {
          agent: this.#agent,
          socketPath: this.#options.socketPath,
          host: "localhost",
          method,
          path,
          headers,
          maxHeaderSize: HEADER_BYTES_MAX,
          signal,
        },
        (response) => {
          readBounded(response).then(
            (text) => resolve({ status: response.statusCode ?? 0, text }),
            (error: unknown) => {
              request.destroy();
              reject(error instanceof Error ? error : new Error(String(error)));
            },
          );
        },
      );
      request.on("error", reject);
      request.end(payload ?? undefined);
    });
  }
}

/** UNTRUSTED: Firecracker. */
async function readBounded(response: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let sizeBytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    sizeBytes += chunk.length;
    if (sizeBytes > ANSWER_BYTES_MAX) throw new Error(`its answer is longer than ${ANSWER_BYTES_MAX} bytes`);
    parts.push(chunk);
  }
  return Buffer.concat(parts).toString("utf8");
}

/** What Firecracker says of a fault, bounded and printable. UNTRUSTED: Firecracker. */
function faultOf(text: string, status: number): string {
  const value = parseJson(text);
  const fault =
    typeof value === "object" && value !== null && "fault_message" in value ? value.fault_message : undefined;
  return typeof fault === "string" && fault !== "" ? printable(fault) : `status ${status}`;
}

/** The value of a JSON text; undefined when it is none. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]+/g, " ").slice(0, FAULT_LENGTH_MAX);
}
