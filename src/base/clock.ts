// The clock port: time is an argument. `system/clock.ts` is the machine's; `ManualClock` here is moved by hand.

export interface Timer {
  /** Stops the timer; harmless when it already fired. */
  cancel(): void;
}

export interface Clock {
  /** Wall-clock time in milliseconds since 1970, for rows and people; it may jump. */
  wallMs(): number;
  /** Time in milliseconds that never goes back, for durations and deadlines. */
  monotonicMs(): number;
  /** Calls once after `delayMs`. A timer never keeps the process alive. */
  after(delayMs: number, callback: () => void): Timer;
}

/** A clock that stands still until `advance` moves it; timers fire in order of their time. */
export class ManualClock implements Clock {
  #nowMs: number;
  #timers: { readonly atMs: number; readonly callback: () => void }[] = [];

  constructor(startMs = 1_700_000_000_000) {
    this.#nowMs = startMs;
  }

  wallMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, callback: () => void): Timer {
    const timer = { atMs: this.#nowMs + Math.max(0, delayMs), callback };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((other) => other !== timer);
      },
    };
  }

  /** Moves time on, firing what is due, also timers that are set meanwhile. */
  advance(byMs: number): void {
    const endMs = this.#nowMs + byMs;
    for (;;) {
      let next = null;
      for (const timer of this.#timers)
        if (timer.atMs <= endMs && (next === null || timer.atMs < next.atMs)) next = timer;
      if (next === null) break;
      const due = next;
      this.#timers = this.#timers.filter((other) => other !== due);
      this.#nowMs = Math.max(this.#nowMs, due.atMs);
      due.callback();
    }
    this.#nowMs = endMs;
  }

  /** How many timers wait; a test of clean shutdown asks for none. */
  get pendingTimers(): number {
    return this.#timers.length;
  }
}

/** Resolves after `ms`, or at once when the signal is aborted. */
export function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = () => {
    timer.cancel();
    signal.removeEventListener("abort", done);
    resolve();
  };
  const timer = clock.after(ms, done);
  signal.addEventListener("abort", done, { once: true });
  return promise;
}

/** Of years -271821 to 275760, and nothing more, can a date be made. */
const TIME_MS_MAX = 8.64e15;

/** Whether milliseconds since 1970 are a time that can be written as a date. */
export function isTime(ms: number): boolean {
  return Number.isInteger(ms) && Math.abs(ms) <= TIME_MS_MAX;
}
