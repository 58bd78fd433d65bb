// A rule of `images.trust`: for which repositories whose signatures count.
import type { TrustRule } from "../core/image/trust.ts";
import { PATH, type ValueKind } from "./value.ts";

/** "registry.example.com/team/toolchain" or "registry.example.com/team/*". */
const REPOSITORY = /^[a-z0-9.:[\]-]{1,200}(?:\/[a-z0-9._-]{1,100}){0,16}(?:\/\*)?$/i;

export const TRUST_RULE: ValueKind<TrustRule> = {
  expected: '{ repository = "registry.example.com/team/toolchain", key = "PATH of a public key" }',
  parse(value, folder) {
    if (typeof value !== "object" || value === null) return undefined;
    const { repository, key, ...more } = value as Record<string, unknown>;
    const path = PATH.parse(key, folder);
    if (typeof repository !== "string" || !REPOSITORY.test(repository) || path === undefined) return undefined;
    return Object.keys(more).length === 0 && repository.includes("/") ? { repository, key: path } : undefined;
  },
  fromText: (text) => text,
};
