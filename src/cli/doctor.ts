// `hpcc doctor`: what this machine lacks, and what to do about it. Each check looks at one thing; what needs other layers
// (a probe boot of KVM, images, a kept namespace) comes from the program.
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { create } from "@bufbuild/protobuf";
import { ERROR_TRAITS, HpccError } from "../base/errors.ts";
import type { ClientConfig } from "../config/client.ts";
import type { WorkerConfig } from "../config/worker.ts";
import { formatHostPort, type HostPort } from "../core/identity/host-port.ts";
import { type Identity, sameTrustDomain, spiffeId } from "../core/identity/spiffe.ts";
import { formatImageName } from "../core/image/image-name.ts";
import { Isolation, SchedulerService, WatchRequestSchema } from "../gen/hpcc/scheduler/v1/scheduler_pb.js";
import { RpcClient } from "../wire/grpc/client.ts";
import { type OwnCredentials, readTlsFiles, type TlsFiles } from "../wire/grpc/tls-files.ts";
import { credentialsOf, workersOf } from "./current-config.ts";
import { printable } from "./output.ts";

/**
 * `missing` stops what was asked for; `note` does not. Of a worker's host: `fail` is a promise that does not hold there, `warn` a
 * weakness, `unknown` what the host does not say.
 */
export type CheckStatus = "ok" | "note" | "missing" | "warn" | "fail" | "unknown";

export interface CheckResult {
  readonly name: string;
  readonly status: CheckStatus;
  readonly detail: string;
  /** What to do; null when there is nothing to do. */
  readonly fix: string | null;
}

/** Looks at something; some see several things at once. */
export type DoctorCheck = () => Promise<CheckResult | readonly CheckResult[]>;

export interface DoctorSubject {
  /** The client's configuration in the current folder, or why it cannot be read. */
  readonly client: ClientConfig | HpccError;
  /** The worker's, when `--worker` names its file. */
  readonly worker: WorkerConfig | null;
  readonly nowMs: number;
  /** Checks that need other layers. */
  readonly more: readonly DoctorCheck[];
}

const run = promisify(execFile);
const PROGRAM_DEADLINE_MS = 10_000;
const SCHEDULER_DEADLINE_MS = 5_000;
const DAY_MS = 86_400_000;
const NODE_MAJOR_MIN = 24;

/** Runs all checks; they do not wait for each other. */
export async function doctor(subject: DoctorSubject): Promise<CheckResult[]> {
  const { client, worker, nowMs } = subject;
  const forWorker = worker !== null;
  const checks: ReturnType<DoctorCheck>[] = [
    node(),
    program("bubblewrap", "bwrap", ["--version"], "apt-get install bubblewrap", "missing"),
    userNamespaces(),
    program("flock", "flock", ["--version"], "apt-get install util-linux", "note"),
    config(client),
  ];
  if (!(client instanceof HpccError)) checks.push(...remote(client, nowMs));
  if (forWorker) {
    checks.push(
      program("mksquashfs", "mksquashfs", ["-version"], "apt-get install squashfs-tools", "missing"),
      identity("worker's certificate", worker.identity, "worker", nowMs),
    );
  }
  return (await Promise.all([...checks, ...subject.more.map(guarded)])).flat();
}

const BAD: readonly CheckStatus[] = ["missing", "fail"];

/** True when nothing is missing and nothing fails. */
export function isHealthy(results: readonly CheckResult[]): boolean {
  return results.every(({ status }) => !BAD.includes(status));
}

export function printDoctor(results: readonly CheckResult[]): string {
  const marks = {
    ok: "ok     ",
    note: "note   ",
    missing: "MISSING",
    warn: "warn   ",
    fail: "FAIL   ",
    unknown: "unknown",
  } as const;
  const lines = results.flatMap(({ name, status, detail, fix }) => [
    `${marks[status]} ${name}: ${printable(detail)}`,
    ...(fix === null ? [] : [`        -> ${printable(fix)}`]),
  ]);
  const missing = results.filter(({ status }) => BAD.includes(status)).length;
  lines.push(
    missing === 0 ? "nothing is missing" : `${missing} of ${results.length} checks found something missing or wrong`,
  );
  return `${lines.join("\n")}\n`;
}

async function node(): Promise<CheckResult> {
  const major = Number(process.versions.node.split(".")[0]);
  const detail = `${process.versions.node} at ${process.execPath}`;
  return major >= NODE_MAJOR_MIN
    ? { name: "node", status: "ok", detail, fix: null }
    : {
        name: "node",
        status: "missing",
        detail,
        fix: `use Node ${NODE_MAJOR_MIN} or later; \`make build\` installs its own`,
      };
}

/** Whether a program starts, and which version it says it is. */
export async function program(
  name: string,
  command: string,
  args: readonly string[],
  fix: string,
  otherwise: "missing" | "note",
): Promise<CheckResult> {
  try {
    const { stdout, stderr } = await run(command, [...args], { timeout: PROGRAM_DEADLINE_MS });
    return { name, status: "ok", detail: (stdout || stderr).split("\n")[0] ?? "", fix: null };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException & { stdout?: string };
    if (code === "ENOENT") return { name, status: otherwise, detail: `${command} is not there`, fix };
    const said = (error as { stdout?: string }).stdout?.split("\n")[0];
    // Some programs answer a question for their version with an exit code.
    if (said) return { name, status: "ok", detail: said, fix: null };
    return { name, status: otherwise, detail: `${command} does not run: ${message.split("\n")[0]}`, fix };
  }
}

async function userNamespaces(): Promise<CheckResult> {
  const name = "namespaces";
  const args = ["--unshare-user", "--ro-bind", "/", "/", "--", "true"];
  const asRoot = process.geteuid?.() === 0 ? args.slice(1) : args;
  try {
    await run("bwrap", asRoot, { timeout: PROGRAM_DEADLINE_MS });
    return { name, status: "ok", detail: "a mount namespace can be made", fix: null };
  } catch (error) {
    const { stderr = "", message, code } = error as NodeJS.ErrnoException & { stderr?: string };
    if (code === "ENOENT") return { name, status: "missing", detail: "not known without bubblewrap", fix: null };
    const detail = (stderr || message).trim().split("\n")[0] ?? "";
    return { name, status: "missing", detail, fix: await namespaceFix() };
  }
}

async function namespaceFix(): Promise<string> {
  const read = (path: string) =>
    readFile(path, "utf8").then(
      (text) => text.trim(),
      () => null,
    );
  if ((await read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")) === "1")
    return "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for bwrap";
  if ((await read("/proc/sys/kernel/unprivileged_userns_clone")) === "0")
    return "sysctl kernel.unprivileged_userns_clone=1";
  if ((await read("/proc/sys/user/max_user_namespaces")) === "0") return "sysctl user.max_user_namespaces=10000";
  return "allow mount and user namespaces (in a container: more capabilities or another seccomp profile)";
}

async function config(client: ClientConfig | HpccError): Promise<CheckResult> {
  const name = "configuration";
  if (client instanceof HpccError) return { name, status: "missing", detail: client.message, fix: client.hint };
  const { image } = client;
  if (image.kind === "none")
    return {
      name,
      status: "note",
      detail: "this folder's project names no image",
      fix: 'put image = "sha256:..." into hpcc.toml at its root',
    };
  if (image.kind === "unlocked")
    return {
      name,
      status: "missing",
      detail: `hpcc.lock does not say which image ${formatImageName(image.name)} is`,
      fix: "run hpcc image update, and commit hpcc.lock",
    };
  if (image.kind === "forbidden" && image.pull === true)
    return { name, status: "note", detail: `image ${image.digest} comes with its signature`, fix: null };
  if (image.kind === "forbidden")
    return {
      name,
      status: "missing",
      detail: image.why ?? `the project's image ${image.digest} is not allowed`,
      fix: "add it to images.allowed in the user's configuration, or trust its repository's signatures there",
    };
  return { name, status: "ok", detail: `image ${image.digest}`, fix: null };
}

function remote(client: ClientConfig, nowMs: number): Promise<CheckResult>[] {
  const off = async (detail: string, fix: string): Promise<CheckResult> => ({
    name: "remote compiles",
    status: "note",
    detail,
    fix,
  });
  if (!client.remote) return [off("remote = false", "set remote = true to use workers")];
  if (client.identity === null)
    return [off("no identity is configured", "set [identity] certificate, key and ca; `hpcc ca issue` makes them")];
  if (client.schedulers.length === 0) return [off("no scheduler is configured", 'set schedulers = ["host:port"]')];
  const { identity: files } = client;
  return [
    identity("certificate", files, "user", nowMs),
    ...client.schedulers.map((address) => scheduler(address, files, nowMs)),
    ...(client.image.kind === "allowed" ? [workers(client, nowMs)] : []),
  ];
}

/** Whether a worker would take a compile of this project. */
async function workers(client: ClientConfig, nowMs: number): Promise<CheckResult> {
  const name = "workers";
  return guard(name, "see the other checks", async () => {
    let found: Awaited<ReturnType<typeof workersOf>>;
    try {
      found = await workersOf(client, credentialsOf(client, nowMs));
    } catch (error) {
      if (!(error instanceof HpccError)) throw error;
      return { name, status: "missing", detail: "not known, as no scheduler answers", fix: null };
    }
    const shown = found.map(
      ({ address, identity: { name: worker }, isolation }) => `${worker} at ${formatHostPort(address)} (${isolation})`,
    );
    if (shown.length > 0) return { name, status: "ok", detail: shown.join(", "), fix: null };
    return {
      name,
      status: "missing",
      detail: `no worker offers the project's image with isolation ${client.isolationMin} or better`,
      fix:
        client.isolationMin === "qemu-tcg" || client.isolationMin === "namespace"
          ? "start one whose images.layouts holds the image; a worker just started needs a moment"
          : "start one whose images.layouts holds the image, or lower isolation_min (qemu-tcg is no boundary)",
    };
  });
}

async function identity(name: string, files: TlsFiles, kind: Identity["kind"], nowMs: number): Promise<CheckResult> {
  return guard(name, "issue one with `hpcc ca issue`", async () => {
    const own = readTlsFiles(files, nowMs);
    const days = (own.expiresMs - nowMs) / DAY_MS;
    const detail = `${spiffeId(own.identity)}, valid for ${days.toFixed(1)} days`;
    if (own.identity.kind !== kind) return { name, status: "missing", detail, fix: `it must be a ${kind}'s` };
    return { name, status: days < 1 ? "note" : "ok", detail, fix: days < 1 ? "renew it with `hpcc ca issue`" : null };
  });
}

async function scheduler(address: HostPort, files: TlsFiles, nowMs: number): Promise<CheckResult> {
  const shown = formatHostPort(address);
  const name = `scheduler ${shown}`;
  let own: OwnCredentials;
  try {
    own = readTlsFiles(files, nowMs);
  } catch (error) {
    if (!(error instanceof HpccError)) throw error;
    return { name, status: "missing", detail: "not asked, as the certificate cannot be used", fix: null };
  }
  const result = await guard<CheckResult>(
    name,
    "start it with `hpcc scheduler --config FILE`, or correct `schedulers`",
    async () => {
      const accept = (server: Identity) => server.kind === "scheduler" && sameTrustDomain(server, own.identity);
      const client = new RpcClient({ address, tls: own.tls, accept });
      const question = create(WatchRequestSchema, {
        imageDigest: `sha256:${"0".repeat(64)}`,
        isolationMin: Isolation.NAMESPACE,
      });
      const deadline = AbortSignal.timeout(SCHEDULER_DEADLINE_MS);
      try {
        for await (const _ of client.serverStream(SchedulerService.method.watch, question, { signal: deadline })) break;
        return { name, status: "ok", detail: "it answers", fix: null };
      } finally {
        client.close();
      }
    },
  );
  // The name says the address already.
  const prefix = `${shown}: `;
  const detail = result.detail.startsWith(prefix) ? result.detail.slice(prefix.length) : result.detail;
  const fix = /certificate/.test(detail) ? "both sides need certificates of the CA that identity.ca names" : result.fix;
  return { ...result, detail, fix };
}

async function guarded(check: DoctorCheck): Promise<CheckResult | readonly CheckResult[]> {
  return guard<CheckResult | readonly CheckResult[]>("check", "see the message", check);
}

/** An error is something missing; `fix` is for one that has no better hint of its own. */
async function guard<T>(name: string, fix: string, check: () => Promise<T>): Promise<T | CheckResult> {
  try {
    return await check();
  } catch (error) {
    if (!(error instanceof HpccError)) throw error;
    const own = error.hint === ERROR_TRAITS[error.code].hint ? fix : error.hint;
    return { name, status: "missing", detail: error.message, fix: own };
  }
}
