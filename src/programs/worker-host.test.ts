// What the host was at a worker's start: checked as the configuration says, kept in the audit log, found again.
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { TestWorker } from "../../test/support/test-worker.ts";
import { decodeEnvelope } from "../audit/envelope.ts";
import { decodeRow } from "../audit/row.ts";
import type { BodyOfKind } from "../audit/rows/bodies.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { auditRows } from "../cli/audit-rows.ts";
import { printInspection } from "../cli/inspect.ts";
import { loadWorkerConfig, type WorkerConfig } from "../config/worker.ts";
import type { HostReport } from "../vm/host/host-report.ts";
import { inspectState } from "../worker/inspect/inspection.ts";
import { hostChecks, reportWorkerHost } from "./worker-host.ts";

const folder = mkdtempSync(join(tmpdir(), "hpcc-worker-host-"));
after(() => rmSync(folder, { recursive: true }));

function config(lines: string): WorkerConfig {
  const file = join(folder, "worker.toml");
  writeFileSync(file, `state_dir = "/s"\n${lines}\n[identity]\ncertificate = "/c"\nkey = "/k"\nca = "/a"\n`);
  return loadWorkerConfig({}, file).config;
}

type HostBody = BodyOfKind<"host">;

const HOSTILE: HostReport = {
  parts: { kernel: "6.1\u001b[2J\n6.2", cpu: "x".repeat(10_000) },
  findings: [
    { name: "SMT", status: "warn", found: "on\tand\non", advice: "turn it off" },
    { name: "cgroup v2", status: "fail", found: "é ".repeat(2_000), advice: null },
    { name: "swap", status: "ok", found: "none", advice: null },
  ],
};

describe("the row of a worker's host", () => {
  test("comes before anything is answered, and is found and listed like any other", async (t) => {
    const at = await TestWorker.start(t, {}, { host: HOSTILE });
    const [host, ...others] = await at.rows();
    assert.deepEqual(others, []);
    assert.ok(host);
    const { envelope, digest, line } = host;
    assert.deepEqual(
      [envelope.kind, envelope.note, envelope.isolation],
      ["host", "fail: cgroup v2; warn: SMT", "qemu-tcg"],
    );
    const { parts, findings } = decodeEnvelope(
      (await auditRows(join(at.folder, "state"), 1)).rows[0]!.envelope,
    ) as HostBody;
    assert.deepEqual(findings[2], { name: "swap", status: "ok", found: "none" });
    assert.equal(findings[0]?.found, "on\tand\non");
    const foreign = [...Object.values(parts), ...findings.map(({ found }) => found)];
    assert.ok(foreign.every((text) => text.length <= 259));
    assert.deepEqual([decodeRow(line).tenant, decodeRow(line).worker, decodeRow(line).vm], ["-", "w1", null]);

    const state = join(at.folder, "state");
    assert.deepEqual(
      (await auditRows(state, 1)).rows.map((row) => [row.kind, row.digest]),
      [["host", digest]],
    );
    const printed = printInspection(await inspectState(state, digest));
    assert.match(printed, /^row +2, host \(fail: cgroup v2; warn: SMT\)$/m);
    assert.match(printed, /^swap +ok: none$/m);
    assert.doesNotMatch(printed, /\u001b|\t/);
    const client = await at.client();
    await assert.rejects(client.inspect(digest), { code: "hash.unknown" }, "it is no tenant's");
  });

  test("is there again at each start", async (t) => {
    const first = await TestWorker.start(t, {}, { host: HOSTILE });
    await first.stop();
    const second = await TestWorker.start(t, {}, { host: { parts: {}, findings: [] } }, first.folder);
    assert.deepEqual(
      (await second.rows()).map(({ envelope }) => [envelope.kind, envelope.note]),
      [
        ["host", "fail: cgroup v2; warn: SMT"],
        ["host", "ok"],
      ],
    );
  });
});

/** A folder that everybody writes. */
const OPEN = join(folder, "open");
mkdirSync(OPEN);
chmodSync(OPEN, 0o777);

describe("a worker's configuration decides what is asked of its host", () => {
  test("without a root process nothing that only Firecracker needs fails", async () => {
    const checks = await hostChecks(config('host = { firecracker = "/no/firecracker", jailer = "/no/jailer" }'));
    assert.deepEqual(
      checks.filter(({ status }) => status === "fail"),
      [],
    );
    assert.ok(checks.length >= 10);
    assert.equal(checks.find(({ name }) => name === "firecracker")?.status, "warn");
    assert.equal(
      checks.find(({ name }) => name === "jail folder"),
      undefined,
    );
  });

  test("with one it does, and its folders are looked at", async () => {
    const options = `host = { firecracker = "/no/firecracker", base_dir = "${OPEN}", snapshots_dir = "/dev/shm", cgroup = "/no/such" }`;
    const checks = await hostChecks(config(options));
    const status = new Map(checks.map((check) => [check.name, check.status]));
    for (const name of ["firecracker", "jail folder", "snapshot folder", "snapshot encryption", "cgroup v2"])
      assert.equal(status.get(name), "fail", name);
  });

  test("what is not in order is logged", async () => {
    const events: [string, string, unknown][] = [];
    const logger = {
      ...SILENT_LOGGER,
      warn: (event: string, fields?: Record<string, unknown>) => void events.push(["warn", event, fields?.["fail"]]),
    };
    await reportWorkerHost(config(`host = { firecracker = "/no/such", base_dir = "${OPEN}" }`), logger);
    assert.equal(events.length, 1);
    assert.match(String(events[0]), /^warn,worker\.host,firecracker, .*jail folder/);
  });
});
