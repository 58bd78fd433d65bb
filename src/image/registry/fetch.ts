// Manifests and blobs of a registry, checked: a manifest before it is parsed, a blob before it has its name. UNTRUSTED: registry. A blob
// that breaks off is continued where it broke off; what is not what its digest says is removed.
import { createHash, type Hash } from "node:crypto";
import { createReadStream, type Stats } from "node:fs";
import { type FileHandle, lstat, open, rename, rm } from "node:fs/promises";
import { HpccError } from "../../base/errors.ts";
import { type Digest, isDigest, sha256 } from "../../core/digest/digest.ts";
import { blobPath, type Descriptor } from "../blob.ts";
import { DOCUMENT_BYTES_MAX } from "../image-limits.ts";
import { ROOT_MEDIA_TYPES, type RootDocument } from "../layout.ts";
import { readSmall, watched } from "./dialer.ts";
import { type RegistrySession, retrying } from "./session.ts";

/** What a name or digest leads to. UNTRUSTED: registry. */
export async function fetchRoot(session: RegistrySession, reference: string): Promise<RootDocument> {
  const { dialer, host } = session;
  const answer = await session.ask(`manifests/${reference}`, {
    method: "GET",
    headers: { accept: ROOT_MEDIA_TYPES.join(", ") },
    deadlineMs: dialer.timing.documentMs,
  });
  if (answer.status !== 200) throw await session.refusal(answer, `the manifest ${reference}`);
  const bytes = await readSmall(dialer, answer, DOCUMENT_BYTES_MAX);
  const digest = sha256(bytes);
  const said = answer.headers["docker-content-digest"];
  if (isDigest(reference) && digest !== reference)
    throw new HpccError("image.invalid", `${host} sent another manifest for ${reference}: one of digest ${digest}`);
  if (typeof said === "string" && isDigest(said) && said !== digest)
    throw new HpccError("registry.protocol", `${host} says that ${reference} is ${said} and sent ${digest}`);
  const [mediaType = ""] = (answer.headers["content-type"] ?? "").split(";");
  return { mediaType: mediaType.trim(), digest, sizeBytes: bytes.length, bytes };
}

/** A small blob or manifest that another document names, from memory. UNTRUSTED: registry. */
export async function fetchDocument(
  session: RegistrySession,
  kind: "manifests" | "blobs",
  { digest, sizeBytes, mediaType }: Descriptor,
): Promise<Buffer> {
  const { dialer, host } = session;
  if (sizeBytes > DOCUMENT_BYTES_MAX)
    throw new HpccError("limit.exceeded", `document ${digest} has more than ${DOCUMENT_BYTES_MAX} bytes`);
  const answer = await session.ask(`${kind}/${digest}`, {
    method: "GET",
    headers: kind === "manifests" ? { accept: mediaType } : {},
    deadlineMs: dialer.timing.documentMs,
  });
  if (answer.status !== 200) throw await session.refusal(answer, `document ${digest}`);
  const bytes = await readSmall(dialer, answer, DOCUMENT_BYTES_MAX);
  if (bytes.length !== sizeBytes || sha256(bytes) !== digest) throw otherContent(host, digest);
  return bytes;
}

/** Brings a blob into a layout's folder; calls `moved` with the bytes that are there, first those that were. */
export async function fetchBlob(
  session: RegistrySession,
  layoutFolder: string,
  blob: Descriptor,
  moved: (bytes: number) => void,
): Promise<void> {
  const path = blobPath(layoutFolder, blob.digest);
  const partial = `${path}.part`;
  const file = await open(partial, "a+", 0o644);
  try {
    const found = await file.stat();
    if (found.size > blob.sizeBytes) await file.truncate(0);
    const there: Arrived = { hash: createHash("sha256"), sizeBytes: 0 };
    if (found.size > 0 && found.size <= blob.sizeBytes) await rehash(partial, there);
    moved(there.sizeBytes);
    await arrive(session, { blob, file, there, moved });
    if (`sha256:${there.hash.digest("hex")}` !== blob.digest) throw otherContent(session.host, blob.digest);
    await file.sync();
  } catch (error) {
    const goesOn = error instanceof HpccError && ["registry.unavailable", "job.cancelled"].includes(error.code);
    if (!goesOn) await rm(partial, { force: true });
    throw error;
  } finally {
    await file.close();
  }
  await rename(partial, path);
}

/** Whether a layout's folder holds a blob whole. */
export async function holdsBlob(layoutFolder: string, { digest, sizeBytes }: Descriptor): Promise<boolean> {
  const path = blobPath(layoutFolder, digest);
  const found: Stats | null = await lstat(path).catch(() => null);
  if (found?.isFile() !== true || found.size !== sizeBytes) return false;
  const there: Arrived = { hash: createHash("sha256"), sizeBytes: 0 };
  await rehash(path, there);
  return `sha256:${there.hash.digest("hex")}` === digest;
}

interface Arrived {
  hash: Hash;
  sizeBytes: number;
}

interface Arrival {
  readonly blob: Descriptor;
  readonly file: FileHandle;
  readonly there: Arrived;
  readonly moved: (bytes: number) => void;
}

/** Asks until all bytes are there; attempts that brought enough do not count. */
async function arrive(session: RegistrySession, arrival: Arrival): Promise<void> {
  const { blob, there } = arrival;
  while (there.sizeBytes < blob.sizeBytes) {
    const before = there.sizeBytes;
    try {
      await retrying(session.dialer, async () => {
        try {
          await attempt(session, arrival);
        } catch (error) {
          if (there.sizeBytes - before < session.dialer.timing.stallBytesMin) throw error;
          throw new Progressed(error);
        }
      });
    } catch (error) {
      if (!(error instanceof Progressed)) throw error;
      if (!(error.cause instanceof HpccError && error.cause.code === "registry.unavailable")) throw error.cause;
    }
  }
}

/** Ends the counting of attempts. */
class Progressed extends Error {
  constructor(cause: unknown) {
    super("the transfer broke off after some bytes", { cause });
  }
}

async function attempt(session: RegistrySession, { blob, file, there, moved }: Arrival): Promise<void> {
  const { dialer, host } = session;
  const from = there.sizeBytes;
  const answer = await session.send(`blobs/${blob.digest}`, {
    method: "GET",
    headers: { "accept-encoding": "identity", ...(from > 0 && { range: `bytes=${from}-` }) },
    deadlineMs: null,
  });
  if (answer.status === 200 && from > 0) {
    // It does not know ranges: from the start.
    await file.truncate(0);
    Object.assign(there, { hash: createHash("sha256"), sizeBytes: 0 });
    moved(-from);
  } else if (answer.status === 206) {
    const start = /^bytes ([0-9]{1,15})-/.exec(answer.headers["content-range"] ?? "")?.[1];
    if (from === 0 || Number(start) !== from) {
      answer.body.destroy();
      throw new HpccError("registry.protocol", `${host} sent another part of blob ${blob.digest} than was asked for`);
    }
  } else if (answer.status !== 200) throw await session.refusal(answer, `blob ${blob.digest}`);
  for await (const chunk of watched(dialer, answer)) {
    if (there.sizeBytes + chunk.length > blob.sizeBytes)
      throw new HpccError(
        "image.invalid",
        `${host} sends more than the ${blob.sizeBytes} bytes of blob ${blob.digest}`,
      );
    await file.appendFile(chunk);
    there.hash.update(chunk);
    there.sizeBytes += chunk.length;
    moved(chunk.length);
  }
  if (there.sizeBytes < blob.sizeBytes)
    throw new HpccError(
      "registry.unavailable",
      `${host} sent ${there.sizeBytes} of the ${blob.sizeBytes} bytes of blob ${blob.digest}`,
    );
}

async function rehash(path: string, there: Arrived): Promise<void> {
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 }) as AsyncIterable<Buffer>) {
    there.hash.update(chunk);
    there.sizeBytes += chunk.length;
  }
}

function otherContent(host: string, digest: Digest): HpccError {
  return new HpccError("image.invalid", `${host} sent other content for ${digest} than that digest says`, {
    hint: "The registry or a mirror is corrupt, or somebody changed it. Nothing of it was kept.",
  });
}
