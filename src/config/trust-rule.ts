// A rule of `images.trust`: for which repositories whose signatures count.
import { parseRepositoryPattern, type RepositoryPattern } from "../core/image/repository-pattern.ts";
import type { TrustRule } from "../core/image/trust.ts";
import { PATH, text, type ValueKind } from "./value.ts";

export const REPOSITORY = text(
  'a repository, "registry.example.com/team/toolchain" or "registry.example.com/team/*"',
  parseRepositoryPattern,
);

/** "registry.example.com/team/toolchain" or "registry.example.com/team/*"; undefined for anything else. */
function patternOf(text: unknown): RepositoryPattern | undefined {
  try {
    return typeof text === "string" ? parseRepositoryPattern(text) : undefined;
  } catch {
    return undefined;
  }
}

/** The setting that names a rule's file says how its images are signed. */
const WAYS: readonly TrustRule["by"][] = ["key", "notation", "sigstore"];
const IDENTITIES_MAX = 100;

function identitiesOf(value: unknown): readonly string[] | undefined {
  if (value === undefined) return [];
  const isList = Array.isArray(value) && value.length > 0 && value.length <= IDENTITIES_MAX;
  return isList && value.every((one) => typeof one === "string" && one !== "") ? (value as string[]) : undefined;
}

/** An own Sigstore vouches for everybody who could log in: a rule says for whom it is. */
function isComplete({ by, identities, issuer }: TrustRule): boolean {
  if (by === "sigstore") return identities.length > 0 && issuer !== null;
  return issuer === null && (by === "notation" || identities.length === 0);
}

export const TRUST_RULE: ValueKind<TrustRule> = {
  expected:
    '{ repository = "registry.example.com/team/toolchain" } with one of key = "PATH of a public key", ' +
    'notation = "PATH of CA certificates" (and identities = ["x509.subject: ..."]), or ' +
    'sigstore = "PATH of a trusted root" with identities = ["..."] and issuer = "https://..."',
  parse(value, folder) {
    if (typeof value !== "object" || value === null) return undefined;
    const { repository: named, identities: whose, issuer = null, ...way } = value as Record<string, unknown>;
    const [[name, file] = [], ...more] = Object.entries(way);
    const by = WAYS.find((known) => known === name);
    const path = PATH.parse(file, folder);
    const [repository, identities] = [patternOf(named), identitiesOf(whose)];
    if (by === undefined || more.length > 0 || path === undefined) return undefined;
    if (repository === undefined || identities === undefined) return undefined;
    if (issuer !== null && (typeof issuer !== "string" || issuer === "")) return undefined;
    const rule = { repository, by, path, identities, issuer };
    return isComplete(rule) ? rule : undefined;
  },
  fromText: (text) => text,
};
