// One execution as its session sees it: what may come next from the guest, its deadlines, and its result.
import type { Clock, Timer } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import type { ExecutionError, Exited, OutputChunk } from "../../gen/hpcc/agent/v1/agent_pb.js";
import type { ExecuteOptions, ExecutionOutput, ExecutionRequest, ExecutionResult } from "../execution.ts";
import { type AgentDeadlines, CHUNK_BYTES_MAX } from "./limits.ts";
import { type MemoryBudget, makeReceiver, type Receiver } from "./received.ts";
import { Breach, type CheckedExit, checkExited, executionFailure } from "./reply.ts";

/**
 * `sending`: the guest lacks input. `running`: it has all. `receiving`: it has exited, its outputs come. `cancelling`: it was
 * told to stop; what it had sent before it knew is dropped. `settled`: nothing more may come.
 */
type State =
  | { readonly t: "sending" }
  | { readonly t: "running" }
  | { readonly t: "receiving"; readonly answer: Answer }
  | { readonly t: "cancelling"; readonly error: Error; readonly answer: Answer | null }
  | { readonly t: "settled" };

/** Chunks that are still to come, in order. */
interface Answer {
  readonly exit: CheckedExit;
  readonly receivers: readonly Receiver[];
  /** Position in exit.streams. */
  position: number;
  streamBytes: number;
  streamChunks: number;
}

export interface ExecutionContext {
  readonly clock: Clock;
  readonly deadlines: AgentDeadlines;
  readonly budget: MemoryBudget;
  readonly folder: string;
  /** Bytes that the guest may send before it is given credit. */
  readonly creditBytes: number;
  sendCredit(bytes: number): void;
  /** False when the guest has not heard of the execution and never will. */
  sendCancel(): boolean;
  /** A deadline passed. */
  breach(detail: string): void;
  /** The execution is settled and no longer expected on the stream. */
  settled(): void;
}

export class Execution {
  readonly result: Promise<ExecutionResult>;
  readonly #request: ExecutionRequest;
  readonly #options: ExecuteOptions;
  readonly #context: ExecutionContext;
  #state: State = { t: "sending" };
  #deadline: Timer | null = null;
  #creditLeft: number;
  #creditOwed = 0;
  #resolve!: (result: ExecutionResult) => void;
  #reject!: (error: Error) => void;

  constructor(request: ExecutionRequest, options: ExecuteOptions, context: ExecutionContext) {
    this.#request = request;
    this.#options = options;
    this.#context = context;
    this.#creditLeft = context.creditBytes;
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** The last input is on its way. */
  inputSent(): void {
    if (this.#state.t !== "sending") return;
    this.#state = { t: "running" };
    const inputBytes = this.#request.inputs.reduce((sum, input) => sum + input.frameSizeBytes, 0);
    this.#options.onProgress?.({ t: "sent", inputBytes });
    this.#expectWithin(
      this.#request.limits.wallMs + this.#context.deadlines.exitGraceMs,
      "an execution gave no answer long after its time limit",
    );
  }

  /** Stops the execution in the guest; `error` is its result unless the guest is lost first. */
  cancel(error: Error): void {
    if (this.#state.t === "settled" || this.#state.t === "cancelling") return;
    this.#state = { t: "cancelling", error, answer: this.#state.t === "receiving" ? this.#state.answer : null };
    if (!this.#context.sendCancel()) {
      this.#settle(() => this.#reject(error));
      return;
    }
    this.#expectWithin(this.#context.deadlines.cancelMs, "a cancel was not acknowledged");
  }

  /** UNTRUSTED: guest. */
  exited(message: Exited): void {
    const state = this.#state;
    if (state.t !== "running" && !(state.t === "cancelling" && state.answer === null))
      throw new Breach(`an exit while an execution was ${state.t}`);
    const exit = checkExited(message, this.#request);
    const cancelling = state.t === "cancelling";
    const { budget, folder } = this.#context;
    const receivers = cancelling
      ? []
      : [exit.stdoutBytes, exit.stderrBytes, ...exit.outputs.map((output) => output?.sizeBytes ?? 0)].map((sizeBytes) =>
          makeReceiver({ sizeBytes, budget, folder }),
        );
    const answer: Answer = { exit, receivers, position: 0, streamBytes: 0, streamChunks: 0 };
    this.#state = cancelling ? { ...state, answer } : { t: "receiving", answer };
    if (!cancelling) {
      this.#options.onProgress?.({ t: "exited", wallUs: exit.wallUs });
      this.#expectOutput();
    }
    this.#completeIfAll(answer);
  }

  /** UNTRUSTED: guest. */
  async output(message: OutputChunk): Promise<void> {
    const state = this.#state;
    const answer = state.t === "receiving" || state.t === "cancelling" ? state.answer : null;
    const stream = answer?.exit.streams[answer.position];
    if (!answer || !stream) throw new Breach(`output while an execution was ${state.t}`);
    const { length } = message.data;
    if (message.streamIndex !== stream.index)
      throw new Breach(`output ${message.streamIndex} where ${stream.index} was due`);
    if (length === 0 || length > CHUNK_BYTES_MAX) throw new Breach(`a chunk of ${length} bytes`);
    answer.streamBytes += length;
    answer.streamChunks += 1;
    if (answer.streamBytes > stream.sizeBytes) throw new Breach(`more than the ${stream.sizeBytes} bytes it declared`);
    if (answer.streamChunks > stream.chunksMax) throw new Breach("too many chunks for its bytes");
    this.#creditLeft -= length;
    if (this.#creditLeft < 0) throw new Breach("more output than it had credit for");

    if (state.t === "receiving") await this.#keep(answer, stream.index, message.data);
    if (answer.streamBytes === stream.sizeBytes) {
      answer.position += 1;
      answer.streamBytes = 0;
      answer.streamChunks = 0;
    }
    this.#completeIfAll(answer);
    if (this.#state.t === "receiving") {
      this.#giveCredit(length);
      this.#expectOutput();
    }
  }

  /** UNTRUSTED: guest. */
  error(message: ExecutionError): void {
    const failure = executionFailure(message);
    const state = this.#state;
    if (state.t === "receiving" || state.t === "settled")
      throw new Breach(`an error while an execution was ${state.t}`);
    if (state.t !== "cancelling" && failure.code === "job.cancelled")
      throw new Breach("a cancel that nobody asked for");
    this.#settle(() => this.#reject(state.t === "cancelling" ? state.error : failure));
  }

  /** The machine is gone. */
  lost(error: HpccError): void {
    this.#settle(() => this.#reject(error));
  }

  /** A disk that takes no output ends this execution, not the session. */
  async #keep(answer: Answer, index: number, data: Uint8Array): Promise<void> {
    try {
      await answer.receivers[index]?.write(data);
    } catch (error) {
      this.cancel(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #completeIfAll(answer: Answer): void {
    if (answer.position < answer.exit.streams.length) return;
    const state = this.#state;
    if (state.t === "cancelling") {
      this.#settle(() => this.#reject(state.error));
    } else if (state.t === "receiving") {
      const result = resultOf(answer);
      this.#settle(() => this.#resolve(result), { keepReceivers: true });
    }
  }

  #giveCredit(bytes: number): void {
    this.#creditOwed += bytes;
    if (this.#creditOwed < this.#context.creditBytes / 2) return;
    this.#creditLeft += this.#creditOwed;
    this.#context.sendCredit(this.#creditOwed);
    this.#creditOwed = 0;
  }

  #expectWithin(delayMs: number, otherwise: string): void {
    this.#deadline?.cancel();
    this.#deadline = this.#context.clock.after(delayMs, () => this.#context.breach(otherwise));
  }

  #expectOutput(): void {
    this.#expectWithin(this.#context.deadlines.outputStallMs, "the outputs of an execution do not come");
  }

  #settle(tell: () => void, { keepReceivers = false } = {}): void {
    const state = this.#state;
    if (state.t === "settled") return;
    this.#deadline?.cancel();
    this.#state = { t: "settled" };
    if (!keepReceivers && (state.t === "receiving" || state.t === "cancelling"))
      for (const receiver of state.answer?.receivers ?? []) void receiver.dispose();
    this.#context.settled();
    tell();
  }
}

function resultOf({ exit, receivers }: Answer): ExecutionResult {
  const [stdout, stderr, ...files] = receivers;
  if (!stdout || !stderr) throw new Error("bug: an answer without standard streams");
  const outputs = exit.outputs.map((output, index): ExecutionOutput | null => {
    const receiver = files[index];
    return output && receiver ? { executable: output.executable, content: receiver.received } : null;
  });
  return {
    exit: exit.exit,
    stdout: stdout.received,
    stderr: stderr.received,
    outputs,
    wallUs: exit.wallUs,
    cpuUs: exit.cpuUs,
    memoryPeakBytes: exit.memoryPeakBytes,
    async [Symbol.asyncDispose]() {
      await Promise.all(receivers.map((receiver) => receiver.dispose()));
    },
  };
}
