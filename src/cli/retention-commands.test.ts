// `hpcc audit prune` and `hold` as a person says them: what is asked of the worker, and what is printed of its answer. And a log that is
// pruned while it is verified.
import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Command } from "commander";
import { AuditLog } from "../audit/audit-log.ts";
import { planPrune } from "../audit/prune/plan.ts";
import { pruneLog } from "../audit/prune/prune-log.ts";
import { PRUNE_DISK } from "../audit/prune/stub-files.ts";
import { emptyRow } from "../audit/row.ts";
import { ManualClock } from "../base/clock.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { noteSigner } from "../core/note/signed-note.ts";
import { checkLog } from "./audit-check.ts";
import { searchLog } from "./audit-search.ts";
import { addRetention, type RetentionAsk, type RetentionOutcome } from "./retention-commands.ts";

const DAY = 86_400_000;
let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "hpcc-retention-cli-"));
});
after(async () => rm(folder, { recursive: true }));

const NOTHING: RetentionOutcome = { size: 9, dryRun: false, tenants: [], by: "worker" };

async function run(words: string, answer: RetentionOutcome = NOTHING) {
  const asked: [string, RetentionAsk][] = [];
  let out = "";
  const output = { out: (text: string) => void (out += text), error: () => undefined };
  const program = new Command("audit").exitOverride().configureOutput({ writeErr: () => undefined });
  const askRetention = async (of: string, ask: RetentionAsk) => {
    asked.push([of, ask]);
    return answer;
  };
  addRetention(program, { output, askRetention });
  await program.parseAsync(words.split(" "), { from: "user" });
  return { asked, out };
}

describe("hpcc audit prune", () => {
  const askOf = async (words: string) => {
    const { asked } = await run(words);
    const [[of, ask] = []] = asked;
    assert.ok(ask?.command === "prune");
    const { askedBy, command: _, ...rest } = ask;
    assert.match(askedBy, /\(uid \d+\)$/);
    return { of, ...rest };
  };
  const common = { of: "/s", policy: null, reason: null, dryRun: false };

  test("asks for what was said, of the worker whose state or log is named", async () => {
    const old = { ageMs: 30 * DAY, bytes: null };
    assert.deepEqual(await askOf("prune --log /s --older-than 30d"), { ...common, tenants: {}, others: old });
    const both = { ageMs: 7 * DAY, bytes: 2 * 1024 ** 3 };
    const one = { ...common, reason: "why", dryRun: true, tenants: { acme: both }, others: null };
    const words = "prune --log /s/audit --older-than 7d --max-size 2GiB --tenant acme --reason why --dry-run";
    assert.deepEqual(await askOf(words), one);
    for (const [bad, message] of [
      ["prune --log /s", /name what goes/],
      ["prune --log /s --older-than soon", /--older-than wants/],
      ["prune --log /s --older-than 99999999999999999999d", /--older-than 99999999999999999999d is too much/],
      ["prune --log /s --max-size big", /--max-size wants/],
      ["prune --log /s --policy p --older-than 1d", /not both/],
    ] as const)
      await assert.rejects(run(bad), { code: "argument.invalid", message });
    await assert.rejects(run("prune --older-than 1d"), /--log/);
  });

  test("does what a policy says of each tenant, automatic or not", async () => {
    const file = join(folder, "policy.toml");
    await writeFile(
      file,
      `schema = 1
version = 1
unlisted = "refuse"
[defaults]
retention = { days = 90 }
[tenants.acme]
retention = { bytes = "1GiB", automatic = true }
[tenants.beta]
`,
    );
    const ask = await askOf(`prune --log /s --policy ${file}`);
    const others = { ageMs: 90 * DAY, bytes: null };
    assert.deepEqual(ask.tenants, { acme: { ageMs: 90 * DAY, bytes: 1024 ** 3 }, beta: others });
    assert.deepEqual(ask.others, others);
    assert.match(String(ask.policy), /^sha256:/);
    const one = await askOf(`prune --log /s --policy ${file} --tenant gamma`);
    assert.deepEqual([one.tenants, one.others], [{ gamma: others }, null]);
  });

  test("tells what went, what a hold kept, and what is left for the next time", async () => {
    const acme = { tenant: "acme", rows: 2, rowBytes: 3000, held: 1, sources: { blobs: 1, bytes: 5000, recent: 2 } };
    const beta = { tenant: "beta", rows: 0, rowBytes: 0, held: 0, sources: { blobs: 0, bytes: 0, recent: 0 } };
    const answer = { size: 9, dryRun: false, tenants: [acme, beta], by: "folder" } as const;
    assert.equal(
      (await run("prune --log /s --older-than 1d", answer)).out,
      `removed; no worker runs there:
acme  2 rows (2.9 KiB)  1 blob that no row needs (4.9 KiB)
1 row of acme stays: under a legal hold
2 blobs that no row needs stay: used in the last two hours
`,
    );
    assert.equal((await run("prune --log /s --older-than 1d")).out, "nothing to remove\n");
    const json = JSON.parse((await run("prune --log /s --older-than 1d --json", answer)).out) as unknown;
    assert.deepEqual(json, answer);
  });
});

test("hpcc audit hold says what is held, by whom and since when", async () => {
  const none = { tenant: null, principal: null, image: null, build: null, hash: null, sinceMs: null, untilMs: null };
  const { asked } = await run("hold add case-7 --log /s --reason appeal --tenant acme --since 2027-01-01", {
    holds: [],
    by: "worker",
  });
  const [[, ask] = []] = asked;
  assert.ok(ask?.command === "hold-add");
  const { askedBy: _, ...rest } = ask;
  const wanted = { command: "hold-add", name: "case-7", reason: "appeal", ...none, tenant: "acme" };
  assert.deepEqual(rest, { ...wanted, sinceMs: Date.UTC(2027, 0, 1) });
  const hold = { ...none, name: "case-7", reason: "app\u001beal", askedBy: "ann", row: 12, addedMs: 0 };
  const list = await run("hold list --log /s", { holds: [hold], by: "worker" });
  assert.equal(list.out, "case-7  in force  all rows  row 12, 1970-01-01T00:00:00.000Z  ann  app\ufffdeal\n");
  assert.equal((await run("hold list --log /s", { holds: [], by: "worker" })).out, "no hold is in force\n");
  await assert.rejects(run("hold add case-7 --log /s"), /--reason/);
  await assert.rejects(run("hold add case-7 --log /s --reason r --since 2027-04-01 --until 2027-01-01"), {
    code: "argument.invalid",
  });
});

describe("a log that is pruned", () => {
  const signer = noteSigner("x.example/worker/w1", Buffer.alloc(32, 1));
  const { signal } = new AbortController();

  before(async () => {
    const options = { worker: "w1", clock: new ManualClock(), logger: SILENT_LOGGER, signer, segmentBytesMax: 2_000 };
    const log = await AuditLog.open({ ...options, folder: join(folder, "whole") });
    const job = { principal: "spiffe://x.example/tenant/t/user/u", policy: null, tier: null, build: null };
    const body = { kind: "denied", startMs: 0, endMs: 0, ...job, code: "x.y", actionKey: null } as const;
    for (let at = 0; at < 30; at++) await log.append({ ...emptyRow("w1"), tenant: "acme" }, body);
    await log.close();
    const pruned = join(folder, "pruned");
    await cp(join(folder, "whole"), pruned, { recursive: true });
    const again = await AuditLog.open({ ...options, folder: pruned });
    const ruleOf = () => ({ ageMs: 0, bytes: null });
    const plan = await planPrune({ folder: pruned, size: 20, nowMs: DAY, ruleOf, weigh: async () => [], signal });
    const reason = { cause: "operator", askedBy: "ann", why: () => "old", policy: null, nowMs: DAY } as const;
    const parts = { folder: pruned, log: again, worker: "w1", signer, disk: PRUNE_DISK, signal };
    await pruneLog(plan, reason, { ...parts, sweep: async () => undefined });
    await again.close();
  });

  test("while it is verified is read again", async () => {
    const copy = join(folder, "copy");
    await cp(join(folder, "whole"), copy, { recursive: true });
    let reads = 0;
    const onSegment = () => {
      if (++reads === 3) cpSync(join(folder, "pruned"), copy, { recursive: true });
    };
    const check = await checkLog(copy, { keys: [signer.verifier.text], checkpoints: [], receipts: [], onSegment });
    assert.deepEqual([check.problems, check.pruned.map(({ rows }) => rows)], [[], [19]]);
    assert.ok(reads > 5);
  });

  test("without its checkpoint is signed anew where a witness's word and its tiles say the same rows, and not else", async () => {
    const copy = join(folder, "unsigned");
    await cp(join(folder, "pruned"), copy, { recursive: true });
    const kept = await readFile(join(copy, "checkpoint"));
    await rm(join(copy, "checkpoint"));
    const alone = { folder: copy, worker: "w1", clock: new ManualClock(), logger: SILENT_LOGGER, signer };
    await assert.rejects(AuditLog.open(alone), { code: "audit.corrupt", message: /vouches/ });
    await mkdir(join(copy, "witnessed"));
    await writeFile(join(copy, "witnessed/0123abcd"), kept);
    const clock = new ManualClock();
    await (await AuditLog.open({ folder: copy, worker: "w1", clock, logger: SILENT_LOGGER, signer })).close();
    const check = await checkLog(copy, { keys: [signer.verifier.text], checkpoints: [], receipts: [] });
    assert.deepEqual([check.problems, check.signedRows], [[], check.rows]);
  });

  test("is searched, and how many rows are gone is told", async () => {
    const any = { tenant: null, principal: null, kind: "denied", vm: null, image: null, source: null, output: null };
    const filter = { ...any, build: null, sinceMs: null, untilMs: null };
    const told: number[] = [];
    const options = { filter, format: "tsv", last: null, more: null, out: () => undefined } as const;
    const found = await searchLog(join(folder, "pruned"), { ...options, pruned: (rows) => told.push(rows) });
    assert.deepEqual([found, told], [11, [19]]);
  });
});
