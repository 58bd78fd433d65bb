// HTTP requests to registries, their token services and where they redirect to: certificates of one's own from Docker's and
// Podman's folders, proxies of the environment, deadlines. UNTRUSTED: registry. It knows nothing of images or credentials.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import http, { type IncomingMessage } from "node:http";
import https from "node:https";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import tls from "node:tls";
import { HpccError } from "../../base/errors.ts";
import { ANSWER_BYTES_MAX, REDIRECTS_MAX, type Timing } from "./limits.ts";

export interface Answer {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: IncomingMessage;
  readonly url: URL;
}

export interface Sent {
  readonly method: "GET" | "HEAD" | "POST" | "PUT";
  readonly headers?: Readonly<Record<string, string>>;
  /** Text, or a stream made anew for this request. */
  readonly body?: string | Buffer | (() => Readable);
  /** Over the whole answer; null: what reads the body watches its progress. */
  readonly deadlineMs: number | null;
}

export interface DialerOptions {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Folders that hold `<host:port>/*.crt`, `*.cert` and `*.key`. */
  readonly certificateFolders: readonly string[];
  /** Hosts whose certificates are not checked, as registries.conf says. */
  readonly insecureHosts: ReadonlySet<string>;
  readonly timing: Timing;
  readonly signal?: AbortSignal | undefined;
}

const CERTIFICATE_ERRORS = /^(?:CERT_|DEPTH_ZERO|ERR_TLS_CERT|SELF_SIGNED|UNABLE_TO_(?:GET|VERIFY)|CRL_|HOSTNAME_)/;

/** Node's and the machine's; reading them takes a while. */
let publicCas: readonly string[] | null = null;

export class Dialer {
  readonly #options: DialerOptions;
  readonly #agents = new Map<string, http.Agent>();

  constructor(options: DialerOptions) {
    this.#options = options;
  }

  get timing(): Timing {
    return this.#options.timing;
  }

  get signal(): AbortSignal | undefined {
    return this.#options.signal;
  }

  isInsecure(host: string): boolean {
    return this.#options.insecureHosts.has(host);
  }

  close(): void {
    for (const agent of this.#agents.values()) agent.destroy();
  }

  /** One request and the beginning of its answer. Redirects are followed, other hosts are not sent what authorises. */
  async send(url: URL, sent: Sent): Promise<Answer> {
    let at = url;
    let { headers = {} } = sent;
    for (let redirects = 0; ; redirects += 1) {
      const answer = await this.#once(at, { ...sent, headers });
      const { location } = answer.headers;
      if (![301, 302, 303, 307, 308].includes(answer.status) || location === undefined || sent.method === "POST")
        return answer;
      answer.body.destroy();
      if (redirects >= REDIRECTS_MAX)
        throw new HpccError("registry.protocol", `${url.host} redirects more than ${REDIRECTS_MAX} times`);
      const next = URL.canParse(location, at.href) ? new URL(location, at) : null;
      if (next === null || !(next.protocol === "https:" || (next.protocol === "http:" && at.protocol === "http:")))
        throw new HpccError("registry.protocol", `${at.host} redirects to an address that is not https`);
      if (next.origin !== at.origin)
        headers = Object.fromEntries(
          Object.entries(headers).filter(([name]) => name.toLowerCase() !== "authorization"),
        );
      at = next;
    }
  }

  async #once(url: URL, sent: Sent): Promise<Answer> {
    const { timing, signal } = this.#options;
    const deadline = sent.deadlineMs === null ? null : AbortSignal.timeout(sent.deadlineMs);
    const signals = [signal, deadline].filter((one) => one !== undefined && one !== null);
    const request = (url.protocol === "https:" ? https : http).request(url, {
      method: sent.method,
      headers: sent.headers ?? {},
      agent: this.#agent(url),
      timeout: timing.stallMs,
      ...(signals.length > 0 && { signal: AbortSignal.any(signals) }),
    });
    request.on("timeout", () => request.destroy(stalled(url.host, timing)));
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      request.on("response", resolve);
      request.on("error", reject);
    });
    answered.catch(() => {});
    try {
      if (typeof sent.body === "function") {
        // An answer may come before everything was sent; then what is left cannot be.
        const fed = pipeline(sent.body(), request);
        await Promise.race([answered, fed]);
        const body = await answered;
        if (body.statusCode !== undefined && body.statusCode < 300) await fed;
        fed.catch(() => {});
        return { status: body.statusCode ?? 0, headers: body.headers, body, url };
      }
      request.end(sent.body);
      const body = await answered;
      return { status: body.statusCode ?? 0, headers: body.headers, body, url };
    } catch (error) {
      throw this.failure(error, url.host);
    }
  }

  /** What an error of a request or of an answer's body means. */
  failure(error: unknown, host: string): HpccError {
    if (error instanceof HpccError) return error;
    const { name, code = "", message } = error as NodeJS.ErrnoException;
    if (this.#options.signal?.aborted === true) return new HpccError("job.cancelled", "interrupted", { cause: error });
    if (name === "TimeoutError" || name === "AbortError")
      return new HpccError("registry.unavailable", `${host} did not answer in time`, { cause: error });
    if (CERTIFICATE_ERRORS.test(code))
      return new HpccError("registry.protocol", `the certificate of ${host} is not trusted: ${message}`, {
        cause: error,
        hint: `Put the CA's certificate into ~/.config/containers/certs.d/${host}/ca.crt or /etc/docker/certs.d/${host}/ca.crt.`,
      });
    return new HpccError("registry.unavailable", `${host} cannot be reached, or broke off: ${message || code}`, {
      cause: error,
    });
  }

  #agent(url: URL): http.Agent {
    const known = this.#agents.get(url.origin);
    if (known !== undefined) return known;
    const { env, insecureHosts } = this.#options;
    const common = { keepAlive: true, proxyEnv: { ...env } };
    const agent =
      url.protocol === "http:"
        ? new http.Agent(common)
        : new https.Agent({
            ...common,
            secureContext: this.#secureContext(url.host),
            rejectUnauthorized: !insecureHosts.has(url.host),
          });
    this.#agents.set(url.origin, agent);
    return agent;
  }

  #secureContext(host: string): tls.SecureContext {
    publicCas ??= [...new Set([...tls.getCACertificates("default"), ...tls.getCACertificates("system")])];
    const ca = [...publicCas];
    let pair: { cert?: string; key?: string } = {};
    for (const folder of this.#options.certificateFolders.map((at) => join(at, host))) {
      if (!existsSync(folder)) continue;
      for (const name of readdirSync(folder).sort()) {
        const path = join(folder, name);
        if (name.endsWith(".crt")) ca.push(readFileSync(path, "utf8"));
        const key = path.replace(/\.cert$/, ".key");
        if (name.endsWith(".cert") && pair.cert === undefined && existsSync(key))
          pair = { cert: readFileSync(path, "utf8"), key: readFileSync(key, "utf8") };
      }
    }
    try {
      return tls.createSecureContext({ ca, ...pair });
    } catch (cause) {
      throw new HpccError("config.invalid", `a certificate or key for ${host} cannot be read`, { cause });
    }
  }
}

export function stalled(host: string, { stallMs, stallBytesMin }: Timing): HpccError {
  return new HpccError(
    "registry.unavailable",
    `${host} stalled: it sent fewer than ${stallBytesMin} bytes in ${Math.ceil(stallMs / 1000)} seconds`,
  );
}

/** A small answer's whole body. UNTRUSTED: registry. */
export async function readSmall(dialer: Dialer, answer: Answer, bytesMax = ANSWER_BYTES_MAX): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  try {
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      sizeBytes += chunk.length;
      if (sizeBytes > bytesMax)
        throw new HpccError("registry.protocol", `${answer.url.host} answers with more than ${bytesMax} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    throw dialer.failure(error, answer.url.host);
  } finally {
    answer.body.destroy();
  }
  return Buffer.concat(chunks);
}

/** Chunks of a long answer; ends with an error when too little comes. UNTRUSTED: registry. */
export async function* watched(dialer: Dialer, answer: Answer): AsyncGenerator<Buffer, void, void> {
  const { timing } = dialer;
  let movedBytes = 0;
  const watch = setInterval(() => {
    if (movedBytes < timing.stallBytesMin) answer.body.destroy(stalled(answer.url.host, timing));
    movedBytes = 0;
  }, timing.stallMs);
  try {
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      movedBytes += chunk.length;
      yield chunk;
    }
  } catch (error) {
    throw dialer.failure(error, answer.url.host);
  } finally {
    clearInterval(watch);
    answer.body.destroy();
  }
}
