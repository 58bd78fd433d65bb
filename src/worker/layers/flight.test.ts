// Equal jobs at the same time: one compile, whose source came once, and who waits longest is served.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  ACTION,
  type AnswerOptions,
  FILE,
  nextLayer,
  ROW,
  SOURCE,
  seen,
  testAnswer,
  testJob,
  user,
} from "../../../test/support/layer-jobs.ts";
import { ascii } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { fixedPolicies, type JobPolicy } from "../../core/tenant-policy.ts";
import { memoryStore } from "../../store/memory/memory-store.ts";
import { compressBytes } from "../../store/zstd-codec.ts";
import { OWN } from "../cached-result.ts";
import { Possessions } from "../possessions.ts";
import { FlightLayer } from "./flight.ts";
import type { CompileJob, Job } from "./layer.ts";

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

function start(make: (job: CompileJob) => AnswerOptions = ({ policy }) => ({ origin: { life: policy.life } })) {
  const store = memoryStore();
  const gate = Promise.withResolvers<void>();
  const answers: Awaited<ReturnType<typeof testAnswer>>[] = [];
  const next = nextLayer<CompileJob>(async (compile) => {
    await gate.promise;
    answers.push(await testAnswer(store, make(compile)));
    return answers.at(-1)!;
  });
  const { events, observe } = seen();
  const layer = new FlightLayer(next, { possessions: new Possessions(), logger: SILENT_LOGGER, observe });
  const said: string[] = [];
  const client: Job["client"] = {
    async *receive(blobs) {
      for (const { digest } of blobs) {
        assert.equal(digest, FILE.digest);
        yield (async function* () {
          yield await compressBytes(SOURCE);
        })();
      }
    },
    progress: (state) => void said.push(state),
  };
  const job = (changes: Partial<Job> = {}) => testJob({ store, client, ...changes });
  const jobOf = (name: string, policy: Partial<JobPolicy> = {}, changes: Partial<Job> = {}): Job => {
    const principal = user(name);
    const clean = { sharing: "clean", life: "clean" } as const;
    return job({ principal, policy: { ...fixedPolicies().of(principal)!, ...clean, ...policy }, ...changes });
  };
  /** Starts the first, and the second once the first compiles; gives what both come to. */
  const both = async (first: Job, second: Job) => {
    const running = [layer.run(first)];
    while (next.jobs.length === 0) await turn();
    running.push(layer.run(second));
    for (let i = 0; i < 20; i++) await turn();
    gate.resolve();
    const ended = await Promise.allSettled(running);
    return ended.map((each) => (each.status === "fulfilled" ? each.value.outcome : String(each.reason.code)));
  };
  return { layer, next, gate, answers, events, said, job, jobOf, both };
}

describe("equal jobs", () => {
  test("are compiled once; the source comes once, and each gets frames of its own", async () => {
    const at = start();
    const first = at.layer.run(at.job());
    while (at.next.jobs.length === 0) await turn();
    const second = at.layer.run(at.job());
    assert.deepEqual(at.said, ["receiving", "queued", "running"]);
    at.gate.resolve();
    const [a, b] = await Promise.all([first, second]);
    assert.deepEqual([a.outcome, b.outcome, at.next.jobs.length], ["compiled", "joined", 1]);
    await a.result.close();
    const chunks = [];
    for await (const chunk of b.result.parts[0]!.frame!.chunks()) chunks.push(chunk);
    assert.ok(chunks.length > 0);
    assert.equal(at.answers[0]!.closed(), 1);
    assert.deepEqual(
      at.events.map(({ t }) => t),
      ["received", "joined"],
    );
  });

  test("join it also while its row is written and it is being kept", async () => {
    const at = start();
    at.gate.resolve();
    const first = await at.layer.run(at.job());
    assert.equal((await at.layer.run(at.job())).outcome, "joined");
    await first.afterRow(ROW);
    assert.deepEqual(at.answers[0]!.rows, [ROW]);
    assert.equal((await at.layer.run(at.job())).outcome, "compiled");
  });

  test("do not join one whose first was refused by the log", async () => {
    const at = start();
    at.gate.resolve();
    const first = await at.layer.run(at.job());
    await first.result.close();
    assert.equal((await at.layer.run(at.job())).outcome, "compiled");
  });

  test("go on when their first leaves, and what nobody waits for is closed", async () => {
    const at = start();
    const [leaveA, leaveB] = [new AbortController(), new AbortController()];
    const a = at.layer.run(at.job({ signal: leaveA.signal }));
    while (at.next.jobs.length === 0) await turn();
    const b = at.layer.run(at.job({ signal: leaveB.signal }));
    leaveA.abort(new Error("left"));
    await assert.rejects(a, /left/);
    assert.equal(at.next.jobs[0]!.signal.aborted, false);
    leaveB.abort(new Error("left"));
    await assert.rejects(b, /left/);
    assert.equal(at.next.jobs[0]!.signal.aborted, true);
    at.gate.resolve();
    while (at.answers[0]?.closed() !== 1) await turn();
    assert.equal(at.layer.compiling, 0);
  });
});

describe("equal jobs of two users", () => {
  const PRIVATE = { sharing: "private" } as const;
  const WARM = { sharing: "confirm", life: "session" } as const;
  for (const [what, first, second, outcomes] of [
    ["of a tenant that shares what clean VMs made are one compile", {}, {}, ["compiled", "joined"]],
    ["are two when VMs are warm", WARM, WARM, ["compiled", "compiled"]],
    ["are two when the second wants to be given nothing of others", {}, PRIVATE, ["compiled", "compiled"]],
    ["are two when the first shares nothing", PRIVATE, {}, ["compiled", "compiled"]],
    ["are one when who has warm VMs may be given a clean one's result", {}, WARM, ["compiled", "joined"]],
    ["are two when who wants a clean one's would be given a warm one's", WARM, {}, ["compiled", "compiled"]],
    [
      "are one when the second's tier may read the first's",
      { tier: "release", readableTiers: ["release"] },
      { tier: "laptop", readableTiers: ["laptop", "release"] },
      ["compiled", "joined"],
    ],
    [
      "are two when it may not",
      { tier: "laptop", readableTiers: ["laptop", "release"] },
      { tier: "release", readableTiers: ["release"] },
      ["compiled", "compiled"],
    ],
  ] as const)
    test(what, async () => {
      const at = start();
      assert.deepEqual(await at.both(at.jobOf("ann", first), at.jobOf("bob", second)), outcomes);
      assert.equal(at.next.jobs.length, outcomes[1] === "joined" ? 1 : 2);
    });

  test("a failed compile is the answer of its own user alone; the other compiles", async () => {
    const at = start(({ principal }) => ({ exitCode: principal.user === "ann" ? 1 : 0, origin: { life: "clean" } }));
    assert.deepEqual(await at.both(at.jobOf("ann"), at.jobOf("bob")), ["compiled", "compiled"]);
    assert.deepEqual(
      at.next.jobs.map(({ principal }) => principal.user),
      ["ann", "bob"],
    );
  });

  test("so is a fault, and what lies with the first user does not end the second one's job", async () => {
    const at = start(({ principal }) => {
      if (principal.user === "ann") throw new HpccError("limit.exceeded", "the queue is full");
      return { origin: { life: "clean" } };
    });
    assert.deepEqual(await at.both(at.jobOf("ann"), at.jobOf("bob")), ["limit.exceeded", "compiled"]);
  });

  test("what is isolated too weakly for the second is not its answer", async () => {
    const at = start(({ principal }) => ({
      origin: { life: "clean", isolation: principal.user === "ann" ? "qemu-tcg" : "qemu-kvm" },
    }));
    const bob = at.jobOf("bob", {}, { isolationMin: "qemu-kvm" });
    assert.deepEqual(await at.both(at.jobOf("ann"), bob), ["compiled", "compiled"]);
  });

  test("what a VM did not make clean is given to no other, whatever was asked for", async () => {
    const at = start(({ principal }) => ({ origin: { life: principal.user === "ann" ? "session" : "clean" } }));
    assert.deepEqual(await at.both(at.jobOf("ann"), at.jobOf("bob")), ["compiled", "compiled"]);
  });

  test("a failed compile whose user has left is nobody's, and is closed", async () => {
    const at = start(({ principal }) => ({ exitCode: principal.user === "ann" ? 1 : 0, origin: { life: "clean" } }));
    const leave = new AbortController();
    const ann = at.layer.run(at.jobOf("ann", {}, { signal: leave.signal }));
    while (at.next.jobs.length === 0) await turn();
    const bob = at.layer.run(at.jobOf("bob"));
    leave.abort(new Error("left"));
    await assert.rejects(ann, /left/);
    at.gate.resolve();
    const answer = await bob;
    assert.deepEqual([answer.outcome, at.answers[0]!.closed()], ["compiled", 1]);
    await answer.result.close();
    assert.equal(at.layer.compiling, 0);
  });
});

/** Everybody has sent everything. */
class AllSent extends Possessions {
  override has(): boolean {
    return true;
  }
}

test("of a thousand keys in flight, each wanted by four users, one job is held for each and one result", async () => {
  const { blobs, actions } = memoryStore();
  const { result } = await testAnswer({ blobs, actions }, { origin: { life: "clean" } });
  const ref = await blobs.putBytes(SOURCE, "kept", SOURCE.length);
  // Everything is there already, so that nothing but the layer is at work.
  const store = {
    blobs: { ...blobs, frameSize: async () => 1, putBytes: async () => ref, get: blobs.get.bind(blobs) },
    actions,
  };
  const gate = Promise.withResolvers<void>();
  let closed = 0;
  const next = nextLayer<CompileJob>(async ({ keys }) => {
    await gate.promise;
    const open = { ...result, close: async () => void closed++ };
    return { outcome: "compiled", key: keys.shared, provenance: OWN, result: open, afterRow: async () => undefined };
  });
  const layer = new FlightLayer(next, {
    possessions: new AllSent(),
    logger: SILENT_LOGGER,
    observe: () => undefined,
  });
  const { jobOf } = start();
  const [KEYS, USERS] = [1000, 4];
  const wantAll = (who: number) =>
    Array.from({ length: KEYS }, (_, i) =>
      layer.run(jobOf(`u${who}`, {}, { store, action: { ...ACTION, cwd: ascii(`/p/${i}`) } })),
    );
  const running = wantAll(0);
  while (next.jobs.length < KEYS) await turn();
  for (let who = 1; who < USERS; who++) running.push(...wantAll(who));
  assert.deepEqual([layer.compiling, next.jobs.length], [KEYS, KEYS]);
  assert.ok(next.jobs.every((job) => !("client" in job) && !("encodedSource" in job)));
  gate.resolve();
  const answers = await Promise.all(running);
  assert.equal(answers.filter(({ outcome }) => outcome === "joined").length, KEYS * (USERS - 1));
  for (const answer of answers) {
    await answer.afterRow(ROW);
    await answer.result.close();
  }
  assert.deepEqual([layer.compiling, closed], [0, KEYS]);
});
