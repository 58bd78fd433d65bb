// Names of temporary files, which GCC draws anew in each run and which its assembler and linker say when they refuse something.

/** Words in latin1, with one name in place of each drawn one. mkstemps of "ccXXXXXX" in /tmp, as libiberty's make_temp_file does. */
export function withoutDrawnNames(words: string): string {
  return words.replaceAll(/\/tmp\/cc[0-9A-Za-z]{6}\b/g, "/tmp/ccXXXXXX");
}

/** Whether words differ in drawn names alone. */
export function differInDrawnNames(one: Uint8Array, other: Uint8Array): boolean {
  const [a, b] = [one, other].map((bytes) => withoutDrawnNames(Buffer.from(bytes).toString("latin1")));
  return a === b;
}
