import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import type { BlockLayer, FileText, HostFacts, PathFacts, ProgramFacts } from "./host-facts.ts";
import { judgeHost } from "./host-findings.ts";

const text = (value: string): FileText => ({ t: "text", text: value });
const ABSENT: FileText = { t: "absent" };
const DENIED: FileText = { t: "unreadable", why: "EACCES" };
const FIRECRACKER_1_16_1 = "2fd0171309af7e24cf8dafc8a6f921c1434c49b5f9349bb996b7ed0a4deb8aa7";
const JAILER_1_16_1 = "1f3a0c1fe86212d0001819bfe0819071c01208b3ccc9398c3b3bc1b84cf21edd";

function way(path: string, mode = 0o755, uid = 0, kind: "folder" | "file" = "folder"): PathFacts {
  const names = path.split("/").filter(Boolean);
  const folders = ["/", ...names.slice(0, -1).map((_, index) => `/${names.slice(0, index + 1).join("/")}`)];
  const steps = folders.map((at) => ({ path: at, kind: "folder" as const, uid: 0, mode: 0o755 }));
  return { path, steps: [...steps, { path, kind, uid, mode }], stopped: null };
}

function program(name: string, version: string, fields: Partial<ProgramFacts> = {}): ProgramFacts {
  const file = way(`/usr/local/bin/${name}`, 0o755, 0, "file");
  return { name, file, version: text(version), sha256: "0".repeat(64), dynamic: false, ...fields };
}

const disk: BlockLayer = { name: "nvme0n1", dmUuid: null, memory: false, below: [] };
const crypt = (kind: string, below: BlockLayer = disk): BlockLayer => ({
  name: "dm-0",
  dmUuid: `CRYPT-${kind}-0123-hpcc`,
  memory: false,
  below: [below],
});

/** A host in good order. */
const GOOD: HostFacts = {
  firecrackerWanted: true,
  knownReleases: [],
  kernel: text("6.18.3-amd64"),
  cpuModels: ["Model X"],
  microcodes: ["0x2b000643"],
  smtControl: text("forceoff"),
  smtActive: text("0"),
  ksmRun: text("0"),
  swaps: text("Filename Type Size Used Priority"),
  nxHugePages: text("never"),
  vulnerabilities: [
    { name: "itlb_multihit", text: "Not affected" },
    { name: "old_microcode", text: "Not affected" },
    { name: "spectre_v1", text: "Mitigation: usercopy/swapgs barriers and __user pointer sanitization" },
  ],
  cgroup: { group: "/hpcc", mountPoint: "/sys/fs/cgroup", controllers: text("cpuset cpu io memory pids") },
  firecracker: program("firecracker", "Firecracker v1.16.1", { sha256: FIRECRACKER_1_16_1 }),
  jailer: program("jailer", "Jailer v1.16.1", { sha256: JAILER_1_16_1 }),
  jails: way("/srv/hpcc", 0o711),
  snapshots: {
    folder: way("/var/lib/hpcc-snapshots", 0o700),
    storage: { fileSystem: "ext4", source: "/dev/mapper/x", device: crypt("PLAIN") },
  },
};

function found(name: string, change: Partial<HostFacts>) {
  const findings = judgeHost({ ...GOOD, ...change });
  for (const { found: said, advice } of findings) {
    assert.ok(said !== "" && !said.includes("\n"), "one line");
    assert.ok(advice === null || (advice !== "" && !advice.includes("\n")));
  }
  const one = findings.find((finding) => finding.name === name);
  assert.ok(one, name);
  return one;
}

/** Each row changes one fact of the good host and says what must come of it. */
function table(name: string, rows: readonly (readonly [string, Partial<HostFacts>, string, RegExp])[]): void {
  describe(name, () => {
    for (const [what, change, status, pattern] of rows)
      it(what, () => {
        const one = found(name, change);
        assert.equal(one.status, status, one.found);
        assert.match(one.found, pattern);
        if (status === "fail") assert.notEqual(one.advice, null);
      });
  });
}

it("says ok of everything of a host in good order, each thing once", () => {
  const findings = judgeHost(GOOD);
  assert.deepEqual(
    findings.filter(({ status }) => status !== "ok"),
    [],
  );
  assert.equal(findings.length, 13);
  assert.equal(new Set(findings.map(({ name }) => name)).size, findings.length);
});

it("has a step in the operator's guide for each check", () => {
  const page = readFileSync(new URL("../../../docs/operations/worker.md", import.meta.url), "utf8");
  for (const { name } of judgeHost(GOOD)) assert.ok(page.includes(`\`${name}\``), name);
  for (const heading of ["Firecracker", "Snapshots"]) assert.ok(page.includes(`\n### ${heading}\n`), heading);
});

it("says unknown, not ok, of a host that tells nothing", () => {
  const nothing: Partial<HostFacts> = {
    kernel: DENIED,
    cpuModels: [],
    microcodes: [],
    smtControl: DENIED,
    smtActive: DENIED,
    ksmRun: DENIED,
    swaps: DENIED,
    nxHugePages: DENIED,
    vulnerabilities: null,
    cgroup: { group: "/", mountPoint: "/sys/fs/cgroup", controllers: DENIED },
    jails: { path: "/root/jails", steps: [], stopped: { path: "/root/jails", why: "EACCES" } },
    snapshots: { folder: { path: "/x", steps: [], stopped: { path: "/x", why: "EACCES" } }, storage: null },
  };
  const findings = judgeHost({ ...GOOD, ...nothing });
  for (const { name, status } of findings)
    if (!["firecracker", "jailer"].includes(name)) assert.equal(status, "unknown", name);
});

const firecracker = (version: string, fields: Partial<ProgramFacts> = {}): Partial<HostFacts> => ({
  firecracker: program("firecracker", version, { sha256: FIRECRACKER_1_16_1, ...fields }),
});
table("firecracker", [
  ["1.16.0, which loses vsock", firecracker("Firecracker v1.16.0"), "fail", /1\.16\.0 .*too old/],
  ["1.9.99", firecracker("Firecracker v1.9.99"), "fail", /too old/],
  ["a build before the release", firecracker("Firecracker v1.16.1-dev"), "fail", /too old/],
  [
    "more lines than the version",
    firecracker("Firecracker v1.16.1\n\n2026 [anonymous] Successfully started"),
    "ok",
    /known release/,
  ],
  [
    "later, but unknown bytes",
    firecracker("Firecracker v1.17.0", { sha256: "ab".repeat(32) }),
    "warn",
    /no release that hpcc knows/,
  ],
  [
    "bytes that cannot be read",
    firecracker("Firecracker v1.16.1", { sha256: null }),
    "warn",
    /no release that hpcc knows/,
  ],
  [
    "the jailer's bytes under its name",
    firecracker("Firecracker v1.16.1", { sha256: JAILER_1_16_1 }),
    "warn",
    /no release/,
  ],
  [
    "a glibc build",
    firecracker("Firecracker v1.16.1", { dynamic: true, sha256: "ab".repeat(32) }),
    "fail",
    /filters are empty/,
  ],
  [
    "another program",
    firecracker("QEMU emulator version 7.2\nFire"),
    "fail",
    /another program: QEMU emulator version 7\.2$/,
  ],
  ["numbers beyond belief", firecracker("Firecracker v99999999999999999999.1.1"), "fail", /another program/],
  ["nothing said", firecracker(""), "fail", /another program/],
  ["one that hangs", firecracker("", { version: { t: "unreadable", why: "ETIMEDOUT" } }), "fail", /ETIMEDOUT/],
  ["not there", firecracker("", { file: null, version: ABSENT }), "fail", /firecracker is not there$/],
  [
    "not there and not wanted",
    { ...firecracker("", { file: null, version: ABSENT }), firecrackerWanted: false },
    "warn",
    /machines run under QEMU/,
  ],
  [
    "a plain user's",
    firecracker("Firecracker v1.16.1", { file: way("/opt/fc", 0o755, 1000, "file") }),
    "fail",
    /belongs to uid 1000/,
  ],
  [
    "writable by a group",
    firecracker("Firecracker v1.16.1", { file: way("/opt/fc", 0o775, 0, "file") }),
    "fail",
    /mode 0775/,
  ],
  [
    "bytes that the operator vouches for",
    { ...firecracker("Firecracker v1.17.0", { sha256: "ab".repeat(32) }), knownReleases: ["ab".repeat(32)] },
    "ok",
    /host\.known_releases/,
  ],
  [
    "a glibc build that the operator vouches for",
    {
      ...firecracker("Firecracker v1.17.0", { sha256: "ab".repeat(32), dynamic: true }),
      knownReleases: ["ab".repeat(32)],
    },
    "fail",
    /filters are empty/,
  ],
]);

table("jailer", [
  [
    "of another release",
    { jailer: program("jailer", "Jailer v1.17.0") },
    "fail",
    /jailer 1\.17\.0 beside firecracker 1\.16\.1/,
  ],
  ["not there", { jailer: program("jailer", "", { file: null, version: ABSENT }) }, "fail", /not there/],
  ["beside no firecracker", firecracker("", { file: null, version: ABSENT }), "ok", /known release/],
]);

table("host kernel", [
  ["one that is not tested", { kernel: text("6.12.9") }, "warn", /6\.12\.9/],
  ["a longer number is another series", { kernel: text("6.180.1") }, "warn", /6\.180/],
  ["any, without Firecracker", { kernel: text("6.12.9"), ...firecracker("", { file: null }) }, "ok", /6\.12\.9/],
]);

const cgroup = (fields: Partial<HostFacts["cgroup"]>): Partial<HostFacts> => ({
  cgroup: { ...GOOD.cgroup, ...fields },
});
table("cgroup v2", [
  ["not mounted", cgroup({ mountPoint: null }), "fail", /not mounted/],
  ["no group", cgroup({ group: null }), "fail", /no such group/],
  ["no such group", cgroup({ controllers: ABSENT }), "fail", /not there/],
  [
    "hybrid: controllers are elsewhere",
    cgroup({ controllers: text("hugetlb") }),
    "fail",
    /lacks cpu, memory, pids, io/,
  ],
  ["nothing passed on", cgroup({ controllers: text("") }), "fail", /lacks cpu, memory, pids, io/],
  ["names that only contain it", cgroup({ controllers: text("cpuset memory pids io") }), "fail", /lacks cpu$/],
  ["without io", cgroup({ controllers: text("cpu memory pids") }), "warn", /lacks io$/],
  ["QEMU alone", { ...cgroup({ mountPoint: null }), firecrackerWanted: false }, "warn", /not mounted/],
]);

table("SMT", [
  ["on", { smtControl: text("on"), smtActive: text("1") }, "warn", /share a core/],
  ["on, of which nothing more is said", { smtControl: text("on"), smtActive: ABSENT }, "warn", /share a core/],
  ["on without siblings", { smtControl: text("on"), smtActive: text("0") }, "ok", /no core/],
  ["not supported", { smtControl: text("notsupported") }, "ok", /notsupported/],
  ["a word of a later kernel", { smtControl: text("notimplemented") }, "unknown", /notimplemented/],
  ["no such file", { smtControl: ABSENT }, "unknown", /does not say/],
]);

table("KSM", [
  ["on", { ksmRun: text("1") }, "warn", /merged/],
  ["off and unmerged", { ksmRun: text("2") }, "ok", /off/],
  ["none", { ksmRun: ABSENT }, "ok", /none/],
  ["nonsense", { ksmRun: text("yes") }, "unknown", /yes/],
]);

table("swap", [
  [
    "two",
    { swaps: text("Filename\tType\n/dev/sda2  partition 1 0 -2\n/swap\\040file file 1 0 -3") },
    "warn",
    /^\/dev\/sda2, \/swap\\040file:/,
  ],
  ["in compressed memory", { swaps: text("Filename\n/dev/zram0 partition 1 0 100\n") }, "warn", /zram0/],
  ["an empty file", { swaps: text("") }, "ok", /none/],
  ["none", { swaps: ABSENT }, "ok", /none/],
]);

const flaws = (...list: { name: string; text: string }[]): Partial<HostFacts> => ({ vulnerabilities: list });
table("microcode", [
  ["differs", { microcodes: ["0x1f", "0x20"] }, "warn", /differs.*0x1f, 0x20/],
  ["of a virtual machine", { microcodes: ["0x1"] }, "unknown", /virtual machine/],
  ["of another one", { microcodes: ["0xffffffff"] }, "unknown", /virtual machine/],
  ["old", { ...flaws({ name: "old_microcode", text: "Vulnerable" }) }, "warn", /newer/],
  ["a kernel that cannot tell", { ...flaws({ name: "mds", text: "Not affected" }) }, "unknown", /whether a newer/],
]);

table("processor vulnerabilities", [
  [
    "open",
    flaws({ name: "mds", text: "Vulnerable: Clear CPU buffers attempted, no microcode" }),
    "warn",
    /^mds: Vulnerable/,
  ],
  [
    "open with SMT",
    flaws({ name: "mds", text: "Mitigation: Clear CPU buffers; SMT vulnerable" }),
    "warn",
    /SMT vulnerable/,
  ],
  ["open in a part", flaws({ name: "spectre_v2", text: "Mitigation: Retpolines; BHI: Vulnerable" }), "warn", /BHI/],
  ["open for KVM", flaws({ name: "itlb_multihit", text: "KVM: Vulnerable" }), "warn", /KVM: Vulnerable/],
  ["not clear", flaws({ name: "mmio_stale_data", text: "Unknown: No mitigations" }), "unknown", /Unknown/],
  ["an empty folder", flaws(), "unknown", /does not say/],
]);

table("kvm nx_huge_pages", [
  [
    "needed and off",
    { nxHugePages: text("N"), ...flaws({ name: "itlb_multihit", text: "KVM: Vulnerable" }) },
    "warn",
    /halt/,
  ],
  [
    "needed and on",
    { nxHugePages: text("Y"), ...flaws({ name: "itlb_multihit", text: "KVM: Mitigation: Split huge pages" }) },
    "ok",
    /needs it/,
  ],
  ["no kvm", { nxHugePages: ABSENT }, "unknown", /not loaded/],
]);

const jails = (folder: PathFacts): Partial<HostFacts> => ({ jails: folder });
const open = way("/srv/hpcc", 0o711);
table("jail folder", [
  ["writable by all, with the sticky bit", jails(way("/tmp", 0o1777)), "fail", /\/tmp has mode 1777/],
  ["writable by a group", jails(way("/srv/hpcc", 0o775)), "fail", /0775/],
  ["somebody else's", jails(way("/srv/hpcc", 0o700, 1000)), "fail", /uid 1000/],
  [
    "in a folder that others write",
    jails({ ...open, steps: open.steps.map((step) => (step.path === "/srv" ? { ...step, mode: 0o777 } : step)) }),
    "fail",
    /^\/srv has mode 0777/,
  ],
  [
    "in a folder of all, with the sticky bit",
    jails({ ...open, steps: open.steps.map((step) => (step.path === "/srv" ? { ...step, mode: 0o1777 } : step)) }),
    "ok",
    /all the way up/,
  ],
  [
    "through a link",
    jails({ ...open, steps: [...open.steps.slice(0, 1), { path: "/srv", kind: "link", uid: 0, mode: 0o777 }] }),
    "fail",
    /is a link/,
  ],
  ["a file", jails(way("/srv/hpcc", 0o600, 0, "file")), "fail", /no folder/],
  [
    "not there",
    jails({ ...open, steps: open.steps.slice(0, 2), stopped: { path: "/srv/hpcc", why: "ENOENT" } }),
    "warn",
    /not there/,
  ],
  [
    "out of sight",
    jails({ ...open, steps: open.steps.slice(0, 2), stopped: { path: "/srv/hpcc", why: "EACCES" } }),
    "unknown",
    /EACCES/,
  ],
]);

const snapshots = (storage: NonNullable<HostFacts["snapshots"]>["storage"], mode = 0o700): Partial<HostFacts> => ({
  snapshots: { folder: way("/s", mode), storage },
});
const on = (device: BlockLayer | null, fileSystem = "ext4"): Partial<HostFacts> =>
  snapshots({ fileSystem, source: "/dev/x", device });
table("snapshot folder", [["others may list it", snapshots(null, 0o711), "fail", /mode 0711/]]);
table("snapshot encryption", [
  ["a bare disk", on(disk), "fail", /ext4 on nvme0n1 is not encrypted/],
  ["memory", on(null, "tmpfs"), "fail", /tmpfs is memory/],
  ["compressed memory", on({ ...disk, name: "zram0", memory: true }), "fail", /is memory/],
  ["encrypted, but in memory", on(crypt("PLAIN", { ...disk, name: "loop0", memory: true })), "fail", /is memory/],
  ["LUKS", on(crypt("LUKS2")), "warn", /dm-0 \(CRYPT-LUKS2\) on nvme0n1: a header on the disk/],
  ["plain over LUKS", on(crypt("PLAIN", crypt("LUKS1"))), "ok", /CRYPT-PLAIN\) on dm-0 \(CRYPT-LUKS1/],
  ["a volume on plain", on({ name: "dm-2", dmUuid: "LVM-abc", memory: false, below: [crypt("PLAIN")] }), "ok", /dm-2/],
  [
    "half of it bare",
    on({ name: "md0", dmUuid: null, memory: false, below: [crypt("PLAIN"), disk] }),
    "fail",
    /not encrypted/,
  ],
  ["verity encrypts nothing", on(crypt("VERITY")), "fail", /not encrypted/],
  ["a name that begins alike", on({ ...disk, dmUuid: "CRYPT-PLAINTEXT" }), "fail", /not encrypted/],
  ["a network file system", on(null, "nfs4"), "unknown", /nfs4 on \/dev\/x/],
  ["an overlay", on(null, "overlay"), "unknown", /overlay/],
  ["no mount", snapshots(null), "unknown", /no mount/],
  [
    "devices without end",
    on(Array.from({ length: 100 }).reduce<BlockLayer>((below) => ({ ...disk, below: [below] }), disk)),
    "fail",
    /not encrypted/,
  ],
]);
