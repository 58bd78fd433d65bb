// The keeper as it ships, with real Firecracker, jailer and controllers. What needs none of them is tested in
// native/crates/keeper/tests with stand-ins, on any machine.
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmdirSync, rmSync } from "node:fs";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

const ROOT = join(import.meta.dirname, "../../..");
const KEEPER = join(ROOT, "out/lib/hpcc/keeper");
const CGROUPS = "/sys/fs/cgroup";
const [UID_FIRST, UID_LAST] = [472_000, 472_009];
const MIB = 1024 * 1024;
const GONE_MS = 5_000;

function firecrackerFolder(): string | null {
  const named = process.env["HPCC_FIRECRACKER_DIR"];
  const folders = named ? [named] : (process.env["PATH"] ?? "").split(delimiter);
  return folders.find((folder) => ["firecracker", "jailer"].every((name) => existsSync(join(folder, name)))) ?? null;
}

function cannotRun(): string | false {
  if (firecrackerFolder() === null) return "skipped: no firecracker";
  if (process.getuid?.() !== 0) return "skipped: no root";
  if (!existsSync("/dev/kvm")) return "skipped: no KVM (make test-kvm)";
  const controllers = existsSync(join(CGROUPS, "cgroup.controllers"))
    ? readFileSync(join(CGROUPS, "cgroup.controllers"), "utf8")
    : "";
  return controllers.includes("memory") ? false : "skipped: no cgroup v2 with controllers (make test-kvm)";
}

const skip = cannotRun();

interface Kept {
  readonly guard: ChildProcess;
  readonly base: string;
  readonly group: string;
  readonly said: { readonly uids: readonly number[]; readonly versions: readonly string[]; readonly hello: unknown };
  /** The guard's children by name. */
  readonly pidOf: (name: string) => number;
}

async function start(t: TestContext): Promise<Kept> {
  const base = mkdtempSync("/srv/k-");
  const group = join(CGROUPS, `hpcc-kept-${process.pid}`);
  const folder = firecrackerFolder() ?? "";
  const guard = spawn(
    KEEPER,
    [
      ["--user", "47200:47200", "--uids", `${UID_FIRST}-${UID_LAST}`, "--base", base, "--cgroup", group],
      [
        "--firecracker",
        join(folder, "firecracker"),
        "--jailer",
        join(folder, "jailer"),
        "--lock-dir",
        "/run/kept-uids",
      ],
      ["--", process.execPath, join(import.meta.dirname, "kept-worker.ts")],
    ].flat(),
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  t.after(async () => {
    if (guard.exitCode === null && guard.signalCode === null) {
      guard.kill("SIGTERM");
      await once(guard, "exit");
    }
    await waitNothingLeft(base, group);
    rmSync(base, { recursive: true });
    rmdirSync(group);
  });
  const [line] = (await once(createInterface(guard.stdout), "line", { signal: AbortSignal.timeout(60_000) })) as [
    string,
  ];
  return {
    guard,
    base,
    group,
    said: JSON.parse(line),
    pidOf: (name) => {
      const children = readFileSync(`/proc/${guard.pid}/task/${guard.pid}/children`, "utf8").trim().split(" ");
      const pid = children.find((child) => readlinkSync(`/proc/${child}/exe`).endsWith(`/${name}`));
      assert.ok(pid, `the guard has a child ${name}`);
      return Number(pid);
    },
  };
}

/** Paths of the machines' cgroups. */
function machines(group: string): string[] {
  const folders = (path: string): string[] =>
    readdirSync(path, { withFileTypes: true }).flatMap((entry) =>
      entry.isDirectory() ? [join(path, entry.name)] : [],
    );
  return folders(group).flatMap(folders);
}

function left(base: string, group: string): string[] {
  const processes = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const uid = Number(/^Uid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
        return uid >= UID_FIRST && uid <= UID_LAST;
      } catch {
        return false;
      }
    });
  const marked = readdirSync("/run/kept-uids").filter((uid) => readFileSync(join("/run/kept-uids", uid)).length > 0);
  const files = readdirSync(base).filter((name) => name !== "lock" && name !== "snapshots");
  const groups = readdirSync(group, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const mounts = readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .filter((line) => line.includes(base));
  return [...processes, ...marked, ...files, ...groups.map((entry) => entry.name), ...mounts];
}

async function waitNothingLeft(base: string, group: string): Promise<void> {
  const deadline = performance.now() + GONE_MS;
  while (left(base, group).length > 0 && performance.now() < deadline) await sleep(10);
  assert.deepEqual(left(base, group), []);
}

test("a machine of real Firecracker is held by its limits, its namespace and its jail", { skip }, async (t) => {
  const { group, base, said } = await start(t);
  assert.match(said.versions[0] ?? "", /firecracker_version/);
  assert.notEqual(said.uids[0], said.uids[1]);
  const [machine = ""] = machines(group);
  const limit = (file: string): string => readFileSync(join(machine, file), "utf8").trim();
  assert.equal(Number(limit("memory.max")), 256 * MIB + 4 * MIB + 96 * MIB);
  if (existsSync(join(machine, "memory.swap.max"))) assert.equal(limit("memory.swap.max"), "0");
  assert.deepEqual([limit("pids.max"), limit("cpu.max"), limit("memory.oom.group")], ["18", "300000 100000", "1"]);
  const pid = limit("cgroup.procs");
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  assert.match(status, /^CapEff:\t0+$/m);
  assert.match(status, /^NoNewPrivs:\t1$/m);
  const devices = execFileSync("nsenter", [`--net=/proc/${pid}/ns/net`, "cat", "/proc/thread-self/net/dev"], {
    encoding: "utf8",
  });
  assert.deepEqual(
    devices
      .split("\n")
      .slice(2, -1)
      .map((line) => line.trim().split(":")[0]),
    ["lo"],
  );
  assert.notEqual(readlinkSync(`/proc/${pid}/ns/net`), readlinkSync("/proc/self/ns/net"));
  const open = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
  assert.ok(!open.some((path) => path.includes("tun")));
  const jails = join(base, "jails/firecracker");
  for (const jail of readdirSync(jails)) {
    assert.deepEqual(readdirSync(join(jails, jail, "root/dev")).sort(), ["kvm", "net", "urandom"]);
    assert.deepEqual(readdirSync(join(jails, jail, "root/dev/net")), []);
    assert.deepEqual(readdirSync(join(jails, jail, "root/run")), []);
  }
  const argv = readFileSync(`/proc/${pid}/cmdline`, "latin1");
  assert.ok(!argv.includes("--enable-pci") && !argv.includes("--no-seccomp"));
});

for (const victim of ["worker", "keeper", "guard", "VMM"] as const)
  test(`SIGKILL of the ${victim} leaves nothing of real machines`, { skip }, async (t) => {
    const { guard, base, group, pidOf } = await start(t);
    const [machine = ""] = machines(group);
    const victims = {
      worker: () => pidOf("node"),
      keeper: () => pidOf("keeper"),
      guard: () => guard.pid ?? 0,
      VMM: () => Number(readFileSync(join(machine, "cgroup.procs"), "utf8")),
    };
    process.kill(victims[victim](), "SIGKILL");
    if (victim !== "VMM") {
      await waitNothingLeft(base, group);
      return;
    }
    const jails = (): number => readdirSync(join(base, "jails/firecracker")).length;
    const deadline = performance.now() + GONE_MS;
    while (machines(group).length + jails() > 2 && performance.now() < deadline) await sleep(10);
    assert.deepEqual([machines(group).length, jails()], [1, 1], "the other lives on");
  });
