// The report of a site: its numbers are those of the rows, and its page is inert whatever rows say, which a browser shows.
import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { constants, inflateSync } from "node:zlib";
import * as fc from "fast-check";
import { anyEnvelope } from "../../test/support/audit-envelopes.ts";
import { BROWSER_MISSING, Browser } from "../../test/support/browser.ts";
import { HOSTILE, reportedLogs } from "../../test/support/reported-logs.ts";
import { readLog } from "../audit/read-log.ts";
import { ReportBuilder } from "../audit/report/report.ts";
import { emptyRow, encodeRow, rowDigest } from "../audit/row.ts";
import type { AuditRecord } from "../audit/segment.ts";
import { type Digest, sha256 } from "../core/digest/digest.ts";
import { cosign } from "../core/note/cosignature.ts";
import { noteSigner } from "../core/note/signed-note.ts";
import { makeReport, type ReportOptions, type SiteReport } from "./audit-report.ts";
import { reportPage } from "./audit-report-page.ts";
import { html, page } from "./html.ts";
import { logKey } from "./log-key.ts";

let folder = "";
let logs: string[] = [];
let hostileLogs: string[] = [];
const rows: AuditRecord[] = [];

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "hpcc-report-"));
  logs = await reportedLogs(join(folder, "good"));
  hostileLogs = await reportedLogs(join(folder, "hostile"), HOSTILE);
  for (const log of logs) for await (const { record } of readLog(join(log, "audit"))) rows.push(record);
});
after(async () => rm(folder, { recursive: true }));

async function reportOf(options: Partial<ReportOptions> = {}): Promise<SiteReport> {
  const filter = { tenant: null, sinceMs: null, untilMs: null };
  return makeReport({ logs, keys: [], checkpoints: [], reproduced: null, filter, linesMax: 50, nowMs: 0, ...options });
}

const kinds = (...wanted: string[]) => rows.filter(({ envelope }) => wanted.includes(envelope.kind)).length;

describe("a report", () => {
  test("counts what the logs hold", async () => {
    const { data, logs: states } = await reportOf();
    const { totals } = data;
    assert.equal(data.rows, rows.length);
    assert.deepEqual(
      [totals.jobs, totals.compiles, totals.hits, totals.denied, totals.failed],
      [kinds("compile", "hit", "denied", "failed"), kinds("compile"), kinds("hit"), kinds("denied"), kinds("failed")],
    );
    assert.ok(totals.denied > 0 && totals.failed > 0);
    for (const part of [data.clients, data.workers, data.compilers, data.days])
      assert.equal(
        part.items.reduce((sum, { jobs }) => sum + jobs, 0),
        totals.jobs,
      );
    const results = data.isolation.reduce((sum, { lives }) => sum + lives.clean + lives.session, 0);
    assert.equal(results, totals.compiles + totals.hits);
    assert.equal(data.confirmed.equal + data.confirmed.different.items.length, kinds("confirm"));
    assert.equal(data.revocations.items.length, kinds("revoke"));
    assert.equal(data.policies.items.length, kinds("policy"));
    const broken = rows.filter(({ envelope: one }) => one.kind === "vm" && "reason" in one && one.reason === "breach");
    assert.equal(data.breaches.items.length, broken.length);
    for (const { verifiedRows, rows: all, origin, problems } of states)
      assert.deepEqual([verifiedRows, problems.items, /worker\/build-\d$/.test(origin ?? "")], [all, [], true]);
    assert.equal(states[0]!.rows + states[1]!.rows, rows.length);
  });

  test("is of a period, of a tenant, and of so many lines", async () => {
    const from = Date.UTC(2027, 2, 2);
    const late = rows.filter(({ envelope }) => envelope.endMs >= from).length;
    assert.ok(late > 0 && late < rows.length);
    const filter = { tenant: null, sinceMs: from, untilMs: null };
    assert.equal((await reportOf({ filter })).data.rows, late);
    const before = { tenant: null, sinceMs: null, untilMs: from };
    assert.equal((await reportOf({ filter: before })).data.rows, rows.length - late);
    const other = (await reportOf({ filter: { tenant: "other", sinceMs: null, untilMs: null } })).data;
    assert.equal(other.totals.jobs, 0);
    assert.match(reportPage(await reportOf({ filter: { ...filter, sinceMs: Date.UTC(2030, 0) } })), /No rows/);
    const short = await reportOf({ linesMax: 2 });
    assert.deepEqual([short.data.builds.items.length, short.data.builds.more > 3], [2, true]);
    assert.match(reportPage(short), /and \d+ more<\/p>/);
    await assert.rejects(reportOf({ logs: [logs[0]!, `${logs[0]}/audit`] }), { code: "argument.invalid" });
  });

  test("says first what the logs are worth, and counts nothing behind a bad row", async () => {
    const keys = await Promise.all(logs.map(async (log) => logKey(log, null)));
    assert.match(reportPage(await reportOf()), /class="verdict warn".*by keys that the logs name themselves/s);
    const kept = logs.map((log) => join(log, "audit/checkpoint"));
    assert.match(reportPage(await reportOf({ keys, checkpoints: kept })), /class="verdict good"/);
    const bad = join(folder, "bad");
    await cp(logs[0]!, bad, { recursive: true });
    const path = join(bad, "audit/0000000000000001.log");
    const bytes = await readFile(path);
    bytes[bytes.indexOf('"kind":"denied"') + 200]! ^= 1;
    await writeFile(path, bytes);
    const report = await reportOf({ logs: [bad, logs[1]!], keys });
    const [state] = report.logs;
    const row = state!.problems.items[0]!.row!;
    assert.ok(row > 1);
    assert.deepEqual([state!.verifiedRows, report.data.rows], [row - 1, row - 1 + report.logs[1]!.rows]);
    const text = reportPage(report);
    assert.match(text, /class="verdict bad".*1 of 2 logs are not what was signed/s);
    assert.ok(text.includes("What is wrong with build.example.com/worker/build-1"));
  });

  test("says which witness has cosigned which checkpoint, and that too few have", async () => {
    const cosigned = join(folder, "cosigned");
    await cp(logs[0]!, cosigned, { recursive: true });
    const signers = ["w1", "w2"].map((name, at) =>
      noteSigner(`witness.example.com/${name}`, Buffer.alloc(32, 40 + at), "cosignature"),
    );
    const [first, second] = signers.map(({ verifier }) => verifier.text) as [string, string];
    const note = await readFile(join(cosigned, "audit/checkpoint"), "utf8");
    const when = Date.UTC(2027, 2, 9);
    await mkdir(join(cosigned, "audit/witnessed"), { recursive: true });
    await writeFile(join(cosigned, "audit/witnessed/0123abcd"), note + cosign(note, signers[0]!, when));
    const one = await reportOf({ logs: [cosigned], witnesses: { keys: [first], quorum: null, sinceMs: null } });
    const { rows: all } = one.logs[0]!;
    const word = { witness: "witness.example.com/w1", rows: all, when: "2027-03-09T00:00:00.000Z" };
    assert.deepEqual([one.logs[0]!.witnessed, one.logs[0]!.witnessedRows], [[word], all]);
    assert.match(reportPage(one), /witness\.example\.com\/w1.*2027-03-09T00:00:00\.000Z.*rows 1 to/s);
    const both = await reportOf({ logs: [cosigned], witnesses: { keys: [first, second], quorum: 2, sinceMs: null } });
    assert.match(both.logs[0]!.problems.items[0]!.problem, /cosigned by 1 witnesses, and 2 are demanded/);
    assert.match(reportPage(both), /fewer than were demanded/);
    assert.match(reportPage(await reportOf()), /witnesses are named with --witness/);
  });

  test("shows rows that were compiled again, those that differ first, and takes no other file for that", async () => {
    const row = {
      row: sha256(Buffer.from("x")),
      kind: "compile",
      image: "-",
      worker: "w",
      command: "gcc",
      where: "here",
    };
    const rest = { problem: null, unchecked: [], differences: [{ what: "object", expected: "1 byte", found: "<b>2" }] };
    const again = [
      { ...row, ...rest, verdict: "equal", differences: [] },
      { ...row, ...rest, verdict: "different" },
    ];
    const path = join(folder, "again.json");
    await writeFile(path, JSON.stringify({ rows: again, seed: "7" }));
    const report = await reportOf({ reproduced: path });
    assert.deepEqual([report.reproduced!.equal, report.reproduced!.different], [1, 1]);
    assert.equal(report.reproduced!.rows.items[0]!.verdict, "different");
    const text = reportPage(report);
    assert.ok(text.includes("object: 1 byte then, &#60;b&#62;2 now") && text.includes("Drawn with seed 7"));
    for (const bad of [
      "",
      "{}",
      "null",
      '{"rows":[1]}',
      JSON.stringify({ rows: [{ ...again[1], differences: [1] }] }),
    ]) {
      await writeFile(path, bad);
      await assert.rejects(reportOf({ reproduced: path }), { code: "argument.invalid" }, bad);
    }
  });
});

test("rows of any kind are taken, in bounded memory", () => {
  fc.assert(
    fc.property(fc.array(anyEnvelope, { maxLength: 30 }), (envelopes) => {
      const builder = new ReportBuilder(3);
      for (const envelope of envelopes) {
        const row = { ...emptyRow("w1"), flags: "[]" as Digest };
        const line = encodeRow(emptyRow("w1"));
        builder.take({
          row: { ...row, flags: null },
          line,
          digest: rowDigest(line),
          envelope,
          leaf: sha256(Buffer.from("")),
        });
      }
      const data = builder.finish();
      assert.equal(data.rows, envelopes.length);
      for (const part of Object.values(data))
        if (part !== null && typeof part === "object" && "items" in part) assert.ok(part.items.length <= 3);
    }),
  );
});

describe("a page", () => {
  test("shows every value as text: none is a tag, an attribute's end, a control, or turned around", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const { html: shown } = html`${text}`;
        assert.doesNotMatch(shown, /[<>"']|[\p{Cc}\p{Cf}]|&(?!#\d+;)/u);
      }),
    );
    assert.equal(html`${"\u202egpj.exe\u0000"}`.html, "\\u{202e}gpj.exe\\u{0}");
    assert.ok(html`${"x".repeat(5_000)}`.html.length < 1_100);
    assert.equal(html`<b>${["a", html`<i>${"<"}</i>`]}${null}${false}${0}</b>`.html, "<b>a<i>&#60;</i>0</b>");
  });
});

/** The colour of a picture's first pixel. */
async function cornerOf(png: string): Promise<number[]> {
  const bytes = await readFile(png);
  const at = bytes.indexOf("IDAT");
  const data = bytes.subarray(at + 4, at + 4 + bytes.readUInt32BE(at - 4));
  return [...inflateSync(data, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(1, 4)];
}

const TAGS =
  "a b body br caption code div footer h1 h2 h3 head header html li main meta nav p rect section small span strong style svg table tbody td th thead time title tr ul";

describe("a browser", { skip: BROWSER_MISSING }, () => {
  test("finds nothing to load or to run in a report of hostile rows, where a page of ours without care has both", async () => {
    await using browser = await Browser.open();
    const path = join(folder, "hostile.html");
    const text = reportPage(await reportOf({ logs: hostileLogs }));
    for (const hostile of HOSTILE) assert.ok(!text.includes(hostile));
    await writeFile(path, text);
    const dom = await browser.dom(path);
    assert.equal(browser.requests.length, 0, browser.requests.join());
    assert.match(dom, /<title>Audit report: 2027-03-01 to 2027-03-02<\/title>/);
    const tags = new Set([...dom.matchAll(/<([a-z0-9]+)/g)].map(([, tag]) => tag!));
    assert.deepEqual(
      [...tags].filter((tag) => !TAGS.split(" ").includes(tag)),
      [],
    );
    assert.doesNotMatch(dom.replaceAll(/&lt;.*?&gt;/gs, ""), / on[a-z]+=/);
    assert.ok(dom.includes("&lt;script&gt;document.title='taken'"), "it is there to be read");

    // The same words as they are, in a page of the same policy: nothing is loaded or run all the same.
    const raw = { html: HOSTILE.slice(0, 3).join("\n") };
    await writeFile(path, page({ title: "policy", style: "", body: raw }));
    assert.match(await browser.dom(path), /<title>policy<\/title>/);
    assert.equal(browser.requests.length, 0, browser.requests.join());
    // And in a page without one, so that the test is known to see it.
    await writeFile(path, `<!doctype html><title>none</title>${raw.html}`);
    assert.match(await browser.dom(path), /<title>taken<\/title>/);
    for (const name of ["img", "script", "css", "bg"])
      assert.ok(
        browser.requests.some((request) => request.includes(`/${name}`)),
        `${name} of ${browser.requests.join()}`,
      );
  });

  test("prints it, and shows it light and dark", async () => {
    await using browser = await Browser.open();
    const path = join(folder, "report.html");
    await writeFile(path, reportPage(await reportOf()));
    const at = (name: string) => join(folder, name);
    await browser.pdf(path, at("report.pdf"));
    const pdf = (await readFile(at("report.pdf"))).toString("latin1");
    const pages = [...pdf.matchAll(/\/Type \/Page\b/g)].length;
    assert.ok(pages >= 2 && pages <= 10, `${pages} pages`);
    await browser.picture(path, at("light.png"), "light");
    await browser.picture(path, at("dark.png"), "dark");
    assert.deepEqual(
      [await cornerOf(at("light.png")), await cornerOf(at("dark.png"))],
      [
        [246, 247, 249],
        [20, 23, 28],
      ],
    );
    assert.ok((await stat(path)).size < 200_000);
  });
});
