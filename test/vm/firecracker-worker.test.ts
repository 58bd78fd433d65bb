// A whole hpcc whose worker the keeper starts, with real Firecracker: what a developer's build gets, what the auditor reads, and what
// is left when a part of it is killed in mid-build. In the KVM lab, or on a machine like it.
import assert from "node:assert/strict";
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Digest } from "../../src/core/digest/digest.ts";
import { squashfsPath } from "../../src/image/squashfs.ts";
import { CHECKOUT, Farm, IMAGE_FOLDER, type RunningWorker, type User, until } from "../support/farm.ts";
import { findFirecracker, withoutFirecracker } from "../support/firecracker.ts";
import { hostRows, jobRows, vmLives } from "../support/job-rows.ts";
import { readLoose } from "../support/loose-envelope.ts";
import { childrenOf, cpuMs } from "../support/processes.ts";
import { SmallProject } from "../support/small-project.ts";

const skip = withoutFirecracker();

const WORKER_UID = 47_300;
const [UID_FIRST, UID_LAST] = [473_000, 473_099];
const GONE_MS = 5_000;
/** A compile is well under way when its machine has used so much since the build began. */
const UNDER_WAY_CPU_MS = 3_000;
/** One machine for each of the two tenants, small as the lab is slow. */
const TABLES = `
[vms]
vm_memory_mib = 256
vm_vcpus = 1
memory_mib_max = 1024
idle_ms = 3000
spares_max = 1
[execution]
memory_mib = 192
[firecracker]
boot_deadline_ms = 300000
restore_deadline_ms = 120000
`;
const POLICY = '[tenants.careful]\nlife = "clean"\n';

let disk: string;
let farm: Farm;
let worker: RunningWorker;
let image: { digest: string; layout: string };
let projects = 0;
let users = 0;

before(
  async () => {
    if (skip) return;
    disk = mkdtempSync("/srv/w-");
    chmodSync(disk, 0o711);
    farm = new Farm();
    await farm.init();
    image = await farm.image("e2e");
    await farm.startScheduler();
    worker = await startWorker();
  },
  { timeout: 1_200_000 },
);

after(async () => {
  await farm?.close();
  if (disk) rmSync(disk, { recursive: true });
});

/** With a golden, unless its making is what is to be seen: else the first machine is booted. */
async function startWorker({ golden = true } = {}): Promise<RunningWorker> {
  const programs = findFirecracker();
  assert.ok(programs);
  const options = {
    "--user": `${WORKER_UID}:${WORKER_UID}`,
    "--uids": `${UID_FIRST}-${UID_LAST}`,
    "--base": join(disk, "b"),
    "--cgroup": "/sys/fs/cgroup/hpcc-worker-test",
    "--firecracker": programs.firecracker,
    "--jailer": programs.jailer,
    "--lock-dir": join(disk, "uids"),
  };
  const started = await farm.startWorker("w", {
    layouts: [image.layout],
    tables: TABLES,
    policy: POLICY,
    isolations: ["firecracker"],
    imageFolder: ownImages(),
    starter: {
      argv: [join(CHECKOUT, "out/lib/hpcc/keeper"), ...Object.entries(options).flat(), "--"],
      uid: WORKER_UID,
    },
  });
  if (golden) await started.service.logged("vm.golden.made");
  return started;
}

/** The root file system that the tests have, as the worker's user's own. */
function ownImages(): string {
  const folder = join(disk, "images");
  const digest = image.digest as Digest;
  const packed = [squashfsPath(IMAGE_FOLDER, { digest }), squashfsPath(folder, { digest })] as const;
  mkdirSync(join(folder, "squashfs"), { recursive: true });
  for (const suffix of ["", ".contents", ".json"]) {
    const [from, to] = [`${packed[0]}${suffix}`, `${packed[1]}${suffix}`];
    if (!existsSync(from)) continue;
    if (!existsSync(to)) cpSync(from, to);
    chownSync(to, WORKER_UID, WORKER_UID);
  }
  for (const path of [folder, join(folder, "squashfs")]) chownSync(path, WORKER_UID, WORKER_UID);
  return folder;
}

const addUser = (name: string, tenant: string, fallback: "image" | "none" = "none"): Promise<User> =>
  farm.addUser(name, { images: [image.digest], tenant, fallback });

function newProject(user: User, quick: number, slow = 0): SmallProject {
  projects += 1;
  return new SmallProject(user, { name: `project-${projects}`, imageDigest: image.digest, quick, slow });
}

async function build(project: SmallProject): Promise<void> {
  const made = await project.make();
  assert.equal(made.code, 0, made.stderr + made.stdout);
  project.assertRight();
}

async function notesOf(vm: string): Promise<string[]> {
  return (await vmLives(worker)).filter((row) => row.vm === vm).map(({ note }) => note);
}

/** Pids of Firecracker's processes. */
function machines(): number[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => {
      try {
        const uid = Number(/^Uid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]);
        return uid >= UID_FIRST && uid <= UID_LAST;
      } catch {
        return false;
      }
    });
}

/** The guard's child beside the keeper. */
function workerPid(): number | undefined {
  const guard = worker.service.pid;
  const keepers = childrenOf(guard, "keeper");
  return childrenOf(guard, "").find((pid) => !keepers.includes(pid));
}

/** What a keeper makes on the host. */
function left(): string[] {
  const list = (path: string): string[] => {
    try {
      return readdirSync(path, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
    } catch {
      return [];
    }
  };
  const mounts = readFileSync("/proc/self/mounts", "latin1").split("\n");
  return [
    ...machines().map((pid) => `process ${pid}`),
    ...list(join(disk, "b/jails/firecracker")).map((name) => `jail ${name}`),
    ...list(join(disk, "b/snapshots/kept")).map((name) => `snapshot ${name}`),
    ...list(join(disk, "b/run")).map((name) => `sockets ${name}`),
    ...list("/sys/fs/cgroup/hpcc-worker-test").map((name) => `cgroup ${name}`),
    ...mounts.filter((line) => line.includes(join(disk, "b"))),
  ];
}

test("a build runs in jailed machines that were restored, and its rows say so", { skip }, async () => {
  const alice = await addUser("alice", "acme");
  await build(newProject(alice, 3));
  const rows = await jobRows(worker);
  assert.deepEqual(
    rows.map(({ kind, isolation }) => `${kind} ${isolation}`),
    Array.from({ length: 3 }, () => "compile firecracker"),
  );
  assert.equal(new Set(rows.map(({ vm }) => vm)).size, 1);
  const { versions, life } = readLoose(rows[0]!.envelope);
  assert.match(versions["vmm"] ?? "", /^Firecracker v1\./);
  assert.equal(life, "session");
  assert.equal((await notesOf(rows[0]?.vm ?? ""))[0], "booted from golden");
  const [host] = await hostRows(worker);
  assert.equal(readLoose(host?.envelope ?? "").isolation, "firecracker");
  const status = readFileSync(`/proc/${workerPid()}/status`, "latin1");
  assert.match(status, /^Uid:\t47300\t47300\t47300\t47300$/m);
  assert.match(status, /^CapEff:\t0+$/m);
});

test("an idle session is parked into a snapshot, its memory is free, and its next job finds it again", {
  skip,
}, async () => {
  const bob = await addUser("bob", "acme");
  await build(newProject(bob, 1));
  const vm = (await jobRows(worker)).at(-1)?.vm ?? "";
  await until("it is parked", async () => (await notesOf(vm)).at(-1)?.endsWith("bytes on disk") ?? false);
  await until("no machine is left", () => machines().length === 0);
  await build(newProject(bob, 1));
  assert.equal((await jobRows(worker)).at(-1)?.vm, vm);
  assert.ok((await notesOf(vm)).includes("restored"));
});

test("each job of a clean tenant has a restored machine of its own", { skip }, async () => {
  const before = (await jobRows(worker)).length;
  await build(newProject(await addUser("carol", "careful"), 3));
  const rows = (await jobRows(worker)).slice(before);
  assert.equal(new Set(rows.map(({ vm }) => vm)).size, 3);
  for (const row of rows) assert.equal(readLoose(row.envelope).life, "clean");
});

type Victim = "VMM" | "worker" | "keeper" | "guard";

function kill(victim: Victim, vmm: number | undefined): void {
  const guard = worker.service.pid;
  const pid = { VMM: vmm, worker: workerPid(), keeper: childrenOf(guard, "keeper")[0], guard }[victim];
  assert.ok(pid !== undefined, victim);
  process.kill(pid, "SIGKILL");
}

/** A machine that has compiled something; a worker that was lost is left alone for a while. */
async function warmMachine(user: User): Promise<string> {
  const warm = newProject(user, 1);
  await until("a compile is remote", async () => {
    await user.stats(true);
    warm.clean();
    await build(warm);
    return (await user.stats()).outcomes["remote_compiled"] === 1;
  });
  return (await jobRows(worker)).at(-1)?.vm ?? "";
}

const memoryIsWritten = (): boolean => machines().some((pid) => existsSync(`/proc/${pid}/root/memory.new`));

/** The states of a machine in which something dies; each gives what the user's build, if one is under way, ends with. */
const MOMENTS: Readonly<Record<string, (user: User) => Promise<{ vmm?: number; building?: Promise<void> }>>> = {
  "a compile runs": async (user) => {
    await warmMachine(user);
    const idle = new Map(machines().map((pid) => [pid, cpuMs(pid)]));
    const building = build(newProject(user, 1, 60));
    const busy = () => machines().find((pid) => cpuMs(pid) > (idle.get(pid) ?? 0) + UNDER_WAY_CPU_MS);
    await until("the compile is under way", () => busy() !== undefined);
    return { vmm: busy()!, building };
  },
  "its memory is written": async (user) => {
    await warmMachine(user);
    await until("it is being parked", memoryIsWritten);
    return {};
  },
  "it is parked": async (user) => {
    const vm = await warmMachine(user);
    await until("it is parked", async () => (await notesOf(vm)).at(-1)?.endsWith("bytes on disk") ?? false);
    return {};
  },
  "one is booted": async () => {
    await worker.service.stop();
    worker = await startWorker({ golden: false });
    await until("a machine is there", () => machines().length > 0);
    return {};
  },
};

for (const [moment, reach] of Object.entries(MOMENTS))
  for (const victim of ["worker", "keeper", "guard"] as const)
    test(`SIGKILL of the ${victim} while ${moment}: builds end right, and nothing is left`, { skip }, async () => {
      users += 1;
      const { building } = await reach(await addUser(`dave-${users}`, "acme", "image"));
      kill(victim, undefined);
      await until("nothing is left", () => left().length === 0, GONE_MS);
      await building;
      await until("the guard ended", () => worker.service.ended);
      worker = await startWorker();
    });

test("SIGKILL of the VMM while a compile runs: the build ends right, and its row says so", { skip }, async () => {
  const { vmm, building } = await MOMENTS["a compile runs"]!(await addUser("frank", "acme", "image"));
  const vm = (await jobRows(worker)).at(-1)?.vm ?? "";
  kill("VMM", vmm);
  await building;
  assert.ok((await notesOf(vm)).at(-1)?.startsWith("destroyed: lost"));
});

test("SIGTERM ends a worker and its keeper in order", { skip }, async () => {
  const erin = await addUser("erin", "acme");
  await build(newProject(erin, 1));
  const vm = (await jobRows(worker)).at(-1)?.vm ?? "";
  worker.service.signal("SIGTERM");
  await until("it ended", () => worker.service.ended);
  assert.equal(worker.service.exitCode, 0);
  assert.deepEqual(left(), []);
  assert.ok((await notesOf(vm)).at(-1)?.startsWith("destroyed: closed"));
});
