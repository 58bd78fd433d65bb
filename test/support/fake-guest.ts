// A guest behind the fake agent for as long as its jail lives: it executes whatever it is asked without doing it, and scrubs.
import type { SessionRequest } from "../../src/gen/hpcc/agent/v1/agent_pb.js";
import { type Answer, type Behaviour, exited, nextRequest, ready } from "./fake-agent.ts";

export interface FakeGuestOptions {
  /** Processes that each clearing leaves. */
  readonly processesLeft?: number;
  /** It does not end its stream when it is to be scrubbed. */
  readonly ignoresScrub?: boolean;
  /** Told of each program that it executes. */
  readonly onExecute?: (program: string) => void;
}

/** What a guest does in each of its streams; a clearing follows each of them. */
export function fakeGuest(options: FakeGuestOptions = {}): Behaviour {
  let clearings = 0;
  return async function* (requests: AsyncIterator<SessionRequest>): AsyncIterable<Answer> {
    yield await ready(
      requests,
      clearings === 0 ? undefined : { sequence: clearings, processesLeft: options.processesLeft ?? 0 },
    );
    try {
      for (;;) {
        const request = await nextRequest(requests);
        if (request.case === "scrub" && !options.ignoresScrub) return;
        if (request.case !== "execute") continue;
        options.onExecute?.(Buffer.from(request.value.argv[0] ?? []).toString());
        yield exited(request.value.executionId, { outputs: request.value.outputs.map(() => null) });
      }
    } finally {
      clearings += 1;
    }
  };
}
