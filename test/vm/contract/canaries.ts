// Canaries through the real stream: what a tenant sends is in its machine while it executes, and nowhere once that is scrubbed.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { zstdCompressSync } from "node:zlib";
import { ascii, byteStringOfText } from "../../../src/base/byte-string.ts";
import type { Logger } from "../../../src/base/log.ts";
import type { ExecutionRequest } from "../../../src/vm/execution.ts";
import type { BootSpec, Machine } from "../../../src/vm/runtime.ts";
import { type Canary, findCanaries, type Search } from "../../support/canary.ts";
import { request } from "../../support/vm.ts";
import { makeToolchain } from "../../support/vm-toolchain.ts";
import type { DriverUnderTest, OpenedDriver } from "./driver.ts";
import { failsWith } from "./executions.ts";

const CANARY_BYTES = 32;
/** How much of a frame is looked for. */
const FRAME_PART_BYTES = 48;

const signal = new AbortController().signal;

/** Registers the tests for a driver. */
export function canaryContract(driver: DriverUnderTest): void {
  describe(`what a tenant sends to a machine of ${driver.name}`, () => {
    const folder = mkdtempSync(join(tmpdir(), "hpcc-canary-"));
    const sent = makeSent();
    const logs = collectingLogger();
    let opened: OpenedDriver;
    let tenant: Machine;
    let other: Machine;

    before(async () => {
      const { memoryBytes, vcpus } = driver;
      const spec: BootSpec = { rootfs: makeToolchain(folder), memoryBytes, vcpus, goldenOwner: null };
      opened = await driver.open({ logger: logs.logger });
      tenant = await opened.runtime.boot(spec, signal);
      other = await opened.runtime.boot(spec, signal);
    });

    after(async () => {
      await Promise.all([tenant.destroy(), other.destroy()]);
      await opened[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true, force: true });
    });

    const search = async (machine: { readonly id: string }): Promise<string[]> => {
      const found = await findCanaries(await opened.memoryFiles(machine.id), sent.canaries);
      assert.ok(found.bytes >= driver.memoryBytes / 2 && found.pagesInUse > 1000, `it saw ${JSON.stringify(found)}`);
      return namesOf(found);
    };

    it("is in that machine while it executes, and in no other tenant's", async () => {
      await compiles(tenant, sent);
      const cancel = new AbortController();
      const allSent = Promise.withResolvers<void>();
      const held = tenant.session.execute(sent.held, { signal: cancel.signal, onProgress: () => allSent.resolve() });
      const cancelled = assert.rejects(held, failsWith("job.cancelled"));
      await allSent.promise;
      try {
        const wanted = sent.canaries.map(({ name }) => name).filter((name) => name !== sent.frame.name);
        // It has all of its input, and still has to start.
        const deadlineMs = performance.now() + 20_000;
        let found = await search(tenant);
        while (!wanted.every((name) => found.includes(name)) && performance.now() < deadlineMs)
          found = await search(tenant);
        assert.deepEqual(
          wanted.filter((name) => !found.includes(name)),
          [],
        );
        assert.deepEqual(await search(other), []);
      } finally {
        cancel.abort();
        await cancelled;
      }
    });

    it("is nowhere in it once it is scrubbed", async () => {
      await tenant.scrub(signal);
      assert.deepEqual(await search(tenant), []);
    });

    it("is nowhere in it once it is parked, nor after a restore", async () => {
      await compiles(tenant, sent);
      const parked = await tenant.park(signal);
      assert.deepEqual(await search(parked), []);
      tenant = await parked.restore(signal);
      assert.deepEqual(await search(tenant), []);
    });

    it("is in no other tenant's machine and in no log", async () => {
      await other.scrub(signal);
      assert.deepEqual(await search(other), []);
      await tenant.destroy();
      await other.destroy();
      const text = Buffer.from(logs.text(), "latin1");
      assert.ok(logs.lines() > 0, "something was logged");
      assert.deepEqual(
        sent.canaries.filter(({ bytes }) => text.includes(Buffer.from(bytes))).map(({ name }) => name),
        [],
      );
    });
  });
}

interface Sent {
  readonly canaries: readonly Canary[];
  readonly frame: Canary;
  /** Of gcc. */
  readonly compile: ExecutionRequest;
  /** Of a program that has all of it in its memory until it is cancelled. */
  readonly held: ExecutionRequest;
  readonly onStderr: string;
}

function makeSent(): Sent {
  const draw = (): string => randomBytes(CANARY_BYTES).toString("hex");
  const inSource = draw();
  const inArgument = draw();
  const inPath = draw();
  const inEnvironment = draw();
  const onStderr = draw();
  const path = `/hpcc/project/${inPath}/a.c`;
  // It compresses, so that the frame does not hold the canaries as they are.
  const filler = Array.from({ length: 64 }, (_, line) => `int name_${line};\n`).join("");
  const text = `#warning ${onStderr}\n${filler}const char source[] = "${inSource}";\n${filler}`;
  const frame = zstdCompressSync(Buffer.from(text));
  assert.equal(frame.includes(inSource), false);
  const input = {
    path: byteStringOfText(path),
    executable: false,
    sizeBytes: Buffer.byteLength(text),
    frameSizeBytes: frame.length,
    openFrame: () => [frame],
  };
  const environment = ["PATH=/usr/bin", "LC_ALL=C", `CANARY=${inEnvironment}`, `CANARY_ON_STDERR=${onStderr}`].map(
    ascii,
  );
  const start = Math.floor(frame.length / 2);
  const frameCanary = { name: "frame of the source", bytes: frame.subarray(start, start + FRAME_PART_BYTES) };
  const named = { source: inSource, argument: inArgument, path: inPath, environment: inEnvironment, stderr: onStderr };
  return {
    canaries: [
      ...Object.entries(named).map(([name, value]) => ({ name, bytes: Buffer.from(value, "latin1") })),
      frameCanary,
    ],
    frame: frameCanary,
    compile: request(["/usr/bin/gcc", "-c", "-nostdinc", `-DCANARY=x${inArgument}`, path, "-o", "/hpcc/out/a.o"], {
      inputs: [input],
      outputs: [ascii("/hpcc/out/a.o")],
      environment,
    }),
    held: request(["/usr/bin/probe", "hold", path, `-DCANARY=x${inArgument}`], { inputs: [input], environment }),
    onStderr,
  };
}

async function compiles(machine: Machine, sent: Sent): Promise<void> {
  await using result = await machine.session.execute(sent.compile, { signal });
  const stderr = Buffer.from(await result.stderr.bytes());
  assert.deepEqual(result.exit, { kind: "code", code: 0 }, stderr.toString("latin1"));
  assert.ok(stderr.includes(sent.onStderr));
}

function namesOf({ findings }: Search): string[] {
  return [
    ...new Set(findings.map(({ canary, within }) => (within === "raw" ? canary : `${canary}, in a ${within}`))),
  ].sort();
}

function collectingLogger(): { readonly logger: Logger; text(): string; lines(): number } {
  const lines: string[] = [];
  const log = (event: string, fields?: unknown): void => {
    lines.push(JSON.stringify({ event, fields }));
  };
  const logger: Logger = { debug: log, info: log, warn: log, error: log, with: () => logger };
  return {
    logger,
    text: () => lines.join("\n"),
    lines: () => lines.length,
  };
}
