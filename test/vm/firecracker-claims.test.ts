// Claims about Firecracker machines that only real ones can show, in the KVM lab or on a machine like it: no network from outside,
// a socket that nobody else can dial, clones that share no random number, a snapshot without a tenant's byte.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { byteStringOfText } from "../../src/base/byte-string.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import type { Digest } from "../../src/core/digest/digest.ts";
import { sha256 } from "../../src/core/digest/digest.ts";
import { FirecrackerApi } from "../../src/vm/firecracker/api.ts";
import { readConsole } from "../../src/vm/firecracker/console.ts";
import { loadGuestFiles } from "../../src/vm/guest-files.ts";
import type { Jail } from "../../src/vm/keeper/keeper.ts";
import type { BootSpec, Machine } from "../../src/vm/runtime.ts";
import { type Canary, findCanaries } from "../support/canary.ts";
import { withoutFirecracker } from "../support/firecracker.ts";
import { assertNoNetwork, type OpenedFirecracker, openFirecracker } from "../support/firecracker-driver.ts";
import { startTestKeeper } from "../support/test-keeper.ts";
import { CLOCK_OFF_MS_MAX, request, textInput } from "../support/vm.ts";
import { compileProbe, makeToolchain } from "../support/vm-toolchain.ts";
import { stdoutOf } from "./contract/executions.ts";

const skip = withoutFirecracker();
const repository = join(import.meta.dirname, "../..");
/** As many as the claim says; fewer where time is short. */
const RESTORES = Number(process.env["HPCC_GOLDEN_RESTORES"] ?? 300);
const SHAPE = { memoryBytes: 256 * 2 ** 20, vcpus: 1, goldenOwner: null } as const;
const LAB_MS = 240_000;

const signal = new AbortController().signal;

/** A suite where Firecracker can run, else one skipped test that says why not. */
function claims(name: string, suite: () => void): void {
  if (skip) it(name, { skip }, () => undefined);
  else describe(name, suite);
}

let folder: string;
/** Of one static program. */
let randomRootfs: string;

before(() => {
  folder = mkdtempSync(join(tmpdir(), "hpcc-claims-"));
  if (!skip) randomRootfs = makeRandomRootfs();
});
after(() => rmSync(folder, { recursive: true, force: true }));

function makeRandomRootfs(): string {
  const staging = join(folder, "random-rootfs");
  mkdirSync(join(staging, "usr/bin"), { recursive: true });
  compileProbe("random", join(staging, "usr/bin/random"));
  const image = join(folder, "random.sqfs");
  execFileSync("mksquashfs", [staging, image, "-quiet", "-no-progress", "-all-root", "-comp", "zstd"]);
  return image;
}

claims("a Firecracker machine, from outside", () => {
  let opened: OpenedFirecracker;
  let spec: BootSpec;

  before(async () => {
    spec = { ...SHAPE, rootfs: randomRootfs };
    opened = await openFirecracker({ metrics: true });
  });
  after(() => opened[Symbol.asyncDispose]());

  async function assertClaims(machine: Machine): Promise<void> {
    const pid = await opened.vmmPid(machine.id);
    assertNoNetwork(pid);
    await opened.assertConfined(machine.id);
    const api = new FirecrackerApi({ socketPath: join(opened.runFolder(machine.id), "api"), clock: SYSTEM_CLOCK });
    try {
      await api.checkConfig(signal);
      assert.deepEqual(await liveConnections(api, pid), 1);
    } finally {
      api.close();
    }
  }

  it("has no network, no name by which its guest is dialled, and one connection, also after scrub, park and restore", async () => {
    let machine = await opened.runtime.boot(spec, signal);
    assert.equal(machine.origin, "golden");
    await assertClaims(machine);
    await machine.scrub(signal);
    await assertClaims(machine);
    machine = await (await machine.park(signal)).restore(signal);
    await assertClaims(machine);
    await machine.destroy();
    assert.deepEqual(await opened.leaks(), []);
  });
});

claims("a Firecracker machine that boots", () => {
  it("is dialled once, and the device counts one connection", async () => {
    await using opened = await openFirecracker({ metrics: true, goldens: false });
    const machine = await opened.runtime.boot({ ...SHAPE, rootfs: randomRootfs }, signal);
    assert.equal(machine.origin, "boot");
    const pid = await opened.vmmPid(machine.id);
    const api = new FirecrackerApi({ socketPath: join(opened.runFolder(machine.id), "api"), clock: SYSTEM_CLOCK });
    await api.flushMetrics(signal);
    api.close();
    assert.deepEqual(countsOf(pid), { added: 1, removed: 0 });
    await machine.destroy();
  });
});

async function liveConnections(api: FirecrackerApi, pid: number): Promise<number> {
  await api.flushMetrics(signal);
  const { added, removed } = countsOf(pid);
  assert.ok(added > 0, "the device counts");
  return added - removed;
}

/** Sums what Firecracker wrote: each line counts since the one before. */
function countsOf(pid: number): { added: number; removed: number } {
  const sums = { added: 0, removed: 0 };
  for (const line of readFileSync(`/proc/${pid}/root/metrics`, "utf8").trim().split("\n")) {
    const { vsock } = JSON.parse(line) as { vsock: { conns_added: number; conns_removed: number } };
    sums.added += vsock.conns_added;
    sums.removed += vsock.conns_removed;
  }
  return sums;
}

claims("clones of one golden", () => {
  it(`draw no value twice in ${RESTORES} restores, and know the time`, { timeout: RESTORES * 60_000 }, async () => {
    await using opened = await openFirecracker();
    const spec = { ...SHAPE, memoryBytes: 128 * 2 ** 20, rootfs: randomRootfs };
    const seen = { random: new Set<string>(), uuid: new Set<string>(), temp: new Set<string>() };
    await opened.runtime.prepare(spec);
    const goldens = new Set(opened.jails.snapshots.keys());
    for (let restore = 0; restore < RESTORES; restore += 1) {
      const machine = await opened.runtime.boot(spec, signal);
      assert.equal(machine.origin, "golden");
      const earliestMs = Date.now();
      const [line = ""] = await stdoutOf(machine, ["/usr/bin/random"]);
      const latestMs = Date.now();
      await machine.destroy();
      const said = /^random (\S{32}) uuid (\S{36}) temp (\/tmp\/hpcc-\S{6}) time (\d{19})$/.exec(line);
      assert.ok(said, line);
      const [, random = "", uuid = "", temp = "", time = ""] = said;
      seen.random.add(random);
      seen.uuid.add(uuid);
      seen.temp.add(temp);
      const guestMs = Number(BigInt(time) / 1_000_000n);
      assert.ok(guestMs >= earliestMs - CLOCK_OFF_MS_MAX, `${earliestMs - guestMs} ms behind`);
      assert.ok(guestMs <= latestMs + CLOCK_OFF_MS_MAX, `${guestMs - latestMs} ms ahead`);
    }
    assert.deepEqual(new Set(opened.jails.snapshots.keys()), goldens, "all of one golden");
    for (const [what, values] of Object.entries(seen)) assert.equal(values.size, RESTORES, `${what} repeats`);
  });

  it("would draw the same without the new seed: two machines of one snapshot whose agent nobody tells", async () => {
    const guestFolder = join(folder, "random-guest");
    mkdirSync(guestFolder);
    const init = join(folder, "random-init");
    compileProbe("random", init);
    const node = join(repository, "node_modules/.bin/node");
    execFileSync(node, ["scripts/guest/pack.ts", ".cache/guest", init, guestFolder], { cwd: repository });
    const guest = await loadGuestFiles(guestFolder);
    await using test = await startTestKeeper();
    for (const path of [folder, guestFolder]) chmodSync(path, 0o755);
    const { keeper } = test;
    const bytesMax = 2 ** 30;
    await keeper.admit({ kind: "kernel", path: guest.kernel, digest: guest.kernelDigest, bytesMax });
    await keeper.admit({ kind: "initramfs", path: guest.initramfs, digest: guest.initramfsDigest, bytesMax });
    const rootfsDigest = sha256(readFileSync(randomRootfs));
    await keeper.admit({ kind: "rootfs", path: randomRootfs, digest: rootfsDigest, bytesMax });
    const start = async (vm: string, snapshot: { id: string; binding: Digest } | null): Promise<Jail> =>
      keeper.start(
        {
          vm,
          memoryBytes: SHAPE.memoryBytes,
          vcpus: 1,
          snapshot,
          fileBytesMax: 2 ** 29,
          kernel: guest.kernelDigest,
          initramfs: guest.initramfsDigest,
          rootfs: rootfsDigest,
        },
        signal,
      );
    const binding = sha256(Buffer.from("control"));
    const source = await start("source", null);
    const api = new FirecrackerApi({ socketPath: source.apiSocket, clock: SYSTEM_CLOCK });
    const drawn = firstDraw(source.consolePipe);
    await api.configure({ memoryBytes: SHAPE.memoryBytes, vcpus: 1 }, false, signal);
    await api.instanceStart(signal);
    await drawn;
    await source.reserve();
    await api.pause(signal);
    await api.createSnapshot(SHAPE.memoryBytes, signal);
    api.close();
    const { id } = await source.snapshot(binding, signal);
    const lines: string[] = [];
    for (const vm of ["clone-1", "clone-2"]) {
      const clone = await start(vm, { id, binding });
      const line = firstDraw(clone.consolePipe);
      const own = new FirecrackerApi({ socketPath: clone.apiSocket, clock: SYSTEM_CLOCK });
      await own.loadSnapshot(false, signal);
      await own.resume(signal);
      lines.push(await line);
      own.close();
      await clone.destroy();
    }
    assert.match(lines[0] ?? "", /^probe: \d+ random [0-9a-f]{32} uuid [0-9a-f-]{36}$/);
    assert.equal(lines[0], lines[1]);
  });
});

/** The first whole line that a guest of random.c draws. */
function firstDraw(pipe: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const timer = SYSTEM_CLOCK.after(LAB_MS, () => reject(new Error(`nothing drawn: ${reader.log.tail()}`)));
    const reader = readConsole({
      pipe,
      bytesMax: 2 ** 24,
      onFlood: () => reject(new Error("a flood")),
      onOutput: (log) => {
        const line = log
          .tail()
          .split("\n")
          .find((text) => /^probe: \d+ random \S{32} uuid \S{36}$/.test(text));
        if (line === undefined) return;
        timer.cancel();
        reader.close();
        resolve(line);
      },
    });
  });
}

claims("a parked machine's snapshot", () => {
  it("holds none of what a tenant sent; a machine that runs it holds all", async () => {
    await using opened = await openFirecracker({ goldens: false });
    const spec = { ...SHAPE, rootfs: makeToolchain(folder) };
    const machine = await opened.runtime.boot(spec, signal);
    const job = makeMarkedJob();
    {
      await using result = await machine.session.execute(job.compile, { signal });
      const stderr = Buffer.from(await result.stderr.bytes());
      assert.deepEqual(result.exit, { kind: "code", code: 0 }, stderr.toString());
      assert.ok(
        job.canaries.some(({ bytes }) => stderr.includes(Buffer.from(bytes))),
        "stderr carries one",
      );
    }
    const cancel = new AbortController();
    const running = Promise.withResolvers<void>();
    const held = machine.session.execute(job.spin, { signal: cancel.signal, onProgress: () => running.resolve() });
    await Promise.race([running.promise, held]);
    const control = await findCanaries(await opened.memoryFiles(machine.id), job.canaries);
    for (const { name } of job.canaries)
      assert.ok(
        control.findings.some(({ canary }) => canary === name),
        `${name} is in the memory of the machine that runs it`,
      );
    cancel.abort();
    await assert.rejects(held);
    const parked = await machine.park(signal);
    const files = await opened.memoryFiles(machine.id);
    assert.deepEqual(files.map(({ name }) => name).sort(), ["snapshot memory", "snapshot state"]);
    const search = await findCanaries(files, job.canaries);
    assert.ok(search.bytes >= SHAPE.memoryBytes && search.pagesInUse > 1_000, JSON.stringify(search));
    assert.deepEqual(search.findings, []);
    await parked.destroy();
    assert.deepEqual(await opened.leaks(), []);
  });
});

/** A job that carries 32 random bytes, as text, by every way into a guest and out of it: compiled, and held by a program that spins. */
function makeMarkedJob() {
  const text = (): string => `c${randomBytes(32).toString("hex")}`;
  const marks = { source: text(), define: text(), path: text(), environment: text(), stderr: text() };
  const source = `/hpcc/project/${marks.path}.c`;
  const define = `-DMARK=${marks.define}`;
  const fields = {
    environment: ["PATH=/usr/bin:/bin", "LC_ALL=C", `MARK=${marks.environment}`].map(byteStringOfText),
    inputs: [textInput(source, `/* ${marks.source} */\n#warning ${marks.stderr}\nconst char mark[] = "x";\n`)],
    limits: { memoryBytes: 200 * 2 ** 20 },
  };
  return {
    compile: request(["/usr/bin/gcc", define, "-I/hpcc/project", "-c", source, "-o", "/hpcc/out/a.o"], {
      ...fields,
      outputs: [byteStringOfText("/hpcc/out/a.o")],
    }),
    spin: request(["/usr/bin/probe", "spin", define], fields),
    canaries: Object.entries(marks).map(([name, mark]): Canary => ({ name, bytes: Buffer.from(mark) })),
  };
}
