// The file operations of this process below one folder, numbered as they come: each may fail, be done in part, or be the last one. What is
// not touched is the machine's own. One at a time in a process.
import { constants } from "node:fs";
import promises, { type FileHandle } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { basename } from "node:path";

export interface FileOperation {
  /** From 0. */
  readonly nth: number;
  readonly what: string;
  readonly path: string;
  /** Whether it writes bytes, of which a part may be written. */
  readonly divisible: boolean;
}

/** Does what is asked of an operation; `part` does some of its bytes, or all of it for one that has none. */
export type Interfere = (
  operation: FileOperation,
  run: { readonly all: () => Promise<unknown>; readonly half: () => Promise<unknown> },
) => Promise<unknown>;

type Callable = (...args: never[]) => Promise<unknown>;
type Table = Record<string, Callable>;

const PATH_CALLS = ["mkdir", "rename", "rm", "truncate", "unlink", "writeFile", "appendFile"] as const;
const HANDLE_CALLS = ["write", "writeFile", "sync", "datasync", "truncate"] as const;
const WITH_BYTES = ["write", "writeFile", "appendFile"];

/** Runs with all operations on files below a folder going through `interfere`; opening for reading alone is none. */
export async function withFaultyFiles<T>(below: string, interfere: Interfere, run: () => Promise<T>): Promise<T> {
  const paths = new WeakMap<object, string>();
  let count = 0;
  const real = promises as unknown as Table;
  const handles = await handlePrototype();
  const before = { calls: pick(real, [...PATH_CALLS, "open"]), handles: pick(handles, HANDLE_CALLS) };
  const through = async (what: string, path: string, all: () => Promise<unknown>, half?: () => Promise<unknown>) => {
    if (!path.startsWith(below)) return all();
    const operation = { nth: count++, what: `${what} ${basename(path)}`, path, divisible: half !== undefined };
    return interfere(operation, { all, half: half ?? (async () => undefined) });
  };
  for (const name of PATH_CALLS)
    real[name] = async (...args: unknown[]) => {
      const call = (own: unknown[]) => (before.calls[name] as (...a: unknown[]) => Promise<unknown>)(...own);
      const half = async () => call([args[0], halfOf(args[1]), ...args.slice(2)]);
      return through(name, String(args[0]), async () => call(args), WITH_BYTES.includes(name) ? half : undefined);
    };
  real["open"] = async (...args: unknown[]) => {
    const open = async () => {
      const handle = (await (before.calls["open"] as (...a: unknown[]) => Promise<unknown>)(...args)) as FileHandle;
      paths.set(handle, String(args[0]));
      return handle;
    };
    const [, flags = "r"] = args;
    const reads = typeof flags === "number" ? (flags & (constants.O_WRONLY | constants.O_RDWR)) === 0 : flags === "r";
    return reads ? open() : through("open", String(args[0]), open);
  };
  for (const name of HANDLE_CALLS)
    handles[name] = async function (this: FileHandle, ...args: unknown[]) {
      const call = (own: unknown[]) => (before.handles[name] as (...a: unknown[]) => Promise<unknown>).apply(this, own);
      const half = async () =>
        name === "write"
          ? call([args[0], args[1], Number(args[2]) >> 1, args[3]])
          : call([halfOf(args[0]), ...args.slice(1)]);
      const path = paths.get(this) ?? "";
      return through(name, path, async () => call(args), WITH_BYTES.includes(name) ? half : undefined);
    };
  syncBuiltinESMExports();
  try {
    return await run();
  } finally {
    Object.assign(real, before.calls);
    Object.assign(handles, before.handles);
    syncBuiltinESMExports();
  }
}

async function handlePrototype(): Promise<Table> {
  const any = await promises.open("/dev/null");
  const prototype = Object.getPrototypeOf(any) as Table;
  await any.close();
  return prototype;
}

function pick(table: Table, names: readonly string[]): Table {
  return Object.fromEntries(names.map((name) => [name, table[name]!]));
}

function halfOf(bytes: unknown): Uint8Array {
  const all = typeof bytes === "string" ? Buffer.from(bytes) : (bytes as Uint8Array);
  return all.subarray(0, all.length >> 1);
}
