// A real QEMU runtime for tests, under emulation unless HPCC_TEST_ACCELERATOR says otherwise, and requests for its machines.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdCompressSync } from "node:zlib";
import { assertBuilt } from "../../scripts/build-stamps.ts";
import { ascii, byteStringOfText } from "../../src/base/byte-string.ts";
import type { Logger } from "../../src/base/log.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import type { ExecutionInput, ExecutionRequest } from "../../src/vm/execution.ts";
import { openQemuRuntime } from "../../src/vm/qemu/runtime.ts";
import type { BootSpec, Runtime } from "../../src/vm/runtime.ts";

export const INSTALLED = join(import.meta.dirname, "../../out/lib/hpcc");
export const GUEST_FOLDER = join(INSTALLED, "guest");
export const MACHINE = { memoryBytes: 1024 * 2 ** 20, vcpus: 2 };

/** Folders of a test's runtime; disposing removes them. */
export class VmFolders implements Disposable {
  readonly root: string;
  readonly vms: string;
  readonly outputs: string;
  readonly kvmVerdict: string;

  constructor(root = mkdtempSync(join(tmpdir(), "hpcc-vm-"))) {
    this.root = root;
    this.vms = join(root, "vms");
    this.outputs = join(root, "outputs");
    this.kvmVerdict = join(root, "kvm.json");
  }

  /** What machines have left behind. */
  leftovers(): string[] {
    return [...readdirSync(this.vms), ...readdirSync(this.outputs)];
  }

  [Symbol.dispose](): void {
    rmSync(this.root, { recursive: true, force: true });
  }
}

/** A guest's clock against the host's, beside the time that asking takes. */
export const CLOCK_OFF_MS_MAX = 10;

export interface TestRuntimeOptions {
  readonly guestFolder?: string;
  readonly qemuProgram?: string;
  readonly logger?: Logger;
  readonly accelerator?: "auto" | "kvm" | "tcg";
}

/** What HPCC_TEST_ACCELERATOR says, else emulation, which runs everywhere. */
export function testAccelerator(): "auto" | "kvm" | "tcg" {
  const wanted = process.env["HPCC_TEST_ACCELERATOR"];
  return wanted === "kvm" || wanted === "auto" ? wanted : "tcg";
}

export function openTestRuntime(folders: VmFolders, options: TestRuntimeOptions = {}): Promise<Runtime> {
  assertBuilt(join(import.meta.dirname, "../.."), ["native", "guest"]);
  const { guestFolder = GUEST_FOLDER, logger = SILENT_LOGGER, accelerator = testAccelerator() } = options;
  return openQemuRuntime(
    {
      qemuProgram: options.qemuProgram ?? "qemu-system-x86_64",
      vsockDeviceProgram: join(INSTALLED, "vhost-device-vsock"),
      channelProgram: join(INSTALLED, "channel"),
      guestFolder,
      vmsFolder: folders.vms,
      outputsFolder: folders.outputs,
      kvmVerdictFile: folders.kvmVerdict,
      accelerator,
      clock: SYSTEM_CLOCK,
      logger,
    },
    new AbortController().signal,
  );
}

export function bootSpec(rootfs: string): BootSpec {
  return { rootfs, goldenOwner: null, ...MACHINE };
}

export function textInput(path: string, text: string): ExecutionInput {
  const bytes = Buffer.from(text);
  const frame = zstdCompressSync(bytes);
  return {
    path: byteStringOfText(path),
    executable: false,
    sizeBytes: bytes.length,
    frameSizeBytes: bytes.length === 0 ? 0 : frame.length,
    openFrame: () => [frame],
  };
}

export function request(
  argv: readonly string[],
  fields: Partial<Omit<ExecutionRequest, "limits">> & { limits?: Partial<ExecutionRequest["limits"]> } = {},
): ExecutionRequest {
  return {
    argv: argv.map(byteStringOfText),
    environment: ["PATH=/usr/bin:/bin", "LC_ALL=C", "HOME=/nonexistent", "TZ=UTC"].map(ascii),
    cwd: ascii("/hpcc/project"),
    inputs: [],
    links: [],
    folders: [],
    outputs: [],
    terminalColumns: 0,
    ...fields,
    limits: {
      wallMs: 120_000,
      memoryBytes: 512 * 2 ** 20,
      pids: 64,
      outputBytes: 64 * 2 ** 20,
      stdioBytes: 2 ** 20,
      ...fields.limits,
    },
  };
}

/** Processes that a process, this one unless said, started and that live, by the name of their program. */
export function childrenNamed(name: string, parentPid = process.pid): number[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
        const [state, parent] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
        const comm = stat.slice(stat.indexOf("(") + 1, stat.lastIndexOf(")"));
        return state !== "Z" && Number(parent) === parentPid && name.startsWith(comm);
      } catch {
        return false;
      }
    });
}
