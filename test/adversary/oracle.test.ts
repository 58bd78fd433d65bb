// Does a worker tell a tenant what another tenant has? Its answers must be equal, and so must the times that they take.
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { AuditLog } from "../../src/audit/audit-log.ts";
import { AuditIndex } from "../../src/audit/index/audit-index.ts";
import { LOG_DISK } from "../../src/audit/log-disk.ts";
import { HpccError } from "../../src/base/errors.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import { deriveActionKey } from "../../src/core/action/action-key.ts";
import { type Digest, sha256 } from "../../src/core/digest/digest.ts";
import { spiffeId } from "../../src/core/identity/spiffe.ts";
import type { TenantStore } from "../../src/store/action-cache.ts";
import { lookUp } from "../../src/worker/cached-result.ts";
import type { Interceptor } from "../../src/worker/layers/layer.ts";
import { testIdentity } from "../support/certificates.ts";
import { TestWorker } from "../support/test-worker.ts";
import { type Difference, difference, type Pair } from "./two-samples.ts";
import { HELLO, jobMessage, WireClient } from "./wire-client.ts";

const NEVER = { signal: new AbortController().signal };
const EVE = "tenant/other/user/eve";
/** Sources that acme has, and as many that nobody has. */
const SOURCES = 40;
const WARM_UP = 50;
const PAIRS = process.env["HPCC_TEST_ALL"] === "1" ? 5_000 : 1000;
/** What is there mostly takes few pairs. A control looks each time that it has asked so many more, and asks no more than the others do. */
const LOOK_EVERY = 500;
/** What is asked leaves rows, whose way to the disk only adds noise. */
const UNSYNCED = { ...LOG_DISK, sync: async () => undefined };
/** Rows of one object. */
const ROWS = 3000;
const COPY = ["/bin/cp", "/hpcc/project/secret.c", "/hpcc/out/object.o"];

interface Question {
  /** What acme has, and what nobody has. */
  readonly seen: readonly string[];
  readonly unseen: readonly string[];
  /** Asks as eve, and gives what she can tell apart: the answer without what she asked for. */
  readonly ask: (content: string) => Promise<string>;
}

const jobOf = (at: TestWorker, content: string) =>
  at.job({ files: [{ path: "/hpcc/project/secret.c", content }], argv: COPY });

/** Contents of which a coin says which acme compiles. */
async function seenAndUnseen(at: TestWorker): Promise<Pick<Question, "seen" | "unseen">> {
  const ann = await at.client();
  const [seen, unseen]: [string[], string[]] = [[], []];
  for (let number = 0; number < SOURCES; number++) {
    const two = [`int secret${number};\n`, `int public${number};\n`];
    if (randomInt(2) === 0) two.reverse();
    seen.push(two[0]!);
    unseen.push(two[1]!);
    assert.equal((await ann.compile(await jobOf(at, two[0]!), NEVER)).outcome, "compiled");
  }
  return { seen, unseen };
}

/** Asks in pairs, in the order that a coin says; all answers must be equal. Looks after each `every` pairs, and ends when a difference is found. */
async function compare(t: TestContext, { seen, unseen, ask }: Question, every = PAIRS): Promise<Difference> {
  const answers = new Set<string>();
  const timed = async (content: string) => {
    const start = performance.now();
    answers.add(await ask(content));
    return performance.now() - start;
  };
  const pair = async (number: number): Promise<Pair> => {
    const [old, fresh] = [seen[number % seen.length]!, unseen[number % unseen.length]!];
    if (randomInt(2) === 0) return { a: await timed(fresh), b: await timed(old) };
    const b = await timed(old);
    return { a: await timed(fresh), b };
  };
  for (let number = 0; number < WARM_UP; number++) await pair(number);
  const pairs: Pair[] = [];
  let found: Difference;
  do {
    for (let number = 0; number < every; number++) pairs.push(await pair(pairs.length));
    found = difference(pairs);
  } while (!found.found && pairs.length < PAIRS);
  assert.equal(answers.size, 1, [...answers].join("\n"));
  t.diagnostic(
    `distance ${found.distance.toFixed(3)} (chance up to ${found.distanceMax.toFixed(3)}), ` +
      `slower ${found.slower.toFixed(3)} (chance up to ${(0.5 + found.slowerMax).toFixed(3)})`,
  );
  return found;
}

/** Begins a job, learns what the worker asks for, and gives up before it has sent anything. */
async function lookUps(t: TestContext, at: TestWorker): Promise<Question> {
  const contents = await seenAndUnseen(at);
  const jobs = new Map<string, Awaited<ReturnType<typeof jobOf>>>();
  for (const content of [...contents.seen, ...contents.unseen]) jobs.set(content, await jobOf(at, content));
  const eve = await WireClient.connect(at, EVE);
  t.after(async () => eve.close());
  eve.say(HELLO);
  await eve.hear("hello");
  let jobId = 0n;
  const ask = async (content: string) => {
    eve.say(jobMessage(jobs.get(content)!, ++jobId));
    const { case: kind, value } = await eve.hear("need", "result", "error");
    const told = kind === "need" ? `asks for ${value.digests.length}` : "";
    eve.say({ case: "cancel", value: { jobId } });
    const end = await eve.hear("error");
    return `${kind}, ${told}, then ${end.value.code}`;
  };
  return { ...contents, ask };
}

test("a look-up of what another tenant has is answered as one of what nobody has, and takes as long", async (t) => {
  const at = await TestWorker.start(t, {}, { faults: { log: UNSYNCED } });
  assert.equal((await compare(t, await lookUps(t, at))).found, false);
  assert.equal(at.pool.executions, SOURCES, "nothing was compiled for eve");
});

test("control: a worker that opens the other tenant's result and then says that it has none is found out", async (t) => {
  const ann = testIdentity("tenant/acme/user/ann");
  assert.ok(ann.kind === "user");
  let acme: TenantStore | null = null;
  /** One look-up for all tenants, whose answer is withheld. */
  const oracle: Interceptor = (next) => ({
    async run(job) {
      if (job.principal.tenant === "acme") {
        acme = job.store;
        return next.run(job);
      }
      const scope = { tenant: ann.tenant, tier: null, principal: spiffeId(ann) };
      const key = deriveActionKey({ action: job.action, sourceDigest: sha256(job.encodedSource), scope });
      const found = await lookUp(key, { isolationMin: "namespace", life: "session" }, acme!);
      await found?.result.close();
      return next.run(job);
    },
  });
  const at = await TestWorker.start(t, {}, { faults: { log: UNSYNCED }, interceptors: { admitted: [oracle] } });
  assert.equal((await compare(t, await lookUps(t, at), LOOK_EVERY)).found, true);
});

const digestOf = (text: string) => sha256(Buffer.from(text));

/** A row of a hit of acme's. */
function hitOf(outputDigest: Digest): Parameters<AuditLog["append"]> {
  const [image, source] = [digestOf("image"), digestOf("source")];
  const columns = {
    imageDigest: image,
    sourceDigest: source,
    flags: digestOf("command"),
    outputDigest,
    tenant: "acme",
    worker: "w1",
    vm: "vm-1",
    durationUs: 1,
    exit: 0,
  };
  const times = { startMs: 1, endMs: 2 };
  const job = { principal: "spiffe://test.example/tenant/acme/user/ann", policy: null, tier: null };
  const result = {
    isolation: "qemu-tcg",
    life: "session",
    actionKey: digestOf("key"),
    resultDigest: digestOf("result"),
    compileUs: 1,
  } as const;
  const hit = {
    kind: "hit",
    outcome: "hit",
    scope: null,
    keyTier: null,
    from: null,
    compiledRow: null,
    confirmedBy: null,
    madeFor: null,
  } as const;
  return [
    columns,
    { ...times, ...job, ...result, ...hit, outputs: [], terminalColumns: null, determinism: "default", build: null },
  ];
}

type Asking = (index: AuditIndex, hash: string) => Promise<unknown>;

/** An index of a log in which acme has many rows of one object. */
async function indexed(t: TestContext, askIndex: Asking, every = PAIRS) {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-oracle-"));
  const log = await AuditLog.open({ folder, worker: "w1", clock: SYSTEM_CLOCK, logger: SILENT_LOGGER, disk: UNSYNCED });
  const [seen, unseen] = [digestOf("popular"), digestOf("unheard of")];
  await Promise.all(Array.from({ length: ROWS }, async () => log.append(...hitOf(seen))));
  await log.close();
  // Some of the rows are on disk, and some in memory.
  const index = await AuditIndex.open({
    folder,
    readManifest: async () => null,
    keep: true,
    warn: () => undefined,
    tableEntries: ROWS,
  });
  t.after(async () => {
    await index.close();
    await rm(folder, { recursive: true });
  });
  await index.find(unseen, "other").catch(() => null);
  await index.settled();
  const ask = async (hash: string) => {
    const answer = await askIndex(index, hash).catch((error: HpccError) => error);
    return answer instanceof HpccError ? `${answer.code} ${answer.message.replace(hash, "")}` : "found";
  };
  return compare(t, { seen: [seen], unseen: [unseen], ask }, every);
}

test("a question for the audit rows of another tenant's object is answered as one for those of nobody's", async (t) => {
  assert.equal((await indexed(t, (index, hash) => index.find(hash, "other"))).found, false);
});

test("control: an index that finds the rows of all and then leaves out the other tenants' is found out", async (t) => {
  const filtering = async (index: AuditIndex, hash: string) => {
    await index.find(hash, null).catch(() => null);
    throw new HpccError("hash.unknown", `nothing is known of ${hash}`);
  };
  assert.equal((await indexed(t, filtering, LOOK_EVERY)).found, true);
});
