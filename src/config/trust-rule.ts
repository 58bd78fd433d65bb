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

export const TRUST_RULE: ValueKind<TrustRule> = {
  expected: '{ repository = "registry.example.com/team/toolchain", key = "PATH of a public key" }',
  parse(value, folder) {
    if (typeof value !== "object" || value === null) return undefined;
    const { repository: named, key, ...more } = value as Record<string, unknown>;
    const path = PATH.parse(key, folder);
    const repository = patternOf(named);
    if (repository === undefined || path === undefined) return undefined;
    return Object.keys(more).length === 0 ? { repository, key: path } : undefined;
  },
  fromText: (text) => text,
};
