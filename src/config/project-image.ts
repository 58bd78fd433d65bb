// Which image a project is bound to, and whether anything of it may run: by its digest in the user's list, or by a signature that the user
// trusts for its repository. UNTRUSTED: whoever wrote the checkout, for the name and hpcc.lock.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type ByteString, bytesOf, displayText } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import { type Digest, isDigest, parseDigest } from "../core/digest/digest.ts";
import { formatImageName, type ImageName, parseImageName, repositoryOf } from "../core/image/image-name.ts";
import { ociPlatform } from "../core/image/platform.ts";
import { matchesRepository, type RepositoryPattern } from "../core/image/repository-pattern.ts";
import {
  decodeEvidence,
  evidenceFile,
  judgeEvidence,
  parseSigner,
  ruleFor,
  type TrustEvidence,
  type TrustedSigner,
  type TrustRule,
} from "../core/image/trust.ts";
import { readCheckoutFile } from "./checkout-file.ts";
import { IMAGE_LOCK, parseImageLock } from "./image-lock.ts";

/**
 * The image that the project is bound to. With `pull` it may be brought from its registry without being asked for: of a forbidden one only
 * the signature is missing, which comes with it.
 */
export type ProjectImage =
  | { readonly kind: "none" }
  | { readonly kind: "allowed"; readonly digest: Digest; readonly name: ImageName | null; readonly pull?: true }
  /** The project names it and the user does not allow it: nothing of it may run. `why` where a signature was asked for. */
  | {
      readonly kind: "forbidden";
      readonly digest: Digest;
      readonly name: ImageName | null;
      readonly why: string | null;
      readonly pull?: true;
    }
  /** The project names it, and no lock says which image that is. */
  | { readonly kind: "unlocked"; readonly name: ImageName };

/** The repository that an image comes from, "registry.example.com/team/toolchain"; null when its project names a digest alone. */
export function repositoryOfImage(image: ProjectImage): string | null {
  return image.kind === "none" || image.name === null ? null : repositoryOf(image.name);
}

export interface ProjectImageInput {
  readonly image: string | null;
  /** Whether a file of the checkout says so, and not the user. */
  readonly byProject: boolean;
  readonly allowed: readonly Digest[];
  readonly trust: readonly TrustRule[];
  /** Repositories that images are pulled from without being asked for, beside those of `trust`; null where none are. */
  readonly pullFrom: readonly RepositoryPattern[] | null;
  readonly projectRoot: ByteString | null;
  /** Where images and what was said of them are kept. */
  readonly imageFolder: string;
}

/** Checks what `image` may be: a digest, or a name that says its registry, as "latest" is no name that a team shares. */
export function parseBoundImage(text: string): string {
  if (text.startsWith("sha256:")) return parseDigest(text, "image");
  const [host = "", ...rest] = text.split("/");
  if (rest.length === 0 || !(host === "localhost" || /[.:]/.test(host)))
    throw new HpccError("argument.invalid", `${JSON.stringify(text)} names no registry`);
  return formatImageName(parseImageName(text));
}

export function projectImage(input: ProjectImageInput): ProjectImage {
  const { image, allowed } = input;
  if (image === null) return { kind: "none" };
  const name = isDigest(image) ? null : parseImageName(image);
  const digest = name === null ? parseDigest(image, "image") : (name.digest ?? lockedDigest(name, input.projectRoot));
  if (name !== null && digest === null) return { kind: "unlocked", name };
  if (digest === null) return { kind: "none" };
  const pull = mayPull(name, input) ? ({ pull: true } as const) : {};
  if (!input.byProject || allowed.includes(digest)) return { kind: "allowed", digest, name, ...pull };
  if (name === null) return { kind: "forbidden", digest, name, why: null };
  try {
    switch (trusted(name, digest, input)) {
      case "signed":
        return { kind: "allowed", digest, name, ...pull };
      case "no-rule":
        return { kind: "forbidden", digest, name, why: null };
      case "not-pulled": {
        const why = `image ${digest} of ${repositoryOf(name)} has not been pulled: run hpcc image pull`;
        return { kind: "forbidden", digest, name, why, ...pull };
      }
    }
  } catch (error) {
    if (!(error instanceof HpccError)) throw error;
    return { kind: "forbidden", digest, name, why: error.message };
  }
}

/** Whether hosts that a name leads to may be asked without a person who says so: the user has named them, and not a checkout alone. */
function mayPull(name: ImageName | null, { byProject, pullFrom, trust }: ProjectImageInput): boolean {
  if (name === null || pullFrom === null) return false;
  const repository = repositoryOf(name);
  const named = [...pullFrom, ...trust.map((rule) => rule.repository)];
  return !byProject || named.some((pattern) => matchesRepository(pattern, repository));
}

/** Whether the user trusts the repository's signatures and there is one; throws where it does not count. */
function trusted(
  name: ImageName,
  digest: Digest,
  { trust, imageFolder }: ProjectImageInput,
): "signed" | "no-rule" | "not-pulled" {
  const repository = repositoryOf(name);
  const rule = ruleFor(trust, repository);
  if (rule === null) return "no-rule";
  const path = join(imageFolder, evidenceFile(digest));
  const said = read(path);
  if (said === null) return "not-pulled";
  judgeEvidence(decodeEvidence(said), { digest, repository }, { signer: trustedSigner(rule), nowMs: Date.now() });
  return "signed";
}

/** What throws unless an image of a repository is signed as the rules ask; null where they ask for nothing. */
export function trustJudge(
  trust: readonly TrustRule[],
  repository: string,
): ((evidence: TrustEvidence, digest: Digest) => void) | null {
  const rule = ruleFor(trust, repository);
  if (rule === null) return null;
  const signer = trustedSigner(rule);
  return (evidence, digest) => judgeEvidence(evidence, { digest, repository }, { signer, nowMs: Date.now() });
}

/** Whom a rule trusts. Throws `config.invalid` for a file that cannot be read, or vouches for nobody. */
export function trustedSigner(rule: TrustRule): TrustedSigner {
  const text = read(rule.path);
  if (text === null) throw new HpccError("config.invalid", `images.trust names ${rule.path}, which cannot be read`);
  return parseSigner(rule, text);
}

/** What the project's lock says for this machine; null when it says nothing. */
function lockedDigest(name: ImageName, projectRoot: ByteString | null): Digest | null {
  if (projectRoot === null) return null;
  const path = `${projectRoot}/${IMAGE_LOCK}` as ByteString;
  let said: string;
  try {
    said = readCheckoutFile(bytesOf(path)).toString("utf8");
  } catch (error) {
    if (error instanceof HpccError) throw error;
    return null;
  }
  return parseImageLock(said, displayText(path)).get(formatImageName(name))?.get(ociPlatform()) ?? null;
}

function read(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}
