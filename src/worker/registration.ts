// The worker's sign of life: one stream to each scheduler, a registration and then heartbeats, with reconnection. Knows
// nothing of compiles; what it reports is asked of `load`.
import { create } from "@bufbuild/protobuf";
import { type BackoffRule, backoffMs } from "../base/backoff.ts";
import { type Clock, pause } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { formatHostPort, type HostPort } from "../core/identity/host-port.ts";
import { type Identity, sameTrustDomain } from "../core/identity/spiffe.ts";
import {
  type RegisterRequest,
  RegisterRequestSchema,
  type RegisterResponse,
  SchedulerService,
} from "../gen/hpcc/scheduler/v1/scheduler_pb.js";
import { RpcClient } from "../wire/grpc/client.ts";
import type { MessageStream } from "../wire/grpc/message-stream.ts";
import type { OwnCredentials } from "../wire/grpc/tls-files.ts";
import { toRegistration, type WorkerOffer } from "../wire/scheduler/mapping.ts";

/** A worker's present load. */
export interface ReportedLoad {
  readonly freeSlots: number;
  readonly queued: number;
}

export interface RegistrationOptions {
  readonly schedulers: readonly HostPort[];
  /** Read again for each connection, so that a renewed certificate is used. */
  readonly credentials: () => OwnCredentials;
  /** What the worker offers now; read for each registration. */
  readonly offer: () => WorkerOffer;
  readonly load: () => ReportedLoad;
  readonly clock: Clock;
  readonly logger: Logger;
  /** In [0, 1). */
  readonly random?: () => number;
}

export interface RunningRegistration {
  /** Registers anew everywhere: the offer has changed. */
  refresh(): void;
  /** Tells every scheduler to send no new sessions, or to send them again; heartbeats go on. */
  drain(draining?: boolean): void;
  /** Leaves every scheduler. */
  close(): Promise<void>;
}

const BACKOFF: BackoffRule = { firstMs: 200, maxMs: 5_000 };
/** A scheduler that has not answered a registration within this time is left and tried again. */
const ANSWER_MS = 5_000;
const INTERVAL_MS_MIN = 100;
const INTERVAL_MS_MAX = 60_000;

/** Registers with all schedulers side by side; each has its own stream, and none waits for another. */
export function startRegistration(options: RegistrationOptions): RunningRegistration {
  const state = { draining: false, close: new AbortController(), links: new Set<SchedulerLink>() };
  const loops = options.schedulers.map((scheduler) => keepRegistered(options, state, scheduler));
  const restart = () => {
    for (const link of state.links) link.leave.abort();
  };
  return {
    refresh: restart,
    drain(draining = true) {
      if (state.draining === draining) return;
      state.draining = draining;
      for (const link of state.links) link.beat();
    },
    async close() {
      state.close.abort();
      restart();
      await Promise.all(loops);
    },
  };
}

interface SchedulerLink {
  readonly leave: AbortController;
  /** Sends a heartbeat now. */
  readonly beat: () => void;
}

interface State {
  draining: boolean;
  readonly close: AbortController;
  readonly links: Set<SchedulerLink>;
}

async function keepRegistered(options: RegistrationOptions, state: State, scheduler: HostPort): Promise<void> {
  const { clock, logger, random = Math.random } = options;
  let failures = 0;
  while (!state.close.signal.aborted) {
    const started = await registerOnce(options, state, scheduler);
    failures = started ? 1 : failures + 1;
    if (!started) logger.debug("worker.registration.retry", { scheduler: formatHostPort(scheduler), failures });
    await pause(clock, backoffMs(BACKOFF, failures, random()), state.close.signal);
  }
}

/** One stream from its registration to its end; true when the scheduler took the registration. */
async function registerOnce(options: RegistrationOptions, state: State, scheduler: HostPort): Promise<boolean> {
  const { clock, logger } = options;
  const name = formatHostPort(scheduler);
  const leave = new AbortController();
  const impatient = clock.after(ANSWER_MS, () => leave.abort());
  let client: RpcClient | null = null;
  let link: SchedulerLink | null = null;
  let taken = false;
  try {
    const credentials = options.credentials();
    const accept = (server: Identity) => server.kind === "scheduler" && sameTrustDomain(server, credentials.identity);
    client = new RpcClient({ address: scheduler, tls: credentials.tls, accept });
    const stream = client.bidi(SchedulerService.method.register, { signal: leave.signal });
    link = { leave, beat: () => sendHeartbeat(options, state, stream) };
    state.links.add(link);
    const registration = toRegistration(options.offer());
    stream.send(create(RegisterRequestSchema, { message: { case: "registration", value: registration } }));
    for await (const response of stream.incoming) {
      impatient.cancel();
      if (!taken) {
        taken = true;
        logger.info("worker.registered", { scheduler: name });
        beatOn(clock, stream, link, response);
      }
    }
    if (!leave.signal.aborted) logger.warn("worker.registration.ended", { scheduler: name });
  } catch (error) {
    if (!leave.signal.aborted || !taken) logFailure(logger, name, error);
  } finally {
    impatient.cancel();
    if (link) state.links.delete(link);
    leave.abort();
    client?.close();
  }
  return taken;
}

/** Heartbeats at the scheduler's pace, within our own bounds, until the stream is closed. UNTRUSTED: the scheduler. */
function beatOn(
  clock: Clock,
  stream: MessageStream<RegisterResponse, RegisterRequest>,
  link: SchedulerLink,
  response: RegisterResponse,
): void {
  const intervalMs = Math.min(INTERVAL_MS_MAX, Math.max(INTERVAL_MS_MIN, response.heartbeatIntervalMs));
  const next = () => {
    if (stream.closed.aborted) return;
    link.beat();
    clock.after(intervalMs, next);
  };
  next();
}

function sendHeartbeat(
  options: RegistrationOptions,
  state: State,
  stream: MessageStream<RegisterResponse, RegisterRequest>,
): void {
  const { freeSlots, queued } = options.load();
  const value = { freeSlots, queued, draining: state.draining };
  stream.send(create(RegisterRequestSchema, { message: { case: "heartbeat", value } }));
}

function logFailure(logger: Logger, scheduler: string, error: unknown): void {
  const { message, code } = error instanceof HpccError ? error : new HpccError("peer.unavailable", String(error));
  logger.warn("worker.registration.failed", { scheduler, code, message });
}
