// What a user who owns his guest can make of results that are shared: over trust tiers, and by the second compile that is to confirm
// what a warm VM made.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, type TestContext, test } from "node:test";
import { fixedPolicies, type PolicySource } from "../../src/core/tenant-policy.ts";
import type { WorkerClient } from "../../src/daemon/remote/worker-client.ts";
import { TestWorker } from "../support/test-worker.ts";
import { callingAllClean, EXPLOIT, guestPool, lies, objectOf, TROJAN } from "./taken-over-guest.ts";
import { sharingAll } from "./weak-layers.ts";

const NEVER = { signal: new AbortController().signal };
const SOURCE = "int source;\n";

/** The user `release` is of the higher tier, everybody else's jobs are those of pull requests. */
function tiers(): PolicySource {
  const base = fixedPolicies(new Map([["acme", { life: "clean", sharing: "clean" }]]));
  const tierOf = (user: string) =>
    user === "release"
      ? { tier: "release", readableTiers: ["release"] }
      : { tier: "pull-request", readableTiers: ["pull-request", "release"] };
  return {
    ...base,
    of: (principal) => {
      const policy = base.of(principal);
      return policy && { ...policy, ...tierOf(principal.user) };
    },
  };
}

async function compile(at: TestWorker, client: WorkerClient, content: string, path = "/hpcc/project/a.c") {
  const { outcome, outputs } = await client.compile(await at.job({ files: [{ path, content }] }), NEVER);
  return { outcome, object: String(await readFile(outputs[0]!.file)) };
}

describe("a pull request whose guest is taken over, on a worker that wrongly calls its VM clean", () => {
  const { createPool } = guestPool({ attack: lies });

  async function released(t: TestContext, deps: Parameters<typeof TestWorker.start>[2]) {
    const at = await TestWorker.start(t, {}, { policies: tiers(), createPool: callingAllClean(createPool), ...deps });
    const contributor = await at.client("tenant/acme/user/contributor");
    await compile(at, contributor, "int exploit;\n", EXPLOIT);
    assert.equal((await compile(at, contributor, SOURCE)).object, String(TROJAN), "the attack works");
    const release = await compile(at, await at.client("tenant/acme/user/release"), SOURCE);
    return release;
  }

  test("does not reach the release build", async (t) => {
    const release = await released(t, {});
    assert.deepEqual(release, { outcome: "compiled", object: String(objectOf(SOURCE)) });
  });

  test("control: without tiers in the keys the release build gets the trojan", async (t) => {
    const release = await released(t, { interceptors: { admitted: [sharingAll] } });
    assert.deepEqual(release, { outcome: "hit", object: String(TROJAN) });
  });

  test("while what a release build had compiled serves pull requests", async (t) => {
    const at = await TestWorker.start(t, {}, { policies: tiers(), createPool });
    await compile(at, await at.client("tenant/acme/user/release"), SOURCE);
    const contributor = await compile(at, await at.client("tenant/acme/user/contributor"), SOURCE);
    assert.deepEqual(contributor, { outcome: "hit", object: String(objectOf(SOURCE)) });
  });
});
