// Reads what can be said of a program without trusting what it says of itself: its place, its bytes, how it is linked.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { promisify } from "node:util";
import { findProgram } from "../../base/system/find-program.ts";
import type { FileText, ProgramFacts } from "./host-facts.ts";
import { readPath } from "./read-path.ts";

const VERSION_DEADLINE_MS = 5_000;
const VERSION_BYTES_MAX = 4_096;
/** A release's programs are smaller than 10 MB, debug builds smaller than this. */
const PROGRAM_BYTES_MAX = 512 * 1024 * 1024;

/** Facts of a program by its name on PATH or its path. */
export async function readProgramFacts(name: string): Promise<ProgramFacts> {
  const path = findProgram(name);
  const file = path === null ? null : await readPath("/", path);
  if (path === null || file === null || file.stopped?.why === "ENOENT")
    return { name, file: null, version: { t: "absent" }, sha256: null, dynamic: null };
  return {
    name,
    file,
    version: await versionOf(path),
    sha256: await digestOf(path).catch(() => null),
    dynamic: await isDynamic(path).catch(() => null),
  };
}

async function versionOf(path: string): Promise<FileText> {
  try {
    const { stdout } = await promisify(execFile)(path, ["--version"], {
      timeout: VERSION_DEADLINE_MS,
      killSignal: "SIGKILL",
      maxBuffer: VERSION_BYTES_MAX,
      env: {},
    });
    return { t: "text", text: stdout.trim() };
  } catch (error) {
    const { code, signal } = error as { code?: string | number | null; signal?: string | null };
    return { t: "unreadable", why: `it ended with ${code ?? signal ?? "no answer"}` };
  }
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { end: PROGRAM_BYTES_MAX - 1 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

const ELF_MAGIC = "7f454c46";
const ELF_CLASS_64 = 2;
const ELF_LITTLE_ENDIAN = 1;
const ELF_HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const PROGRAM_HEADERS_MAX = 256;
const INTERPRETER = 3;

/** Whether an ELF file asks for a dynamic loader; null for what is none. UNTRUSTED: the file. */
async function isDynamic(path: string): Promise<boolean | null> {
  const file = await open(path, "r");
  try {
    const header = Buffer.alloc(ELF_HEADER_BYTES);
    const { bytesRead } = await file.read(header, 0, header.length, 0);
    if (bytesRead < header.length || header.toString("hex", 0, 4) !== ELF_MAGIC) return null;
    if (header[4] !== ELF_CLASS_64 || header[5] !== ELF_LITTLE_ENDIAN) return null;
    const [offset, size, count] = [
      Number(header.readBigUInt64LE(32)),
      header.readUInt16LE(54),
      header.readUInt16LE(56),
    ];
    if (size !== PROGRAM_HEADER_BYTES || count > PROGRAM_HEADERS_MAX || !Number.isSafeInteger(offset)) return null;
    const table = Buffer.alloc(size * count);
    if ((await file.read(table, 0, table.length, offset)).bytesRead < table.length) return null;
    return Array.from({ length: count }, (_, index) => table.readUInt32LE(index * size)).includes(INTERPRETER);
  } finally {
    await file.close();
  }
}
