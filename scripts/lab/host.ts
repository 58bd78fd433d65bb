// The lab's host side: runs as PID 1 of PID and mount namespaces of its own, where it packs the initramfs, starts virtiofsd and
// QEMU, and ends with QEMU. Its files are in a tmpfs that nobody else sees.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { hostTscKhz } from "../../src/vm/qemu/host-tsc.ts";
import { type CpioEntry, packCpio } from "../guest/newc.ts";

export interface LabSpec {
  readonly command: readonly string[];
  readonly memoryMib: number;
  readonly cpus: number;
  /** Folders that are written here. */
  readonly shared: readonly string[];
}

const project = join(import.meta.dirname, "../..");
/** An empty folder here: the tmpfs of each lab that runs hides it from that lab alone. */
const base = join(project, ".cache/lab");
const hostRoot = join(base, "host");
const disk = join(base, "disk");
const vmlinux = join(project, "out/lib/hpcc/guest/vmlinux");

/** Debian's and their options: QEMU's own in C of Debian 12, and of later releases the package virtiofsd, in Rust. */
const VIRTIOFSD = [
  {
    program: "/usr/lib/qemu/virtiofsd",
    options: ["-f", "-o", `source=${hostRoot}`, "-o", "cache=always", "-o", "log_level=warn"],
  },
  {
    program: "/usr/libexec/virtiofsd",
    // An overlay does not lead into what its lower folder would mount by itself.
    options: ["--shared-dir", hostRoot, "--cache", "always", "--no-announce-submounts", "--log-level", "warn"],
  },
];
/** What init.c needs to reach the root, where the other modules are. */
const INITRAMFS_MODULES = ["virtio_pci", "virtiofs", "overlay"];
/** A disk that is a sparse file in the tmpfs. */
const DISK_BYTES = 8 * 2 ** 30;
const SOCKET_DEADLINE_MS = 10_000;
/** Without "fast" string instructions: emulated they go byte by byte, and kernels that see them clear pages with them. */
const PROCESSOR = "max,+svm,-erms,-fsrm";
/** Code that TCG keeps translated: Node, compilers and the guests' own. */
const TRANSLATION_BUFFER_MIB = 1024;

function run(program: string, ...argv: string[]): string {
  return execFileSync(program, argv, { encoding: "utf8" });
}

/** Folder of the kernel package below which lib/modules is. */
function packageFolder(): string {
  const kept = join(project, ".cache/guest/package");
  const found = [kept, join(kept, "usr")].find((folder) => existsSync(join(folder, "lib/modules")));
  if (!found || !existsSync(vmlinux)) throw new Error("the guest's kernel is not there; run make guest");
  return found;
}

function quoted(words: readonly string[]): string {
  return `(${words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(" ")})`;
}

function script(spec: LabSpec, modules: string, release: string): string {
  // There, the folders for temporary files are the usual ones.
  const environment = Object.entries(process.env).filter(([name]) => name !== "TMPDIR");
  return [
    `MODULES=${quoted([modules])}`,
    `RELEASE=${quoted([release])}`,
    `SHARED=${quoted(spec.shared)}`,
    `PROJECT=${quoted([project])}`,
    `CWD=${quoted([process.cwd()])}`,
    `ENVIRONMENT=${quoted(environment.map(([name, value]) => `${name}=${value}`))}`,
    `COMMAND=${quoted(spec.command)}`,
    readFileSync(join(import.meta.dirname, "guest.sh"), "utf8"),
  ].join("\n");
}

function packInitramfs(spec: LabSpec): void {
  const folder = packageFolder();
  const [release = ""] = readdirSync(join(folder, "lib/modules"));
  const init = join(base, "init");
  run("gcc", "-Os", "-Wall", "-Werror", "-static", "-o", init, join(import.meta.dirname, "init.c"));
  const order = INITRAMFS_MODULES.flatMap((name) =>
    run("/usr/sbin/modprobe", "-d", folder, "-S", release, "--show-depends", name)
      .split("\n")
      .flatMap((line) => /^insmod (\S+)/.exec(line)?.[1] ?? []),
  );
  const files = [...new Set(order)].map((path) => ({
    path: `modules/${basename(path).replace(/\.xz$/, "")}`,
    content: path.endsWith(".xz") ? execFileSync("xz", ["-dc", path], { maxBuffer: 2 ** 26 }) : readFileSync(path),
  }));
  const list = files.map(({ path }) => `/${path}\n`).join("");
  const entries: CpioEntry[] = [
    ...["dev", "host", "modules", "root", "written"].map((path): CpioEntry => ({ kind: "folder", path })),
    { kind: "device", path: "dev/console", mode: 0o600, major: 5, minor: 1 },
    { kind: "file", path: "init", mode: 0o755, content: readFileSync(init) },
    {
      kind: "file",
      path: "guest.sh",
      mode: 0o644,
      content: Buffer.from(script(spec, join(folder, "lib/modules"), release)),
    },
    { kind: "file", path: "modules.list", mode: 0o644, content: Buffer.from(list) },
    ...files.map(({ path, content }): CpioEntry => ({ kind: "file", path, mode: 0o644, content })),
  ];
  writeFileSync(join(base, "initramfs"), packCpio(entries));
}

/** The whole file system at one place, nothing of it writable but what is shared. */
function mountHostRoot(shared: readonly string[]): void {
  mkdirSync(hostRoot);
  run("mount", "--rbind", "/", hostRoot);
  run("mount", "--make-rprivate", hostRoot);
  const mounts = run("findmnt", "-rnR", "-o", "TARGET", hostRoot).split("\n").filter(Boolean);
  for (const target of mounts) run("mount", "-o", "remount,bind,ro", target);
  for (const folder of shared) run("mount", "--bind", folder, join(hostRoot, folder));
}

async function startVirtiofsd(socket: string): Promise<void> {
  const found = VIRTIOFSD.find(({ program }) => existsSync(program));
  if (!found)
    throw new Error(
      `there is no ${VIRTIOFSD.map(({ program }) => program).join(" or ")}; install Debian's package virtiofsd`,
    );
  const argv = [`--socket-path=${socket}`, ...found.options];
  const child = spawn(found.program, argv, { stdio: ["ignore", "inherit", "inherit"] });
  child.on("exit", (code) => {
    process.stderr.write(`lab: virtiofsd ended with code ${code}\n`);
    process.exit(1);
  });
  const deadline = performance.now() + SOCKET_DEADLINE_MS;
  while (!existsSync(socket)) {
    if (performance.now() > deadline) throw new Error("virtiofsd does not listen");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function qemuCommandLine(spec: LabSpec, socket: string): Promise<string[]> {
  const append = [
    // As the drivers' guests: a busy host disturbs what a kernel measures of its clock.
    ["console=ttyS0", "quiet", "panic=-1", `tsc_early_khz=${await hostTscKhz()}`, "tsc=reliable", "no_timer_check"],
    ["8250.nr_uarts=1", "i8042.noaux", "i8042.nokbd", "cryptomgr.notests", "random.trust_cpu=on", "mitigations=off"],
  ].flat();
  return [
    ["-nodefaults", "-no-user-config", "-nic", "none", "-display", "none", "-no-reboot"],
    ["-machine", "q35,memory-backend=ram,sata=off,smbus=off,i8042=off,vmport=off,usb=off"],
    ["-accel", `tcg,thread=multi,tb-size=${TRANSLATION_BUFFER_MIB}`, "-cpu", PROCESSOR],
    ["-smp", String(spec.cpus), "-m", `${spec.memoryMib}M`],
    ["-object", `memory-backend-memfd,id=ram,size=${spec.memoryMib}M,share=on`],
    ["-kernel", vmlinux, "-initrd", join(base, "initramfs"), "-append", append.join(" ")],
    ["-chardev", `socket,id=host,path=${socket}`, "-device", "vhost-user-fs-pci,chardev=host,tag=host"],
    ["-blockdev", `driver=raw,node-name=disk,discard=unmap,file.driver=file,file.filename=${disk}`],
    ["-device", "virtio-blk-pci,drive=disk"],
    ["-object", "rng-random,id=random,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=random"],
    // The command's output is a byte stream of its own; the console has what the kernel and guest.sh say when they fail.
    ["-device", "virtio-serial-pci", "-chardev", "stdio,id=output,signal=off"],
    ["-device", "virtserialport,chardev=output", "-chardev", `file,id=console,path=${join(base, "console")}`],
    ["-serial", "chardev:console"],
  ].flat();
}

const spec: LabSpec = JSON.parse(process.argv[2] ?? "");
mkdirSync(base, { recursive: true });
run("mount", "-t", "tmpfs", "-o", "mode=700", "lab", base);
// virtiofsd, the one in C, keeps a lock below it by the socket's name.
run("mount", "-t", "tmpfs", "-o", "mode=755", "lab", "/run");
packInitramfs(spec);
mountHostRoot(spec.shared);
const socket = join(base, "s");
await startVirtiofsd(socket);
writeFileSync(disk, "");
truncateSync(disk, DISK_BYTES);
const consolePipe = join(base, "console");
run("mkfifo", consolePipe);
spawn("cat", [consolePipe], { stdio: ["ignore", process.stderr.fd, "inherit"] });
const qemu = spawn("qemu-system-x86_64", await qemuCommandLine(spec, socket), {
  // An input that has ended would disconnect the output.
  stdio: ["pipe", "inherit", "inherit"],
});
qemu.on("error", (error) => {
  throw error;
});
qemu.on("exit", () => process.exit(1));
