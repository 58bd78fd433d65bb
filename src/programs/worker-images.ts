// The images of a worker's configuration: its layouts, and what it fetches by itself.
import { assert } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import type { Environment } from "../config/directories.ts";
import { trustedSigner, trustJudge } from "../config/project-image.ts";
import type { WorkerConfig } from "../config/worker.ts";
import type { Digest } from "../core/digest/digest.ts";
import { type TrustRule, unusedRules } from "../core/image/trust.ts";
import { ImageStore, type Judge, KEEP_MS } from "../image/image-store.ts";
import type { VmEvent } from "../vm/vm-event.ts";
import { FetchedImages } from "../worker/fetched-images.ts";
import { type LayoutImages, openLayoutImages, type WorkerImages } from "../worker/images.ts";

export interface OpenWorkerImages {
  readonly images: WorkerImages;
  /** Begins to fetch what the operator lists, and tells of each image that comes, or is offered no longer, from now on. */
  start(changed: (digest: Digest) => void): void;
  /** Must hear of VMs before they run anything. */
  vmEvent(event: VmEvent): Promise<void>;
  close(): Promise<void>;
}

/** Opens the layouts. Throws `config.invalid` for a rule whose file cannot be read: nothing that it vouches for would ever come. */
export async function openWorkerImages(
  env: Environment,
  { imageLayouts, imageDir, imageFetch }: WorkerConfig,
  logger: Logger,
): Promise<OpenWorkerImages> {
  const images = await openLayoutImages({ layoutFolders: imageLayouts, imageFolder: imageDir });
  for (const { repository, path } of unusedRules(imageFetch.trust, imageFetch.repositories))
    logger.warn("worker.images.rule_unused", { repository, path });
  if (imageFetch.repositories.length === 0) return onlyLayouts(images);
  for (const rule of imageFetch.trust) trustedSigner(rule);
  let tell: (digest: Digest) => void = () => undefined;
  const fetched = new FetchedImages({
    images,
    store: new ImageStore(imageDir),
    rules: imageFetch,
    limits: { bytesMax: imageFetch.bytesMax, keepMs: KEEP_MS },
    judge: judgeOf,
    env,
    deadlineMs: imageFetch.deadlineMs,
    changed: (digest) => tell(digest),
    clock: SYSTEM_CLOCK,
    logger,
  });
  return {
    images: fetched,
    vmEvent: (event) => fetched.vmEvent(event),
    start(changed) {
      tell = changed;
      void fetched.fetchListed();
    },
    close: () => fetched.close(),
  };
}

function onlyLayouts(images: LayoutImages): OpenWorkerImages {
  return { images, start: () => undefined, vmEvent: () => Promise.resolve(), close: () => Promise.resolve() };
}

function judgeOf(rule: TrustRule, repository: string): Judge {
  const judge = trustJudge([rule], repository);
  assert(judge !== null, "a rule that was chosen for a repository is for it");
  return judge;
}
