// Opens streams on connections that the agent may refuse, and scrubs a guest: the agent has one connection at a time, and
// closes every other one at once, also while it clears away what the last one left.
import type { Duplex } from "node:stream";
import { HpccError } from "../../base/errors.ts";
import { pause } from "./dial.ts";
import { type OpenSession, openSession, type SessionOptions } from "./session.ts";

/** Dials the guest's agent once more; rejects with the signal's reason when it aborts. */
export type Redial = (signal: AbortSignal) => Promise<Duplex>;

/** Dials and opens a stream, again and again while the agent closes the connection before it is ready; ends with the signal. */
export async function dialSession(redial: Redial, options: SessionOptions, signal: AbortSignal): Promise<OpenSession> {
  for (;;) {
    signal.throwIfAborted();
    try {
      return await openSession(await redial(signal), options, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof HpccError) || error.code !== "vm.lost") throw error;
    }
    await pause(options.clock, signal);
  }
}

/**
 * Has the guest clear away all that ran in it, and goes on with a new stream. Only while nothing executes. Throws `vm.breach`
 * when it is not done within `scrubMs` or something is left; whatever it throws, the old session has ended and the
 * machine is to be destroyed.
 */
export async function scrubGuest(
  session: OpenSession,
  redial: Redial,
  options: SessionOptions,
  signal: AbortSignal,
): Promise<OpenSession> {
  const late = new AbortController();
  const timer = options.clock.after(options.deadlines.scrubMs, () =>
    late.abort(new HpccError("vm.breach", "the guest broke its contract: its scrub did not end in time")),
  );
  const during = AbortSignal.any([signal, late.signal]);
  const close = (): void => session.close();
  during.addEventListener("abort", close);
  try {
    during.throwIfAborted();
    const { clearings } = session.ready;
    await session.scrub();
    const next = await dialSession(redial, options, during);
    if (next.ready.clearings > clearings) return next;
    next.close();
    throw new HpccError("vm.breach", "the guest broke its contract: it cleared nothing away");
  } catch (error) {
    session.close();
    during.throwIfAborted();
    throw error;
  } finally {
    timer.cancel();
    during.removeEventListener("abort", close);
  }
}
