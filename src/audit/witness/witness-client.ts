// The log's side of C2SP's tlog-witness: one witness that is asked to cosign checkpoints.
import { request as plainRequest, type RequestOptions } from "node:http";
import { request as tlsRequest } from "node:https";
import { HpccError } from "../../base/errors.ts";
import { consistencyProof, type HashAt } from "../../core/merkle/proof.ts";
import { type Cosignature, cosignaturesOf } from "../../core/note/cosignature.ts";
import type { WitnessAddress } from "../../core/note/witness-address.ts";
import { encodeAddCheckpoint } from "./add-checkpoint.ts";

const REQUEST_MS_MAX = 10_000;
const ANSWER_BYTES_MAX = 16 * 1024;
/** A checkpoint that is to be cosigned. */
export interface Published {
  readonly size: number;
  /** The note. */
  readonly checkpoint: string;
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}

export class WitnessClient {
  readonly address: WitnessAddress;
  readonly #ca: readonly string[];
  /** Rows that the witness knows of; 0 until it has said more. */
  #known = 0;

  constructor(address: WitnessAddress, ca: readonly string[]) {
    this.address = address;
    this.#ca = ca;
  }

  /**
   * The witness's cosignature. Throws `audit.corrupt` when it has seen another log under this name, or a longer one; `peer.unavailable`,
   * `peer.deadline` or `peer.protocol` when it does not answer as it should. UNTRUSTED: the witness.
   */
  async cosign(published: Published, hashAt: HashAt, signal: AbortSignal): Promise<Cosignature> {
    let answer = await this.#ask(published, hashAt, signal);
    if (answer.status === 409) {
      const known = sizeOf(answer);
      const { origin, size } = { origin: this.#name, size: published.size };
      if (known > size)
        throw new HpccError("audit.corrupt", `${origin} has seen ${known} rows of the log, which has ${size}`);
      if (known === this.#known)
        throw new HpccError("audit.corrupt", `${origin} has seen another log of ${known} rows under this one's name`);
      this.#known = known;
      answer = await this.#ask(published, hashAt, signal);
    }
    if (answer.status === 422)
      throw new HpccError("audit.corrupt", `${this.#name} has seen another log under this one's name`);
    if (answer.status !== 200)
      throw new HpccError("peer.protocol", `${this.#name} answers ${answer.status}: ${printableStart(answer.body)}`);
    const cosignature = this.#cosignatureIn(published, answer.body);
    this.#known = published.size;
    return cosignature;
  }

  get #name(): string {
    return `the witness ${this.address.key.name}`;
  }

  #cosignatureIn({ checkpoint }: Published, body: string): Cosignature {
    try {
      const [first] = cosignaturesOf(checkpoint + body, [this.address.key]);
      if (first !== undefined) return first;
    } catch (error) {
      throw new HpccError("peer.protocol", `${this.#name} answers with a wrong cosignature`, { cause: error });
    }
    throw new HpccError("peer.protocol", `${this.#name} answers without a cosignature of its key`);
  }

  async #ask({ size, checkpoint }: Published, hashAt: HashAt, signal: AbortSignal): Promise<Answer> {
    const oldSize = Math.min(this.#known, size);
    const body = encodeAddCheckpoint({ oldSize, proof: consistencyProof(oldSize, size, hashAt), checkpoint });
    const { url } = this.address;
    const limit = AbortSignal.any([signal, AbortSignal.timeout(REQUEST_MS_MAX)]);
    try {
      return await post(new URL(`${url.pathname.replace(/\/?$/, "/")}add-checkpoint`, url), body, {
        signal: limit,
        ca: this.#ca,
      });
    } catch (error) {
      if (signal.aborted) throw new HpccError("job.cancelled", `${this.#name} was not waited for`, { cause: error });
      if (limit.aborted) throw new HpccError("peer.deadline", `${this.#name} did not answer in time`, { cause: error });
      throw new HpccError("peer.unavailable", `${this.#name} cannot be reached`, { cause: error });
    }
  }
}

function sizeOf({ type, body }: Answer): number {
  if (!type.startsWith("text/x.tlog.size") || !/^(0|[1-9][0-9]{0,15})\n$/.test(body))
    throw new HpccError("peer.protocol", "a witness says a conflict and no size");
  return Number(body);
}

function printableStart(text: string): string {
  return text.slice(0, 200).replace(/[^ -~]+/g, " ");
}

async function post(
  url: URL,
  body: string,
  { signal, ca }: { readonly signal: AbortSignal; readonly ca: readonly string[] },
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const options: RequestOptions = { method: "POST", signal, headers: { "content-type": "text/plain" } };
  const ask =
    url.protocol === "https:"
      ? tlsRequest(url, { ...options, ca: [...ca], minVersion: "TLSv1.2" })
      : plainRequest(url, options);
  ask.on("error", reject);
  ask.on("response", (response) => {
    const parts: Buffer[] = [];
    let bytes = 0;
    response.on("error", reject);
    response.on("data", (part: Buffer) => {
      bytes += part.length;
      parts.push(part);
      if (bytes > ANSWER_BYTES_MAX) ask.destroy(new Error("the answer is too long"));
    });
    response.on("end", () =>
      resolve({
        status: response.statusCode ?? 0,
        type: response.headers["content-type"] ?? "",
        body: Buffer.concat(parts).toString("utf8"),
      }),
    );
  });
  ask.end(body);
  return promise;
}
