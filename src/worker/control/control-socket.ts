// A worker's control socket: one line of JSON asks, one line answers. Only the user that the worker runs as (and root) can connect.
// Whoever listens has the state folder for itself. UNTRUSTED: both lines.
import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { chmod, type FileHandle, mkdir, open, rename, rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { HpccError, parseErrorCode } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";

const NAME = "control.sock";
const CONNECTIONS_MAX = 8;
/** A retention rule for each of a thousand tenants fits. */
const REQUEST_BYTES_MAX = 64 * 1024;
const ANSWER_BYTES_MAX = 4 * 1024 * 1024;
/** For the whole request to arrive. */
const REQUEST_MS_MAX = 5_000;
/** For the answer; what a worker does for a request has its own deadline, which is shorter. */
const ANSWER_MS_MAX = 15 * 60 * 1000;

/** Answers a request, which is some JSON value; an HpccError that it throws goes to who asked. */
export type ControlHandler = (request: unknown) => Promise<object>;

export interface ControlOptions {
  readonly stateFolder: string;
  readonly handle: ControlHandler;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Listens until it is closed. Throws `argument.invalid` when another process has the state folder. */
export class ControlServer {
  readonly #server: Server;
  readonly #path: string;
  readonly #sockets = new Set<Socket>();

  private constructor(options: ControlOptions) {
    this.#path = join(options.stateFolder, NAME);
    this.#server = createServer({ allowHalfOpen: true }, (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => socket.destroy());
      void serve(socket, options);
    });
    this.#server.maxConnections = CONNECTIONS_MAX;
  }

  static async listen(options: ControlOptions): Promise<ControlServer> {
    const control = new ControlServer(options);
    const path = control.#path;
    await mkdir(options.stateFolder, { recursive: true, mode: 0o700 });
    const other = await dial(options.stateFolder);
    other?.destroy();
    if (other !== null)
      throw new HpccError("argument.invalid", `another process uses the state folder ${options.stateFolder}`);
    // Nobody can connect before it has its mode.
    const temporary = `${NAME}.${randomBytes(5).toString("hex")}`;
    await withShortPath(options.stateFolder, temporary, async (short) => {
      await new Promise<void>((resolve, reject) => {
        control.#server.once("error", (error) =>
          reject(new HpccError("config.invalid", `cannot listen at ${path}`, { cause: error })),
        );
        control.#server.listen(short, resolve);
      });
      await chmod(short, 0o600);
      await rename(short, path);
    });
    return control;
  }

  /** May be called again. */
  async close(): Promise<void> {
    if (!this.#server.listening) return;
    await rm(this.#path, { force: true });
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Asks whoever has the state folder; null when nobody has. Throws what it answers with, or `peer.protocol`. */
export async function askControl(stateFolder: string, request: object): Promise<unknown> {
  const socket = await dial(stateFolder);
  if (socket === null) return null;
  try {
    socket.setTimeout(ANSWER_MS_MAX, () => socket.destroy(new HpccError("peer.deadline", "the worker did not answer")));
    socket.end(`${JSON.stringify(request)}\n`);
    const line = await readLine(socket, ANSWER_BYTES_MAX);
    if (line === null) throw new HpccError("peer.protocol", "the worker ended the conversation without an answer");
    return answerOf(line);
  } finally {
    socket.destroy();
  }
}

function answerOf(line: string): unknown {
  const answer = jsonOf(line) as { ok?: unknown; value?: unknown; code?: unknown; message?: unknown } | null;
  if (answer?.ok === true) return answer.value;
  const code = parseErrorCode(String(answer?.code));
  if (code === null) throw new HpccError("peer.protocol", "the worker's answer is none");
  throw new HpccError(code, String(answer?.message));
}

async function serve(socket: Socket, { handle, clock, logger }: ControlOptions): Promise<void> {
  const timer = clock.after(REQUEST_MS_MAX, () => socket.destroy());
  try {
    const line = await readLine(socket, REQUEST_BYTES_MAX);
    timer.cancel();
    if (line === null) return;
    const answer = await answerTo(line, handle, logger);
    socket.setTimeout(REQUEST_MS_MAX, () => socket.destroy());
    socket.end(`${JSON.stringify(answer)}\n`);
  } catch {
    socket.destroy();
  } finally {
    timer.cancel();
  }
}

async function answerTo(line: string, handle: ControlHandler, logger: Logger): Promise<object> {
  try {
    return { ok: true, value: await handle(jsonOf(line)) };
  } catch (error) {
    if (error instanceof HpccError) return { ok: false, code: error.code, message: error.message };
    logger.error("worker.control.bug", { error: String((error as Error | null)?.stack ?? error) });
    return { ok: false, code: "job.failed", message: "the worker failed; its log says why" };
  }
}

function jsonOf(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch {
    throw new HpccError("argument.invalid", "a request is one line of JSON");
  }
}

/** The first line; null when the other side ends before it. Throws when it is too long. */
async function readLine(socket: Socket, bytesMax: number): Promise<string | null> {
  let text = Buffer.alloc(0);
  for await (const part of socket.iterator({ destroyOnReturn: false })) {
    text = Buffer.concat([text, part as Buffer]);
    const end = text.indexOf("\n");
    if (end >= 0 && end <= bytesMax) return text.toString("utf8", 0, end);
    if (text.length > bytesMax) throw new HpccError("limit.exceeded", "the line is too long");
  }
  return null;
}

/** Null when nobody listens. */
async function dial(stateFolder: string): Promise<Socket | null> {
  return withShortPath(stateFolder, NAME, (path) => {
    const { promise, resolve, reject } = Promise.withResolvers<Socket | null>();
    const socket = connect({ path, allowHalfOpen: true });
    socket.once("connect", () => resolve(socket));
    socket.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" || error.code === "ECONNREFUSED") resolve(null);
      else
        reject(
          new HpccError("peer.unavailable", `cannot ask the worker of ${stateFolder}: ${error.code}`, { cause: error }),
        );
    });
    return promise;
  });
}

/** A socket's path holds 107 bytes, a state folder's may be longer. */
async function withShortPath<T>(folder: string, name: string, use: (path: string) => Promise<T>): Promise<T> {
  let handle: FileHandle;
  try {
    handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new HpccError("argument.invalid", `${folder} is no folder that can be opened: ${code}`, { cause: error });
  }
  try {
    return await use(`/proc/self/fd/${handle.fd}/${name}`);
  } finally {
    await handle.close();
  }
}
