// The contract of the runtime port (src/vm/runtime.ts) as tests that every driver passes. One machine serves all tests that leave
// it whole, in the order in which a session lives; what ends a machine gets one of its own.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { setImmediate, setTimeout } from "node:timers/promises";
import { ascii } from "../../../src/base/byte-string.ts";
import type { BootSpec, Machine, ParkedMachine } from "../../../src/vm/runtime.ts";
import { findCanaries, type Search } from "../../support/canary.ts";
import { cpuMs } from "../../support/processes.ts";
import { makeRootedGuest, plantedMarkers } from "../../support/rooted-guest.ts";
import { CLOCK_OFF_MS_MAX, childrenNamed, request } from "../../support/vm.ts";
import { makeToolchain } from "../../support/vm-toolchain.ts";
import type { DriverUnderTest, OpenedDriver } from "./driver.ts";
import { compile, failsWith, limitedBy, runsOn, stdoutOf, untilRunning } from "./executions.ts";

const PARK_CYCLES = Number(process.env["HPCC_TEST_PARK_CYCLES"] ?? 100);
const CANCEL_MS_MAX = 10_000;
const BIG_BYTES = 48 * 2 ** 20;
/** How long a parked machine is watched. */
const STILL_MS = 100;
/** Deadlines of guests that hang: long enough for a scrub under emulation on a busy machine. */
const SCRUB_MS = 8_000;
const GRACE_MS = 2_000;
/** From a deadline until nothing is left. */
const LEAVE_MS_MAX = 10_000;

const signal = new AbortController().signal;

/** Registers the suite for a driver. */
export function runtimeContract(driver: DriverUnderTest): void {
  describe(`the runtime contract on ${driver.name}`, () => {
    const folder = mkdtempSync(join(tmpdir(), "hpcc-contract-"));
    let opened: OpenedDriver;
    let spec: BootSpec;
    let machine: Machine;

    before(async () => {
      const { memoryBytes, vcpus } = driver;
      spec = { rootfs: makeToolchain(folder), memoryBytes, vcpus, goldenOwner: null };
      opened = await driver.open();
      machine = await opened.runtime.boot(spec, signal);
    });

    after(async () => {
      await machine.destroy();
      await opened[Symbol.asyncDispose]();
      rmSync(folder, { recursive: true, force: true });
    });

    describe("a machine", () => {
      it("boots, says what it is, and is confined", async () => {
        assert.equal(opened.runtime.parking, driver.parking);
        assert.equal(machine.isolation, opened.runtime.isolation);
        assert.match(machine.id, /^vm-[0-9a-f]{20}$/);
        assert.ok(["boot", "golden"].includes(machine.origin), machine.origin);
        assert.ok(machine.alive && machine.bootMs > 0);
        for (const digest of ["kernelDigest", "initramfsDigest", "agentDigest"] as const)
          assert.match(machine.versions[digest], /^sha256:[0-9a-f]{64}$/);
        for (const text of ["vmm", "kernelRelease", "agentVersion"] as const) assert.ok(machine.versions[text] !== "");
        await opened.assertConfined(machine.id);
      });

      it("executes", async () => {
        await using result = await machine.session.execute(compile("int twice(int x) { return 2 * x; }\n"), { signal });
        assert.deepEqual(result.exit, { kind: "code", code: 0 });
        assert.equal(Buffer.from((await result.outputs[0]?.content.bytes()) ?? []).toString("latin1", 1, 4), "ELF");
        assert.ok(result.wallUs > 0 && result.memoryPeakBytes > 0);
      });

      it("executes eight at a time and mixes nothing up", async () => {
        const objects = await Promise.all(
          Array.from({ length: 8 }, async (_, index) => {
            const text = `const char marker_${index}[] = "${String(index).repeat(40)}";\n`;
            await using result = await machine.session.execute(compile(text), { signal });
            return Buffer.from((await result.outputs[0]?.content.bytes()) ?? []).toString("latin1");
          }),
        );
        for (const [index, object] of objects.entries()) {
          assert.ok(object.includes(String(index).repeat(40)), `object ${index} holds its marker`);
          assert.ok([...object.matchAll(/marker_\d/g)].every(([name]) => name === `marker_${index}`));
        }
      });

      it("cancels", async () => {
        const cancel = new AbortController();
        const { running, execution } = untilRunning(machine, ["/usr/bin/probe", "spin"], cancel.signal);
        await running;
        const startedMs = performance.now();
        cancel.abort();
        await assert.rejects(execution, failsWith("job.cancelled"));
        assert.ok(performance.now() - startedMs < CANCEL_MS_MAX);
        await runsOn(machine);
      });

      it("holds the time limit", async () => {
        const spin = request(["/usr/bin/probe", "spin"], { limits: { wallMs: 1_000 } });
        await assert.rejects(machine.session.execute(spin, { signal }), limitedBy("wall"));
        await runsOn(machine);
      });

      it("holds the memory limit", async () => {
        const fill = request(["/usr/bin/probe", "fill-memory"], { limits: { memoryBytes: 96 * 2 ** 20 } });
        await assert.rejects(machine.session.execute(fill, { signal }), limitedBy("memory"));
        await runsOn(machine);
      });

      it("gives back a big output, and refuses one over its limit", async () => {
        const big = (outputBytes: number) =>
          request(["/usr/bin/probe", "fill-output"], {
            outputs: [ascii("/hpcc/out/big")],
            limits: { outputBytes, memoryBytes: 256 * 2 ** 20 },
          });
        {
          await using result = await machine.session.execute(big(BIG_BYTES), { signal });
          assert.deepEqual(result.exit, { kind: "code", code: 0 });
          const hash = createHash("sha256");
          for await (const chunk of result.outputs[0]!.content.chunks()) hash.update(chunk);
          assert.equal(hash.digest("hex"), bigDigest());
        }
        await assert.rejects(machine.session.execute(big(BIG_BYTES / 4), { signal }), limitedBy("output"));
        await runsOn(machine);
      });
    });

    describe("a scrub", () => {
      it("gives a new stream, and the machine goes on", async () => {
        await stdoutOf(machine, ["/usr/bin/probe", "plant"]);
        const before = machine.session;
        await machine.scrub(signal);
        assert.notEqual(machine.session, before);
        await assert.rejects(before.execute(compile("int x;\n"), { signal }), failsWith("vm.lost"));
        assert.deepEqual(
          (await stdoutOf(machine, ["/usr/bin/probe", "look"])).filter((line) => !/^processes [12]$/.test(line)),
          [],
        );
        await runsOn(machine);
        await opened.assertConfined(machine.id);
      });
    });

    describe("a park", () => {
      it("ends the machine, and a restore goes on with it", async () => {
        const running = machine;
        const parked = await running.park(signal);
        assert.deepEqual(await running.ended, { t: "parked" });
        assert.equal(running.alive, false);
        assert.equal(parked.parking, driver.parking);
        assert.equal(parked.id, running.id);
        assert.equal(parked.diskBytes > 0, driver.parking === "snapshot");
        if (driver.parking === "stopped") await standsStill(await opened.vmmPid(parked.id));
        await assert.rejects(running.session.execute(compile("int x;\n"), { signal }), failsWith("vm.lost"));
        await assert.rejects(running.park(signal), failsWith("vm.lost"));
        machine = await parked.restore(signal);
        assert.deepEqual(await parked.ended, { t: "parked" });
        assert.equal(machine.id, running.id);
        assert.equal(machine.origin, "parked");
        assert.ok(machine.bootMs > 0);
        assert.deepEqual(machine.versions, running.versions);
        await assert.rejects(parked.restore(signal), failsWith("vm.boot"));
        await parked.destroy();
        await runsOn(machine);
        await opened.assertConfined(machine.id);
      });

      it("does not stop the guest's clock", async () => {
        machine = await (await machine.park(signal)).restore(signal);
        const earliestMs = Date.now();
        const [nanoseconds = ""] = await stdoutOf(machine, ["/usr/bin/probe", "time"]);
        const guestMs = Number(BigInt(nanoseconds) / 1_000_000n);
        const latestMs = Date.now();
        assert.ok(guestMs >= earliestMs - CLOCK_OFF_MS_MAX && guestMs <= latestMs + CLOCK_OFF_MS_MAX);
      });

      it(`and a restore work ${PARK_CYCLES} times, with an execution after each`, async () => {
        const drawn = new Set<string>();
        for (let cycle = 0; cycle < PARK_CYCLES; cycle += 1) {
          machine = await (await machine.park(signal)).restore(signal);
          const [random = ""] = await stdoutOf(machine, ["/usr/bin/probe", "random"]);
          assert.match(random, /^[0-9a-f]{32}$/);
          drawn.add(random);
        }
        assert.equal(drawn.size, PARK_CYCLES, "no random number twice");
        await runsOn(machine);
      });

      it("is destroyed like a machine", async () => {
        const own = await opened.runtime.boot(spec, signal);
        const parked = await own.park(signal);
        await parked.destroy();
        assert.deepEqual(await parked.ended, { t: "destroyed" });
        await parked.destroy();
        await assert.rejects(parked.restore(signal), failsWith("vm.boot"));
        assert.deepEqual(await leaksBeside(machine), []);
      });

      it("whose VMM dies is lost, and its restore fails clean", { skip: stopped(driver) }, async () => {
        const own = await opened.runtime.boot(spec, signal);
        const pid = await opened.vmmPid(own.id);
        const parked: ParkedMachine = await own.park(signal);
        process.kill(pid, "SIGKILL");
        assert.equal((await parked.ended).t, "lost");
        await assert.rejects(parked.restore(signal), failsWith("vm.boot"));
        assert.deepEqual(await leaksBeside(machine), []);
      });
    });

    describe("an end", () => {
      it("by destroy leaves nothing, also while something executes", async () => {
        const own = await opened.runtime.boot(spec, signal);
        assert.notEqual(own.id, machine.id);
        const { running, execution } = untilRunning(own, ["/usr/bin/probe", "spin"], signal);
        await running;
        const lost = assert.rejects(execution, failsWith("vm.lost"));
        await Promise.all([own.destroy(), own.destroy()]);
        await lost;
        assert.deepEqual(await own.ended, { t: "destroyed" });
        assert.equal(own.alive, false);
        await assert.rejects(own.session.execute(compile("int x;\n"), { signal }), failsWith("vm.lost"));
        await assert.rejects(own.scrub(signal), failsWith("vm.lost"));
        assert.deepEqual(await leaksBeside(machine), []);
      });

      it("by the VMM's death is a lost machine that leaves nothing", async () => {
        const own = await opened.runtime.boot(spec, signal);
        const { running, execution } = untilRunning(own, ["/usr/bin/probe", "spin"], signal);
        await running;
        process.kill(await opened.vmmPid(own.id), "SIGKILL");
        await assert.rejects(execution, failsWith("vm.lost"));
        assert.equal((await own.ended).t, "lost");
        assert.deepEqual(await leaksBeside(machine), []);
      });

      it("leaves nothing at all", async () => {
        await machine.destroy();
        assert.deepEqual(await machine.ended, { t: "destroyed" });
        assert.deepEqual(await opened.leaks(), []);
        const deadlineMs = performance.now() + LEAVE_MS_MAX;
        while (childrenNamed("channel").length > 0 && performance.now() < deadlineMs) await setImmediate();
        assert.deepEqual(childrenNamed("channel"), [], "processes that carry streams");
      });
    });

    describe("a guest whose root is the tenant's", () => {
      let rooted: OpenedDriver;
      let own: Machine;

      before(async () => {
        rooted = await driver.open({
          guestFolder: makeRootedGuest(folder),
          deadlines: { exitGraceMs: GRACE_MS, scrubMs: SCRUB_MS },
        });
      });

      after(async () => {
        assert.deepEqual(await rooted.leaks(), []);
        await rooted[Symbol.asyncDispose]();
      });

      beforeEach(async () => {
        own = await rooted.runtime.boot(spec, signal);
      });

      afterEach(() => own.destroy());

      const ask = (what: string, wallMs = 30_000) =>
        own.session.execute(request(["/usr/bin/probe", "ask-root", what], { limits: { wallMs } }), { signal });

      it("keeps nothing through a scrub that the agent can clear away", async () => {
        {
          await using asked = await ask("plant");
          assert.deepEqual(asked.exit, { kind: "code", code: 0 });
        }
        const markers = plantedMarkers();
        const names = (search: Search) => [...new Set(search.findings.map(({ canary }) => canary))].sort();
        const before = await findCanaries(await rooted.memoryFiles(own.id), markers);
        assert.deepEqual(names(before), markers.map(({ name }) => name).sort(), "all are planted");
        await own.scrub(signal);
        const after = await findCanaries(await rooted.memoryFiles(own.id), markers);
        assert.deepEqual(names(after), []);
        assert.ok(after.pagesInUse > 0);
        await assert.rejects(ask("plant", 2_000), limitedBy("wall"), "nobody is left who answers");
        await runsOn(own);
      });

      it("is never parked with what the agent cannot clear away", async () => {
        await (await ask("plant-below"))[Symbol.asyncDispose]();
        await assert.rejects(own.park(signal), failsWith("vm.breach"));
        assert.equal((await own.ended).t, "breach");
        assert.deepEqual(await rooted.leaks(), []);
      });

      it("is destroyed within the deadline when its scrub hangs, and not parked", async () => {
        await (await ask("freeze"))[Symbol.asyncDispose]();
        const startedMs = performance.now();
        await assert.rejects(own.park(signal), failsWith("vm.breach"));
        assert.ok(performance.now() - startedMs < SCRUB_MS + LEAVE_MS_MAX);
        assert.equal((await own.ended).t, "breach");
        assert.deepEqual(await rooted.leaks(), []);
      });

      it("is destroyed for a breach, and not parked", async () => {
        await assert.rejects(ask("stop-all", 500), failsWith("vm.breach"));
        await assert.rejects(own.park(signal), failsWith("vm.breach"));
        assert.equal((await own.ended).t, "breach");
        assert.deepEqual(await rooted.leaks(), []);
      });

      it("is lost when its kernel panics", async () => {
        await assert.rejects(ask("panic"), failsWith("vm.lost"));
        assert.equal((await own.ended).t, "lost");
        await assert.rejects(own.park(signal), failsWith("vm.lost"));
        assert.deepEqual(await rooted.leaks(), []);
      });

      it("is lost when its agent's session is killed", async () => {
        await assert.rejects(ask("kill-all"), failsWith("vm.lost"));
        assert.equal((await own.ended).t, "lost");
        assert.deepEqual(await rooted.leaks(), []);
      });
    });

    /** What is left but for what belongs to a machine that lives. */
    async function leaksBeside(living: Machine): Promise<string[]> {
      return (await opened.leaks()).filter((leak) => !leak.includes(living.id));
    }
  });
}

function stopped(driver: DriverUnderTest): string | false {
  return driver.parking === "stopped" ? false : "a snapshot has no VMM";
}

/** Its kernel has taken the processor from it; with many threads that takes a moment. */
async function standsStill(pid: number): Promise<void> {
  const state = () => /\) (\S)/.exec(readFileSync(`/proc/${pid}/stat`, "latin1"))?.[1];
  const deadlineMs = performance.now() + 1_000;
  while (state() !== "T" && performance.now() < deadlineMs) await setImmediate();
  assert.equal(state(), "T");
  const before = cpuMs(pid);
  await setTimeout(STILL_MS);
  assert.equal(cpuMs(pid), before);
}

let digest = "";

/** Of what the probe writes. */
function bigDigest(): string {
  if (digest !== "") return digest;
  const hash = createHash("sha256");
  const block = Buffer.alloc(2 ** 20);
  for (let mib = 0; mib < BIG_BYTES / block.length; mib += 1) {
    for (let i = 0; i < block.length; i += 1) block[i] = i * 31 + (i >> 8) + mib;
    hash.update(block);
  }
  digest = hash.digest("hex");
  return digest;
}
