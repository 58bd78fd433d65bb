// The one mapper between HpccError and gRPC status. The code of our closed list travels in the metadata `hpcc-code`;
// the status serves peers that do not know it.
import { Metadata, status } from "@grpc/grpc-js";
import { type ErrorCode, HpccError, parseErrorCode } from "../../base/errors.ts";

/** A gRPC status as grpc-js takes it from a handler. */
export interface RpcStatus {
  readonly code: status;
  readonly details: string;
  readonly metadata: Metadata;
}

const CODE_HEADER = "hpcc-code";
const MESSAGE_LENGTH_MAX = 1024;

/** Codes whose status says more than that the same call may or may not succeed later. */
const STATUS_OF_CODE: Readonly<Partial<Record<ErrorCode, status>>> = {
  "argument.invalid": status.INVALID_ARGUMENT,
  "image.altered": status.FAILED_PRECONDITION,
  "image.differs": status.FAILED_PRECONDITION,
  "image.fetching": status.UNAVAILABLE,
  "image.missing": status.NOT_FOUND,
  "image.forbidden": status.PERMISSION_DENIED,
  "identity.invalid": status.UNAUTHENTICATED,
  "identity.forbidden": status.PERMISSION_DENIED,
  "peer.protocol": status.INVALID_ARGUMENT,
  "peer.deadline": status.DEADLINE_EXCEEDED,
  "isolation.weak": status.FAILED_PRECONDITION,
  "limit.exceeded": status.RESOURCE_EXHAUSTED,
  "job.cancelled": status.CANCELLED,
  "job.failed": status.ABORTED,
  "store.corrupt": status.DATA_LOSS,
  "audit.corrupt": status.DATA_LOSS,
  "vm.breach": status.ABORTED,
  "hash.unknown": status.NOT_FOUND,
};

/** CANCELLED is not among them: who gave a call up knows that; to others it means that the peer reset the stream. */
const CODE_OF_STATUS: Readonly<Record<number, ErrorCode | undefined>> = {
  [status.INVALID_ARGUMENT]: "peer.protocol",
  [status.DEADLINE_EXCEEDED]: "peer.deadline",
  [status.NOT_FOUND]: "peer.protocol",
  [status.PERMISSION_DENIED]: "identity.forbidden",
  [status.RESOURCE_EXHAUSTED]: "limit.exceeded",
  [status.UNIMPLEMENTED]: "peer.protocol",
  [status.UNAUTHENTICATED]: "identity.invalid",
};

/** What a call ends with on the wire. What is not an HpccError tells the peer nothing. */
export function statusOfError(error: unknown): RpcStatus {
  const metadata = new Metadata();
  if (!(error instanceof HpccError)) return { code: status.INTERNAL, details: "internal error", metadata };
  metadata.set(CODE_HEADER, error.code);
  const code = STATUS_OF_CODE[error.code] ?? (error.retryable ? status.UNAVAILABLE : status.FAILED_PRECONDITION);
  return { code, details: error.message.slice(0, MESSAGE_LENGTH_MAX), metadata };
}

interface CallFailure {
  readonly code?: unknown;
  readonly details?: unknown;
  readonly metadata?: unknown;
}

/** What a caller throws for a call that failed. UNTRUSTED: the peer's status, message and metadata. */
export function errorOfStatus(failure: Error, peerName: string): HpccError {
  const { code, details, metadata } = failure as CallFailure;
  const header = metadata instanceof Metadata ? metadata.get(CODE_HEADER)[0] : undefined;
  const known = typeof header === "string" ? parseErrorCode(header) : null;
  const mapped = typeof code === "number" ? CODE_OF_STATUS[code] : undefined;
  const text = withoutPadding(typeof details === "string" && details !== "" ? details : failure.message, peerName);
  const message = `${peerName}: ${printable(text).slice(0, MESSAGE_LENGTH_MAX)}`;
  return new HpccError(known ?? mapped ?? "peer.unavailable", message, { cause: failure });
}

const NO_CONNECTION = /^No connection established\. Last error: (?:Error: )?(.*?)\.? Resolution note: ?/s;

/** What grpc-js says of a server that it cannot reach, without its frame and the address, which stands before it already. */
function withoutPadding(text: string, peerName: string): string {
  const said = NO_CONNECTION.exec(text)?.[1];
  if (said === undefined) return text;
  return said.endsWith(` ${peerName}`) ? said.slice(0, -peerName.length - 1) : said;
}

/** Replaces control characters, so that a peer's words cannot move the reader's cursor. */
function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, "\ufffd");
}
