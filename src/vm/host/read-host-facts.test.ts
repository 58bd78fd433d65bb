// Facts read from folders that look like a host's /proc and /sys.
import assert from "node:assert/strict";
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, beforeEach, describe, it } from "node:test";
import { sha256 } from "../../core/digest/digest.ts";
import { judgeHost } from "./host-findings.ts";
import { type HostSubject, readHostFacts } from "./read-host-facts.ts";
import { readProgramFacts } from "./read-program-facts.ts";

const folder = mkdtempSync(join(tmpdir(), "hpcc-host-"));
let root = "";
let count = 0;

after(() => rmSync(folder, { recursive: true }));
beforeEach(() => {
  root = join(folder, String(++count));
  mkdirSync(root);
});

function put(path: string, content: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), content);
}

/** A block device as /sys shows it; `at` is its folder below /sys/devices. */
function device(
  at: string,
  number: string,
  files: Readonly<Record<string, string>> = {},
  slaves: readonly string[] = [],
) {
  const name = at.split("/").at(-1) ?? "";
  const real = `/sys/devices/${at}`;
  mkdirSync(join(root, real, "slaves"), { recursive: true });
  for (const [file, content] of Object.entries(files)) put(`${real}/${file}`, content);
  for (const slave of slaves) put(`${real}/slaves/${slave}`, "");
  for (const link of [`/sys/class/block/${name}`, `/sys/dev/block/${number}`]) {
    mkdirSync(dirname(join(root, link)), { recursive: true });
    const up = "../".repeat(link.split("/").length - 3);
    symlinkSync(`${up}devices/${at}`, join(root, link));
  }
}

function mounts(...list: readonly [device: string, mountPoint: string, fileSystem: string, source: string][]): void {
  const lines = list.map(
    ([dev, at, fs, source], index) => `${index + 20} 1 ${dev} / ${at} rw,relatime shared:1 - ${fs} ${source} rw\n`,
  );
  put("/proc/self/mountinfo", lines.join(""));
}

const subject = (fields: Partial<HostSubject> = {}): HostSubject => ({
  root,
  firecrackerWanted: false,
  firecracker: join(root, "firecracker"),
  jailer: join(root, "jailer"),
  jailsFolder: null,
  snapshotsFolder: "/snapshots",
  knownReleases: [],
  cgroup: null,
  ...fields,
});

const storage = async (fields: Partial<HostSubject> = {}) => (await readHostFacts(subject(fields))).snapshots?.storage;

describe("the processors and settings of a host", () => {
  it("are read as the kernel writes them", async () => {
    put(
      "/proc/cpuinfo",
      ["0", "1"].map((n) => `processor\t: ${n}\nmodel name\t: Model: X\nmicrocode\t: 0x2b\n`).join("\n"),
    );
    put("/proc/sys/kernel/osrelease", "6.18.1\n");
    put("/sys/kernel/mm/ksm/run", "1\n");
    put("/sys/devices/system/cpu/smt/control", "on\n");
    put("/sys/devices/system/cpu/vulnerabilities/mds", "Vulnerable\n");
    put("/sys/devices/system/cpu/vulnerabilities/l1tf", "Not affected\n");
    const facts = await readHostFacts(subject());
    assert.deepEqual(facts.cpuModels, ["Model: X"]);
    assert.deepEqual(facts.microcodes, ["0x2b"]);
    assert.deepEqual(facts.kernel, { t: "text", text: "6.18.1" });
    assert.deepEqual(facts.ksmRun, { t: "text", text: "1" });
    assert.deepEqual(facts.smtControl, { t: "text", text: "on" });
    assert.deepEqual(facts.vulnerabilities, [
      { name: "l1tf", text: "Not affected" },
      { name: "mds", text: "Vulnerable" },
    ]);
  });

  it("may all be missing", async () => {
    const facts = await readHostFacts(subject());
    assert.deepEqual(facts.kernel, { t: "absent" });
    assert.equal(facts.vulnerabilities, null);
    assert.deepEqual(facts.cgroup, { group: null, mountPoint: null, controllers: { t: "absent" } });
    assert.equal(judgeHost(facts).filter(({ status }) => status === "unknown").length >= 5, true);
  });

  it("may be folders or too long", async () => {
    mkdirSync(join(root, "/sys/kernel/mm/ksm/run"), { recursive: true });
    put("/proc/swaps", "x".repeat(2 * 1024 * 1024));
    const facts = await readHostFacts(subject());
    assert.deepEqual(facts.ksmRun, { t: "unreadable", why: "EISDIR" });
    assert.ok(facts.swaps.t === "text" && facts.swaps.text.length === 1024 * 1024);
  });
});

describe("control groups", () => {
  beforeEach(() => {
    put("/proc/self/cgroup", "1:name=systemd:/x\n0::/system.slice/hpcc.service\n");
    mounts(["0:30", "/sys/fs/cgroup", "cgroup2", "cgroup2"]);
  });

  it("are this process' own by default", async () => {
    put("/sys/fs/cgroup/system.slice/hpcc.service/cgroup.controllers", "cpu memory\n");
    const { cgroup } = await readHostFacts(subject());
    assert.equal(cgroup.group, "/system.slice/hpcc.service");
    assert.deepEqual(cgroup.controllers, { t: "text", text: "cpu memory" });
  });

  it("get what their parent passes on when they are still to be made", async () => {
    put("/sys/fs/cgroup/cgroup.controllers", "cpu memory pids io\n");
    put("/sys/fs/cgroup/cgroup.subtree_control", "cpu pids\n");
    const { cgroup } = await readHostFacts(subject({ cgroup: "/sys/fs/cgroup/hpcc" }));
    assert.deepEqual(cgroup.controllers, { t: "text", text: "cpu pids" });
    assert.deepEqual((await readHostFacts(subject({ cgroup: "/sys/fs/cgroup/a/b" }))).cgroup.controllers, {
      t: "absent",
    });
    assert.equal((await readHostFacts(subject({ cgroup: "/sys/fs/cgroup2/hpcc" }))).cgroup.group, null);
  });
});

describe("what snapshots lie on", () => {
  it("a logical volume on an encrypted partition", async () => {
    device("virtual/block/dm-1", "253:1", { "dm/uuid": "LVM-x\n", "dm/name": "vg-s\n" }, ["dm-0"]);
    device("virtual/block/dm-0", "253:0", { "dm/uuid": "CRYPT-PLAIN-hpcc\n", "dm/name": "hpcc\n" }, ["sda1"]);
    device("pci/block/sda/sda1", "8:1", { partition: "1\n" });
    device("pci/block/sda", "8:0");
    mounts(["8:1", "/", "ext4", "/dev/sda1"], ["253:1", "/snapshots", "ext4", "/dev/mapper/vg-s"]);
    const found = await storage({ snapshotsFolder: "/snapshots/hpcc" });
    assert.deepEqual(found, {
      fileSystem: "ext4",
      source: "/dev/mapper/vg-s",
      device: {
        name: "dm-1",
        dmUuid: "LVM-x",
        memory: false,
        below: [
          {
            name: "dm-0",
            dmUuid: "CRYPT-PLAIN-hpcc",
            memory: false,
            below: [
              {
                name: "sda1",
                dmUuid: null,
                memory: false,
                below: [{ name: "sda", dmUuid: null, memory: false, below: [] }],
              },
            ],
          },
        ],
      },
    });
  });

  it("a file system that has a number of its own, by the name of its device", async () => {
    device("virtual/block/dm-0", "253:0", { "dm/uuid": "CRYPT-LUKS2-x\n", "dm/name": "secret\n" }, ["sda"]);
    device("pci/block/sda", "8:0");
    mounts(["0:44", "/snapshots", "btrfs", "/dev/mapper/secret"]);
    assert.equal((await storage())?.device?.name, "dm-0");
  });

  it("a file in memory, and one on an encrypted disk", async () => {
    device("virtual/block/loop0", "7:0", { "loop/backing_file": "/run/image\n" });
    device("virtual/block/loop1", "7:1", { "loop/backing_file": "/home/image\n" });
    device("virtual/block/dm-0", "253:0", { "dm/uuid": "CRYPT-PLAIN-x\n" });
    mounts(
      ["0:5", "/run", "tmpfs", "tmpfs"],
      ["253:0", "/home", "xfs", "/dev/dm-0"],
      ["7:0", "/a", "ext4", "/dev/loop0"],
      ["7:1", "/b", "ext4", "/dev/loop1"],
    );
    assert.equal((await storage({ snapshotsFolder: "/a" }))?.device?.memory, true);
    assert.equal((await storage({ snapshotsFolder: "/b" }))?.device?.below[0]?.dmUuid, "CRYPT-PLAIN-x");
  });

  it("memory that is a disk, a loop that lies on itself, no block device at all", async () => {
    device("virtual/block/zram0", "252:0");
    device("virtual/block/loop0", "7:0", { "loop/backing_file": "/c/image\n" });
    mounts(
      ["252:0", "/a", "ext4", "/dev/zram0"],
      ["7:0", "/c", "ext4", "/dev/loop0"],
      ["0:50", "/d", "nfs4", "host:/x"],
    );
    assert.equal((await storage({ snapshotsFolder: "/a" }))?.device?.memory, true);
    assert.equal((await storage({ snapshotsFolder: "/c" }))?.device?.name, "loop0");
    assert.deepEqual(await storage({ snapshotsFolder: "/d" }), { fileSystem: "nfs4", source: "host:/x", device: null });
    assert.equal(await storage({ snapshotsFolder: "/elsewhere" }), null);
  });

  it("the mount that counts is the deepest and newest; names may hold spaces; no other name's beginning counts", async () => {
    mounts(
      ["8:0", "/", "ext4", "/dev/sda"],
      ["0:9", "/snap\\040shots", "tmpfs", "tmpfs"],
      ["0:8", "/snapshots", "tmpfs", "old"],
      ["0:7", "/snapshots", "xfs", "new"],
    );
    assert.equal((await storage())?.source, "new");
    assert.equal((await storage({ snapshotsFolder: "/snap shots/x" }))?.fileSystem, "tmpfs");
    assert.equal((await storage({ snapshotsFolder: "/snapshots2" }))?.source, "/dev/sda");
  });
});

describe("the way to a folder", () => {
  it("names each step's owner and rights, and stops at a link or a gap", async () => {
    mkdirSync(join(root, "a/b"), { recursive: true });
    chmodSync(join(root, "a"), 0o777);
    symlinkSync("a", join(root, "l"));
    const { jails } = await readHostFacts(subject({ jailsFolder: "/a/b/c" }));
    assert.deepEqual(
      jails?.steps.map(({ path, kind, mode }) => [path, kind, path === "/a" ? mode : 0]),
      [
        ["/", "folder", 0],
        ["/a", "folder", 0o777],
        ["/a/b", "folder", 0],
      ],
    );
    assert.ok(jails?.steps.every(({ uid }) => uid === process.getuid?.()));
    assert.deepEqual(jails?.stopped, { path: "/a/b/c", why: "ENOENT" });
    const linked = await readHostFacts(subject({ jailsFolder: "/l/b" }));
    assert.deepEqual(
      linked.jails?.steps.map(({ kind }) => kind),
      ["folder", "link"],
    );
  });
});

describe("a program", () => {
  const script = (name: string, content: string): string => {
    put(name, content);
    chmodSync(join(root, name), 0o755);
    return join(root, name);
  };

  it("says its version; its bytes and its linking are read", async () => {
    const text = "#!/bin/sh\necho Firecracker v1.16.1\n";
    const facts = await readProgramFacts(script("firecracker", text));
    assert.deepEqual(facts.version, { t: "text", text: "Firecracker v1.16.1" });
    assert.equal(`sha256:${facts.sha256}`, sha256(Buffer.from(text)));
    assert.equal(facts.dynamic, null, "a script is no ELF file");
    assert.equal((await readProgramFacts("/bin/sh")).dynamic, true);
    const node = await readProgramFacts(join(import.meta.dirname, "../../../out/lib/hpcc/agent"));
    assert.equal(node.dynamic, false, "the agent is a static program");
  });

  it("may fail, say too much, or be cut off", async () => {
    assert.deepEqual((await readProgramFacts(script("a", "#!/bin/sh\nexit 3\n"))).version, {
      t: "unreadable",
      why: "it ended with 3",
    });
    const flood = await readProgramFacts(script("b", "#!/bin/sh\nwhile :; do echo xxxxxxxxxxxxxxxxxxxxx; done\n"));
    assert.deepEqual(flood.version, { t: "unreadable", why: "it ended with ERR_CHILD_PROCESS_STDIO_MAXBUFFER" });
    const cut = join(root, "cut");
    copyFileSync("/bin/sh", cut);
    chmodSync(cut, 0o755);
    writeFileSync(cut, Buffer.from("7f454c4602010100", "hex"));
    assert.equal((await readProgramFacts(cut)).dynamic, null);
  });

  it("is not there", async () => {
    for (const name of ["hpcc-no-such-program", "/no/such/program"]) {
      const { file, version } = await readProgramFacts(name);
      assert.deepEqual([file, version], [null, { t: "absent" }]);
    }
  });
});
