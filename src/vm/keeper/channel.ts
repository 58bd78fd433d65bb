// The line protocol between worker and keeper: requests with numbers, answers to them, events. Knows nothing of what is asked.
import type { Socket } from "node:net";
import type { Clock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";

const LINE_BYTES_MAX = 64 * 1024;
/** The keeper carries out no more at a time and closes the connection of who sends more. */
const REQUESTS_MAX = 48;

/** An answer or a field of one, as JSON gives it. */
export type Fields = Readonly<Record<string, unknown>>;

export interface ChannelOptions {
  readonly clock: Clock;
  readonly onEvent: (event: Fields) => void;
}

/** What the keeper refused, with its code. */
export class KeeperRefusal extends Error {
  override readonly name = "KeeperRefusal";
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

interface Waiting {
  readonly resolve: (fields: Fields) => void;
  readonly reject: (error: unknown) => void;
}

export class KeeperChannel {
  /** Says why; settles once, never rejects, when the connection is gone. */
  readonly ended: Promise<string>;
  readonly #socket: Socket;
  readonly #options: ChannelOptions;
  readonly #waiting = new Map<number, Waiting>();
  readonly #queue: (() => void)[] = [];
  readonly #end: (why: string) => void;
  #sequence = 0;
  #read: Buffer = Buffer.alloc(0);
  #endedWhy: string | null = null;

  constructor(socket: Socket, options: ChannelOptions) {
    this.#socket = socket;
    this.#options = options;
    const { promise, resolve } = Promise.withResolvers<string>();
    this.ended = promise;
    this.#end = (why) => {
      if (this.#endedWhy !== null) return;
      this.#endedWhy = why;
      socket.destroy();
      for (const waiting of this.#waiting.values()) waiting.reject(this.#lost());
      this.#waiting.clear();
      for (const go of this.#queue.splice(0)) go();
      resolve(why);
    };
    socket.on("data", (bytes: Buffer) => this.#take(bytes));
    socket.on("error", (error: Error) => this.#end(`the connection to the keeper broke: ${error.message}`));
    socket.on("close", () => this.#end("the keeper closed its connection"));
  }

  /** Closes the connection, which ends the keeper. */
  close(why: string): void {
    this.#end(why);
  }

  /**
   * Sends a request and waits for its answer. One that does not come in time closes the connection: a keeper that hangs
   * is no keeper. Throws KeeperRefusal, or `vm.lost` when the connection ends.
   */
  async ask(request: string, fields: Fields, deadlineMs: number): Promise<Fields> {
    while (this.#endedWhy === null && this.#waiting.size >= REQUESTS_MAX)
      await new Promise<void>((resolve) => this.#queue.push(resolve));
    if (this.#endedWhy !== null) throw this.#lost();
    this.#sequence += 1;
    const id = this.#sequence;
    const line = `${JSON.stringify({ id, request, with: fields })}\n`;
    if (Buffer.byteLength(line) > LINE_BYTES_MAX)
      throw new HpccError("argument.invalid", `a request ${request} of the keeper is over ${LINE_BYTES_MAX} bytes`);
    const timer = this.#options.clock.after(deadlineMs, () =>
      this.#end(`the keeper did not answer "${request}" in ${deadlineMs} ms`),
    );
    try {
      return await new Promise<Fields>((resolve, reject) => {
        this.#waiting.set(id, { resolve, reject });
        this.#socket.write(line);
      });
    } finally {
      timer.cancel();
      this.#waiting.delete(id);
      this.#queue.shift()?.();
    }
  }

  #lost(): HpccError {
    return new HpccError("vm.lost", this.#endedWhy ?? "the keeper is gone");
  }

  #take(bytes: Buffer): void {
    this.#read = this.#read.length === 0 ? bytes : Buffer.concat([this.#read, bytes]);
    for (;;) {
      const end = this.#read.indexOf(0x0a);
      if (Math.max(end, end < 0 ? this.#read.length : 0) > LINE_BYTES_MAX) {
        this.#end("the keeper sent a line that is too long");
        return;
      }
      if (end < 0 || this.#endedWhy !== null) return;
      const line = this.#read.toString("utf8", 0, end);
      this.#read = this.#read.subarray(end + 1);
      const message = parseObject(line);
      if (message === null) {
        this.#end("the keeper sent what is no message");
        return;
      }
      this.#deliver(message);
    }
  }

  #deliver(message: Fields): void {
    const id = message["id"];
    if (id === undefined) {
      this.#options.onEvent(message);
      return;
    }
    const waiting = typeof id === "number" ? this.#waiting.get(id) : undefined;
    const ok = asObject(message["ok"]);
    const error = asObject(message["error"]);
    if (waiting === undefined || (ok === null) === (error === null)) {
      this.#end("the keeper sent an answer to nothing");
      return;
    }
    if (ok !== null) waiting.resolve(ok);
    else waiting.reject(new KeeperRefusal(String(error?.["code"]), String(error?.["message"])));
  }
}

function parseObject(line: string): Fields | null {
  try {
    return asObject(JSON.parse(line));
  } catch {
    return null;
  }
}

/** A JSON object; null for anything else. */
export function asObject(value: unknown): Fields | null {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : null;
}
