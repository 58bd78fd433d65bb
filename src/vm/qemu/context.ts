// What all machines of one QEMU runtime share.
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { AgentDeadlines } from "../agent/limits.ts";
import type { OpenStream } from "../agent/stream.ts";
import type { GuestFiles } from "../guest-files.ts";
import type { Accelerator } from "./command-line.ts";

export interface QemuPrograms {
  readonly qemu: string;
  readonly vsockDevice: string;
  /** As `qemu --version` names it. */
  readonly qemuVersion: string;
}

export interface QemuBootContext {
  readonly programs: QemuPrograms;
  readonly openStream: OpenStream;
  readonly guest: GuestFiles;
  readonly accelerator: Accelerator;
  /** A machine that is asked for with more gets as many; see `vcpusMaxOf`. */
  readonly vcpusMax: number;
  /** Rate of the host's time stamp counter. */
  readonly tscKhz: number;
  /** Folder of the machines' folders. */
  readonly vmsFolder: string;
  /** Folder for larger outputs of executions. */
  readonly outputsFolder: string;
  readonly bootDeadlineMs: number;
  readonly deadlines: AgentDeadlines;
  readonly clock: Clock;
  readonly logger: Logger;
}
