// What the doctor asks of a worker's machine, by the driver that is meant to run there.
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { HpccError } from "../base/errors.ts";
import { type CheckResult, doctor } from "../cli/doctor.ts";
import { loadWorkerConfig, type WorkerConfig } from "../config/worker.ts";
import { readKvmDevice } from "../vm/host/kvm-device.ts";
import { doctorChecks } from "./doctor-checks.ts";
import { judgeClosedKvm, judgeKeepersKvm } from "./kvm-findings.ts";
import { hostSubject } from "./worker-host.ts";

const folder = mkdtempSync(join(tmpdir(), "hpcc-doctor-checks-"));
after(() => rmSync(folder, { recursive: true }));
const file = join(folder, "worker.toml");

function configOf(lines: string, env: Readonly<Record<string, string>> = {}): WorkerConfig {
  writeFileSync(
    file,
    `${lines}
qemu.program = "/no/qemu"
qemu.vsock_device = "/no/vsock"
qemu.guest_dir = "/no/guest-of-qemu"
firecracker.guest_dir = "/no/guest-of-firecracker"
state_dir = "${folder}/state"
identity = { certificate = "/c", key = "/k", ca = "/a" }
`,
  );
  return loadWorkerConfig(env, file).config;
}

/** All that `hpcc doctor --worker FILE` says, by the check's name. */
async function examine(lines: string): Promise<ReadonlyMap<string, CheckResult>> {
  const worker = configOf(lines);
  const client = new HpccError("config.invalid", "there is none");
  const results = await doctor({ client, worker, nowMs: 0, more: doctorChecks({ HOME: folder }, 1, file) });
  return new Map(results.map((result) => [result.name, result]));
}

test("the doctor says which policy a worker has, and what is wrong with it", async () => {
  const policy = join(folder, "policy.toml");
  assert.equal((await examine("")).get("policy")?.status, "note");
  for (const [content, status, detail] of [
    ["version = 4\n[tenants.acme]", "ok", /policy\.toml: version 4, sha256:[0-9a-f]{64}$/],
    ["version = 4", "warn", /nobody is served/],
    ["", "missing", /version is required/],
  ] as const) {
    writeFileSync(policy, `schema = 1\nunlisted = "refuse"\n${content}\n`);
    const said = (await examine('policy = "policy.toml"')).get("policy");
    assert.equal(said?.status, status);
    assert.match(said?.detail ?? "", detail);
  }
});

test("the doctor says where launchers trust no socket", async () => {
  const uid = process.getuid!();
  const client = new HpccError("config.invalid", "there is none");
  const runtime = join(folder, "runtime");
  const check = async (user = uid, path = runtime) => {
    const more = doctorChecks({ HOME: folder, HPCC_RUNTIME_DIR: path }, user, null);
    const results = await doctor({ client, worker: null, nowMs: 0, more });
    return results.find(({ name }) => name === "runtime folder");
  };
  assert.equal((await check())?.status, "ok", "it is made when it is needed");
  mkdirSync(runtime, { mode: 0o700 });
  assert.equal((await check())?.status, "ok");
  chmodSync(runtime, 0o755);
  assert.deepEqual(await check(), {
    name: "runtime folder",
    status: "missing",
    detail: `${runtime} has the mode 755, so no call is cached`,
    fix: `chmod 700 '${runtime}'`,
  });
  assert.match((await check(uid + 1))?.detail ?? "", /is no folder of yours/);
  const link = join(folder, "link");
  symlinkSync(runtime, link);
  assert.match((await check(uid, link))?.detail ?? "", /is a link/);
  writeFileSync(join(folder, "file"), "");
  for (const path of ["file/below", "loop/below"]) {
    if (path.startsWith("loop")) symlinkSync("loop", join(folder, "loop"));
    const found = await check(uid, join(folder, path));
    assert.equal(found?.status, "missing", path);
    assert.match(found?.detail ?? "", /cannot be used: E(?:NOTDIR|LOOP)/);
  }
});

test("the doctor says which of the daemon's folders cannot be written, and why", async () => {
  const client = new HpccError("config.invalid", "there is none");
  const check = async (state: string, cache: string) => {
    const env = { HOME: folder, HPCC_STATE_DIR: join(folder, state), HPCC_CACHE_DIR: join(folder, cache) };
    const more = doctorChecks(env, process.getuid!(), null);
    const results = await doctor({ client, worker: null, nowMs: 0, more });
    return new Map(results.map((result) => [result.name, result]));
  };
  const good = await check("new/state", "new/cache");
  assert.deepEqual([good.get("state folder")?.status, good.get("cache folder")?.status], ["ok", "ok"]);
  assert.ok(!(await check("s", "s/cache")).has("cache folder"), "one folder, one line");
  symlinkSync("/nonexistent/disk", join(folder, "dangling"));
  writeFileSync(join(folder, "plain"), "");
  for (const [path, why] of [
    ["dangling", /ENOENT/],
    ["dangling/state", /ENOENT/],
    ["plain", /EACCES|is no folder/],
    ["plain/state", /EACCES|ENOTDIR|is no folder/],
  ] as const) {
    const bad = await check(path, path === "plain" ? "dangling" : path);
    for (const name of ["state folder", ...(path === "plain" ? ["cache folder"] : [])]) {
      assert.equal(bad.get(name)?.status, "missing", `${name} ${path}`);
      assert.match(bad.get(name)?.detail ?? "", /cannot be used, so no call is cached/);
    }
    assert.match(bad.get("state folder")?.detail ?? "", why);
    assert.match(bad.get("state folder")?.fix ?? "", /HPCC_STATE_DIR/);
  }
});

describe("the doctor asks", () => {
  for (const lines of ['runtime = "firecracker"', 'host.base_dir = "/no/keeper"'])
    test(`with ${lines} for Firecracker and nothing of QEMU's`, async () => {
      const said = await examine(lines);
      for (const name of ["qemu", "vhost-device-vsock"]) assert.ok(!said.has(name), name);
      assert.match(said.get("guest")?.detail ?? "", /\/no\/guest-of-firecracker/);
      assert.deepEqual(said.get("KVM"), judgeKeepersKvm(await readKvmDevice(), configOf(lines)));
      assert.ok(said.has("firecracker") && said.has("jailer"));
    });

  for (const lines of ["", 'runtime = "qemu"\nhost.base_dir = "/no/keeper"'])
    test(`with ${JSON.stringify(lines)} for QEMU and what it needs`, async () => {
      const said = await examine(lines);
      for (const name of ["qemu", "vhost-device-vsock"]) assert.equal(said.get(name)?.status, "missing", name);
      assert.match(said.get("guest")?.detail ?? "", /\/no\/guest-of-qemu/);
      assert.notEqual(said.get("firecracker")?.status, "fail");
    });
});

test("a worker that the keeper has started reports its host as one of Firecracker's", () => {
  const keeper = { HPCC_KEEPER_FD: "3" };
  assert.equal(hostSubject(configOf("", keeper)).firecrackerWanted, true);
  assert.equal(hostSubject(configOf('runtime = "qemu"', keeper)).firecrackerWanted, false);
  assert.equal(hostSubject(configOf("")).firecrackerWanted, false);
});

const OPENS = { t: "opens" } as const;
const ABSENT = { t: "absent" } as const;
const DENIED = { t: "closed", denied: true, why: "EACCES: permission denied" } as const;
const BROKEN = { t: "closed", denied: false, why: "ENODEV: no such device" } as const;

describe("KVM", () => {
  test("is looked at by opening it", async () => {
    assert.deepEqual(await readKvmDevice("/dev/null"), { t: "opens" });
    assert.deepEqual(await readKvmDevice(join(folder, "none")), ABSENT);
    const closed = await readKvmDevice(folder);
    assert.ok(closed.t === "closed" && !closed.denied && closed.why.startsWith("EISDIR"), JSON.stringify(closed));
  });

  test("that this user may not open is said to be, with the group that may", () => {
    const emulating = configOf('isolation.allowed = ["qemu-tcg"]');
    const { status, detail, fix } = judgeClosedKvm(DENIED, emulating);
    assert.equal(status, "note");
    assert.match(detail, /does not open \(EACCES.*emulated/);
    assert.match(fix ?? "", /group kvm$/);
    assert.doesNotMatch(judgeClosedKvm(BROKEN, emulating).fix ?? "", /group/);
    assert.equal(judgeClosedKvm(ABSENT, emulating).status, "note");
  });

  test("that is not there or closed stops a worker that may not emulate", () => {
    for (const lines of ["", 'qemu.accelerator = "kvm"\nisolation.allowed = ["qemu-kvm", "qemu-tcg"]'])
      for (const device of [ABSENT, DENIED, BROKEN])
        assert.equal(judgeClosedKvm(device, configOf(lines)).status, "missing");
    assert.match(judgeClosedKvm(DENIED, configOf("")).fix ?? "", /group kvm; .*"qemu-tcg" to isolation\.allowed/);
  });

  test("under Firecracker is the keeper's, who may open what this user may not", () => {
    const config = configOf('runtime = "firecracker"');
    for (const device of [OPENS, DENIED]) {
      const { status, detail } = judgeKeepersKvm(device, config);
      assert.equal(status, "ok");
      assert.match(detail, /the keeper boots machines$/);
    }
    for (const device of [ABSENT, BROKEN]) {
      const { status, fix } = judgeKeepersKvm(device, config);
      assert.equal(status, "missing");
      assert.match(fix ?? "", /load kvm_intel or kvm_amd/);
    }
    const refused = judgeKeepersKvm(DENIED, configOf('isolation.allowed = ["qemu-kvm"]'));
    assert.equal(refused.status, "missing");
    assert.match(refused.fix ?? "", /"firecracker" to isolation\.allowed/);
  });
});
