// A runtime whose machines are fake agents behind the worker's own session: a guest that breaks the contract, as its worker meets it.
import { randomBytes } from "node:crypto";
import { HpccError } from "../../src/base/errors.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import { streamThroughChannel } from "../../src/vm/agent/channel.ts";
import { dialGuest } from "../../src/vm/agent/dial.ts";
import { AGENT_PORT, type AgentDeadlines } from "../../src/vm/agent/limits.ts";
import { openSession } from "../../src/vm/agent/session.ts";
import type { BootSpec, Machine, MachineEnd, Runtime } from "../../src/vm/runtime.ts";
import { CHANNEL_PROGRAM } from "./agent-streams.ts";
import { type Behaviour, FakeAgent } from "./fake-agent.ts";

export interface FakeAgentRuntimeOptions {
  readonly behaviour: Behaviour;
  readonly deadlines: AgentDeadlines;
  /** For larger outputs. */
  readonly folder: string;
  /** Machines are named by it and a number: a worker that starts again has others. */
  readonly name?: string;
}

export class FakeAgentRuntime implements Runtime {
  readonly isolation = "qemu-tcg";
  readonly parking = "stopped";
  /** How machines ended, in order. */
  readonly ends: MachineEnd[] = [];
  booted = 0;
  readonly #options: FakeAgentRuntimeOptions;

  constructor(options: FakeAgentRuntimeOptions) {
    this.#options = options;
  }

  async boot(_spec: BootSpec, signal: AbortSignal): Promise<Machine> {
    const { behaviour } = this.#options;
    const agent = await FakeAgent.start(behaviour);
    const session = await this.#open(agent, signal).catch(async (error: unknown) => {
      await agent[Symbol.asyncDispose]();
      throw error;
    });
    this.booted += 1;
    const ended = session.ended.then(async (end): Promise<MachineEnd> => {
      await agent[Symbol.asyncDispose]();
      const last: MachineEnd = end.t === "closed" ? { t: "destroyed" } : end;
      this.ends.push(last);
      return last;
    });
    const unable = (): Promise<never> => Promise.reject(new HpccError("vm.lost", "a fake agent clears nothing away"));
    const none = { vmm: "fake", kernelDigest: "-", initramfsDigest: "-", agentDigest: "-" };
    return {
      id: `${this.#options.name ?? "vm-fake"}-${this.booted}`,
      isolation: this.isolation,
      versions: { ...none, kernelRelease: session.ready.kernelRelease, agentVersion: session.ready.agentVersion },
      origin: "boot",
      bootMs: 1,
      session,
      get alive() {
        return session.alive;
      },
      ended,
      scrub: unable,
      park: unable,
      async destroy() {
        session.close();
        await ended;
      },
    };
  }

  async #open(agent: FakeAgent, signal: AbortSignal) {
    const { deadlines, folder } = this.#options;
    const clock = SYSTEM_CLOCK;
    const socket = await dialGuest({ socketPath: agent.socketPath, port: AGENT_PORT, clock, signal });
    return openSession(
      socket,
      { clock, deadlines, folder, randomBytes, openStream: streamThroughChannel(CHANNEL_PROGRAM) },
      signal,
    );
  }
}
