// Worker and client over mutual TLS on loopback, with gcc in local processes.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { TestWorker } from "../../test/support/test-worker.ts";
import { decodeFlags } from "../audit/flags.ts";
import { ascii } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import { SOURCE_MANIFEST_BYTES_MAX, type SourceEntry, sourceDigest } from "../core/action/source-manifest.ts";
import { sha256 } from "../core/digest/digest.ts";
import type { BuildId } from "../core/identity/build-id.ts";
import type { RemoteJob } from "../daemon/remote/remote-job.ts";

const NEVER = { signal: new AbortController().signal };
const HELLO = { path: "/hpcc/project/hello.c", content: "int answer(void) { return 42; }\n" };

function kinds(rows: readonly { readonly envelope: { readonly kind: string; readonly note: string } }[]): string[] {
  return rows.map(({ envelope: { kind, note } }) => (note === "" ? kind : `${kind} ${note}`));
}

describe("a compile", () => {
  test("is compiled, then found, with one row each that says all", async (t) => {
    const at = await TestWorker.start(t);
    const client = await at.client();
    const states: string[] = [];
    const cold = await client.compile(await at.job({ files: [HELLO] }), {
      ...NEVER,
      onProgress: (state) => states.push(state),
    });
    assert.equal(cold.outcome, "compiled");
    assert.deepEqual(states, ["receiving", "queued"]);
    const warm = await client.compile(await at.job({ files: [HELLO] }), NEVER);
    assert.equal(warm.outcome, "hit");
    assert.equal(at.sent.length, 1, "a hit moves no source");
    assert.equal(warm.traffic.sentFrameBytes, 0);
    assert.ok(cold.traffic.sentFrameBytes > 0 && cold.traffic.receivedFrameBytes > 0);

    const object = await readFile(cold.outputs[0]!.file);
    assert.deepEqual(await readFile(warm.outputs[0]!.file), object);
    const source = join(at.folder, "hello.c");
    await writeFile(source, HELLO.content);
    execFileSync("/usr/bin/gcc", ["-c", source, "-o", join(at.folder, "plain.o")]);
    assert.equal(sha256(object), cold.outputs[0]!.digest);
    assert.ok(object.includes("answer"));

    const rows = await at.rows();
    assert.deepEqual(kinds(rows), ["vm booted", "compile", "hit"]);
    const [vm, compile, hit] = rows;
    assert.deepEqual([compile!.line, hit!.line], [cold.auditRow, warm.auditRow]);
    assert.deepEqual([compile!.digest, hit!.digest], [cold.rowDigest, warm.rowDigest]);
    assert.equal(compile!.row.vm, vm!.row.vm);
    assert.equal(hit!.row.vm, vm!.row.vm, "a hit names the VM that compiled");
    assert.equal(compile!.row.outputDigest, sha256(object));
    assert.equal(compile!.row.exit, 0);
    assert.equal(compile!.envelope.principal, "spiffe://test.example/tenant/acme/user/ann");
    assert.equal(compile!.envelope.resultDigest, cold.resultDigest);
    const command = decodeFlags(String(compile!.row.flags));
    assert.equal(command.argv[0], "/usr/bin/gcc");
    assert.equal(command.cwd, "/hpcc/project");
  });

  test("names its build in its row alone, where it has a name that is one", async (t) => {
    const at = await TestWorker.start(t);
    const client = await at.client();
    const files = [{ path: "/hpcc/project/b.c", content: "int b;\n" }];
    const outcomes: string[] = [];
    for (const build of ["ci #1", "'; --\\t\"<b>", null, undefined] as (BuildId | null | undefined)[]) {
      const job = { ...(await at.job({ files })), ...(build !== undefined && { build }) };
      outcomes.push((await client.compile(job, NEVER)).outcome);
    }
    assert.deepEqual(outcomes, ["compiled", "hit", "hit", "hit"]);
    for (const bad of ["a\tb", "a\n", "\u00e9", "a".repeat(129)] as BuildId[])
      await assert.rejects(client.compile({ ...(await at.job({ files })), build: bad }, NEVER), {
        code: "argument.invalid",
        message: /a build's name is printable ASCII/,
      });
    const denied = { kind: "denied", build: null };
    assert.deepEqual(
      (await at.jobRows()).map(({ envelope }) => ({ kind: envelope.kind, build: envelope.build })),
      [
        { kind: "compile", build: "ci #1" },
        { kind: "hit", build: "'; --\\t\"<b>" },
        { kind: "hit", build: null },
        { kind: "hit", build: null },
        denied,
        denied,
        denied,
        denied,
      ],
    );
  });

  test("that warns gives its words again, and one that fails is not kept", async (t) => {
    const at = await TestWorker.start(t);
    const client = await at.client();
    const warning = { path: "/hpcc/project/w.c", content: "#warning look here\nint x;\n" };
    for (const outcome of ["compiled", "hit"]) {
      const result = await client.compile(await at.job({ files: [warning] }), NEVER);
      assert.equal(result.outcome, outcome);
      assert.match(Buffer.from(result.stderr).toString(), /^\/hpcc\/project\/w.c:1:2: warning: #warning look here/);
      assert.equal(result.stdout.length, 0);
    }
    const broken = { path: "/hpcc/project/b.c", content: "int x = ;\n" };
    for (let i = 0; i < 2; i++) {
      const result = await client.compile(await at.job({ files: [broken] }), NEVER);
      assert.deepEqual([result.outcome, result.exitCode, result.outputs], ["compiled", 1, []]);
      assert.match(Buffer.from(result.stderr).toString(), /error: expected expression/);
    }
    const rows = await at.jobRows();
    assert.deepEqual(kinds(rows), ["compile", "hit", "compile", "compile"]);
    assert.deepEqual(
      rows.map(({ row }) => row.exit),
      [0, 0, 1, 1],
    );
    assert.equal(rows[2]!.row.outputDigest, null);
  });

  test("with many and empty and large files arrives as it is", async (t) => {
    const at = await TestWorker.start(t);
    const client = await at.client();
    const noise = randomBytes(3_000_000);
    const files = [
      {
        path: "/hpcc/project/cat.sh",
        content: "cat /hpcc/project/in/* > /hpcc/out/object.o; ls -l /hpcc/project/in\n",
      },
      { path: "/hpcc/project/in/a-empty", content: "" },
      { path: "/hpcc/project/in/b-noise", content: noise },
      ...Array.from({ length: 50 }, (_, i) => ({ path: `/hpcc/project/in/c-${i + 10}`, content: `file ${i}\n` })),
    ];
    const text = files[0]!.content as string;
    const argv = ["/bin/sh", "-c", text.trim()];
    const result = await client.compile(await at.job({ files, argv }), NEVER);
    const expected = Buffer.concat([noise, ...Array.from({ length: 50 }, (_, i) => Buffer.from(`file ${i}\n`))]);
    assert.equal(result.exitCode, 0, Buffer.from(result.stderr).toString());
    assert.deepEqual(await readFile(result.outputs[0]!.file), expected);
    const again = await client.compile(await at.job({ files, argv }), NEVER);
    assert.equal(again.outcome, "hit");
    assert.deepEqual(await readFile(again.outputs[0]!.file), expected);
  });

  test("has links and empty folders, in a manifest as large as may be", async (t) => {
    const at = await TestWorker.start(t);
    const client = await at.client();
    const entries: SourceEntry[] = Array.from({ length: 950 }, (_, i) => ({
      kind: "link",
      path: ascii(`/hpcc/project/long/${i}`),
      target: ascii("a/".repeat(2000)),
    }));
    entries.push({ kind: "link", path: ascii("/hpcc/project/b.c"), target: ascii("../project/a.c") });
    entries.push({ kind: "folder", path: ascii("/hpcc/project/empty") });
    const script = "cat b.c > /hpcc/out/object.o; ls long | wc -l; readlink b.c; ls empty | wc -l";
    const files = [{ path: "/hpcc/project/a.c", content: "int a;\n" }];
    const job = await at.job({ files, entries, argv: ["/bin/sh", "-c", script] });
    assert.ok(job.manifest.length > 3.6 * 1024 * 1024 && job.manifest.length <= SOURCE_MANIFEST_BYTES_MAX);
    const result = await client.compile(job, NEVER);
    assert.equal(result.exitCode, 0, Buffer.from(result.stderr).toString());
    assert.equal(Buffer.from(result.stdout).toString(), "950\n../project/a.c\n0\n");
    assert.equal(await readFile(result.outputs[0]!.file, "utf8"), "int a;\n");
    assert.equal(at.sent.length, 1, "only the file has a blob");
    assert.equal((await client.inspect(sourceDigest(job.manifest))).sourceManifest.length, job.manifest.length);
  });

  test("of sixteen at a time on one stream: none lost, doubled or mixed up", async (t) => {
    const at = await TestWorker.start(t, { jobsPerStreamMax: 8 });
    const client = await at.client();
    const jobs = await Promise.all(
      Array.from({ length: 40 }, async (_, i) =>
        at.job({
          files: [{ path: "/hpcc/project/n.sh", content: `${i}\n`.repeat(1 + i * 500) }],
          argv: ["/bin/sh", "-c", "cat /hpcc/project/n.sh > /hpcc/out/object.o"],
        }),
      ),
    );
    const results = await Promise.all(jobs.map(async (job) => client.compile(job, NEVER)));
    for (const [i, result] of results.entries())
      assert.equal(await readFile(result.outputs[0]!.file, "utf8"), `${i}\n`.repeat(1 + i * 500));
    assert.equal((await at.jobRows()).length, 40);
    assert.equal(new Set(results.map((result) => result.rowDigest)).size, 40);
  });

  test("survives a restart of the worker as a hit", async (t) => {
    const first = await TestWorker.start(t);
    await (await first.client()).compile(await first.job({ files: [HELLO] }), NEVER);
    await first.stop();
    const second = await TestWorker.start(t, {}, {}, first.folder);
    const job: RemoteJob = { ...(await first.job({ files: [HELLO] })) };
    assert.equal((await (await second.client()).compile(job, NEVER)).outcome, "hit");
    assert.deepEqual(kinds(await second.jobRows()), ["compile", "hit"]);
  });
});

describe("equal jobs at the same time", () => {
  test("compile once; both get the object, one as joined", async (t) => {
    const at = await TestWorker.start(t);
    const [ann, other] = [await at.client(), await at.client()];
    const gate = Promise.withResolvers<void>();
    at.pool.gate = gate.promise;
    const running = started();
    const first = ann.compile(await at.job({ files: [HELLO] }), running.options);
    await running.queued;
    const joined = started("running");
    const second = other.compile(await at.job({ files: [HELLO] }), joined.options);
    await joined.queued;
    gate.resolve();
    const results = await Promise.all([first, second]);
    assert.deepEqual(results.map(({ outcome }) => outcome).sort(), ["compiled", "joined"]);
    assert.equal(results[0].outputs[0]!.digest, results[1].outputs[0]!.digest);
    assert.equal(at.pool.executions, 1);
    assert.deepEqual(kinds(await at.jobRows()).sort(), ["compile", "hit joined"]);
  });

  test("one may leave, and the other gets its object as compiled", async (t) => {
    const at = await TestWorker.start(t);
    const [ann, other] = [await at.client(), await at.client()];
    const gate = Promise.withResolvers<void>();
    at.pool.gate = gate.promise;
    const leave = new AbortController();
    const running = started();
    const first = ann.compile(await at.job({ files: [HELLO] }), { ...running.options, signal: leave.signal });
    await running.queued;
    const joined = started("running");
    const second = other.compile(await at.job({ files: [HELLO] }), joined.options);
    await joined.queued;
    leave.abort();
    await assert.rejects(first, { code: "job.cancelled" });
    await rowsReach(at, 1);
    assert.equal(at.pool.cancelled, 0);
    gate.resolve();
    assert.equal((await second).outcome, "compiled");
    assert.deepEqual(kinds(await at.jobRows()), ["failed job.cancelled", "compile"]);
  });

  test("when all leave, the compile is cancelled", async (t) => {
    const at = await TestWorker.start(t);
    const client = await at.client();
    at.pool.gate = new Promise(() => {});
    const leave = new AbortController();
    const running = started();
    const job = client.compile(await at.job({ files: [HELLO] }), { ...running.options, signal: leave.signal });
    await running.queued;
    await until(() => at.pool.executions === 1);
    leave.abort();
    await assert.rejects(job, { code: "job.cancelled" });
    await until(() => at.pool.cancelled === 1);
    await rowsReach(at, 1);
    at.pool.gate = Promise.resolve();
    assert.equal((await client.compile(await at.job({ files: [HELLO] }), NEVER)).outcome, "compiled");
  });

  test("of two principals are not shared, nor are their sources taken as sent", async (t) => {
    const at = await TestWorker.start(t);
    const [ann, bob] = [await at.client(), await at.client("tenant/acme/user/bob")];
    await ann.compile(await at.job({ files: [HELLO] }), NEVER);
    assert.equal((await bob.compile(await at.job({ files: [HELLO] }), NEVER)).outcome, "compiled");
    assert.equal(at.sent.length, 2);
    const other = { ...(await at.job({ files: [HELLO] })), again: true } as const;
    assert.equal((await bob.compile(other, NEVER)).outcome, "compiled");
    assert.equal(at.sent.length, 2, "each sends a blob once");
    const stranger = await at.client("tenant/other/user/ann");
    assert.equal((await stranger.compile(await at.job({ files: [HELLO] }), NEVER)).outcome, "compiled");
    assert.equal(at.sent.length, 3);
  });
});

describe("what may not be", () => {
  test("a job that is refused leaves a row, and the stream lives on", async (t) => {
    const at = await TestWorker.start(t);
    const client = await at.client();
    const good = await at.job({ files: [HELLO] });
    const refusals: [RemoteJob, string][] = [
      [{ ...good, action: { ...good.action, imageDigest: sha256(Buffer.from("no image")) } }, "image.missing"],
      [{ ...good, isolationMin: "firecracker" }, "isolation.weak"],
      [{ ...good, manifest: Buffer.from("rubbish") }, "argument.invalid"],
      [{ ...good, deadlineMs: 0 }, "argument.invalid"],
      [{ ...good, action: { ...good.action, argv: ["gcc" as never] } }, "argument.invalid"],
    ];
    for (const [job, code] of refusals) await assert.rejects(client.compile(job, NEVER), { code });
    assert.equal((await client.compile(good, NEVER)).outcome, "compiled");
    assert.deepEqual(kinds(await at.jobRows()), [...refusals.map(([, code]) => `denied ${code}`), "compile"]);
  });

  test("a blob that is not what its digest names fails its job alone", async (t) => {
    const at = await TestWorker.start(t);
    const client = await at.client();
    const job = await at.job({ files: [HELLO] });
    const other = await at.job({ files: [{ path: "/hpcc/project/o.c", content: "int other;\n" }] });
    const lying = { ...job, openBlob: () => other.openBlob(sha256(Buffer.from("int other;\n"))) };
    const [bad, good] = await Promise.allSettled([client.compile(lying, NEVER), client.compile(other, NEVER)]);
    assert.ok(bad.status === "rejected" && (bad.reason as HpccError).code === "argument.invalid");
    assert.ok(good.status === "fulfilled");
    assert.deepEqual(kinds(await at.jobRows()).sort(), ["compile", "failed argument.invalid"]);
    assert.equal((await client.compile(job, NEVER)).outcome, "compiled", "nothing of it was kept");
  });

  test("a job whose VM fails, or that leaves no object, or takes too long, fails with its code", async (t) => {
    const at = await TestWorker.start(t);
    const client = await at.client();
    at.pool.failure = new HpccError("vm.lost", "the microVM ended", { details: { vm: "vm-1" } });
    await assert.rejects(client.compile(await at.job({ files: [HELLO] }), NEVER), { code: "vm.lost" });
    at.pool.failure = null;
    const nothing = await at.job({ files: [HELLO], argv: ["/bin/true"] });
    await assert.rejects(client.compile(nothing, NEVER), { code: "job.failed" });
    const slow = await at.job({ files: [HELLO], argv: ["/bin/sleep", "100"], deadlineMs: 300 });
    await assert.rejects(client.compile(slow, NEVER), { code: "peer.deadline" });
    const rows = await at.jobRows();
    assert.deepEqual(kinds(rows), ["failed vm.lost", "failed job.failed", "failed peer.deadline"]);
    assert.equal(rows[0]!.row.vm, "vm-1");
  });

  test("workers, schedulers and strangers are no clients", async (t) => {
    const at = await TestWorker.start(t);
    await assert.rejects(at.client("worker/w2"), { code: "identity.forbidden" });
    await assert.rejects(at.client("scheduler/s1"), HpccError);
    assert.equal((await at.jobRows()).length, 0);
  });

  test("a client that goes leaves a row for each of its jobs", async (t) => {
    const at = await TestWorker.start(t);
    const client = await at.client();
    at.pool.gate = new Promise(() => {});
    const jobs = [];
    for (let i = 0; i < 3; i++) {
      const running = started();
      const files = [{ path: "/hpcc/project/a.c", content: `int x${i};\n` }];
      jobs.push(assert.rejects(client.compile(await at.job({ files }), running.options), { code: "peer.unavailable" }));
      await running.queued;
    }
    client.close();
    await Promise.all(jobs);
    await rowsReach(at, 3);
    assert.deepEqual(
      kinds(await at.jobRows()),
      Array.from({ length: 3 }, () => "failed job.cancelled"),
    );
    assert.equal(at.worker.load().freeSlots, 2);
  });

  test("a worker that is shut down leaves a row for each job that it cut off", async (t) => {
    const at = await TestWorker.start(t);
    const client = await at.client();
    at.pool.gate = new Promise(() => {});
    const running = started();
    const job = assert.rejects(client.compile(await at.job({ files: [HELLO] }), running.options), HpccError);
    await running.queued;
    await at.worker.close(0);
    await job;
    assert.deepEqual(kinds(await at.jobRows()), ["failed job.cancelled"]);
  });

  test("a runtime weaker than the configuration allows does not start", async (t) => {
    await assert.rejects(TestWorker.start(t, { isolationMin: "firecracker" }), { code: "config.invalid" });
  });
});

/** Options that tell when a job is queued or running. */
function started(wanted = "queued") {
  const { promise, resolve } = Promise.withResolvers<void>();
  const onProgress = (state: string) => {
    if (state === wanted) resolve();
  };
  return { queued: promise, options: { ...NEVER, onProgress } };
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve));
}

async function rowsReach(at: TestWorker, count: number): Promise<void> {
  await until(async () => (await at.jobRows()).length >= count);
}
