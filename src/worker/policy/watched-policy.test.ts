import assert from "node:assert/strict";
import { mkdir, mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ManualClock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { sha256 } from "../../core/digest/digest.ts";
import { parseSpiffeId } from "../../core/identity/spiffe.ts";
import type { SitePolicy } from "../../core/policy/site-policy.ts";
import { NO_QUOTAS } from "../../core/tenant-policy.ts";
import { POLICY_POLL_MS, type PolicyRowEvent, WatchedPolicy } from "./watched-policy.ts";

/** Files of these tests are "VERSION" or "VERSION words"; everything else is bad. */
function parse(bytes: Uint8Array): SitePolicy {
  const [, version] = /^([0-9]+)( .*)?$/.exec(Buffer.from(bytes).toString()) ?? [];
  if (version === undefined) throw new HpccError("config.invalid", "policy:1: it is bad");
  const defaults = {
    life: null,
    sharing: null,
    golden: "shared",
    isolationMin: null,
    images: null,
    quotas: { ...NO_QUOTAS, jobsMax: Number(version) },
    userQuotas: NO_QUOTAS,
    retention: { days: null, bytes: null, automatic: false },
    tiers: [],
  } as const;
  return { digest: sha256(bytes), version: Number(version), servesUnlisted: true, defaults, tenants: new Map() };
}

const ANN = parseSpiffeId("spiffe://example.org/tenant/acme/user/ann");

class Fixture {
  readonly folder: string;
  readonly path: string;
  readonly clock = new ManualClock();
  readonly rows: string[] = [];
  failure: Error | null = null;

  constructor(folder: string) {
    this.folder = folder;
    this.path = join(folder, "policy.toml");
  }

  static async make(t: TestContext): Promise<Fixture> {
    const folder = await mkdtemp(join(tmpdir(), "hpcc-watched-"));
    t.after(() => rm(folder, { recursive: true }));
    return new Fixture(folder);
  }

  /** As an operator should: a new file takes the old one's place. */
  async write(content: string): Promise<void> {
    await writeFile(`${this.path}.new`, content);
    await rename(`${this.path}.new`, this.path);
  }

  async open(): Promise<WatchedPolicy> {
    return WatchedPolicy.open({
      file: { path: this.path, parse },
      folder: join(this.folder, "state"),
      isolation: "firecracker",
      record: async ({ version, problem }: PolicyRowEvent) => {
        if (this.failure !== null) throw this.failure;
        this.rows.push(
          problem === null
            ? `in force ${version}`
            : `refused ${version}: ${problem
                .split(": ")
                .pop()
                ?.replace(/ or directory.*/, "")}`,
        );
      },
      clock: this.clock,
      logger: SILENT_LOGGER,
    });
  }

  /** One poll, to its end: the next one is due then. */
  async poll(times = 1): Promise<void> {
    for (let i = 0; i < times; i++) {
      assert.ok(this.clock.pendingTimers > 0);
      this.clock.advance(POLICY_POLL_MS);
      while (this.clock.pendingTimers === 0) await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

function jobsMax(policy: WatchedPolicy): number | null | undefined {
  assert.ok(ANN.kind === "user");
  return policy.of(ANN)?.quotas.tenant.jobsMax;
}

test("a newer file comes into force without a restart, whole, with a row", async (t) => {
  const at = await Fixture.make(t);
  await at.write("1");
  const policy = await at.open();
  assert.deepEqual([policy.version, jobsMax(policy), at.rows], [1, 1, ["in force 1"]]);
  await at.poll(3);
  await at.write("2");
  await at.poll();
  assert.equal(policy.version, 1, "it may still be being written");
  await at.poll();
  assert.deepEqual([policy.version, jobsMax(policy), policy.digest], [2, 2, sha256(Buffer.from("2"))]);
  await at.write("3");
  await policy.check();
  assert.equal(policy.version, 3, "who asks need not wait");
  await at.poll(40);
  assert.deepEqual(at.rows, ["in force 1", "in force 2", "in force 3"]);
  await policy.close();
  assert.equal(at.clock.pendingTimers, 0);
});

test("a bad, older, other or missing file leaves what is in force, with one row each", async (t) => {
  const at = await Fixture.make(t);
  await at.write("5");
  const policy = await at.open();
  for (const content of ["no policy", "4", "5 words", "x".repeat(2 ** 21)]) {
    await at.write(content);
    await at.poll(40);
    assert.equal(policy.version, 5, content.slice(0, 10));
  }
  await rm(at.path);
  await at.poll(40);
  await mkdir(at.path);
  await at.poll(3);
  await rm(at.path, { recursive: true });
  await at.write("6");
  await at.poll(2);
  assert.equal(policy.version, 6);
  assert.deepEqual(at.rows, [
    "in force 5",
    "refused null: it is bad",
    "refused 4: its version is 4, and version 5 has been seen; give it a higher one",
    "refused 5: its version is 5, and another file with that version has been seen; give it a higher one",
    "refused null: it is larger than 1048576 bytes",
    "refused null: no such file",
    "refused null: it is no file",
    "in force 6",
  ]);
  await policy.close();
});

test("a worker that starts again takes nothing older than what it had, nor another file with that version", async (t) => {
  const at = await Fixture.make(t);
  await at.write("7");
  await (await at.open()).close();
  for (const content of ["6", "7 words", "bad"]) {
    await at.write(content);
    await assert.rejects(at.open(), { code: "config.invalid" }, content);
  }
  await at.write("7");
  const again = await at.open();
  assert.equal(again.version, 7);
  await again.close();
  assert.deepEqual(
    at.rows.map((row) => row.split(":")[0]),
    ["in force 7", "refused 6", "refused 7", "refused null", "in force 7"],
  );
  await writeFile(join(at.folder, "state/seen.json"), "{");
  await assert.rejects(at.open(), {
    code: "config.invalid",
    message: /seen\.json, which keeps the worker from going back/,
  });
});

test("a file whose row cannot be written is not in force, and is tried again", async (t) => {
  const at = await Fixture.make(t);
  await at.write("1");
  const policy = await at.open();
  at.failure = new HpccError("audit.io", "the disk is full");
  await at.write("2");
  await at.poll(4);
  assert.equal(policy.version, 1);
  at.failure = null;
  await at.poll(2);
  assert.equal(policy.version, 2);
  await policy.close();
});
