// Headers that the image lacks and this machine has: what a build meets that was configured by the machine's own libraries. Names the
// package and the way to add it, to the log, to `hpcc stats` and `hpcc doctor`, and to a terminal. UNTRUSTED: the compiler's words.
import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { type ByteString, byteStringOf, bytesOf, displayText } from "../../base/byte-string.ts";
import type { Logger } from "../../base/log.ts";
import { missingHeader } from "../../core/compile/missing-header.ts";
import { packageOfFile } from "../../image/host/find-host-packages.ts";

interface HeaderHint {
  /** As it is included. */
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
    if (path === undefined) return null;
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
    return folders
      .map((folder) => `${folder}/${header}` as ByteString)
      .find((path) => statSync(bytesOf(path), { throwIfNoEntry: false })?.isFile() === true);
  }

  async #find(header: ByteString, path: ByteString): Promise<HeaderHint> {
    const hint = { header, path, package: await packageOfFile(path) };
    this.#found.push(hint);
    this.#options.logger.warn("image.header_missing", { header: displayText(header), advice: adviceOf(hint) });
    return hint;
  }
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
