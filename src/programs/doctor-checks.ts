// The checks of `hpcc doctor` that need more than the command line's layers: images, guest, vsock device, a probe of KVM.
import { accessSync, constants, lstatSync, type Stats, statfsSync, statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { HpccError } from "../base/errors.ts";
import { type Logger, SILENT_LOGGER } from "../base/log.ts";
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import { currentClientConfig } from "../cli/current-config.ts";
import { askDaemon } from "../cli/daemon-control.ts";
import { type CheckResult, type DoctorCheck, program } from "../cli/doctor.ts";
import { size } from "../cli/stats.ts";
import { type Environment, resolveDirectories } from "../config/directories.ts";
import { readPolicyFile } from "../config/policy-file.ts";
import type { ProjectImage } from "../config/project-image.ts";
import { isTable } from "../config/value.ts";
import { loadWorkerConfig, type WorkerConfig, wantsFirecracker } from "../config/worker.ts";
import type { Digest } from "../core/digest/digest.ts";
import { warningsOf } from "../core/policy/policy-report.ts";
import { ImageStore } from "../image/image-store.ts";
import { knownContents } from "../image/squashfs.ts";
import { loadGuestFiles } from "../vm/guest-files.ts";
import { readKvmDevice } from "../vm/host/kvm-device.ts";
import { openQemuRuntime } from "../vm/qemu/runtime.ts";
import { diskStatusOf } from "../worker/disk-watch.ts";
import { openLayoutImages } from "../worker/images.ts";
import { judgeClosedKvm, judgeKeepersKvm } from "./kvm-findings.ts";
import { hostChecks } from "./worker-host.ts";
import { guestFolder, isolationRefusal, qemuOptions } from "./worker-options.ts";

const PROBE_DEADLINE_MS = 60_000;

/** The checks; with a worker's file also those of a worker. */
export function doctorChecks(env: Environment, uid: number, workerFile: string | null): readonly DoctorCheck[] {
  const client: DoctorCheck[] = [
    async () => runtimeFolder(env, uid),
    async () => keptFolders(env, uid),
    async () => imageIsHere(env, uid),
    async () => missingHeaders(env, uid),
  ];
  if (workerFile === null) return client;
  const { config } = loadWorkerConfig(env, workerFile);
  return [
    ...client,
    async () => offeredImages(config),
    async () => policyCheck(config),
    async () => diskCheck(config),
    ...(wantsFirecracker(config) ? firecrackerChecks(env, config) : qemuChecks(env, config)),
    async () => hostChecks(config),
  ];
}

function policyCheck({ policy }: WorkerConfig): CheckResult {
  const name = "policy";
  if (policy === null)
    return { name, status: "note", detail: "no file: every tenant is served, with the defaults", fix: null };
  try {
    const file = readPolicyFile(policy);
    const warnings = warningsOf(file);
    const detail = `${policy}: version ${file.version}, ${file.digest}`;
    if (warnings.length === 0) return { name, status: "ok", detail, fix: null };
    return { name, status: "warn", detail: `${detail}; ${warnings.join("; ")}`, fix: "`hpcc policy check` tells more" };
  } catch (error) {
    if (!(error instanceof HpccError)) throw error;
    return { name, status: "missing", detail: error.message, fix: error.hint };
  }
}

/** Launchers start no daemon, and ask none, where others may have put its socket. */
function runtimeFolder(env: Environment, uid: number): CheckResult {
  const name = "runtime folder";
  const { runtime } = resolveDirectories(env, uid);
  const without = "so no call is cached";
  const missing = (detail: string, fix: string): CheckResult => ({
    name,
    status: "missing",
    detail: `${runtime} ${detail}, ${without}`,
    fix,
  });
  let stat: Stats | undefined;
  try {
    stat = lstatSync(runtime, { throwIfNoEntry: false });
    if (stat === undefined) accessSync(nearestFolder(runtime), constants.W_OK | constants.X_OK);
  } catch (error) {
    return missing(`cannot be used: ${(error as Error).message}`, "set HPCC_RUNTIME_DIR to a folder of yours");
  }
  if (stat === undefined) return { name, status: "ok", detail: `${runtime}, made by the first call`, fix: null };
  if (!stat.isDirectory() || stat.uid !== uid)
    return missing(
      stat.isSymbolicLink() ? "is a link" : "is no folder of yours",
      "set HPCC_RUNTIME_DIR to a folder of yours",
    );
  const mode = stat.mode & 0o777;
  if ((mode & 0o077) === 0) return { name, status: "ok", detail: runtime, fix: null };
  return missing(`has the mode ${mode.toString(8)}`, `chmod 700 '${runtime}'`);
}

/** With less a compile's results may not fit. */
const FREE_BYTES_LEAST = 16 * 1024 * 1024;

/** Where the daemon writes: without the state folder none starts, and without the cache folder nothing is kept. */
function keptFolders(env: Environment, uid: number): readonly CheckResult[] {
  const { state, cache } = resolveDirectories(env, uid);
  return [
    keptFolder("state folder", state, "HPCC_STATE_DIR"),
    ...(cache.startsWith(`${state}/`) ? [] : [keptFolder("cache folder", cache, "HPCC_CACHE_DIR")]),
  ];
}

function keptFolder(name: string, path: string, variable: string): CheckResult {
  const elsewhere = `mend it, or set ${variable} to another folder`;
  try {
    const there = lstatSync(path, { throwIfNoEntry: false }) === undefined ? nearestFolder(path) : path;
    accessSync(there, constants.W_OK | constants.X_OK);
    if (!statSync(there).isDirectory()) throw new Error(`${there} is no folder`);
    const { bavail, bsize } = statfsSync(there);
    if (bavail * bsize >= FREE_BYTES_LEAST)
      return { name, status: "ok", detail: there === path ? path : `${path}, made by the first call`, fix: null };
    const detail = `${path}: only ${size(bavail * bsize)} free, so results may not be kept`;
    return { name, status: "missing", detail, fix: `make room, or set ${variable} to another disk` };
  } catch (error) {
    const detail = `${path} cannot be used, so no call is cached: ${(error as Error).message}`;
    return { name, status: "missing", detail, fix: elsewhere };
  }
}

/** The deepest entry on the way to a path that is there, a link that leads nowhere too. */
function nearestFolder(path: string): string {
  let folder = dirname(path);
  while (folder !== "/" && lstatSync(folder, { throwIfNoEntry: false }) === undefined) folder = dirname(folder);
  return folder;
}

/** Room for the log and the store: without it a worker refuses every job. */
async function diskCheck({ stateDir, disk }: WorkerConfig): Promise<CheckResult> {
  const name = "disk space";
  try {
    const { state, folder, freeBytes, lowBytes, hardBytes } = await diskStatusOf([stateDir], disk);
    const detail = `${size(freeBytes)} free for the log and the store in ${folder}`;
    if (state === "ok") return { name, status: "ok", detail, fix: null };
    const fix = "make room: `hpcc audit prune`, a smaller store.gib_max, a larger disk";
    return state === "low"
      ? { name, status: "warn", detail: `${detail}, less than ${size(lowBytes)}`, fix }
      : { name, status: "fail", detail: `${detail}, less than ${size(hardBytes)}: nobody new is sent here`, fix };
  } catch (error) {
    return { name, status: "note", detail: `not known: ${stateDir}: ${(error as Error).message}`, fix: null };
  }
}

async function imageIsHere(env: Environment, uid: number): Promise<CheckResult> {
  const name = "image";
  let image: ProjectImage;
  try {
    ({ image } = currentClientConfig(env).config);
  } catch (error) {
    if (!(error instanceof HpccError)) throw error;
    return { name, status: "note", detail: "not known, as the configuration cannot be read", fix: null };
  }
  if (image.kind === "none" || image.kind === "unlocked")
    return { name, status: "note", detail: "no project with an image here", fix: null };
  const store = new ImageStore(resolveDirectories(env, uid).images);
  try {
    const details = await store.show(image.digest);
    if (details.rootfs === null)
      return { name, status: "note", detail: "here, not unpacked yet", fix: "the first compile unpacks it" };
    const contents = await store.contents(image.digest, true);
    const holds = contents === null ? "" : `, holds ${contents}`;
    return { name, status: "ok", detail: `unpacked at ${details.rootfs}${holds}`, fix: null };
  } catch (error) {
    if (!(error instanceof HpccError)) throw error;
    const coming = await imageOnItsWay(env, uid, image.digest);
    if (coming !== null) return { name, status: "note", detail: `on its way: ${coming}`, fix: null };
    if (image.pull === true && error.code === "image.missing")
      return { name, status: "note", detail: `${image.digest} is not here`, fix: "the first compile pulls it" };
    return {
      name,
      status: "missing",
      detail: error.message,
      fix: error.hint,
    };
  }
}

/** How far a daemon's pull is. UNTRUSTED: the daemon. */
async function imageOnItsWay(env: Environment, uid: number, digest: Digest): Promise<string | null> {
  const counts = await askDaemon(resolveDirectories(env, uid), { command: "stats", zero: false }).catch(() => null);
  const list = counts?.["images_coming"];
  const found = (Array.isArray(list) ? list : []).find((entry) => isTable(entry) && entry["image"] === digest);
  return typeof found?.progress === "string" ? found.progress : null;
}

/** What compiles have missed in their image, as far as a daemon runs that knows. */
async function missingHeaders(env: Environment, uid: number): Promise<CheckResult[]> {
  const counts = await askDaemon(resolveDirectories(env, uid), { command: "stats", zero: false });
  const found: unknown = counts?.["headers_missing"];
  const details = Array.isArray(found) ? found.filter((detail) => typeof detail === "string") : [];
  return details.map((detail) => ({ name: "headers", status: "note", detail, fix: null }));
}

async function offeredImages(config: WorkerConfig): Promise<CheckResult> {
  const name = "offered images";
  const fix = "name layout folders in images.layouts; `hpcc image show NAME` prints them";
  try {
    const { digests } = await openLayoutImages({ layoutFolders: config.imageLayouts, imageFolder: config.imageDir });
    const { repositories } = config.imageFetch;
    if (digests.length === 0 && repositories.length > 0)
      return { name, status: "ok", detail: `those that jobs name, from ${repositories.join(", ")}`, fix: null };
    if (digests.length === 0) return { name, status: "missing", detail: "none, so nobody is sent here", fix };
    const shown = digests.map(async (digest) => {
      const contents = await knownContents(config.imageDir, { digest });
      return contents === null ? digest : `${digest} holds ${contents}`;
    });
    return { name, status: "ok", detail: (await Promise.all(shown)).join(", "), fix: null };
  } catch (error) {
    if (!(error instanceof HpccError)) throw error;
    return { name, status: "missing", detail: error.message, fix };
  }
}

/** Firecracker and its jailer are checks of the host. */
function firecrackerChecks(env: Environment, config: WorkerConfig): DoctorCheck[] {
  return [
    async () => guest(guestFolder(env, config.firecracker.guestDir)),
    async () => judgeKeepersKvm(await readKvmDevice(), config),
  ];
}

function qemuChecks(env: Environment, config: WorkerConfig): DoctorCheck[] {
  const { qemuProgram, vsockDeviceProgram, guestFolder: folder } = qemuOptions(env, config);
  return [
    async () => program("qemu", qemuProgram, ["--version"], "apt-get install qemu-system-x86", "missing"),
    async () => program("vhost-device-vsock", vsockDeviceProgram, ["--version"], "make tools", "missing"),
    async () => guest(folder),
    async () => kvmVerdict(env, config),
  ];
}

async function guest(folder: string): Promise<CheckResult> {
  const name = "guest";
  try {
    const { kernelDigest, kernelPackage, locked } = await loadGuestFiles(folder);
    const detail = `${folder}, kernel ${kernelDigest} of ${kernelPackage ?? "a package that it does not name"}`;
    if (locked) return { name, status: "ok", detail, fix: null };
    return {
      name,
      status: "note",
      detail: `${detail}, which is not the pinned one`,
      fix: "scripts/guest/build.sh --update pins what Debian has now (docs/guest-kernel.md)",
    };
  } catch (error) {
    if (!(error instanceof HpccError)) throw error;
    return { name, status: "missing", detail: error.message, fix: "make guest" };
  }
}

/** Boots a guest under KVM, as the worker would for its verdict. */
async function kvmVerdict(env: Environment, config: WorkerConfig): Promise<CheckResult> {
  const name = "KVM";
  const device = await readKvmDevice();
  if (device.t !== "opens") return judgeClosedKvm(device, config);
  const folder = await mkdtemp(join(tmpdir(), "hpcc-doctor-"));
  // Why KVM cannot be used is what the probe logs.
  let why = "";
  const logger: Logger = {
    ...SILENT_LOGGER,
    warn: (event, fields) => {
      if (event === "vm.kvm.unusable") why = String(fields?.["error"] ?? "");
    },
    with: () => logger,
  };
  try {
    const runtime = await openQemuRuntime(
      {
        ...qemuOptions(env, config),
        vmsFolder: join(folder, "vms"),
        outputsFolder: join(folder, "outputs"),
        clock: SYSTEM_CLOCK,
        logger,
        // Asked anew: the machine may have been mended since the worker's verdict.
        kvmVerdictFile: join(folder, "kvm-verdict.json"),
      },
      AbortSignal.timeout(PROBE_DEADLINE_MS),
    );
    const refusal = isolationRefusal(config, runtime.isolation);
    return {
      name,
      status: refusal === null ? "ok" : "missing",
      detail:
        runtime.isolation === "qemu-kvm"
          ? "a guest boots under it"
          : `no guest boots under it, so guests are emulated${why === "" ? "" : `: ${why}`}`,
      fix: refusal === null ? null : `use a machine with KVM; ${refusal.fix}`,
    };
  } catch (error) {
    if (!(error instanceof HpccError)) throw error;
    return {
      name,
      status: "missing",
      detail: error.message,
      fix: "see the checks of qemu, guest and vhost-device-vsock",
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
