// Patterns for the repositories of a registry: one by its name, or all below a place ("registry.example.com/team/*"). Pure.
import { HpccError } from "../../base/errors.ts";
import { parseImageName, repositoryOf } from "./image-name.ts";

/** A repository's name, or one that ends in "/*"; checked. */
export type RepositoryPattern = string & { readonly __brand: "RepositoryPattern" };

const PATTERN = /^[a-z0-9.:[\]-]{1,200}(?:\/[a-z0-9._-]{1,100}){0,16}(?:\/\*)?$/i;

/** Stands for what is below a place, where a name has to have it. */
const BELOW = "/x/x";

/** Checks a pattern: a registry and at least one part of a path. Names of Docker Hub's come out in full, as names of images do. */
export function parseRepositoryPattern(text: string): RepositoryPattern {
  const refused = (cause?: unknown) =>
    new HpccError("argument.invalid", `${JSON.stringify(text.slice(0, 200))} names no repositories`, {
      cause,
      hint: 'They are named "registry.example.com/team/toolchain", or "registry.example.com/team/*" for all below.',
    });
  if (!PATTERN.test(text) || !text.includes("/")) throw refused();
  try {
    if (!namesAll(text)) return repositoryOf(parseImageName(text)) as RepositoryPattern;
    const below = repositoryOf(parseImageName(text.slice(0, -"/*".length) + BELOW));
    return `${below.slice(0, -BELOW.length)}/*` as RepositoryPattern;
  } catch (cause) {
    throw refused(cause);
  }
}

export function namesAll(pattern: string): boolean {
  return pattern.endsWith("/*");
}

/** Whether a pattern is for a repository, "registry.example.com/team/toolchain". */
export function matchesRepository(pattern: string, repository: string): boolean {
  return namesAll(pattern) ? repository.startsWith(pattern.slice(0, -1)) : repository === pattern;
}

/** All patterns that are for a repository, the nearest first. */
export function patternsOf(repository: string): string[] {
  const parts = repository.split("/");
  return [repository, ...parts.slice(1).map((_, at) => `${parts.slice(0, parts.length - 1 - at).join("/")}/*`)];
}
