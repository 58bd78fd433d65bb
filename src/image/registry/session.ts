// One repository of one registry, for reading or for reading and writing: finds whether it speaks TLS, answers its challenge
// with a token or a password, and says what its refusals mean. UNTRUSTED: registry.
import { setTimeout as delay } from "node:timers/promises";
import { HpccError } from "../../base/errors.ts";
import type { Credential } from "./credentials.ts";
import { type Answer, type Dialer, readSmall, type Sent } from "./dialer.ts";

export interface SessionOptions {
  readonly dialer: Dialer;
  /** Where it is dialled: "registry.example.com:5000". */
  readonly host: string;
  readonly repository: string;
  readonly credential: Credential | null;
  readonly actions: "pull" | "pull,push";
}

const RETRY_AFTER_MS_MAX = 30_000;
const TOKEN = /^[\x21-\x7e]{1,65536}$/;
/** Of a challenge; its other parameters are not needed. */
const PARAMETER = /\b(realm|service)="([^"]*)"/gi;
const SAID_LENGTH_MAX = 200;

/** Docker Hub's registry has another host than its name. */
export function dialledHost(registry: string): string {
  return registry === "docker.io" ? "registry-1.docker.io" : registry;
}

export function isLoopback(host: string): boolean {
  return /^(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?$/.test(host);
}

export class RegistrySession {
  readonly #options: SessionOptions;
  #base: Promise<URL> | null = null;
  #authorization: string | null = null;

  constructor(options: SessionOptions) {
    this.#options = options;
  }

  get dialer(): Dialer {
    return this.#options.dialer;
  }

  get host(): string {
    return this.#options.host;
  }

  get repository(): string {
    return this.#options.repository;
  }

  /** Asks once, with what authorises; a challenge is answered once. */
  async send(path: string | URL, sent: Sent): Promise<Answer> {
    const url = typeof path === "string" ? await this.url(path) : path;
    const { origin } = await this.#root();
    const send = () =>
      this.#options.dialer.send(url, {
        ...sent,
        headers: {
          ...sent.headers,
          ...(this.#authorization !== null && url.origin === origin && { authorization: this.#authorization }),
        },
      });
    const answer = await send();
    const challenge = answer.headers["www-authenticate"];
    // What the registry redirects to may not say where its credentials go.
    const isItsOwn = answer.url.origin === origin;
    if (answer.status !== 401 || challenge === undefined || !isItsOwn) return answer;
    answer.body.destroy();
    await this.#authorise(challenge, url);
    return send();
  }

  /** Asks until there is an answer that is not the fault of the moment. */
  async ask(path: string | URL, sent: Sent): Promise<Answer> {
    return retrying(this.dialer, async () => {
      const answer = await this.send(path, sent);
      if (answer.status !== 429 && answer.status < 500) return answer;
      throw await this.refusal(answer, "the request");
    });
  }

  async url(path: string): Promise<URL> {
    return new URL(`/v2/${this.repository}/${path}`, await this.#root());
  }

  async #root(): Promise<URL> {
    this.#base ??= this.#findBase();
    return this.#base;
  }

  /** TLS, but on loopback and where registries.conf says so plain HTTP where TLS is not spoken. */
  async #findBase(): Promise<URL> {
    const { dialer, host } = this.#options;
    const secure = new URL(`https://${host}`);
    if (!isLoopback(host) && !dialer.isInsecure(host)) return secure;
    try {
      const answer = await dialer.send(new URL("/v2/", secure), {
        method: "GET",
        deadlineMs: dialer.timing.documentMs,
      });
      answer.body.destroy();
      return secure;
    } catch (error) {
      const isPlain = error instanceof HpccError && isNoTls(error.cause);
      const plain = new URL(`http://${host}`);
      if (!isPlain) throw error;
      return plain;
    }
  }

  async #authorise(challenge: string, url: URL): Promise<void> {
    const { credential, host } = this.#options;
    const isBasic = /^basic\b/i.test(challenge);
    if (isBasic || !/^bearer /i.test(challenge)) {
      if (!isBasic) throw new HpccError("registry.protocol", `${host} wants to be authorised in an unknown way`);
      if (credential === null) throw denied(host, "wants credentials, and there are none for it");
      if (credential.kind !== "password") throw denied(host, "wants a password, and only a token is kept for it");
      this.#authorization = basic(credential);
      return;
    }
    const said = new Map<string, string>();
    for (const [, name = "", value = ""] of challenge.matchAll(PARAMETER)) said.set(name.toLowerCase(), value);
    const realm = said.get("realm") ?? "";
    const service = URL.canParse(realm) ? new URL(realm) : null;
    if (service === null || !(service.protocol === "https:" || this.#mayBePlain(service, url)))
      throw new HpccError("registry.protocol", `${host} sends credentials to an address that is not https`);
    this.#authorization = `Bearer ${await this.#token(service, said)}`;
  }

  /** Without TLS, a token service is the registry's own host, or one where the user, too, allows plain HTTP. */
  #mayBePlain(service: URL, registry: URL): boolean {
    if (service.protocol !== "http:" || registry.protocol !== "http:") return false;
    const { host } = service;
    return host === registry.host || isLoopback(host) || this.dialer.isInsecure(host);
  }

  async #token(realm: URL, said: ReadonlyMap<string, string>): Promise<string> {
    const { credential, dialer, host, repository, actions } = this.#options;
    const scope = `repository:${repository}:${actions}`;
    const service = said.get("service") ?? "";
    const deadlineMs = dialer.timing.documentMs;
    const answer = await retrying(dialer, async () => {
      const form = new URLSearchParams({ service, scope });
      if (credential?.kind === "identity") {
        form.set("grant_type", "refresh_token");
        form.set("client_id", "hpcc");
        form.set("refresh_token", credential.token);
        const headers = { "content-type": "application/x-www-form-urlencoded" };
        return dialer.send(realm, { method: "POST", headers, body: form.toString(), deadlineMs });
      }
      const url = new URL(realm);
      for (const [name, value] of form) url.searchParams.set(name, value);
      const headers: Record<string, string> = credential === null ? {} : { authorization: basic(credential) };
      return dialer.send(url, { method: "GET", headers, deadlineMs });
    });
    const bytes = await readSmall(dialer, answer);
    if (answer.status === 401 || answer.status === 403 || answer.status === 400)
      throw denied(
        host,
        credential === null ? "gives no access without credentials" : "refuses the credentials; they may have expired",
      );
    const parsed = jsonObject(bytes);
    const token = parsed?.["token"] ?? parsed?.["access_token"];
    if (answer.status !== 200 || typeof token !== "string" || !TOKEN.test(token))
      throw new HpccError(
        "registry.protocol",
        `the token service ${realm.host} of ${host} gives no token (${answer.status})`,
      );
    return token;
  }

  /** The error that a refusal means. Reads what the registry says, and believes nothing of it. */
  async refusal(answer: Answer, what: string): Promise<HpccError> {
    const said = saidBy(await readSmall(this.dialer, answer).catch(() => Buffer.alloc(0)));
    const { credential, host } = this.#options;
    const words = `${host} answers ${what} with ${answer.status}${said === "" ? "" : ` (${said})`}`;
    switch (answer.status) {
      case 401:
        return credential === null
          ? denied(host, `wants credentials for ${this.repository}, and there are none for it`)
          : denied(host, `refuses the credentials for ${this.repository}; they may have expired`);
      case 403:
        return denied(host, `does not allow this with ${this.repository}${said === "" ? "" : ` (${said})`}`);
      case 404:
        return new HpccError("image.missing", words, {
          hint: "Check the name, the tag and, for a private repository, the login.",
        });
      default:
        return answer.status === 429 || answer.status >= 500
          ? new HpccError("registry.unavailable", words, { details: { retryAfterMs: retryAfterMs(answer) } })
          : new HpccError("registry.protocol", words);
    }
  }
}

/** Tries again what the moment may have been to blame for. */
export async function retrying<T>(dialer: Dialer, make: () => Promise<T>): Promise<T> {
  const { attemptsMax, retryMs } = dialer.timing;
  for (let attempt = 1; ; attempt += 1)
    try {
      return await make();
    } catch (error) {
      const mayPass = error instanceof HpccError && error.code === "registry.unavailable";
      if (!mayPass || attempt >= attemptsMax) throw error;
      const asked = Number(error.details["retryAfterMs"] ?? 0);
      await delay(Math.max(asked, retryMs * 2 ** (attempt - 1)), undefined, { signal: dialer.signal }).catch(() => {
        throw dialer.failure(error, "");
      });
    }
}

function retryAfterMs(answer: Answer): number {
  const seconds = Number(answer.headers["retry-after"] ?? 0);
  return Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds * 1000, RETRY_AFTER_MS_MAX) : 0;
}

function denied(host: string, why: string): HpccError {
  return new HpccError("registry.denied", `${host} ${why}`, {
    hint: `Log in with \`docker login ${host}\`, \`podman login ${host}\` or \`skopeo login ${host}\`.`,
  });
}

function basic(credential: Credential): string {
  const { user, password } =
    credential.kind === "password" ? credential : { user: "<token>", password: credential.token };
  return `Basic ${Buffer.from(`${user}:${password}`, "utf8").toString("base64")}`;
}

function jsonObject(bytes: Buffer): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(bytes.toString("utf8"));
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

/** Code and message of an answer's first error, printable and short. */
function saidBy(bytes: Buffer): string {
  const list = jsonObject(bytes)?.["errors"];
  const first: unknown = Array.isArray(list) ? list[0] : null;
  if (typeof first !== "object" || first === null) return "";
  const { code, message } = first as { code?: unknown; message?: unknown };
  const words = [code, message].filter((part) => typeof part === "string").join(": ");
  return words.replace(/[^\x20-\x7e]/g, "?").slice(0, SAID_LENGTH_MAX);
}

/** Whether the other side answered, and not with TLS. */
function isNoTls(cause: unknown): boolean {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code ?? "";
  return code === "EPROTO" || code.startsWith("ERR_SSL_");
}
