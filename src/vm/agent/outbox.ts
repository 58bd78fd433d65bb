// What a session sends: control messages first, then chunks of input files, taken in turn among the executions that have
// some. It reads no source faster than the guest takes its bytes, and notices a guest that takes none.
import type { Clock, Timer } from "../../base/clock.ts";
import type { SessionRequest } from "../../gen/hpcc/agent/v1/agent_pb.js";

export interface SourceMessage {
  readonly message: SessionRequest;
  readonly last: boolean;
}

/** One execution's messages. */
export interface OutboxSource {
  readonly messages: AsyncIterator<SourceMessage>;
  /** A message is handed to the transport. */
  taken(last: boolean): void;
  /** The source threw; nothing more is taken from it. */
  failed(error: unknown): void;
}

type Next = IteratorResult<SourceMessage, unknown>;
interface Entry {
  readonly source: OutboxSource;
  /** What the source gives next; null while it is being asked. */
  next: SourceMessage | null;
}

export interface OutboxOptions {
  readonly clock: Clock;
  readonly stallMs: number;
  readonly stalled: () => void;
}

export class Outbox {
  readonly #options: OutboxOptions;
  readonly #control: SessionRequest[] = [];
  readonly #entries = new Map<OutboxSource, Entry>();
  /** Those whose message is at hand, the one that waited longest first. */
  readonly #ready: Entry[] = [];
  #wake: (() => void) | null = null;
  #ended = false;
  #stall: Timer | null = null;

  constructor(options: OutboxOptions) {
    this.#options = options;
  }

  /** Sends a message before all chunks. */
  control(message: SessionRequest): void {
    this.#control.push(message);
    this.#wake?.();
  }

  add(source: OutboxSource): void {
    const entry: Entry = { source, next: null };
    this.#entries.set(source, entry);
    this.#pull(entry);
  }

  /** Takes nothing more from a source, and releases it. */
  remove(source: OutboxSource): void {
    const entry = this.#entries.get(source);
    if (!entry) return;
    this.#entries.delete(source);
    const index = this.#ready.indexOf(entry);
    if (index >= 0) this.#ready.splice(index, 1);
    void Promise.resolve(source.messages.return?.()).catch(() => undefined);
  }

  /** Ends the stream; sources are released. */
  end(): void {
    this.#ended = true;
    this.#stall?.cancel();
    for (const source of this.#entries.keys()) this.remove(source);
    this.#wake?.();
  }

  /** The stream, for the transport; to be called once. It asks for a message when the one before is written. */
  async *stream(): AsyncGenerator<SessionRequest> {
    for (;;) {
      if (this.#ended) return;
      const message = this.#control.shift() ?? this.#takeReady();
      if (message) {
        this.#stall = this.#options.clock.after(this.#options.stallMs, this.#options.stalled);
        yield message;
        this.#stall.cancel();
        continue;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = null;
    }
  }

  #takeReady(): SessionRequest | null {
    const entry = this.#ready.shift();
    if (!entry) return null;
    const { next, source } = entry;
    if (!next) return null;
    entry.next = null;
    source.taken(next.last);
    if (next.last) this.remove(source);
    else this.#pull(entry);
    return next.message;
  }

  #pull(entry: Entry): void {
    const { source } = entry;
    const failed = (error: unknown): void => {
      if (this.#entries.delete(source)) source.failed(error);
    };
    const given = (next: Next): void => {
      if (this.#entries.get(source) !== entry) return;
      if (next.done) {
        this.#entries.delete(source);
        return;
      }
      entry.next = next.value;
      this.#ready.push(entry);
      this.#wake?.();
    };
    source.messages.next().then(given, failed);
  }
}
