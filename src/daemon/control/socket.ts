// The daemon's Unix socket: a private folder, one daemon per folder, connections of this user only.
import { chmodSync, lstatSync, mkdirSync, renameSync, rmSync, utimesSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { HpccError } from "../../base/errors.ts";
import { type Directories, daemonLock, daemonSocket } from "../../config/directories.ts";

const CONNECTIONS_MAX = 4_096;
const PROBE_MS = 2_000;
const NEW = ".new";
/** sun_path holds 108 bytes with its NUL. */
const SOCKET_PATH_BYTES_MAX = 107;

/** Makes the runtime folder 0700 and checks that it is ours: a folder of somebody else may be a trap. */
export function prepareRuntimeFolder(folder: string, uid: number): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const stat = lstatSync(folder);
  if (!stat.isDirectory() || stat.uid !== uid)
    throw new HpccError("config.invalid", `${folder} is not a folder of user ${uid}; set HPCC_RUNTIME_DIR to one`);
  if ((stat.mode & 0o777) !== 0o700) chmodSync(folder, 0o700);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    const end = (answer: boolean) => {
      probe.destroy();
      resolve(answer);
    };
    probe.setTimeout(PROBE_MS, () => end(true));
    probe.on("connect", () => end(true));
    probe.on("error", () => end(false));
  });
}

export interface LauncherSocket {
  /** Whether launchers still reach this daemon: not so when the runtime folder was removed, and perhaps made anew for another one. */
  isOurs(): boolean;
  /** Ends listening. What is another daemon's by now is left alone. */
  close(): void;
}

/** Listens at the daemon's socket. Throws `argument.invalid` when another daemon answers there. */
export async function listenForLaunchers(
  directories: Pick<Directories, "runtime">,
  serve: (socket: Socket) => void,
): Promise<LauncherSocket> {
  const path = daemonSocket(directories);
  if (Buffer.byteLength(`${path}${NEW}`) > SOCKET_PATH_BYTES_MAX)
    throw new HpccError("config.invalid", `${path} is too long for a socket; set HPCC_RUNTIME_DIR to a shorter path`);
  if (await answers(path)) throw new HpccError("argument.invalid", `a daemon is running already at ${path}`);
  // Under another name, since closing removes whatever lies at the name that it was given.
  const made = `${path}${NEW}`;
  for (const left of [path, made]) rmSync(left, { force: true });
  const server = createServer(serve);
  server.maxConnections = CONNECTIONS_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    // The folder is 0700, so nobody else can reach the socket between bind and chmod.
    server.listen({ path: made, backlog: 1024 }, () => resolve());
  });
  chmodSync(made, 0o600);
  renameSync(made, path);
  // Numbers of files that are gone are given to new ones.
  const identity = () => {
    const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
    return stat === undefined ? null : `${stat.dev} ${stat.ino} ${stat.ctimeNs}`;
  };
  const own = identity();
  const isOurs = () => identity() === own;
  return {
    isOurs,
    close() {
      if (isOurs()) rmSync(path, { force: true });
      server.close();
    },
  };
}

/** Says that the daemon ends from now on: whoever needs the next one waits for that as long as for a start. */
export function tellEnd(directories: Pick<Directories, "runtime">, nowMs: number): void {
  try {
    utimesSync(daemonLock(directories), nowMs / 1000, nowMs / 1000);
  } catch {
    // Nobody who waits finds a lock, then.
  }
}
