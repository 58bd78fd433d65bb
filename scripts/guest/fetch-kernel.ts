// Gets the guest's kernel package: `fetch-kernel.ts <lock> <kept> [--locked | --update]`. Leaves it unpacked in <kept>/package, and
// in <kept>/control what it is. A package that was got under the same lock is kept as it is; nothing is installed.
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { choosePackage, type KernelPackage, type Mode, parseKernelPackage, withPackage } from "./kernel-lock.ts";

const META_PACKAGE = "linux-image-cloud-amd64";
const QUESTION_DEADLINE_MS = 60_000;
const DOWNLOAD_DEADLINE_MS = 600_000;

/** What a program prints; "" when it fails, as apt-cache does for what it does not know. */
function ask(program: string, ...argv: string[]): string {
  const { stdout, error } = spawnSync(program, argv, { encoding: "utf8", timeout: QUESTION_DEADLINE_MS });
  if (error !== undefined && "code" in error && error.code === "ENOENT")
    throw new Error(`${program} is not there: a Debian machine is needed`);
  return stdout ?? "";
}

function offered(name: string, version: string | null): KernelPackage | null {
  // Without a version apt-cache prints one record for each that it knows, the candidate first.
  const [record = ""] = ask("apt-cache", "show", version === null ? name : `${name}=${version}`).split(/\n\n+/);
  return record.trim() === "" ? null : parseKernelPackage(record, `apt's record of ${name}`);
}

/** The package that the name without a number depends on. */
function newestPackage(): KernelPackage | null {
  const [, name] =
    /^ *Depends: (linux-image-[0-9].*-cloud-amd64)$/m.exec(ask("apt-cache", "depends", "--important", META_PACKAGE)) ??
    [];
  return name === undefined ? null : offered(name, null);
}

function choose(lock: KernelPackage, mode: Mode) {
  const offers = () => ({ pinned: offered(lock.name, lock.version), newest: newestPackage() });
  const first = offers();
  const lacks = mode === "update" || first.pinned === null || first.newest === null;
  // apt's lists may be old, or not there at all.
  if (lacks && process.getuid?.() === 0)
    execFileSync("apt-get", ["-qq", "update"], { stdio: "inherit", timeout: DOWNLOAD_DEADLINE_MS });
  return choosePackage(lock, lacks ? offers() : first, mode);
}

function main(lockFile: string, kept: string, mode: Mode): void {
  const lockText = readFileSync(lockFile, "utf8");
  const lock = parseKernelPackage(lockText, lockFile);
  const keptLock = join(kept, "lock");
  if (mode !== "update" && existsSync(keptLock) && readFileSync(keptLock, "utf8") === lockText) {
    const locked = /^Locked: yes$/m.test(readFileSync(join(kept, "control"), "utf8"));
    if (locked || mode === "default") return;
  }
  const { take, locked, warning } = choose(lock, mode);
  if (warning !== null) console.error(`guest: warning: ${warning}`);
  const fresh = `${kept}.new`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true });
  const deb = download(take, fresh);
  execFileSync("dpkg-deb", ["-x", deb, join(fresh, "package")], { stdio: "inherit" });
  rmSync(deb);
  writeModulesDep(join(fresh, "package"), take.name.replace("linux-image-", ""));
  const { name, version, sha256 } = take;
  writeFileSync(
    join(fresh, "control"),
    `Package: ${name}\nVersion: ${version}\nSHA256: ${sha256}\nLocked: ${locked ? "yes" : "no"}\n`,
  );
  const newLock = mode === "update" ? withPackage(lockText, take) : lockText;
  writeFileSync(join(fresh, "lock"), newLock);
  rmSync(kept, { recursive: true, force: true });
  renameSync(fresh, kept);
  if (newLock === lockText) return;
  writeFileSync(`${lockFile}.new`, newLock);
  renameSync(`${lockFile}.new`, lockFile);
  console.log(`guest: ${lockFile} pins ${name} ${version} now`);
}

/** Downloads a package into a folder and gives its path, its digest checked. */
function download({ name, version, sha256 }: KernelPackage, folder: string): string {
  console.log(`guest: downloading ${name} ${version}`);
  execFileSync("apt-get", ["-qq", "-o", "APT::Sandbox::User=root", "download", `${name}=${version}`], {
    cwd: folder,
    stdio: "inherit",
    timeout: DOWNLOAD_DEADLINE_MS,
  });
  const [file, ...others] = readdirSync(folder).filter((entry) => entry.endsWith(".deb"));
  if (file === undefined || others.length > 0) throw new Error(`apt-get downloaded no single package of ${name}`);
  const path = join(folder, file);
  const found = createHash("sha256").update(readFileSync(path)).digest("hex");
  if (found !== sha256) throw new Error(`${file} has sha256 ${found}, but must have ${sha256}`);
  return path;
}

function writeModulesDep(packageFolder: string, release: string): void {
  const base = existsSync(join(packageFolder, "lib/modules")) ? packageFolder : join(packageFolder, "usr");
  const depmod = ask("sh", "-c", "command -v depmod || echo /usr/sbin/depmod").trim();
  execFileSync(depmod, ["-b", base, release], { stdio: "inherit" });
}

const [lockFile, kept, option] = process.argv.slice(2);
const mode =
  option === undefined ? "default" : option === "--locked" ? "locked" : option === "--update" ? "update" : null;
if (!lockFile || !kept || mode === null) {
  console.error("usage: scripts/guest/build.sh [--locked | --update]");
  process.exitCode = 2;
} else {
  try {
    main(lockFile, kept, mode);
  } catch (error) {
    console.error(`guest: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  }
}
