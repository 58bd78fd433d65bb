// Whether out/ holds what the sources say. Each build writes the digest of what it was made from, taken before it began, so that an
// edit during the build is not lost; tests that run built programs compare. Content counts, not time: a checkout changes times.
//
// As a program, for scripts: `digest PART` prints the digest, `write PART DIGEST` keeps it.
import { createHash } from "node:crypto";
import { existsSync, globSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

export type BuiltPart = "bundle" | "native" | "guest";

interface PartSources {
  readonly patterns: readonly string[];
  /** Files that these match do not go into the build. */
  readonly except: readonly string[];
  /** The least number of files; fewer means that the patterns are wrong. */
  readonly filesMin: number;
}

const SOURCES: Readonly<Record<BuiltPart, PartSources>> = {
  bundle: {
    patterns: ["src/**/*.{ts,js}", "native/crates/*/*.json", "scripts/bundle.ts", "package-lock.json"],
    except: ["**/*.test.ts", "**/*.d.ts"],
    filesMin: 2,
  },
  native: {
    patterns: [
      "native/Cargo.{toml,lock}",
      "native/.cargo/*",
      "native/crates/**/*.{rs,toml,json}",
      "proto/**/*.proto",
      "scripts/build-native.sh",
    ],
    except: ["native/crates/*/tests/**"],
    filesMin: 2,
  },
  guest: { patterns: ["scripts/guest/*", "out/lib/hpcc/agent"], except: ["**/*.test.ts"], filesMin: 2 },
};

const stampOf = (root: string, part: BuiltPart) => join(root, "out/stamps", part);

/** The files that a part is made of, by their paths from the root. */
export function sourceFiles(root: string, part: BuiltPart): string[] {
  const { patterns, except, filesMin } = SOURCES[part];
  const files = patterns.flatMap((pattern) => globSync(pattern, { cwd: root, exclude: [...except] })).sort();
  if (files.length < filesMin) throw new Error(`${root} holds no sources of ${part}`);
  return files;
}

/** Digest of their paths and contents. */
export function sourcesDigest(root: string, part: BuiltPart): string {
  const hash = createHash("sha256");
  for (const file of sourceFiles(root, part)) {
    const content = readFileSync(join(root, file));
    hash.update(`${file}\0${content.length}\0`).update(content);
  }
  return hash.digest("hex");
}

export function writeStamp(root: string, part: BuiltPart, digest: string): void {
  const stamp = stampOf(root, part);
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(`${stamp}.${process.pid}`, digest);
  renameSync(`${stamp}.${process.pid}`, stamp);
}

/** Throws, naming the command to run, when one of these is missing or was made from other sources. */
export function assertBuilt(root: string, parts: readonly BuiltPart[]): void {
  const stale = parts.filter((part) => {
    const stamp = stampOf(root, part);
    return !existsSync(stamp) || readFileSync(stamp, "utf8") !== sourcesDigest(root, part);
  });
  if (stale.length > 0)
    throw new Error(`out/ was not made from these sources (${stale.join(", ")}); run: make ${stale.join(" ")}`);
}

if (import.meta.main) {
  const [command, part = "", digest = ""] = process.argv.slice(2);
  const root = join(import.meta.dirname, "..");
  if (!Object.hasOwn(SOURCES, part)) throw new Error(`no part of the build: ${part}`);
  if (command === "digest") console.log(sourcesDigest(root, part as BuiltPart));
  else if (command === "write" && /^[0-9a-f]{64}$/.test(digest)) writeStamp(root, part as BuiltPart, digest);
  else throw new Error("digest PART, or write PART DIGEST");
}
