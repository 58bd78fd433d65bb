// Client and worker run the same files under an image's digest, or nothing.
import assert from "node:assert/strict";
import { test } from "node:test";
import { TEST_IMAGE, TestWorker } from "../../test/support/test-worker.ts";
import { type Digest, sha256 } from "../core/digest/digest.ts";

const NEVER = { signal: new AbortController().signal };
const HELLO = { path: "/hpcc/project/hello.c", content: "int answer(void) { return 42; }\n" };
const OWN = sha256(Buffer.from("what the worker's root holds"));
const OTHER = sha256(Buffer.from("another"));

/** A worker whose root holds `own` once it was made. */
async function worker(t: Parameters<typeof TestWorker.start>[0], own: Digest | null, knownAtOnce: boolean) {
  let isMade = knownAtOnce;
  return TestWorker.start(
    t,
    {},
    {
      images: {
        digests: [TEST_IMAGE],
        has: (digest) => digest === TEST_IMAGE,
        contents: () => (isMade ? own : null),
        async rootfs() {
          isMade = true;
          return "/nonexistent/image.sqfs";
        },
      },
    },
  );
}

for (const knownAtOnce of [true, false])
  test(`a job whose client has another root is refused by name, ${knownAtOnce ? "at once" : "when the worker's was made"}`, async (t) => {
    const at = await worker(t, OWN, knownAtOnce);
    const image = (contents: Digest | null) => ({ repository: "", waitMs: 0, contents });
    const job = await at.job({ files: [HELLO] });
    await assert.rejects((await at.client()).compile({ ...job, image: image(OTHER) }, NEVER), {
      code: "image.differs",
      message: new RegExp(`the root file system of image ${TEST_IMAGE} holds ${OWN} on this worker, and ${OTHER} on`),
    });
    assert.equal(at.pool.executions, 0);
    assert.equal((await at.jobRows()).at(-1)!.envelope["note"], "image.differs");
    assert.equal((await (await at.client()).compile({ ...job, image: image(OWN) }, NEVER)).exitCode, 0);
    // What it compiled is no answer for a client with other files either.
    await assert.rejects((await at.client()).compile({ ...job, image: image(OTHER) }, NEVER), {
      code: "image.differs",
    });
    assert.equal(at.pool.executions, 1);
  });

test("a client or a worker that does not know what its root holds is served", async (t) => {
  const at = await worker(t, null, true);
  const job = await at.job({ files: [HELLO] });
  const result = await (await at.client()).compile(
    { ...job, image: { repository: "", waitMs: 0, contents: OTHER } },
    NEVER,
  );
  assert.equal(result.exitCode, 0);
});
