// Which build a call belongs to: the one that the caller's environment names, else the build tool that runs it. The name goes into the
// audit rows of the call's jobs and into nothing else. UNTRUSTED: the caller's environment, the launcher's process id.
import { createHash } from "node:crypto";
import { readFileSync, readlinkSync } from "node:fs";
import type { ByteString } from "../../base/byte-string.ts";
import type { Logger } from "../../base/log.ts";
import { BUILD_ID_LENGTH_MAX, BUILD_ID_VARIABLE, type BuildId, isBuildId } from "../../core/identity/build-id.ts";
import { Remembered } from "./remembered.ts";

export interface Process {
  /** At most 15 characters, as the kernel keeps them. */
  readonly name: string;
  readonly parent: number;
  /** In clock ticks since the machine's start: with the id it is one process for good. */
  readonly started: string;
}

/** Null for a process that is gone or cannot be seen. */
export type ReadProcess = (pid: number) => Process | null;

export interface CallBuild {
  /** Null for a call that belongs to no build that is known. */
  readonly build: BuildId | null;
  /** What the caller is to be told, once for each bad name. */
  readonly warning: string | null;
}

/** Programs that run a build, or a part of one. Several may stand above each other: the topmost is the build. */
const BUILD_TOOLS: ReadonlySet<string> = new Set(
  "make gmake bmake remake ninja ninja-build samu cmake ctest meson scons b2 bjam xmake tup cargo redo ckati dpkg-buildpacka rpmbuild".split(
    " ",
  ),
);

const ANCESTORS_MAX = 64;
const REMEMBERED_MAX = 1_000;
const WARNED_MAX = 100;
const ID_DIGITS = 24;

export class Builds {
  readonly #logger: Logger;
  readonly #read: ReadProcess;
  readonly #machine: () => string;
  /** The build of a process that was seen above a compiler. */
  readonly #known = new Remembered<BuildId | null>(REMEMBERED_MAX);
  readonly #warned = new Remembered<true>(WARNED_MAX);

  constructor(parts: { readonly logger: Logger; readonly read?: ReadProcess; readonly machine?: () => string }) {
    const { logger, read = readProcess, machine = thisMachine } = parts;
    this.#logger = logger;
    this.#read = read;
    this.#machine = machine;
  }

  of({ environment, pid }: { readonly environment: readonly ByteString[]; readonly pid: number }): CallBuild {
    const prefix = `${BUILD_ID_VARIABLE}=`;
    const given = environment.find((entry) => entry.startsWith(prefix))?.slice(prefix.length) ?? "";
    if (isBuildId(given)) return { build: given, warning: null };
    return { build: this.#treeOf(pid), warning: given === "" ? null : this.#warning(given) };
  }

  #warning(given: string): string | null {
    if (this.#warned.get(given) !== undefined) return null;
    this.#warned.set(given, true);
    this.#logger.warn("build_id.refused", { length: given.length });
    return (
      `${BUILD_ID_VARIABLE} is not printable ASCII of at most ${BUILD_ID_LENGTH_MAX} characters; ` +
      "the audit log gets a name that hpcc makes for this build"
    );
  }

  /** A name for the topmost build tool among a process's ancestors. */
  #treeOf(pid: number): BuildId | null {
    const above: { readonly key: string; readonly isTool: boolean }[] = [];
    let build: BuildId | null = null;
    // The compiler's own process is gone soon, and is no build tool.
    for (let at = this.#read(pid)?.parent ?? 0; at > 1 && above.length < ANCESTORS_MAX; ) {
      const process = this.#read(at);
      if (process === null) break;
      const key = `${at} ${process.started}`;
      const known = this.#known.get(key);
      if (known !== undefined) {
        build = known;
        break;
      }
      above.push({ key, isTool: BUILD_TOOLS.has(process.name) });
      at = process.parent;
    }
    // From the top down: a shell above two builds belongs to neither.
    for (const { key, isTool } of above.reverse()) {
      if (isTool) build ??= this.#named(key);
      this.#known.set(key, build);
    }
    return build;
  }

  #named(process: string): BuildId {
    const digest = createHash("sha256").update(`${this.#machine()}\n${process}`).digest("hex");
    return `make-${digest.slice(0, ID_DIGITS)}` as BuildId;
  }
}

/** What tells this machine's processes from those of others, until it starts again. */
function thisMachine(): string {
  try {
    return `${readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim()} ${readlinkSync("/proc/self/ns/pid")}`;
  } catch {
    return "";
  }
}

/** By proc(5). A name may hold anything, parentheses too. */
export function readProcess(pid: number): Process | null {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return null;
  }
  const end = text.lastIndexOf(")");
  const fields = text.slice(end + 2).split(" ");
  const [parent, started] = [Number(fields[1]), fields[19]];
  if (end < 0 || !Number.isSafeInteger(parent) || started === undefined) return null;
  return { name: text.slice(text.indexOf("(") + 1, end), parent, started };
}
