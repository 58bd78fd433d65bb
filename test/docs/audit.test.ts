// docs/operations/audit.md: its commands, as they are written, run on a worker's state folder and do what the page says.
import assert from "node:assert/strict";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Command } from "commander";
import { AuditLog } from "../../src/audit/audit-log.ts";
import { makeLogKey, readOrMakeLogSigner } from "../../src/audit/log-key-file.ts";
import { emptyRow } from "../../src/audit/row.ts";
import { encodeRecord } from "../../src/audit/segment.ts";
import { ManualClock } from "../../src/base/clock.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import { addAudit } from "../../src/cli/audit-command.ts";
import { logKey } from "../../src/cli/log-key.ts";
import type { RetentionAsk } from "../../src/cli/retention-commands.ts";
import { askRetention } from "../../src/worker/control/retention-request.ts";

const PAGE = readFileSync(join(import.meta.dirname, "../../docs/operations/audit.md"), "utf8");
const lines = [...PAGE.matchAll(/^```sh\n(.*?)^```/gms)].flatMap((match) => match[1]!.trim().split("\n"));
const WHEN = Date.UTC(2027, 0, 2);
const NAME = "build.example.com/worker/w1";

describe("the page about the audit log", () => {
  let folder = "";
  let state = "";

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "hpcc-docs-audit-"));
    state = join(folder, "state");
    for (const name of ["receipts", "state/store"]) mkdirSync(join(folder, name), { recursive: true });
    const signer = await readOrMakeLogSigner(state, NAME);
    const log = await AuditLog.open({
      folder: join(state, "audit"),
      worker: "w1",
      clock: new ManualClock(),
      logger: SILENT_LOGGER,
      signer,
    });
    const kept: string[] = [];
    for (let version = 0; version < 300; version++) {
      const body = { kind: "policy", event: "in-force", startMs: WHEN, endMs: WHEN, digest: null, version } as const;
      const { line, digest, receipt } = await log.append(emptyRow("w1"), body);
      const { leaf } = encodeRecord(line, receipt!.envelope, 1);
      kept.push(`${JSON.stringify({ row: digest, leaf, proof: receipt!.proof })}\n`);
    }
    // Older than the page says that rows may be.
    const job = { principal: "spiffe://x.example/tenant/t/user/u", policy: null, tier: null, build: null };
    for (let at = 0; at < 3; at++)
      await log.append(
        { ...emptyRow("w1"), tenant: "acme" },
        { kind: "denied", startMs: 0, endMs: 0, ...job, code: "x.y", actionKey: null },
      );
    await log.close();
    writeFileSync(join(folder, "receipts", "current.jsonl"), kept.join(""));
  });
  after(() => rmSync(folder, { recursive: true }));

  /** The line with the test's files in place of the page's. */
  async function wordsOf(line: string): Promise<string[]> {
    const key = await logKey(state, null);
    return line
      .replaceAll("/var/lib/hpcc", state)
      .replaceAll("~/.local/state/hpcc/receipts", join(folder, "receipts"))
      .replaceAll(/ (kept-checkpoint|exported)/g, (_, name: string) => ` ${join(folder, name)}`)
      .replaceAll("KEY", key)
      .split(" ");
  }

  async function run(words: readonly string[]): Promise<{ out: string; code: number }> {
    let [out, code] = ["", 0];
    const program = new Command("hpcc").exitOverride();
    const output = { out: (text: string) => (out += text), error: () => "" };
    const ask = async (of: string, what: RetentionAsk) =>
      askRetention(of, what, { clock: SYSTEM_CLOCK, logger: SILENT_LOGGER });
    const host = { env: { HOME: folder }, uid: 0, output, keptBlobs: async () => null, askRetention: ask };
    addAudit(program, host, (given) => {
      code = given;
    });
    await program.parseAsync(words, { from: "user" });
    return { out, code };
  }

  test("has commands that run on a good log", async () => {
    assert.equal(lines.length, 17, lines.join("\n"));
    for (const line of lines) {
      const [program, area, ...words] = await wordsOf(line);
      if (program === "cp") cpSync(words[0] === undefined ? "" : area!, words[0]!);
      else if (area === "ca")
        assert.deepEqual([program, words[0], words[1], words[2]], ["hpcc", "log-key", "--state", state]);
      else {
        assert.deepEqual([program, area], ["hpcc", "audit"]);
        const { out, code } = await run(["audit", ...words]);
        assert.equal(code, 0, `${line}\n${out}`);
        if (words[0] === "verify" || words[0] === "check-receipts") assert.match(out, /^the log is what was signed$/m);
        if (words[0] === "prove") assert.match(out, /^c2sp\.org\/tlog-proof@v1\nindex 0\n/);
        const rows = { search: 300, tail: 5, export: 305 }[words[0] ?? ""];
        if (rows !== undefined) assert.equal(out.trimEnd().split("\n").length, rows, line);
        if (words[0] === "tiles")
          assert.match(out, /^307 rows in .*, without bundles of 51 of them, in which rows were/);
        if (words[0] === "prune") assert.match(out, /^(would be )?removed.*:\nacme +3 rows/);
        if (words[0] === "hold") assert.match(out, /^case-7 .*tenant acme, since 2027-01-01/);
      }
    }
  });

  test("and says what they pruned, and that the log is what was signed", async () => {
    const { out, code } = await run((await wordsOf(lines.find((line) => line.includes("verify"))!)).slice(1));
    assert.equal(code, 0, out);
    const pruned = /^3 rows of acme, from row 302 to 304, were pruned on \S+ by .*: older than 400 days: retention$/m;
    assert.match(out, pruned);
    await assert.rejects(run(["audit", "prove", state, "303"]), {
      code: "evidence.gone",
      message: /row 303 was pruned/,
    });
    const missing = run(["audit", "prove", state, "0".repeat(64)]);
    await assert.rejects(missing, { message: /and 3 of them were pruned/ });
  });

  test("and tells a log that was put back by what was kept", async () => {
    const check = lines.find((line) => line.includes("check-receipts"))!;
    const words = (await wordsOf(check)).slice(1);
    const log = join(state, "audit");
    const copy = join(folder, "copy");
    cpSync(log, copy, { recursive: true });
    rmSync(log, { recursive: true });
    const again = await AuditLog.open({
      folder: log,
      worker: "w1",
      clock: new ManualClock(),
      logger: SILENT_LOGGER,
      signer: await readOrMakeLogSigner(state, NAME),
    });
    await again.append(emptyRow("w1"), {
      kind: "policy",
      event: "in-force",
      startMs: 5,
      endMs: 5,
      digest: null,
      version: 7,
    });
    await again.close();
    const { out, code } = await run(words);
    assert.equal(code, 1);
    assert.match(out, /^row 2 is not the row that the receipt of sha256:[0-9a-f]{64} proves: two logs were signed$/m);
    const json = JSON.parse((await run([...words, "--json"])).out) as { problems: { row: number | null }[] };
    assert.ok(json.problems.length > 200);
    rmSync(log, { recursive: true });
    cpSync(copy, log, { recursive: true });
    assert.equal((await run(words)).code, 0);
  });

  test("names the key's file", async () => {
    assert.ok(PAGE.includes("`log-key` in the `state_dir`"));
    assert.ok(readFileSync(join(state, "log-key"), "latin1").startsWith("PRIVATE+KEY+"));
    const before = await logKey(state, null);
    await makeLogKey(state, NAME);
    assert.notEqual(await logKey(state, null), before);
  });
});
