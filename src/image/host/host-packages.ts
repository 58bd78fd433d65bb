// What a package manager of this machine says: the port that images are built from, one adapter for each.
import type { ToolResult } from "../tool-process.ts";

export interface HostPackage {
  readonly name: string;
  readonly architecture: string;
  readonly version: string;
  /** Groups of alternatives: one name of each group has to be there. */
  readonly depends: readonly (readonly string[])[];
  readonly provides: readonly string[];
}

/** Runs a program of the machine to its end, without input. The last argument is the package that it is in. */
export type RunTool = (program: string, args: readonly string[], package_: string) => Promise<ToolResult>;

/** A file's digest by the package it came with: a hint and no more. */
export interface KnownDigest {
  readonly algorithm: "md5" | "sha1" | "sha256";
  readonly hex: string;
}

export interface HostPackages {
  /** Installed packages. */
  installed(): Promise<HostPackage[]>;
  /** This machine's architecture, as packages name it. */
  native(): Promise<string>;
  /** Absolute paths of a package's files, as bytes in latin1. */
  files(found: HostPackage): Promise<string[]>;
  /** By path; empty where packages do not say. */
  digests(packages: readonly HostPackage[]): Promise<ReadonlyMap<string, KnownDigest>>;
  /** The package that a file belongs to; null when none is known. The path is no pattern. */
  ownerOf(path: string): Promise<string | null>;
  /** Every image has these, where they are installed: a C library's headers, its locales, and a shell for wrapper scripts. */
  readonly base: readonly string[];
  /** Packages that go with a compiler's, where they are installed: the C++ compiler of the same version. */
  partners(compiler: string): readonly string[];
  /** Packages that a toolchain's programs never open: tools of maintainer scripts. */
  readonly skipped: ReadonlySet<string>;
  /** Paths that no package lists and scripts of packages make. */
  readonly unlisted: readonly string[];
  /** The command that installs a package. */
  readonly install: string;
}
