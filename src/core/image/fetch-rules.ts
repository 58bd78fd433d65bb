// From where an image may be fetched that a job names and the worker lacks. Pure. UNTRUSTED: a client, for the repository that it names: it
// chooses among what the operator lists, and leads nowhere else.
import { HpccError } from "../../base/errors.ts";
import type { Digest } from "../digest/digest.ts";
import { formatImageName, type ImageName, parseImageName, repositoryOf } from "./image-name.ts";
import { matchesRepository, namesAll, type RepositoryPattern } from "./repository-pattern.ts";
import { ruleFor, type TrustRule } from "./trust.ts";

/** What an operator allows to be fetched. */
export interface FetchRules {
  /** Nothing is fetched from elsewhere. */
  readonly repositories: readonly RepositoryPattern[];
  /** Images that need no signature. */
  readonly allowed: readonly Digest[];
  readonly trust: readonly TrustRule[];
}

export interface WantedImage {
  /** Whose job names it; empty for whoever runs the worker. */
  readonly tenant: string;
  readonly digest: Digest;
  /** As the client says; empty when it says nothing. */
  readonly repository: string;
  /** Whether the policy for the job's tenant lists the image. */
  readonly isListed: boolean;
}

/** A place to fetch from. */
export interface FetchPlace {
  readonly name: ImageName;
  /** Whose signature is asked for; null where none is. */
  readonly rule: TrustRule | null;
}

/** Places that are asked for an image without a hint. */
const PLACES_MAX = 8;

/** Where to ask for an image, in this order. Throws `image.missing` or `image.forbidden` where nobody may. */
export function fetchPlaces({ digest, repository, isListed }: WantedImage, rules: FetchRules): FetchPlace[] {
  const missing = `this worker has no image ${digest}`;
  const names = namesFor(digest, repository, rules);
  if (names.length === 0)
    throw new HpccError(
      "image.missing",
      repository === "" ? missing : `${missing}, and fetches none from ${JSON.stringify(repository.slice(0, 255))}`,
      { hint: "Whoever runs the worker may list the repository in its images.repositories, or bring the image there." },
    );
  if (isListed || rules.allowed.includes(digest)) return names.map((name) => ({ name, rule: null }));
  const places = names.flatMap((name) => {
    const rule = ruleFor(rules.trust, repositoryOf(name));
    return rule === null ? [] : [{ name, rule }];
  });
  if (places.length > 0) return places;
  throw new HpccError(
    "image.forbidden",
    `${missing}, and fetches none that is neither allowed by its digest nor signed`,
    {
      hint: "Whoever runs the worker may list the digest in its images.allowed or its policy, or a key in its images.trust.",
    },
  );
}

function namesFor(digest: Digest, repository: string, { repositories }: FetchRules): ImageName[] {
  const hinted = repository === "" ? null : parseRepository(repository);
  if (repository !== "" && hinted === null) return [];
  const known =
    hinted === null
      ? repositories.filter((pattern) => !namesAll(pattern)).slice(0, PLACES_MAX)
      : repositories.some((pattern) => matchesRepository(pattern, hinted))
        ? [hinted]
        : [];
  return known.map((text) => ({ ...parseImageName(text), tag: null, digest }));
}

/** A repository's name in full; null for a text that is none, or says more. */
function parseRepository(text: string): string | null {
  try {
    const name = parseImageName(text);
    return formatImageName({ ...name, tag: null, digest: null }) === text ? text : null;
  } catch (error) {
    if (error instanceof HpccError) return null;
    throw error;
  }
}
