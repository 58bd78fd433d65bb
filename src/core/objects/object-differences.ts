// Where two files differ: for ELF files by their sections, for others by their first different byte. Pure.
import { Buffer } from "node:buffer";
import { type ElfSection, elfSections } from "./elf-sections.ts";

export interface Part {
  readonly offset: number;
  readonly size: number;
}

export interface ObjectDifference {
  /** Name of a section; null for the file itself. */
  readonly section: string | null;
  /** In both files; null in one that does not have it. */
  readonly first: Part | null;
  readonly second: Part | null;
  /** First different byte, counted from the beginning of the part; null where only one has it. */
  readonly at: number | null;
}

/** The differences, at most `DIFFERENCES_MAX`; none for equal files. UNTRUSTED: both. */
export function objectDifferences(first: Uint8Array, second: Uint8Array): ObjectDifference[] {
  const [a, b] = [asBuffer(first), asBuffer(second)];
  if (a.equals(b)) return [];
  const [sectionsA, sectionsB] = [elfSections(a), elfSections(b)];
  const bySection = sectionsA === null || sectionsB === null ? [] : sectionDifferences(a, b, [sectionsA, sectionsB]);
  if (bySection.length > 0) return bySection;
  const whole = (bytes: Buffer) => ({ offset: 0, size: bytes.length });
  return [{ section: null, first: whole(a), second: whole(b), at: firstDifference(a, b) }];
}

export const DIFFERENCES_MAX = 100;

/** One line for a person. */
export function describeDifference({ section, first, second, at }: ObjectDifference): string {
  const place = (part: Part) => `${part.size} bytes at ${part.offset}`;
  const what = section === null ? "the file" : `section ${section === "" ? "(no name)" : section}`;
  if (first === null) return `${what}: only in the second, ${place(second!)}`;
  if (second === null) return `${what}: only in the first, ${place(first)}`;
  return `${what}: ${place(first)} against ${place(second)}, from byte ${at} on`;
}

function sectionDifferences(a: Buffer, b: Buffer, [ofA, ofB]: [ElfSection[], ElfSection[]]): ObjectDifference[] {
  const differences: ObjectDifference[] = [];
  const others = numbered(ofB);
  for (const [name, first] of numbered(ofA)) {
    if (differences.length >= DIFFERENCES_MAX) return differences;
    const second = others.get(name);
    others.delete(name);
    const [parts, section] = [
      { first: partOf(first), second: second === undefined ? null : partOf(second) },
      first.name,
    ];
    const at = second === undefined ? null : firstDifference(bytesOf(a, first), bytesOf(b, second));
    if (second === undefined || at !== null) differences.push({ section, ...parts, at });
  }
  for (const second of others.values())
    if (differences.length < DIFFERENCES_MAX)
      differences.push({ section: second.name, first: null, second: partOf(second), at: null });
  return differences;
}

/** Sections by name and, since several may have one name, their number among those. */
function numbered(sections: readonly ElfSection[]): Map<string, ElfSection> {
  const seen = new Map<string, number>();
  return new Map(
    sections.map((section) => {
      const number = seen.get(section.name) ?? 0;
      seen.set(section.name, number + 1);
      return [`${number} ${section.name}`, section];
    }),
  );
}

function firstDifference(a: Buffer, b: Buffer): number | null {
  if (a.equals(b)) return null;
  const shorter = Math.min(a.length, b.length);
  for (let at = 0; at < shorter; at++) if (a[at] !== b[at]) return at;
  return shorter;
}

function partOf({ offset, size }: ElfSection): Part {
  return { offset, size };
}

function bytesOf(file: Buffer, { offset, size }: ElfSection): Buffer {
  return file.subarray(offset, offset + size);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
