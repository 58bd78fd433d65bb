// Which inputs and which folders of a call are one to a compiler: Clang takes files for one by their inode, GCC under `#pragma once` by content
// and time, and both search a folder once, whatever it is called. Contents alone do not tell.
import type { FolderState } from "../call/folder-state.ts";
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

/** Which of the folders are missing, are none, or are the same as which one before them. */
export function folderKinds(states: readonly FolderState[]): string {
  const kinds = states.map((state) =>
    state === "nothing" ? "-" : state === "no folder" ? "f" : String(states.indexOf(state)),
  );
  return kinds.join(" ");
}
