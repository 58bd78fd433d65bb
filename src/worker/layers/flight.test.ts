// Equal jobs at the same time: one compile, whose source came once, and who waits longest is served.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { FILE, nextLayer, ROW, SOURCE, seen, testAnswer, testJob } from "../../../test/support/layer-jobs.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { memoryStore } from "../../store/memory/memory-store.ts";
import { compressBytes } from "../../store/zstd-codec.ts";
import { FlightLayer } from "./flight.ts";
import type { CompileJob, Job } from "./layer.ts";

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

function start() {
  const store = memoryStore();
  const gate = Promise.withResolvers<void>();
  const answers: Awaited<ReturnType<typeof testAnswer>>[] = [];
  const next = nextLayer<CompileJob>(async () => {
    await gate.promise;
    answers.push(await testAnswer(store));
    return answers.at(-1)!;
  });
  const { events, observe } = seen();
  const layer = new FlightLayer(next, { logger: SILENT_LOGGER, observe });
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
  return { layer, next, gate, answers, events, said, job };
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
