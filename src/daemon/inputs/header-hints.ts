// Headers and libraries that the image lacks and this machine has: what a build meets that was configured by the machine's own libraries. Names the
// package and the way to add it, to the log, to `hpcc stats` and `hpcc doctor`, and to a terminal. UNTRUSTED: the compiler's words.
import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { type ByteString, byteStringOf, bytesOf, displayText } from "../../base/byte-string.ts";
import type { Logger } from "../../base/log.ts";
import { linkedLibraries } from "../../core/compile/linked-libraries.ts";
import { missingHeader } from "../../core/compile/missing-header.ts";
import { packageOfFile } from "../../image/host/find-host-packages.ts";
import type { CallMessage } from "../../wire/launcher/messages.ts";

interface HeaderHint {
  /** As it is included, or `libz` of `-lz`. */
  readonly header: ByteString;
  /** Where this machine has it. */
  readonly path: ByteString;
  /** Debian's package that it belongs to; null when dpkg knows none. */
  readonly package: string | null;
}

interface HeaderHintsOptions {
  readonly logger: Logger;
  /** Where this machine's headers are. */
  readonly folders?: readonly string[];
}

const FOLDERS = ["/usr/local/include", "/usr/include/x86_64-linux-gnu", "/usr/include"];
/** Where linkers look for what has no folder of its own. */
const LIBRARY_FOLDERS = [
  "/usr/local/lib",
  "/usr/lib/x86_64-linux-gnu",
  "/lib/x86_64-linux-gnu",
  "/usr/lib64",
  "/lib64",
  "/usr/lib",
  "/lib",
];
const LOOKS_ELSEWHERE = /^(?:LIBRARY_PATH|COMPILER_PATH|GCC_EXEC_PREFIX)=./;
/** A build that lacks more lacks them for the same reason. */
const HINTS_MAX = 64;
/** The fatal error is at the end of what a compiler says. */
const SAID_BYTES_MAX = 64 * 1024;

export class HeaderHints {
  readonly #options: HeaderHintsOptions;
  readonly #known = new Map<ByteString, Promise<HeaderHint>>();
  readonly #found: HeaderHint[] = [];

  constructor(options: HeaderHintsOptions) {
    this.#options = options;
  }

  /** What to do about a compile that failed, by the file with its words; null when it is not about a header of this machine. */
  async look(words: ByteString): Promise<string | null> {
    try {
      return await this.#look(words);
    } catch (error) {
      // The call ends as it would without advice: a full disk, say, has left no words.
      this.#options.logger.warn("image.header_unknown", { message: String(error) });
      return null;
    }
  }

  async #look(words: ByteString): Promise<string | null> {
    const header = missingHeader(endOf(words));
    if (header === null) return null;
    const path = this.#pathOf(header);
    return path === undefined ? null : this.#adviceOn(header, path);
  }

  /**
   * What to do about a link that names a library of this machine which neither its own folders nor the image have; null when that is not
   * so, or cannot be known. A link's words are the linker's, so this is said ahead of it.
   */
  async lookAtLink(
    { argv, cwd, environment }: Pick<CallMessage, "argv" | "cwd" | "environment">,
    imageFile: (path: ByteString) => ByteString | null,
  ): Promise<string | null> {
    try {
      const linked = linkedLibraries(argv);
      if (linked === null || environment.some((entry) => LOOKS_ELSEWHERE.test(entry))) return null;
      const own = linked.folders.map((folder) => (folder.startsWith("/") ? folder : `${cwd}/${folder}`));
      for (const name of linked.names) {
        const files = [`lib${name}.so`, `lib${name}.a`];
        const paths = (folders: readonly string[]) =>
          folders.flatMap((folder) => files.map((file) => `${folder}/${file}` as ByteString));
        if (paths(own).some(isFile) || paths([...own, ...LIBRARY_FOLDERS]).some((path) => imageFile(path) !== null))
          continue;
        const path = paths(LIBRARY_FOLDERS).find(isFile);
        if (path !== undefined) return await this.#adviceOn(`lib${name}` as ByteString, path);
      }
    } catch (error) {
      this.#options.logger.warn("image.library_unknown", { message: String(error) });
    }
    return null;
  }

  async #adviceOn(header: ByteString, path: ByteString): Promise<string | null> {
    let hint = this.#known.get(header);
    if (hint === undefined) {
      if (this.#known.size >= HINTS_MAX) return null;
      hint = this.#find(header, path);
      this.#known.set(header, hint);
    }
    return adviceOf(await hint);
  }

  /** What has been found, for people. */
  list(): readonly string[] {
    return this.#found.map(adviceOf);
  }

  #pathOf(header: ByteString): ByteString | undefined {
    const { folders = FOLDERS } = this.#options;
    return folders.map((folder) => `${folder}/${header}` as ByteString).find(isFile);
  }

  async #find(header: ByteString, path: ByteString): Promise<HeaderHint> {
    const hint = { header, path, package: await packageOfFile(path) };
    this.#found.push(hint);
    this.#options.logger.warn("image.header_missing", { header: displayText(header), advice: adviceOf(hint) });
    return hint;
  }
}

function isFile(path: ByteString): boolean {
  return statSync(bytesOf(path), { throwIfNoEntry: false })?.isFile() === true;
}

function adviceOf({ header, path, package: name }: HeaderHint): string {
  const what = `the image lacks ${displayText(header)}, which this machine has`;
  return name === null
    ? `${what} at ${displayText(path)}, of no package; copy it into the project, or add its folder to extra_roots`
    : `${what} from the package ${name}; \`hpcc image build --from-host --with ${name}\` makes an image that has it`;
}

function endOf(file: ByteString): ByteString {
  const descriptor = openSync(bytesOf(file), "r");
  try {
    const { size } = fstatSync(descriptor);
    const length = Math.min(size, SAID_BYTES_MAX);
    const bytes = Buffer.alloc(length);
    const count = readSync(descriptor, bytes, 0, length, size - length);
    return byteStringOf(bytes.subarray(0, count));
  } finally {
    closeSync(descriptor);
  }
}
