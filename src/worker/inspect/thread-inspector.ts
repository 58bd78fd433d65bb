// Questions to a worker's log, answered by a thread beside it: bounded in number, also for each tenant, each with a deadline. It lets the thread
// know which rows are durable, so that the index is written while rows are and never waits in their way.
import { Worker } from "node:worker_threads";
import type { Clock, Timer } from "../../base/clock.ts";
import { HpccError, parseErrorCode } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { TenantId } from "../../core/identity/spiffe.ts";
import type { Finds, Inspection } from "./inspection.ts";
import type { FromThread, ThreadFolders, ToThread } from "./messages.ts";

/** The thread begins with the first question, or after this time: a worker that only begins has other things to do. */
const START_MS = 5000;
const CATCH_UP_MS = 1000;
/** A thread that ended is not begun again earlier. */
const RESTART_MS = 5000;
const ANSWER_MS = 10_000;
const WAITING_MAX = 256;
const WAITING_OF_TENANT_MAX = 32;
const CLOSE_MS = 10_000;
/** Of JavaScript's memory; the index itself needs a few MiB. */
const HEAP_MIB_MAX = 256;

interface Question {
  readonly hash: string;
  readonly tenant: TenantId | null;
  readonly resolve: (inspection: Inspection) => void;
  readonly reject: (error: HpccError) => void;
  readonly deadline: Timer;
}

export interface ThreadInspectorOptions {
  readonly folders: ThreadFolders;
  /** Number of the last row that is durable. */
  readonly durable: () => number;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class ThreadInspector implements Finds {
  readonly #options: ThreadInspectorOptions;
  /** The first one is with the thread if it is `#asked`. */
  readonly #waiting: Question[] = [];
  #asked: Question | null = null;
  #thread: Worker | null = null;
  #begunMs = Number.NEGATIVE_INFINITY;
  #timer: Timer;
  /** How far the thread was told to go, and how far it says that it is. */
  #told = 0;
  #at = 0;
  #closed = false;

  constructor(options: ThreadInspectorOptions) {
    this.#options = options;
    this.#timer = options.clock.after(START_MS, () => this.#tick());
  }

  async find(hash: string, tenant: TenantId | null): Promise<Inspection> {
    if (this.#closed) throw new HpccError("peer.unavailable", "the worker is ending");
    const own = this.#waiting.filter((question) => question.tenant === tenant).length;
    if (this.#waiting.length >= WAITING_MAX || own >= WAITING_OF_TENANT_MAX)
      throw new HpccError("limit.exceeded", "too many questions about hashes are waiting; ask again later");
    const { promise, resolve, reject } = Promise.withResolvers<Inspection>();
    const deadline = this.#options.clock.after(ANSWER_MS, () => this.#end(question, () => reject(this.#late())));
    const question = { hash, tenant, resolve, reject, deadline };
    this.#waiting.push(question);
    this.#next();
    return promise;
  }

  /** Rows were removed from the log: the index is made again. */
  forget(): void {
    if (this.#closed || !this.#begin()) return;
    this.#say({ t: "forget" });
    this.#told = 0;
  }

  /** Ends the thread, which keeps what it has. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer.cancel();
    const thread = this.#thread;
    for (const question of this.#waiting.slice())
      this.#end(question, () => question.reject(new HpccError("peer.unavailable", "the worker is ending")));
    if (thread === null) return;
    const ended = new Promise<void>((resolve) => thread.once("exit", () => resolve()));
    this.#say({ t: "close" });
    const late = this.#options.clock.after(CLOSE_MS, () => void thread.terminate());
    await ended;
    late.cancel();
  }

  #tick(): void {
    if (this.#closed) return;
    this.#timer = this.#options.clock.after(CATCH_UP_MS, () => this.#tick());
    const sequenceMax = this.#options.durable();
    if (sequenceMax === this.#told || !this.#begin()) return;
    this.#told = sequenceMax;
    this.#say({ t: "catch up", sequenceMax });
  }

  /** Asks the thread one question after the other: what waits here can still be given up. */
  #next(): void {
    const [question] = this.#waiting;
    if (this.#asked !== null || question === undefined) return;
    if (!this.#begin()) {
      const error = new HpccError("audit.io", "the index of the audit log has failed; ask again later");
      this.#end(question, () => question.reject(error));
      this.#next();
      return;
    }
    this.#asked = question;
    const { hash, tenant } = question;
    this.#say({ t: "find", hash, tenant, sequenceMax: this.#options.durable() });
  }

  /** Whether there is a thread, now or already. */
  #begin(): boolean {
    if (this.#thread !== null) return true;
    const { folders, clock, logger } = this.#options;
    if (clock.monotonicMs() - this.#begunMs < RESTART_MS) return false;
    this.#begunMs = clock.monotonicMs();
    const thread = new Worker(threadProgram(), {
      workerData: folders,
      execArgv: [],
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB_MAX },
    });
    thread.on("message", (message: FromThread) => this.#hear(message));
    thread.on("error", (error) => logger.error("audit.index.thread_failed", { error: String(error) }));
    thread.on("exit", () => this.#lost(thread));
    this.#thread = thread;
    return true;
  }

  #hear(message: FromThread): void {
    const { logger } = this.#options;
    switch (message.t) {
      case "warn":
        return logger.warn(message.event, { error: message.error });
      case "at":
        this.#at = message.sequence;
        return;
      case "found":
        return this.#answered(({ resolve }) => resolve(message.inspection));
      case "failed": {
        const error = new HpccError(parseErrorCode(message.code) ?? "audit.io", message.message);
        return this.#answered(({ reject }) => reject(error));
      }
    }
  }

  /** The thread is free for the next question; of this one nobody may want to know any more. */
  #answered(tell: (question: Question) => void): void {
    const asked = this.#asked;
    this.#asked = null;
    if (asked !== null) this.#end(asked, () => tell(asked));
    this.#next();
  }

  #end(question: Question, tell: () => void): void {
    const at = this.#waiting.indexOf(question);
    if (at < 0) return;
    this.#waiting.splice(at, 1);
    question.deadline.cancel();
    tell();
  }

  #late(): HpccError {
    const rows = this.#options.durable();
    const behind = this.#at < rows - 1000 ? `; its index is being made, ${this.#at} of ${rows} rows are in it` : "";
    return new HpccError("peer.deadline", `the worker's log could not be asked in time${behind}`);
  }

  #lost(thread: Worker): void {
    if (this.#thread !== thread) return;
    this.#thread = null;
    this.#told = 0;
    if (this.#closed) return;
    this.#options.logger.error("audit.index.thread_ended", {});
    this.#answered(({ reject }) => reject(new HpccError("audit.io", "the index of the audit log has failed")));
  }

  #say(message: ToThread): void {
    this.#thread?.postMessage(message);
  }
}

/** Beside this source, or beside the folder of the bundle's chunks. */
function threadProgram(): URL {
  const name = import.meta.url.endsWith(".ts") ? "./inspect-thread.ts" : "../inspect-thread.mjs";
  return new URL(name, import.meta.url);
}
