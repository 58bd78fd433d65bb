// A hit on a stream that is busy with an upload of 100 MB: over mutual TLS, to the installed worker in a process of its own.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ascii, byteStringOfText } from "../../src/base/byte-string.ts";
import { HpccError } from "../../src/base/errors.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import { encodeSourceManifest, sourceManifest } from "../../src/core/action/source-manifest.ts";
import { parseDigest, sha256 } from "../../src/core/digest/digest.ts";
import { parseHostPort } from "../../src/core/identity/host-port.ts";
import type { RemoteJob } from "../../src/daemon/remote/remote-job.ts";
import { WorkerClient } from "../../src/daemon/remote/worker-client.ts";
import { compressBytes } from "../../src/store/zstd-codec.ts";
import { Farm, type RunningWorker, type User } from "../support/farm.ts";

const UPLOAD_BYTES = 100 * 1000 * 1000;
/** What a hit may take longer while another job uploads; waiting for the upload would take many times this. */
const MORE_MS_MAX = 20;
const IDLE_HITS = 40;
const HITS_MIN = 10;
/** Other work on the machine delays both ends: the best round counts. */
const ROUNDS_MAX = 8;
const NEVER = new AbortController().signal;

let farm: Farm;
let worker: RunningWorker;
let image: { digest: string; layout: string };
let user: User;
let client: WorkerClient;
let jobs = 0;

before(async () => {
  farm = new Farm();
  await farm.init();
  image = await farm.image("e2e");
  await farm.startScheduler();
  worker = await farm.startWorker("w", { layouts: [image.layout] });
  user = await farm.addUser("alice", { images: [image.digest] });
  const identity = (name: string) => readFileSync(join(user.folder, "identity", name));
  client = await WorkerClient.connect({
    address: parseHostPort(worker.address),
    tls: { certificate: identity("cert.pem"), key: identity("key.pem"), ca: identity("ca.pem") },
    accept: (server) => server.kind === "worker",
    version: "0.1.0",
    clock: SYSTEM_CLOCK,
  });
});

after(async () => {
  client?.close();
  await farm?.close();
});

function jobOf(content: Uint8Array, frame: Uint8Array): RemoteJob {
  const outputFolder = join(farm.folder, `job-${++jobs}`);
  mkdirSync(outputFolder);
  const path = ascii("/hpcc/project/a.c");
  const entry = { kind: "file" as const, path, mode: 0o644 as const, digest: sha256(content), size: content.length };
  return {
    action: {
      imageDigest: parseDigest(image.digest, "the image"),
      argv: ["/usr/bin/gcc", "-c", "a.c", "-o", "/hpcc/out/object"].map(byteStringOfText),
      environment: [ascii("LC_ALL=C"), ascii("PATH=/usr/bin:/bin")],
      cwd: ascii("/hpcc/project"),
      outputs: [{ path: ascii("/hpcc/out/object"), required: true, kind: "object" }],
      terminalColumns: null,
      determinism: "default",
    },
    manifest: encodeSourceManifest(sourceManifest("text", [entry])),
    openBlob: () => frame,
    isolationMin: "qemu-tcg",
    deadlineMs: 300_000,
    outputFolder,
  };
}

const HELLO = Buffer.from("int answer(void) { return 42; }\n");

async function hitMs(): Promise<number> {
  const job = jobOf(HELLO, await compressBytes(HELLO));
  const begun = performance.now();
  const { outcome } = await client.compile(job, { signal: NEVER });
  const took = performance.now() - begun;
  assert.equal(outcome, "hit");
  return took;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

/** Hits one after the other, from the first byte of an upload to its last. */
async function hitsDuringUpload(): Promise<number[]> {
  const noise = randomBytes(UPLOAD_BYTES);
  const frame = await compressBytes(noise);
  const over = new AbortController();
  const uploading = { begun: false };
  const job = { ...jobOf(noise, frame), openBlob: () => ((uploading.begun = true), frame) };
  // All bytes are there when the job waits for a VM: it is given up then, so that nothing is compiled.
  const onProgress = (progress: string) => {
    if (uploading.begun && progress !== "receiving") over.abort();
  };
  const uploaded = client.compile(job, { signal: over.signal, onProgress });
  const ended = assert.rejects(uploaded, (error) => error instanceof HpccError && error.code === "job.cancelled");
  while (!uploading.begun) await new Promise((resolve) => setImmediate(resolve));
  const hits: number[] = [];
  while (!over.signal.aborted) hits.push(await hitMs());
  await ended;
  // The last one may have begun after the last byte.
  return hits.slice(0, -1);
}

test("a hit during a 100 MB upload on the same stream takes less than 20 ms more than an idle one", async () => {
  await client.compile(jobOf(HELLO, await compressBytes(HELLO)), { signal: NEVER });
  for (let i = 0; i < 10; i++) await hitMs();
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS_MAX && best >= MORE_MS_MAX; round++) {
    const idle: number[] = [];
    for (let i = 0; i < IDLE_HITS; i++) idle.push(await hitMs());
    const during = await hitsDuringUpload();
    // A median of few says nothing: the round is lost.
    if (during.length < HITS_MIN) {
      console.log(`only ${during.length} hits during the upload`);
      continue;
    }
    const more = median(during) - median(idle);
    best = Math.min(best, more);
    console.log(
      `hits: idle median ${median(idle).toFixed(1)} ms; ${during.length} during the upload, ` +
        `median ${median(during).toFixed(1)} ms, worst ${Math.max(...during).toFixed(1)} ms`,
    );
  }
  assert.ok(best < MORE_MS_MAX, `${best.toFixed(1)} ms more`);
});
