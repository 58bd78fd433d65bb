// In the KVM lab, where there is Firecracker: jailer and VMM run our guest there, from its boot and from a snapshot. This is about
// the lab and the guest, without any driver, so that a fault of the one is told from a fault of the other.
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { request as httpRequest } from "node:http";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { it } from "node:test";
import { ascii } from "../../../src/base/byte-string.ts";
import { SYSTEM_CLOCK } from "../../../src/base/system/clock.ts";
import { dialGuest } from "../../../src/vm/agent/dial.ts";
import { AGENT_LISTENS, AGENT_PORT, DEFAULT_AGENT_DEADLINES } from "../../../src/vm/agent/limits.ts";
import { openSession } from "../../../src/vm/agent/session.ts";
import { type FirecrackerPrograms, findFirecracker } from "../../support/firecracker.ts";
import { GUEST_FOLDER, request, textInput } from "../../support/vm.ts";
import { makeToolchain } from "../../support/vm-toolchain.ts";

/** On the lab's disk: what a jail writes in a tmpfs counts as its memory. */
const BASE = "/srv/jails";
const CGROUP = "/sys/fs/cgroup/hpcc-lab";
const MEMORY_MIB = 256;
const STEP_MS_MAX = 120_000;
const BOOT_ARGS =
  "console=ttyS0 quiet panic=-1 reboot=k 8250.nr_uarts=1 i8042.noaux i8042.nokbd cryptomgr.notests random.trust_cpu=on " +
  `init_on_free=1 hpcc.port=${AGENT_PORT} hpcc.rootfs=/dev/vda`;

interface JailedFile {
  readonly from: string;
  readonly name: string;
}

class JailedVm implements AsyncDisposable {
  readonly root: string;
  readonly #id: string;
  readonly #process: ChildProcess;
  #console = "";

  constructor(programs: FirecrackerPrograms, { id, uid, files }: { id: string; uid: number; files: JailedFile[] }) {
    this.#id = id;
    this.root = join(BASE, "firecracker", id, "root");
    mkdirSync(this.root, { recursive: true });
    for (const { from, name } of files) {
      copyFileSync(from, join(this.root, name));
      chmodSync(join(this.root, name), 0o444);
    }
    const netns = `/run/netns/${id}`;
    mkdirSync("/run/netns", { recursive: true });
    writeFileSync(netns, "");
    execFileSync("unshare", [`--net=${netns}`, "true"]);
    const limits = [`memory.max=${(MEMORY_MIB + 384) * 2 ** 20}`, "memory.swap.max=0", "pids.max=64"];
    this.#process = spawn(
      programs.jailer,
      [
        ["--id", id, "--exec-file", programs.firecracker, "--uid", String(uid), "--gid", String(uid)],
        ["--chroot-base-dir", BASE, "--netns", netns, "--cgroup-version", "2", "--parent-cgroup", "hpcc-lab"],
        limits.flatMap((limit) => ["--cgroup", limit]),
        ["--resource-limit", `fsize=${MEMORY_MIB * 2 ** 20}`, "--", "--api-sock", "/api", "--level", "Off"],
      ].flat(),
      { stdio: ["ignore", "pipe", "pipe"], env: {} },
    );
    const add = (chunk: Buffer): void => {
      this.#console += chunk.toString("latin1");
    };
    this.#process.stdout?.on("data", add);
    this.#process.stderr?.on("data", add);
  }

  status(): string {
    return readFileSync(`/proc/${this.#process.pid}/status`, "latin1");
  }

  cgroup(): string {
    return readFileSync(`/proc/${this.#process.pid}/cgroup`, "latin1").trim();
  }

  interfaces(): string[] {
    const table = readFileSync(`/proc/${this.#process.pid}/net/dev`, "latin1");
    return [...table.matchAll(/^ *(\S+):/gm)].map(([, name = ""]) => name);
  }

  async until(what: string, holds: () => boolean): Promise<void> {
    const endMs = performance.now() + STEP_MS_MAX;
    while (!holds()) {
      assert.ok(performance.now() < endMs && this.#process.exitCode === null, `${what}\n${this.#console}`);
      await new Promise((resolve) => {
        setTimeout(resolve, 10);
      });
    }
  }

  apiListens(): Promise<void> {
    return this.until("no API socket", () => existsSync(join(this.root, "api")));
  }

  agentListens(): Promise<void> {
    return this.until("no agent", () => this.#console.includes(AGENT_LISTENS));
  }

  async call(method: "PUT" | "PATCH" | "GET", path: string, body?: object): Promise<string> {
    const payload = body === undefined ? "" : JSON.stringify(body);
    const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(payload) };
    const call = httpRequest({ socketPath: join(this.root, "api"), method, path, headers, timeout: STEP_MS_MAX });
    call.end(payload);
    const [response] = await once(call, "response");
    const answer = await text(response);
    assert.ok(response.statusCode < 300, `${method} ${path}: ${response.statusCode} ${answer}`);
    return answer;
  }

  /** Compiles something; gives how the compiler ended and the first bytes of the object. */
  async compile(): Promise<string> {
    const signal = AbortSignal.timeout(STEP_MS_MAX);
    const clock = SYSTEM_CLOCK;
    const socket = await dialGuest({ socketPath: join(this.root, "vsock"), port: AGENT_PORT, clock, signal });
    const options = { clock, deadlines: DEFAULT_AGENT_DEADLINES, folder: "/tmp", randomBytes };
    const session = await openSession(socket, options, signal);
    const source = textInput(
      "/hpcc/project/a.i",
      'int puts(const char *);\nint main(void) { return puts("hello") < 0; }\n',
    );
    const argv = ["/usr/bin/gcc", "-c", "/hpcc/project/a.i", "-o", "/hpcc/out/a.o"];
    await using result = await session.execute(request(argv, { inputs: [source], outputs: [ascii("/hpcc/out/a.o")] }), {
      signal,
    });
    const object = (await result.outputs[0]?.content.bytes()) ?? [];
    session.close();
    return `${JSON.stringify(result.exit)} ${Buffer.from(object).toString("latin1", 1, 4)}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#process, "close");
    writeFileSync(join(CGROUP, this.#id, "cgroup.kill"), "1");
    await ended;
    execFileSync("umount", [`/run/netns/${this.#id}`]);
    rmdirSync(join(CGROUP, this.#id));
    rmSync(join(BASE, "firecracker", this.#id), { recursive: true });
  }
}

const programs = findFirecracker();
if (programs === null) console.log("skipped: no firecracker");

it("Firecracker under its jailer boots the guest, takes a snapshot and restores it", {
  skip: programs === null ? "no firecracker" : false,
}, async () => {
  assert.ok(programs);
  mkdirSync(BASE, { recursive: true });
  mkdirSync(CGROUP);
  const files = [
    { from: join(GUEST_FOLDER, "vmlinux"), name: "vmlinux" },
    { from: join(GUEST_FOLDER, "initramfs.img"), name: "initramfs" },
    { from: makeToolchain(BASE), name: "rootfs" },
  ];
  const snapshot = ["state", "memory"].map((name) => ({ from: join(BASE, name), name }));
  {
    await using vm = new JailedVm(programs, { id: "source", uid: 20_001, files });
    await vm.apiListens();
    await vm.call("PUT", "/machine-config", { vcpu_count: 1, mem_size_mib: MEMORY_MIB });
    await vm.call("PUT", "/boot-source", {
      kernel_image_path: "vmlinux",
      initrd_path: "initramfs",
      boot_args: BOOT_ARGS,
    });
    const drive = { drive_id: "rootfs", path_on_host: "rootfs", is_root_device: false, is_read_only: true };
    await vm.call("PUT", "/drives/rootfs", drive);
    await vm.call("PUT", "/vsock", { guest_cid: 3, uds_path: "vsock" });
    await vm.call("PUT", "/entropy", {});
    await vm.call("PUT", "/actions", { action_type: "InstanceStart" });
    await vm.agentListens();
    assert.match(vm.status(), /^Uid:\t20001\t20001\t20001\t20001$/m);
    assert.match(vm.status(), /^CapEff:\t0+$/m);
    assert.equal(vm.cgroup(), "0::/hpcc-lab/source");
    assert.deepEqual(vm.interfaces(), ["lo"]);
    assert.match(await vm.call("GET", "/vm/config"), /"network-interfaces":\[\]/);
    await vm.call("PATCH", "/vm", { state: "Paused" });
    const paths = { snapshot_path: "state", mem_file_path: "memory" };
    await vm.call("PUT", "/snapshot/create", { snapshot_type: "Full", ...paths });
    for (const { name, from } of snapshot) renameSync(join(vm.root, name), from);
  }
  for (const [id, uid] of [
    ["one", 20_002],
    ["other", 20_003],
  ] as const) {
    await using vm = new JailedVm(programs, { id, uid, files: [...files, ...snapshot] });
    await vm.apiListens();
    const memory = { backend_type: "File", backend_path: "memory" };
    const vsock = { uds_path: "vsock" };
    const load = { snapshot_path: "state", mem_backend: memory, resume_vm: true, vsock_override: vsock };
    await vm.call("PUT", "/snapshot/load", load);
    assert.equal(await vm.compile(), '{"kind":"code","code":0} ELF');
  }
});
