// Names of images in registries, as Docker and Podman write them: [registry/]repository[:tag][@digest]. Pure.
import { HpccError } from "../../base/errors.ts";
import { type Digest, isDigest } from "../digest/digest.ts";

/** A name that was checked: each part may stand in a URL's path. */
export interface ImageName {
  /** Host and, if any, port: "docker.io", "registry.example.com:5000". */
  readonly registry: string;
  readonly repository: string;
  readonly tag: string | null;
  readonly digest: Digest | null;
}

const NAME_LENGTH_MAX = 255;
const DEFAULT_REGISTRY = "docker.io";
const DEFAULT_TAG = "latest";
const HOST = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9a-fA-F:]{2,45}\])(?::[0-9]{1,5})?$/;
const COMPONENT = /^[a-z0-9]+(?:(?:[._]|__|-{1,9})[a-z0-9]+)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;

/** Reads a name. UNTRUSTED: a checkout, for names in hpcc.toml and hpcc.lock. */
export function parseImageName(text: string): ImageName {
  const refuse = (why: string): never => {
    throw new HpccError(
      "argument.invalid",
      `${JSON.stringify(text.slice(0, NAME_LENGTH_MAX))} names no image: ${why}`,
      {
        hint: "Images are named registry.example.com/team/toolchain:12, or ...@sha256:<64 hex digits>.",
      },
    );
  };
  if (text.length > 2 * NAME_LENGTH_MAX) refuse("it is too long");
  const [named = "", digest, ...more] = text.split("@");
  if (more.length > 0 || (digest !== undefined && !isDigest(digest)))
    return refuse('what follows "@" is no sha256 digest');
  const slash = named.indexOf("/");
  const first = slash === -1 ? "" : named.slice(0, slash);
  const isHost = first === "localhost" || /[.:]/.test(first);
  const path = isHost ? named.slice(slash + 1) : named;
  const colon = path.lastIndexOf(":");
  const tag = colon === -1 ? null : path.slice(colon + 1);
  const repository = colon === -1 ? path : path.slice(0, colon);
  if (isHost && !HOST.test(first)) refuse("its registry is no host");
  if (tag !== null && !TAG.test(tag)) refuse("its tag is none");
  if (repository.length > NAME_LENGTH_MAX || !repository.split("/").every((part) => COMPONENT.test(part)))
    refuse("its repository is none: it is lower-case words between slashes");
  const registry = !isHost || first === "index.docker.io" ? DEFAULT_REGISTRY : first;
  const isOfficial = registry === DEFAULT_REGISTRY && !repository.includes("/");
  return {
    registry,
    repository: isOfficial ? `library/${repository}` : repository,
    tag: tag ?? (digest === undefined ? DEFAULT_TAG : null),
    digest: digest ?? null,
  };
}

/** "registry.example.com/team/toolchain", as policies name it. */
export function repositoryOf({ registry, repository }: Pick<ImageName, "registry" | "repository">): string {
  return `${registry}/${repository}`;
}

export function formatImageName(name: ImageName): string {
  const tag = name.tag === null ? "" : `:${name.tag}`;
  return `${repositoryOf(name)}${tag}${name.digest === null ? "" : `@${name.digest}`}`;
}
