// The last bytes that a process or a guest's console wrote, for error messages. UNTRUSTED: guest

const KEPT_BYTES = 16 * 1024;
const LINES_SHOWN = 12;
const LINE_LENGTH_MAX = 200;

export class ProcessLog {
  #kept = Buffer.alloc(0);
  #totalBytes = 0;

  /** Bytes written so far, kept or not. */
  get totalBytes(): number {
    return this.#totalBytes;
  }

  add(bytes: Buffer): void {
    this.#totalBytes += bytes.length;
    this.#kept = Buffer.concat([this.#kept, bytes]).subarray(-KEPT_BYTES);
  }

  /** Whether a text, ASCII, is in what is kept. */
  includes(text: string): boolean {
    return this.#kept.includes(text, 0, "latin1");
  }

  /** The last lines, bounded and printable; empty when nothing was written. */
  tail(): string {
    const lines = this.#kept.toString("latin1").split(/[\r\n]+/);
    return lines
      .map((line) => line.replace(/[^\x20-\x7e]/g, "").slice(0, LINE_LENGTH_MAX))
      .filter((line) => line !== "")
      .slice(-LINES_SHOWN)
      .join("\n");
  }
}
