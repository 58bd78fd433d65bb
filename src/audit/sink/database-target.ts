// Which database is meant, and how it is reached: a URL, or a file with one. A password stands in the file, in PGPASSWORD or in a
// password file of PostgreSQL's, never in the arguments of a process; it is in no message.
import { open } from "node:fs/promises";
import { Client } from "pg";
import { HpccError } from "../../base/errors.ts";

export interface DatabaseNames {
  readonly url: string | null;
  /** A file whose first line is the URL. */
  readonly file: string | null;
}

/** Gives a client that is not connected yet; a file is read each time, as its password may have changed. */
export type DatabaseTarget = () => Promise<Client>;

const URL_START = /^postgres(ql)?:\/\//;
const FILE_BYTES_MAX = 4096;

export interface ConnectionLimits {
  readonly connectMs: number;
  readonly statementMs: number;
  /** What the server shows of who asks. */
  readonly application: string;
}

export function databaseTarget({ url, file }: DatabaseNames, limits: ConnectionLimits): DatabaseTarget {
  if ((url === null) === (file === null))
    throw new HpccError("argument.invalid", "name the database: --database URL, or --database-file FILE with the URL");
  if (url !== null && hasPassword(url))
    throw new HpccError(
      "argument.invalid",
      "the database's URL holds a password, which every user of this machine can read",
      {
        hint: "Put the URL into a file of yours and name it with --database-file, or the password into PGPASSFILE's file.",
      },
    );
  return async () => newClient(url ?? (await readUrl(file!)), limits);
}

function hasPassword(url: string): boolean {
  return /^[a-z]+:\/\/[^/?#:]*:[^/?#]*@/i.test(url) || /[?&]password=/i.test(url);
}

async function readUrl(path: string): Promise<string> {
  let text: string;
  try {
    const handle = await open(path, "r");
    try {
      const { mode, size } = await handle.stat();
      if ((mode & 0o077) !== 0)
        throw new HpccError("config.invalid", `${path} can be read by others than its owner; chmod 600 it`);
      if (size > FILE_BYTES_MAX) throw new HpccError("config.invalid", `${path} is no file with a database's URL`);
      text = await handle.readFile("utf8");
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error instanceof HpccError) throw error;
    const { code = "an error" } = error as NodeJS.ErrnoException;
    throw new HpccError("config.invalid", `the database's URL cannot be read from ${path}: ${code}`);
  }
  return text.split("\n")[0]!.trim();
}

function newClient(url: string, limits: ConnectionLimits): Client {
  const settings = {
    connectionTimeoutMillis: limits.connectMs,
    statement_timeout: limits.statementMs,
    // Where the server says nothing more at all.
    query_timeout: limits.statementMs + limits.connectMs,
    application_name: limits.application,
    keepAlive: true,
  };
  // Never the parser's own error, which could say what it was given.
  const invalid = new HpccError(
    "config.invalid",
    "the database's URL is none such as postgresql://user@host:5432/hpcc",
  );
  if (!URL_START.test(url)) throw invalid;
  let client: Client;
  try {
    client = new Client({ ...settings, connectionString: url });
    // What leaves the machine is encrypted, and the server shown to be the one that is named, unless the URL says otherwise.
    if (!client.ssl && !isLocal(client.host) && !/[?&]ssl(mode)?=/.test(url))
      client = new Client({ ...settings, connectionString: url, ssl: true });
  } catch {
    throw invalid;
  }
  return client;
}

/** A folder with a socket, or this machine. */
function isLocal(host: string): boolean {
  return host.startsWith("/") || host === "localhost" || host === "::1" || /^127\.\d+\.\d+\.\d+$/.test(host);
}
