// One launcher's connection: its call, the programs that it runs for us, and the answer. Keeps the launcher patient with WAIT
// frames. UNTRUSTED: launcher (any process of this user may connect).
import type { Socket } from "node:net";
import { HpccError } from "../../base/errors.ts";
import { decodeMessage, type OtherVersionMessage } from "../../wire/launcher/decode.ts";
import { encodeMessage } from "../../wire/launcher/encode.ts";
import { FrameReader } from "../../wire/launcher/frame-reader.ts";
import { PROTOCOL_VERSION, WAIT_INTERVAL_MS } from "../../wire/launcher/limits.ts";
import type {
  CallMessage,
  ControlMessage,
  DaemonMessage,
  DoneMessage,
  ExecMessage,
  Message,
  OutputsMessage,
  RanMessage,
  RunMessage,
} from "../../wire/launcher/messages.ts";

/** What a call may end with. */
export type CallAnswer = OutputsMessage | ExecMessage;

/** A call as the pipeline sees it: what was asked, and a pair of hands. */
export interface LauncherCall {
  readonly message: CallMessage;
  /** Aborts when the launcher leaves. */
  readonly signal: AbortSignal;
  /** Runs a program as the launcher's child. One at a time. Throws `job.cancelled` when the launcher leaves. */
  run(request: Omit<RunMessage, "type" | "id">): Promise<RanMessage>;
  /** Calls back when the launcher needs nothing more of this call: it has read its answer's files, or is gone. */
  whenDone(release: () => Promise<void>): void;
}

export interface ConnectionHandlers {
  /** Answers a call; `done` tells later what the launcher made of the answer, if it says so. */
  call(call: LauncherCall): Promise<CallAnswer>;
  done(message: DoneMessage | null): void;
  control(request: unknown): Promise<unknown>;
  /** What a caller at a terminal, who has waited, is told; null for nothing. */
  doing(): string | null;
  /** A fault of the peer or of ours; the connection is gone. */
  fault(error: unknown): void;
}

// A launcher that has its answer should write it and go; what stays longer is cut off.
const LINGER_MS = 600_000;
const FIRST_FRAME_MS = 10_000;

/** Serves one connection until it ends. */
export function serveLauncher(socket: Socket, handlers: ConnectionHandlers): void {
  const reader = new FrameReader();
  const gone = new AbortController();
  let stage: "fresh" | "call" | "answered" | "closed" = "fresh";
  let running: { id: number; resolve: (ran: RanMessage) => void; reject: (error: Error) => void } | null = null;
  let runs = 0;
  let patience: NodeJS.Timeout | null = null;
  const releases: (() => Promise<void>)[] = [];

  const release = () => {
    for (const callback of releases.splice(0)) callback().catch((error: unknown) => handlers.fault(error));
  };

  const send = (message: DaemonMessage) => {
    if (!socket.destroyed) socket.write(encodeMessage(message));
  };
  const close = (error: unknown) => {
    if (stage === "closed") return;
    const answered = stage === "answered";
    stage = "closed";
    if (patience !== null) clearInterval(patience);
    socket.destroy();
    gone.abort();
    running?.reject(new HpccError("job.cancelled", "the launcher left"));
    running = null;
    if (error !== null) handlers.fault(error);
    if (answered) handlers.done(null);
    release();
  };
  const finish = (answer: DaemonMessage) => {
    if (stage === "closed") return;
    const bytes = encodeMessage(answer);
    if (patience !== null) clearInterval(patience);
    stage = "answered";
    if (!socket.destroyed) socket.write(bytes);
    socket.setTimeout(LINGER_MS, () => close(null));
  };

  const begin = (message: CallMessage) => {
    stage = "call";
    socket.setTimeout(0);
    // While a program of its own runs, a launcher waits for nothing else, and passes words over.
    const isTold = () => message.terminal.stderr && running === null;
    patience = setInterval(() => send({ type: "wait", doing: isTold() ? handlers.doing() : null }), WAIT_INTERVAL_MS);
    const call: LauncherCall = {
      message,
      signal: gone.signal,
      whenDone: (callback) => {
        releases.push(callback);
        if (stage === "closed") release();
      },
      run: (request) =>
        new Promise((resolve, reject) => {
          if (stage !== "call") return reject(new HpccError("job.cancelled", "the launcher left"));
          if (running !== null) return reject(new Error("bug: two programs at a time"));
          // Told first: what cannot be encoded runs not at all, and rejects.
          send({ type: "run", id: runs + 1, ...request });
          runs += 1;
          running = { id: runs, resolve, reject };
        }),
    };
    // An answer that cannot be encoded is a fault of this call alone.
    handlers.call(call).then(finish).catch(close);
  };
  const control = (message: ControlMessage) => {
    stage = "call";
    handlers
      .control(message.request)
      .then((reply) => finish({ type: "reply", reply }))
      .catch(close);
  };

  const take = (message: Message | OtherVersionMessage) => {
    if (stage === "fresh" && message.type === "call") return begin(message);
    if (stage === "fresh" && message.type === "control") return control(message);
    if (stage === "fresh" && message.type === "other-version")
      return finish({
        type: "refuse",
        protocolVersion: PROTOCOL_VERSION,
        reason: `this daemon speaks version ${PROTOCOL_VERSION}`,
      });
    if (stage === "call" && message.type === "ran" && running !== null && message.id === running.id) {
      const { resolve } = running;
      running = null;
      return resolve(message);
    }
    if (stage === "answered" && message.type === "done") {
      handlers.done(message);
      stage = "closed";
      socket.destroy();
      release();
      return undefined;
    }
    throw new HpccError("peer.protocol", `a launcher sent ${message.type} out of turn`);
  };

  socket.setTimeout(FIRST_FRAME_MS, () => close(new HpccError("peer.deadline", "a peer connected and said nothing")));
  socket.on("data", (chunk) => {
    try {
      for (const frame of reader.push(chunk)) if (stage !== "closed") take(decodeMessage(frame));
    } catch (error) {
      close(error);
    }
  });
  socket.on("error", () => close(null));
  socket.on("close", () => close(null));
}
