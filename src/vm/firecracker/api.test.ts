import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { FakeFirecracker } from "../../../test/support/fake-firecracker.ts";
import { ManualClock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { FirecrackerApi } from "./api.ts";
import { COMMAND_LINE } from "./vm-config.ts";

const signal = new AbortController().signal;
const SHAPE = { memoryBytes: 256 * 2 ** 20, vcpus: 2 };
const folder = mkdtempSync(join(tmpdir(), "hpcc-fc-api-"));
let sockets = 0;

after(() => rmSync(folder, { recursive: true }));

function socketPath(): string {
  sockets += 1;
  return join(folder, `api-${sockets}`);
}

function boot(pattern: RegExp) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof HpccError, String(error));
    assert.equal(error.code, "vm.boot");
    assert.match(error.message, pattern);
    assert.ok(error.message.length < 1_000);
    assert.doesNotMatch(error.message, /[^\x20-\x7e]/);
    return true;
  };
}

/** An API whose other side writes what it likes to each connection. */
async function hostile(behaviour: (socket: Socket) => void) {
  const path = socketPath();
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on("error", () => undefined);
    socket.once("data", () => behaviour(socket));
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const api = new FirecrackerApi({ socketPath: path, clock: SYSTEM_CLOCK });
  return {
    api,
    async [Symbol.asyncDispose]() {
      api.close();
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

describe("Firecracker's API", () => {
  it("configures, starts and snapshots a machine over one connection", async () => {
    const path = socketPath();
    await using fake = await FakeFirecracker.start({ socketPath: path });
    const api = new FirecrackerApi({ socketPath: path, clock: SYSTEM_CLOCK });
    assert.equal(await api.version(signal), "1.16.1");
    await api.configure(SHAPE, false, signal);
    await api.instanceStart(signal);
    await api.pause(signal);
    await api.createSnapshot(SHAPE.memoryBytes, signal);
    api.close();
    assert.equal(fake.connections, 1);
    assert.deepEqual(fake.changes, [
      "/logger",
      "/serial",
      "/machine-config",
      "/boot-source",
      "/drives/rootfs",
      "/vsock",
      "/entropy",
      "/actions",
      "/vm",
      "/snapshot/create",
    ]);
    const bodies = new Map(fake.calls.map(({ path: at, body }) => [at, body as Record<string, unknown>]));
    assert.deepEqual(bodies.get("/machine-config"), {
      vcpu_count: 2,
      mem_size_mib: 256,
      smt: false,
      track_dirty_pages: false,
    });
    assert.equal(bodies.get("/boot-source")?.["boot_args"], COMMAND_LINE);
    assert.match(COMMAND_LINE, /\binit_on_free=1\b/);
    const drive = bodies.get("/drives/rootfs");
    assert.equal(drive?.["is_read_only"], true);
    assert.equal(drive?.["io_engine"], "Sync");
    for (const at of ["/drives/rootfs", "/entropy", "/serial"])
      assert.ok(bodies.get(at)?.["rate_limiter"], `${at} has a rate limit`);
    const configRead = fake.calls.findIndex((call) => call.path === "/vm/config");
    const started = fake.calls.findIndex((call) => call.path === "/actions");
    assert.ok(configRead > 0 && configRead < started, "the configuration is checked before the guest runs");
  });

  it("loads a snapshot, checks what the machine has, and only then lets it run", async () => {
    const path = socketPath();
    await using fake = await FakeFirecracker.start({ socketPath: path });
    const api = new FirecrackerApi({ socketPath: path, clock: SYSTEM_CLOCK });
    await api.loadSnapshot(true, signal);
    await api.resume(signal);
    api.close();
    assert.deepEqual(
      fake.calls.map((call) => call.path),
      ["/logger", "/serial", "/metrics", "/snapshot/load", "/vm/config", "/vm"],
    );
    assert.deepEqual(fake.calls[3]?.body, {
      snapshot_path: "/state",
      mem_backend: { backend_type: "File", backend_path: "/memory" },
      track_dirty_pages: false,
      resume_vm: false,
      vsock_override: { uds_path: "/v.sock" },
    });
  });

  const EXTRAS: readonly (readonly [string, Readonly<Record<string, unknown>>, RegExp])[] = [
    ["a network interface", { "network-interfaces": [{ iface_id: "eth0" }] }, /has network-interfaces/],
    ["interfaces that are no list", { "network-interfaces": { length: 0 } }, /has network-interfaces/],
    ["shared memory", { pmem: [{ id: "pmem0" }] }, /has pmem/],
    ["a metadata service", { "mmds-config": { network_interfaces: ["eth0"] } }, /has mmds-config/],
    ["memory that is added later", { "memory-hotplug": { total_size_mib: 1 } }, /has memory-hotplug/],
    ["a balloon", { balloon: { amount_mib: 1 } }, /has balloon/],
    ["no drive", { drives: [] }, /not exactly one drive/],
    ["a second drive", { drives: [{ is_read_only: true }, { is_read_only: true }] }, /not exactly one drive/],
    ["a drive that can be written", { drives: [{ is_read_only: false }] }, /can be written/],
    ["no vsock device", { vsock: null }, /no vsock device/],
  ];
  for (const [what, extraConfig, pattern] of EXTRAS)
    it(`does not start a machine with ${what}`, async () => {
      const path = socketPath();
      await using fake = await FakeFirecracker.start({ socketPath: path, extraConfig });
      const api = new FirecrackerApi({ socketPath: path, clock: SYSTEM_CLOCK });
      await assert.rejects(api.configure(SHAPE, false, signal), boot(pattern));
      assert.ok(!fake.changes.includes("/actions"));
      api.close();
    });

  it("gives Firecracker's own words for a fault", async () => {
    const path = socketPath();
    await using fake = await FakeFirecracker.start({
      socketPath: path,
      fault: (call) => (call.path === "/vsock" ? "no \u001b[31msuch\nthing" : null),
    });
    const api = new FirecrackerApi({ socketPath: path, clock: SYSTEM_CLOCK });
    await assert.rejects(api.configure(SHAPE, false, signal), boot(/refused PUT \/vsock: no  \[31msuch thing$/));
    api.close();
    assert.equal(fake.changes.at(-1), "/vsock");
  });

  it("says that nobody listens", async () => {
    const api = new FirecrackerApi({ socketPath: join(folder, "nobody"), clock: SYSTEM_CLOCK });
    await assert.rejects(api.version(signal), boot(/did not answer GET \/version: .*ENOENT/));
    api.close();
  });

  const HOSTILE: readonly (readonly [string, (socket: Socket) => void, RegExp])[] = [
    ["is no HTTP", (socket) => socket.end("garbage\r\n\r\n"), /did not answer/],
    ["ends at once", (socket) => socket.destroy(), /did not answer/],
    ["says no version", (socket) => socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), /say its version/],
    [
      "has a version of control characters",
      (socket) =>
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 32\r\n\r\n{"firecracker_version":"\\u001b"}'.padEnd(71)),
      /say its version/,
    ],
    [
      "refuses without a word",
      (socket) => socket.write("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"),
      /refused GET \/version: status 500/,
    ],
    [
      "refuses at length",
      (socket) => {
        const body = JSON.stringify({ fault_message: "x".repeat(60_000) });
        socket.write(`HTTP/1.1 400 X\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
      },
      /refused GET \/version: x+$/,
    ],
    [
      "says that it is longer than it may be",
      (socket) => socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n${" ".repeat(70_000)}`),
      /longer than 65536 bytes/,
    ],
    [
      "never ends",
      (socket) => {
        socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        const more = () => {
          while (!socket.destroyed && socket.write(`400\r\n${" ".repeat(1024)}\r\n`));
          if (!socket.destroyed) socket.once("drain", more);
        };
        more();
      },
      /longer than 65536 bytes/,
    ],
    [
      "has endless headers",
      (socket) => socket.write(`HTTP/1.1 200 OK\r\n${"X-Header: x\r\n".repeat(2_000)}`),
      /did not answer GET/,
    ],
  ];
  for (const [what, behaviour, pattern] of HOSTILE)
    it(`bounds an answer that ${what}`, async () => {
      await using other = await hostile(behaviour);
      await assert.rejects(other.api.version(signal), boot(pattern));
    });

  it("gives up a call at its deadline, and at once when it is aborted", async () => {
    const path = socketPath();
    const asked = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let count = 0;
    const server = createServer((socket) => {
      socket.on("error", () => undefined);
      socket.once("data", () => asked[count++]?.resolve());
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
    const clock = new ManualClock();
    const api = new FirecrackerApi({ socketPath: path, clock });
    const late = api.version(signal);
    await asked[0]?.promise;
    clock.advance(10_000);
    await assert.rejects(late, boot(/did not answer GET \/version within 10000 ms/));
    const giveUp = new AbortController();
    const given = api.version(giveUp.signal);
    await asked[1]?.promise;
    const reason = new HpccError("job.cancelled", "nobody wants it");
    giveUp.abort(reason);
    await assert.rejects(given, reason);
    assert.equal(clock.pendingTimers, 0);
    api.close();
    await new Promise((resolve) => server.close(resolve));
  });
});
