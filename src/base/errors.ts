// The one error type, over a closed list of codes. A code states who is to blame, whether a retry can help, the exit
// code of a command that ends with it, and a hint for the person. Edges map codes to their own status, once.

export interface ErrorTrait {
  /** Whether the same call may succeed later or elsewhere. */
  readonly retryable: boolean;
  /** Who has to act. */
  readonly blame: "caller" | "operator" | "peer" | "bug";
  /** Exit code of a command line that ends with this error. */
  readonly exitCode: number;
  /** What a person can do, one sentence. */
  readonly hint: string;
}

const usage = { retryable: false, blame: "caller", exitCode: 2 } as const;
const operator = { retryable: false, blame: "operator", exitCode: 1 } as const;
const peer = { retryable: true, blame: "peer", exitCode: 1 } as const;

export const ERROR_TRAITS = {
  "argument.invalid": { ...usage, hint: "See `hpcc help`." },
  "config.invalid": { ...usage, hint: "Correct the file, variable or flag that is named." },
  "image.invalid": { ...operator, hint: "Build the image again with `hpcc image build`." },
  "image.missing": { ...operator, hint: "`hpcc image ls` lists the images that are here." },
  "image.altered": {
    ...operator,
    hint: "Take away what was made of the image, the folder that is named; it is made again at the next call.",
  },
  "image.differs": {
    ...operator,
    hint: "Client and worker run other files under one image's digest; `hpcc doctor` on both tells which of them changed.",
  },
  "image.fetching": {
    retryable: true,
    blame: "operator",
    exitCode: 1,
    hint: "It comes by itself; `hpcc doctor` shows how far it is.",
  },
  "image.forbidden": { ...operator, hint: "Allow the image's digest in the user's configuration, `images.allowed`." },
  "image.untrusted": {
    ...operator,
    hint: "Ask who makes the image for one that is signed with the key of `images.trust`.",
  },
  "registry.denied": {
    ...operator,
    hint: "Log in to the registry, with `docker login`, `podman login` or `skopeo login`.",
  },
  "registry.protocol": { ...peer, hint: "The registry's answer is not one; ask who runs it, or try a mirror." },
  "registry.unavailable": { ...peer, hint: "Check the registry's address, the network and the proxy; then try again." },
  "tool.missing": { ...operator, hint: "`hpcc doctor` names the missing program and its package." },
  "namespace.unavailable": {
    ...operator,
    hint: 'Let this user make user namespaces, or allow `fallback = "host"`; `hpcc doctor` says what forbids them.',
  },
  "identity.invalid": { ...operator, hint: "Issue a certificate with `hpcc ca issue`." },
  "identity.forbidden": { ...operator, hint: "The certificate does not allow this; ask who runs the CA." },
  "peer.protocol": { ...peer, hint: "The other side broke the protocol; check that both run the same version." },
  "peer.unavailable": { ...peer, hint: "The other side cannot be reached; check its address and that it runs." },
  "peer.deadline": { ...peer, hint: "The other side did not answer in time." },
  "isolation.weak": { ...operator, hint: "Use a worker with stronger isolation, or ask for less." },
  "limit.exceeded": {
    retryable: false,
    blame: "caller",
    exitCode: 1,
    hint: "The request is over a limit that it names.",
  },
  "job.cancelled": { retryable: true, blame: "caller", exitCode: 130, hint: "It was given up." },
  "job.failed": { ...peer, hint: "The worker could not run the compile; its log says why." },
  "store.corrupt": { ...operator, hint: "The entry was set aside; the compile runs again." },
  "store.io": { ...operator, hint: "Check the disk's space and permissions." },
  "audit.io": { ...operator, hint: "Check the path, its permissions and the disk's space." },
  "audit.corrupt": { ...operator, hint: "The log was altered or torn; keep it and ask who runs the worker." },
  "database.unavailable": {
    ...peer,
    hint: "Check the database's address, the network and that it runs; then try again.",
  },
  "database.refused": {
    ...operator,
    hint: "Ask who owns the database; `hpcc audit database grant` gives a role its rights.",
  },
  "evidence.gone": {
    ...operator,
    hint: "Rows outlive what retention or eviction removed; ask who runs the worker for a copy.",
  },
  "vm.boot": { ...operator, hint: "`hpcc doctor` on the worker tells what the machine lacks." },
  "vm.breach": { ...peer, hint: "A guest broke its contract and was destroyed." },
  "result.revoked": { ...peer, hint: "What the worker had is no answer any more; the compile can be tried again." },
  "vm.lost": { ...peer, hint: "The microVM ended before its answer; the compile can be tried again." },
  "hash.unknown": { ...usage, hint: "No row, key, source, result or blob of yours has this hash." },
} as const satisfies Record<string, ErrorTrait>;

export type ErrorCode = keyof typeof ERROR_TRAITS;

/** Narrows foreign text to a code; null when the list does not hold it. */
export function parseErrorCode(text: string): ErrorCode | null {
  return Object.hasOwn(ERROR_TRAITS, text) ? (text as ErrorCode) : null;
}

export interface HpccErrorOptions {
  readonly cause?: unknown;
  readonly details?: Readonly<Record<string, string | number | boolean>>;
  /** What a person can do, where more is known than the code's own hint says. */
  readonly hint?: string;
}

/** A failure with a code of the closed list. `message` names the thing and, where it can, the way out. */
export class HpccError extends Error {
  override readonly name = "HpccError";
  readonly code: ErrorCode;
  readonly details: Readonly<Record<string, string | number | boolean>>;
  readonly hint: string;

  constructor(code: ErrorCode, message: string, options: HpccErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = options.details ?? {};
    this.hint = options.hint ?? ERROR_TRAITS[code].hint;
  }

  get retryable(): boolean {
    return ERROR_TRAITS[this.code].retryable;
  }
}

/** States what cannot be false unless hpcc itself is wrong. */
export function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(`bug: ${what}`);
}
