// Credentials for a registry from where Docker and Podman keep them: their files, and the helpers that these name. Values are never
// logged or shown.
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { HpccError } from "../../base/errors.ts";

export type Credential =
  | { readonly kind: "password"; readonly user: string; readonly password: string }
  /** A token that the registry's token service trades for one that lasts minutes. */
  | { readonly kind: "identity"; readonly token: string };

type Environment = Readonly<Record<string, string | undefined>>;
type Json = Readonly<Record<string, unknown>>;

const FILE_BYTES_MAX = 1024 * 1024;
const HELPER_MS_MAX = 60_000;
const HELPER_NAME = /^[A-Za-z0-9._-]{1,64}$/;
const IDENTITY_USER = "<token>";

/** The files in which credentials may stand, the first that has some for the registry wins. */
export function credentialFiles(env: Environment): string[] {
  const { HOME: home, REGISTRY_AUTH_FILE: named, DOCKER_CONFIG: docker } = env;
  const [runtime, config] = [env["XDG_RUNTIME_DIR"], env["XDG_CONFIG_HOME"]];
  return [
    named,
    runtime && join(runtime, "containers/auth.json"),
    config ? join(config, "containers/auth.json") : home && join(home, ".config/containers/auth.json"),
    docker ? join(docker, "config.json") : home && join(home, ".docker/config.json"),
  ].filter((path): path is string => path !== undefined && path !== "");
}

/** What to log in with; null where nothing is kept. */
export async function findCredential(
  env: Environment,
  registry: string,
  repository: string,
): Promise<Credential | null> {
  for (const path of credentialFiles(env)) {
    const file = readJson(path);
    if (file === null) continue;
    const found = await inFile(file, { path, env, registry, repository });
    if (found !== null) return found;
  }
  return null;
}

interface Sought {
  readonly path: string;
  readonly env: Environment;
  readonly registry: string;
  readonly repository: string;
}

async function inFile(file: Json, sought: Sought): Promise<Credential | null> {
  const { env, registry } = sought;
  const helpers = objectOf(file["credHelpers"]);
  const server = registry === "docker.io" ? "https://index.docker.io/v1/" : registry;
  const named = helpers[registry] ?? helpers[server];
  if (typeof named === "string") return askHelper(named, server, env);
  const auths = objectOf(file["auths"]);
  for (const key of keysOf(sought)) {
    if (!Object.hasOwn(auths, key)) continue;
    const found = parseEntry(objectOf(auths[key]), sought.path, key);
    if (found !== null) return found;
  }
  const store = file["credsStore"];
  return typeof store === "string" && store !== "" ? askHelper(store, server, env) : null;
}

/** Podman's keys name repositories or what is above them; Docker's may be URLs. */
function keysOf({ registry, repository }: Sought): string[] {
  const parts = repository.split("/");
  const scopes = parts.map((_, at) => `${registry}/${parts.slice(0, parts.length - at).join("/")}`);
  const hosts = registry === "docker.io" ? ["docker.io", "index.docker.io", "registry-1.docker.io"] : [registry];
  return [
    ...scopes,
    ...hosts.flatMap((host) => [host, `https://${host}`, `https://${host}/v1/`, `https://${host}/v2/`]),
  ];
}

function parseEntry(entry: Json, path: string, key: string): Credential | null {
  const { identitytoken, auth } = entry;
  if (typeof identitytoken === "string" && identitytoken !== "") return { kind: "identity", token: identitytoken };
  if (typeof auth !== "string" || auth === "") return null;
  // Old versions of Docker padded with zeros.
  const [decoded = ""] = Buffer.from(auth, "base64").toString("utf8").split("\0");
  const colon = decoded.indexOf(":");
  if (colon < 1) throw new HpccError("config.invalid", `${path}: the entry of ${key} is no user and password`);
  return { kind: "password", user: decoded.slice(0, colon), password: decoded.slice(colon + 1) };
}

/** Asks `docker-credential-NAME get`. */
async function askHelper(name: string, server: string, env: Environment): Promise<Credential | null> {
  if (!HELPER_NAME.test(name)) throw new HpccError("config.invalid", "the name of a credential helper is none");
  const program = `docker-credential-${name}`;
  const failed = (why: string, cause?: unknown) =>
    new HpccError("registry.denied", `${program}, which keeps the credentials of ${server}, ${why}`, { cause });
  let said: { readonly code: number | null; readonly out: string };
  try {
    const child = spawn(program, ["get"], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...env },
      signal: AbortSignal.timeout(HELPER_MS_MAX),
    });
    said = await conversation(child, server);
  } catch (cause) {
    throw failed("cannot be run", cause);
  }
  if (said.code !== 0) {
    if (/credentials not found/i.test(said.out)) return null;
    throw failed(`failed (${said.code ?? "killed"})`);
  }
  const answer = parseJson(said.out);
  const [user, secret] = [answer?.["Username"], answer?.["Secret"]];
  if (typeof user !== "string" || typeof secret !== "string") throw failed("gives no user and secret");
  return user === IDENTITY_USER ? { kind: "identity", token: secret } : { kind: "password", user, password: secret };
}

async function conversation(child: ChildProcess, input: string): Promise<{ code: number | null; out: string }> {
  child.stdin!.on("error", () => {});
  child.stdin!.end(`${input}\n`);
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  const [code, out] = await Promise.all([ended, text(child.stdout!)]);
  return { code, out: out.slice(0, FILE_BYTES_MAX) };
}

function readJson(path: string): Json | null {
  let content: string;
  try {
    content = readFileSync(path, "utf8");
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return null;
    throw new HpccError("config.invalid", `${path}, where credentials of registries are kept, cannot be read`, {
      cause,
    });
  }
  const parsed = content.length > FILE_BYTES_MAX ? null : parseJson(content);
  if (parsed === null)
    throw new HpccError("config.invalid", `${path}, where credentials of registries are kept, is no JSON`);
  return parsed;
}

function parseJson(content: string): Json | null {
  try {
    const value: unknown = JSON.parse(content);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : null;
  } catch {
    return null;
  }
}

function objectOf(value: unknown): Json {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : {};
}
