// What a policy file says holds for jobs, whatever a client asks for, and each job's row names the file.
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { TEST_IMAGE, TestWorker } from "../../../test/support/test-worker.ts";
import { parsePolicy } from "../../config/policy-file.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import type { WorkerDeps } from "../worker.ts";

const NEVER = { signal: new AbortController().signal };
const HELLO = { path: "/hpcc/project/hello.c", content: "int answer(void) { return 42; }\n" };
const OTHER = sha256(Buffer.from("another image"));
const TIERED = `
[[tenants.acme.tiers]]
name = "release"
users = ["ci-*"]
[[tenants.acme.tiers]]
name = "laptop"
users = ["*"]
`;

/** A file of that version, in a folder that ends with the test. */
async function policyFile(t: TestContext, tenants: string) {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-policy-"));
  t.after(() => rm(folder, { recursive: true }));
  const path = join(folder, "policy.toml");
  const write = async (version: number, content: string): Promise<Digest> => {
    const text = `schema = 1\nversion = ${version}\nunlisted = "refuse"\n${content}`;
    await writeFile(path, text);
    return sha256(Buffer.from(text));
  };
  const digest = await write(1, tenants);
  const policies: WorkerDeps["policies"] = { path, parse: parsePolicy };
  return { path, write, digest, deps: { policies } };
}

async function lastRow(at: TestWorker) {
  const { envelope, row } = (await at.jobRows()).at(-1)!;
  return { ...envelope, tenant: row.tenant };
}

for (const [what, tenants, code] of [
  ["a tenant that is not listed", "[tenants.other]", "identity.forbidden"],
  ["a user of no tier", '[[tenants.acme.tiers]]\nname = "ci"\nusers = ["ci-*"]', "identity.forbidden"],
  ["an image that is not allowed", `[tenants.acme]\nimages = ["${OTHER}"]`, "image.forbidden"],
  ["a worker below the policy's floor", '[tenants.acme]\nisolation_min = "qemu-kvm"', "isolation.weak"],
] as const)
  test(`${what} is denied, with a row that names the policy`, async (t) => {
    const { deps, digest } = await policyFile(t, tenants);
    const at = await TestWorker.start(t, {}, deps);
    const job = await at.job({ files: [HELLO] });
    assert.equal(job.isolationMin, "qemu-tcg", "the client asks for less");
    await assert.rejects((await at.client()).compile(job, NEVER), { code });
    assert.equal(at.pool.executions, 0);
    const { kind, note, policy, tenant } = await lastRow(at);
    assert.deepEqual([kind, note, policy, tenant], ["denied", code, digest, "acme"]);
  });

test("what the policy allows is compiled, and its rows name file and tier", async (t) => {
  const { deps, digest } = await policyFile(t, `[tenants.acme]\nimages = ["${TEST_IMAGE}"]\n${TIERED}`);
  const at = await TestWorker.start(t, {}, deps);
  for (const [user, tier] of [
    ["ci-7", "release"],
    ["ann", "laptop"],
  ] as const) {
    await (await at.client(`tenant/acme/user/${user}`)).compile(await at.job({ files: [HELLO] }), NEVER);
    const { policy, tier: noted } = await lastRow(at);
    assert.deepEqual([policy, noted], [digest, tier]);
  }
  const [first] = await at.rows();
  assert.deepEqual([first?.envelope.kind, first?.envelope.note], ["policy", "version 1 in force"]);
  assert.deepEqual(at.worker.policy, { version: 1, digest });
});

test("a result of weaker isolation than the policy's floor is no answer, though the client would take it", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-floor-"));
  const outcomes: string[] = [];
  for (const floor of ["", 'isolation_min = "qemu-tcg"', 'isolation_min = "qemu-kvm"']) {
    const { deps } = await policyFile(t, `[tenants.acme]\n${floor}\n`);
    const at = await TestWorker.start(t, {}, { ...deps, isolation: "qemu-kvm" }, folder);
    const { outcome } = await (await at.client()).compile(await at.job({ files: [HELLO] }), NEVER);
    outcomes.push(outcome);
    await at.stop();
    await rm(join(folder, "state/policy"), { recursive: true });
  }
  assert.deepEqual(outcomes, ["compiled", "hit", "compiled"]);
});

test("a job keeps the policy that it was admitted under, and the next one has the new one", async (t) => {
  const { deps, digest, write } = await policyFile(t, "[tenants.acme]\n");
  const at = await TestWorker.start(t, {}, deps);
  const client = await at.client();
  const gate = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  at.pool.gate = gate.promise;
  const running = client.compile(await at.job({ files: [HELLO] }), {
    ...NEVER,
    onProgress: (state) => state === "queued" && begun.resolve(),
  });
  await begun.promise;
  const next = await write(2, `[tenants.acme]\nimages = ["${OTHER}"]\n`);
  await at.worker.checkPolicy();
  assert.deepEqual(at.worker.policy, { version: 2, digest: next });
  gate.resolve();
  assert.equal((await running).outcome, "compiled");
  assert.equal((await lastRow(at)).policy, digest);
  await assert.rejects(client.compile(await at.job({ files: [HELLO] }), NEVER), { code: "image.forbidden" });
  assert.equal((await lastRow(at)).policy, next);
});

test("a bad file is refused with a row, and the jobs go on under the old one", async (t) => {
  const { deps, digest, write } = await policyFile(t, "[tenants.acme]\n");
  const at = await TestWorker.start(t, {}, deps);
  await write(2, "[tenants.acme]\nlive = 1\n");
  await at.worker.checkPolicy();
  await (await at.client()).compile(await at.job({ files: [HELLO] }), NEVER);
  assert.equal((await lastRow(at)).policy, digest);
  const notes = (await at.rows())
    .filter(({ envelope }) => envelope.kind === "policy")
    .map(({ envelope }) => envelope.note);
  assert.equal(notes.length, 2);
  assert.match(notes[1]!, /^refused: .*tenants\.acme\.live is no known key; did you mean life\?/);
});

test("a worker that is restarted with an older file or none does not start, and its log says why", async (t) => {
  const { deps, write } = await policyFile(t, "[tenants.acme]\n");
  await write(2, "[tenants.acme]\n");
  const at = await TestWorker.start(t, {}, deps);
  await at.stop();
  await write(1, "[tenants.acme]\n");
  await assert.rejects(TestWorker.start(t, {}, deps, at.folder), {
    code: "config.invalid",
    message: /its version is 1, and version 2 has been seen/,
  });
  await assert.rejects(TestWorker.start(t, {}, {}, at.folder), {
    code: "config.invalid",
    message: /has had a policy \(version 2\), and its configuration names none/,
  });
  const last = (await at.rows()).at(-1)!;
  assert.deepEqual([last.envelope.kind, last.envelope.note.slice(0, 8)], ["policy", "refused:"]);
});
