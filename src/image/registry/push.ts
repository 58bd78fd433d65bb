// Sends an image of this machine to a registry: blobs that it lacks, then the manifest. UNTRUSTED: registry.
import { createReadStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { HpccError } from "../../base/errors.ts";
import { formatImageName, type ImageName } from "../../core/image/image-name.ts";
import { blobPath, type Descriptor } from "../blob.ts";
import { manifestBlobs, type OciImage } from "../layout.ts";
import type { PullProgress } from "./pull.ts";
import { type RegistrySession, retrying } from "./session.ts";

export interface PushReport {
  readonly name: string;
  readonly digest: string;
  readonly sizeBytes: number;
  readonly sentBytes: number;
}

/** Sends an image under a name. */
export async function pushImage(
  session: RegistrySession,
  image: Pick<OciImage, "digest" | "mediaType" | "layoutFolder">,
  name: ImageName,
  onProgress: (progress: PullProgress) => void = () => {},
): Promise<PushReport> {
  const { digest, layoutFolder, mediaType } = image;
  const manifest = await readFile(blobPath(layoutFolder, digest));
  const { config, layers } = manifestBlobs(manifest, digest);
  const blobs = [...new Map([config, ...layers].map((blob) => [blob.digest, blob])).values()];
  const sizeBytes = blobs.reduce((sum, blob) => sum + blob.sizeBytes, 0);
  let doneBytes = 0;
  let sentBytes = 0;
  for (const blob of blobs) {
    if (!(await hasBlob(session, blob))) {
      await sendBlob(session, layoutFolder, blob);
      sentBytes += blob.sizeBytes;
    }
    onProgress({ doneBytes: (doneBytes += blob.sizeBytes), totalBytes: sizeBytes });
  }
  const reference = name.tag ?? digest;
  const answer = await session.ask(`manifests/${reference}`, {
    method: "PUT",
    headers: { "content-type": mediaType, "content-length": String(manifest.length) },
    body: manifest,
    deadlineMs: session.dialer.timing.documentMs,
  });
  if (answer.status !== 201) throw await session.refusal(answer, `the manifest ${reference}`);
  answer.body.resume();
  const said = answer.headers["docker-content-digest"];
  if (typeof said === "string" && said !== digest)
    throw new HpccError("registry.protocol", `${session.host} keeps ${digest} as ${said}`);
  return { name: formatImageName({ ...name, digest }), digest, sizeBytes, sentBytes };
}

async function hasBlob(session: RegistrySession, { digest, sizeBytes }: Descriptor): Promise<boolean> {
  const deadlineMs = session.dialer.timing.documentMs;
  const answer = await session.ask(`blobs/${digest}`, { method: "HEAD", deadlineMs });
  answer.body.resume();
  // Some refuse to say so to who may only write; the upload tells.
  return answer.status === 200 && [undefined, String(sizeBytes)].includes(answer.headers["content-length"]);
}

async function sendBlob(session: RegistrySession, layoutFolder: string, blob: Descriptor): Promise<void> {
  const { dialer, host } = session;
  await retrying(dialer, async () => {
    const deadlineMs = dialer.timing.documentMs;
    const begun = await session.send("blobs/uploads/", {
      method: "POST",
      headers: { "content-length": "0" },
      deadlineMs,
    });
    const { location } = begun.headers;
    if (begun.status !== 202) throw await session.refusal(begun, "an upload");
    begun.body.resume();
    const at = begun.url.href;
    if (location === undefined || !URL.canParse(location, at) || new URL(location, at).protocol !== begun.url.protocol)
      throw new HpccError("registry.protocol", `${host} begins an upload and does not say where`);
    const url = new URL(location, at);
    url.searchParams.set("digest", blob.digest);
    const answer = await session.send(url, {
      method: "PUT",
      headers: { "content-type": "application/octet-stream", "content-length": String(blob.sizeBytes) },
      body: () => createReadStream(blobPath(layoutFolder, blob.digest), { highWaterMark: 256 * 1024 }),
      deadlineMs: null,
    });
    if (answer.status !== 201) throw await session.refusal(answer, `blob ${blob.digest}`);
    answer.body.resume();
  });
}
