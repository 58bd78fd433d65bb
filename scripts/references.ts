// References of sources, tests and documents to what a reader of the repository cannot see: files that are not in it, and the
// numbers of plans and trackers.
import { posix } from "node:path";

/** A document's name, and a path of a source; what stands in a web address is neither. */
const NAMED = [
  /(?<![\w./:@$*}-])(?:[\w.-]+\/)*[\w-]+\.md(?![\w*])/g,
  /(?<![\w./:@$*}-])(?:src|test|native|scripts|proto|docs|bench)\/(?:[\w.-]+\/)*[\w.-]+\.(?:ts|rs|proto|sh)(?![\w*])/g,
];
const WEB_ADDRESS = /\bhttps?:\/\/\S+/g;
/** Words that point at a tracker or a plan: the reason belongs where they stand. */
const OUTSIDE = [/\bthe\s+issues?\b/gi, /\bissue\s+#?\d+/gi, /\b(?:claim|fault)s?\s+[A-Z]\d+\b/gi];

export interface RepositoryFiles {
  /** Whether a path from the root is in the repository. */
  has(path: string): boolean;
  /** Whether any file has this end of a path: "ca.md", "specs/key.md". */
  hasEnd(end: string): boolean;
}

export function repositoryFiles(paths: readonly string[]): RepositoryFiles {
  const all = new Set(paths);
  const ends = new Set(paths.flatMap((path) => path.split("/").map((_, at, parts) => parts.slice(at).join("/"))));
  return { has: (path) => all.has(path), hasEnd: (end) => ends.has(end) };
}

/** References of a file's text that lead nowhere, each with its line. */
export function deadReferences(path: string, text: string, files: RepositoryFiles): string[] {
  const found: string[] = [];
  for (const [index, written] of text.split("\n").entries()) {
    const line = written.replace(WEB_ADDRESS, "");
    const names = NAMED.flatMap((pattern) => [...line.matchAll(pattern)].map(([name]) => name));
    for (const name of new Set(names))
      if (!isThere(path, name, files)) found.push(`${path}:${index + 1}: ${name} is not in the repository`);
    for (const pattern of OUTSIDE)
      for (const [words] of line.matchAll(pattern))
        found.push(`${path}:${index + 1}: "${words}" means nothing to a reader: say the reason`);
  }
  return found;
}

function isThere(path: string, name: string, files: RepositoryFiles): boolean {
  const plain = name.replace(/^(?:\.\.?\/)+/, "");
  return files.has(posix.join(posix.dirname(path), name)) || files.has(plain) || files.hasEnd(plain);
}
