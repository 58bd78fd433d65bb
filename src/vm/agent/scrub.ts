// Scrubs a guest: its stream ends, it is dialled again. (Stands in until the agent reports.)
import type { Duplex } from "node:stream";
import { HpccError } from "../../base/errors.ts";
import { type OpenSession, openSession, type SessionOptions } from "./session.ts";

const ATTEMPTS_MAX = 100;

export async function scrubGuest(
  session: OpenSession,
  redial: (signal: AbortSignal) => Promise<Duplex>,
  options: SessionOptions,
  signal: AbortSignal,
): Promise<OpenSession> {
  session.close();
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
    try {
      return await openSession(await redial(signal), options, signal);
    } catch (error) {
      if (!(error instanceof HpccError) || error.code !== "vm.lost") throw error;
    }
    await new Promise((resolve) => {
      options.clock.after(20, () => resolve(null));
    });
  }
  throw new HpccError("vm.breach", "the guest did not come back");
}
