// A worker and scheduler that are stopped (SIGSTOP) in mid-work: the calls that are with the worker end once, all later ones are told
// at once that there is none, and one probe at a time, ever more rarely, finds out when it is back. Real servers, a clock moved by hand.
import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { STOPPABLE_WORKERS_CODE, StoppablePeers } from "../../../test/support/stoppable-peers.ts";
import { ascii } from "../../base/byte-string.ts";
import { ManualClock } from "../../base/clock.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { encodeSourceManifest, sourceManifest } from "../../core/action/source-manifest.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import { inspectTls } from "../../wire/grpc/tls-files.ts";
import { HELLO_TIMEOUT_MS, JOB_SILENCE_MS_MAX } from "../../wire/worker/limits.ts";
import { RemoteCompiler } from "./remote-compiler.ts";
import type { RemoteJob } from "./remote-job.ts";
import { WorkerClient } from "./worker-client.ts";
import { WorkerConnections } from "./worker-connections.ts";

const NEVER = { signal: new AbortController().signal };
const IMAGES = ["one", "other"].map((name) => sha256(Buffer.from(name)));
/** Longer than any pause before a probe. */
const ANY_PAUSE_MS = 60_000;
const CALLS = 8;

function jobOf(imageDigest: Digest): RemoteJob {
  return {
    action: {
      imageDigest,
      argv: [ascii("/usr/bin/gcc")],
      environment: [],
      cwd: ascii("/hpcc/project"),
      outputs: [{ path: ascii("/out"), required: true, kind: "object" }],
      terminalColumns: null,
      determinism: "default",
    },
    manifest: encodeSourceManifest(sourceManifest("files", [])),
    openBlob: () => assert.fail("nothing is asked for"),
    isolationMin: "qemu-tcg",
    deadlineMs: 60_000,
    outputFolder: "/nonexistent",
  };
}

/** What a daemon has: one set of connections, and a compiler for each of two images. */
async function daemonOf(t: TestContext) {
  const peers = await StoppablePeers.start();
  const names = { certificate: "c", key: "k", ca: "a" };
  const user = inspectTls(await peers.authority.issue("tenant/acme/user/ann"), Date.now(), names);
  const clock = new ManualClock();
  const shared = { credentials: () => user, clock, logger: SILENT_LOGGER, random: () => 0.5 };
  const dials: Promise<unknown>[] = [];
  const workers = new WorkerConnections({
    ...shared,
    connect: (worker, { tls }, signal) => {
      const accept = () => true;
      const dial = WorkerClient.connect({ address: worker.address, tls, accept, version: "0.1.0", clock, signal });
      dials.push(dial.catch(() => {}));
      return dial;
    },
  });
  const compilers = IMAGES.map((image) => {
    const query = { image, isolationMin: "qemu-tcg" } as const;
    return new RemoteCompiler({ ...shared, schedulers: [peers.scheduler], query, workers });
  });
  t.after(async () => {
    await Promise.all([...compilers, workers].map((each) => each.close()));
    await peers.close();
  });
  const compile = (index: number) => compilers[index % 2]!.compile(jobOf(IMAGES[index % 2]!), NEVER);
  return {
    peers,
    clock,
    dials,
    /** The code with which a call ends. */
    call: (index: number) =>
      compile(index).then(
        () => assert.fail("the worker makes nothing"),
        ({ code }: { code: string }) => code,
      ),
    available: (index: number) => compilers[index % 2]!.available(NEVER.signal),
  };
}

/** Many calls of both images at once; none waits for the clock, which stands. */
async function assertPassedBy({ call, available }: Awaited<ReturnType<typeof daemonOf>>): Promise<void> {
  const codes = await Promise.all(Array.from({ length: CALLS }, (_, index) => call(index)));
  assert.deepEqual(codes, Array(CALLS).fill("peer.unavailable"));
  assert.deepEqual([await available(0), await available(1)], [false, false]);
}

/** The last dial has ended, and who waited for it has noted that. */
async function endOfDial({ dials }: Awaited<ReturnType<typeof daemonOf>>): Promise<void> {
  await dials.at(-1);
  await setImmediate();
}

test("a stopped worker and scheduler stall the calls that are with them, and none after these", async (t) => {
  const daemon = await daemonOf(t);
  const { peers, clock, dials, call, available } = daemon;
  assert.deepEqual([await available(0), await available(1)], [true, true]);
  assert.deepEqual([await call(0), await call(1)], [STOPPABLE_WORKERS_CODE, STOPPABLE_WORKERS_CODE]);
  assert.equal(dials.length, 1, "one stream for both images");

  peers.stop();
  const stalled = [call(0), call(1)];
  // The jobs are on the stream before time passes.
  await setImmediate();
  clock.advance(JOB_SILENCE_MS_MAX);
  assert.deepEqual(await Promise.all(stalled), ["peer.deadline", "peer.deadline"]);
  await assertPassedBy(daemon);
  assert.equal(dials.length, 1, "not probed yet");

  const pauses: number[] = [];
  for (let probe = 1; probe <= 8; probe += 1) {
    let pausedMs = 0;
    for (; dials.length === probe && pausedMs <= ANY_PAUSE_MS; pausedMs += 250) {
      clock.advance(250);
      assert.equal(await available(probe), false);
    }
    assert.equal(dials.length, probe + 1, "a probe begins");
    pauses.push(pausedMs);
    await assertPassedBy(daemon);
    assert.equal(dials.length, probe + 1, "one probe at a time");
    clock.advance(HELLO_TIMEOUT_MS);
    await endOfDial(daemon);
  }
  assert.deepEqual(pauses, [750, 1_500, 3_000, 6_000, 12_000, 24_000, 45_000, 45_000], "growing, spread and bounded");

  peers.goOn();
  clock.advance(ANY_PAUSE_MS);
  assert.equal(await available(0), false, "the call that asks for the probe does not wait for it");
  await endOfDial(daemon);
  assert.deepEqual([await available(0), await available(1)], [true, true]);
  assert.deepEqual([await call(0), await call(1)], [STOPPABLE_WORKERS_CODE, STOPPABLE_WORKERS_CODE]);
});

test("a scheduler that never answered stalls the calls of the first seconds, and none after these", async (t) => {
  const daemon = await daemonOf(t);
  daemon.peers.stop();
  const first = [daemon.available(0), daemon.available(1), daemon.call(0)];
  daemon.clock.advance(5_000);
  assert.deepEqual(await Promise.all(first), [false, false, "peer.unavailable"]);
  await assertPassedBy(daemon);
});
