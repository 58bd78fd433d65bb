// The flags column of an audit row: the command as executed, as one line of JSON. It is an argv of env(1), so that the row
// alone says what was run, where and with which environment: ["env","-i","-C",cwd,"NAME=value",...,program,argument,...].
import type { ByteString } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";

export interface Command {
  readonly cwd: ByteString;
  /** "NAME=value"; a name never begins with "/". */
  readonly environment: readonly ByteString[];
  /** The program's absolute path first. */
  readonly argv: readonly ByteString[];
}

const PREFIX = ["env", "-i", "-C"];

/** Printable ASCII only: every other byte is \u00xx, so that each command has one text and no tab or line end is in it. */
export function encodeFlags({ cwd, environment, argv }: Command): string {
  const words = [...PREFIX, cwd, ...environment, ...argv];
  return `[${words.map((word) => `"${word.replace(/["\\]|[^ -~]/g, escaped)}"`).join(",")}]`;
}

/** Reads what `encodeFlags` wrote; throws `audit.corrupt` for any other text. UNTRUSTED: a log. */
export function decodeFlags(flags: string): Command {
  const words = parseWords(flags);
  const program = words.findIndex((word, at) => at > PREFIX.length && word.startsWith("/"));
  const [cwd, ...environment] = words.slice(PREFIX.length, program);
  if (program < 0 || cwd === undefined) throw corrupt();
  const command = { cwd, environment, argv: words.slice(program) };
  if (encodeFlags(command) !== flags) throw corrupt();
  return command;
}

function parseWords(flags: string): ByteString[] {
  let words: unknown;
  try {
    words = JSON.parse(flags);
  } catch {
    throw corrupt();
  }
  if (!Array.isArray(words) || !words.every((word) => typeof word === "string")) throw corrupt();
  if (words.some((word) => /[^\0-\xff]/.test(word))) throw corrupt();
  return words as ByteString[];
}

function escaped(character: string): string {
  if (character === '"' || character === "\\") return `\\${character}`;
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

function corrupt(): HpccError {
  return new HpccError("audit.corrupt", "a flags column is not a command of hpcc");
}
