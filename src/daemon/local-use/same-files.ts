// Which inputs and which folders of a call are one to a compiler: Clang takes files for one by their inode, GCC under `#pragma once` by content
// and time, and both search a folder once, whatever it is called. Contents alone do not tell.
import { statSync } from "node:fs";
import { type ByteString, bytesOf } from "../../base/byte-string.ts";
import type { FoundInput } from "./find-inputs.ts";

const NS_PER_S = 1_000_000_000n;

/** Pairs of inputs that may be one to a compiler, by their indexes; none in the usual call. */
export function sameFiles(inputs: readonly FoundInput[]): number[] {
  const first = new Map<string, number>();
  const pairs: number[] = [];
  for (const [index, { digest, stamp }] of inputs.entries())
    for (const key of [`${stamp.dev}:${stamp.ino}`, `${digest} ${stamp.mtimeNs / NS_PER_S}`]) {
      const before = first.get(key);
      if (before === undefined) first.set(key, index);
      else pairs.push(before, index);
    }
  return pairs;
}

/** What stands at each folder: nothing, no folder, or which of the folders before it is the same one. */
export function folderKinds(folders: readonly ByteString[]): string {
  const first = new Map<string, number>();
  const kinds = folders.map((folder, index) => {
    const stat = statOf(folder);
    if (stat === null) return "-";
    if (!stat.isDirectory()) return "f";
    const key = `${stat.dev}:${stat.ino}`;
    if (!first.has(key)) first.set(key, index);
    return String(first.get(key));
  });
  return kinds.join(" ");
}

function statOf(path: ByteString) {
  try {
    return statSync(bytesOf(path), { bigint: true, throwIfNoEntry: false }) ?? null;
  } catch {
    return null;
  }
}
