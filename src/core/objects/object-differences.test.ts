// Where objects of a real compiler differ, and that no bytes of a guest make the parser fall.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { elfSections } from "./elf-sections.ts";
import { describeDifference, objectDifferences } from "./object-differences.ts";

function compiled(source: string, ...flags: string[]): Buffer {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-elf-"));
  try {
    writeFileSync(join(folder, "a.c"), source);
    execFileSync("gcc", ["-c", "a.c", "-o", "a.o", ...flags], { cwd: folder });
    return readFileSync(join(folder, "a.o"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const PLAIN = compiled('int a = 1; const char *t(void) { return "one"; }');

/** A file of 32 bits with one section of bytes and one of names. */
function elf32(content: Buffer): Buffer {
  const names = Buffer.from("\0.data\0.shstrtab\0");
  const dataAt = 52;
  const namesAt = dataAt + content.length;
  const tableAt = namesAt + names.length;
  const header = Buffer.alloc(52);
  Buffer.from([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1]).copy(header);
  header.writeUInt32LE(tableAt, 32);
  header.writeUInt16LE(40, 46);
  header.writeUInt16LE(3, 48);
  header.writeUInt16LE(2, 50);
  const section = (name: number, offset: number, size: number) => {
    const entry = Buffer.alloc(40);
    entry.writeUInt32LE(name, 0);
    entry.writeUInt32LE(1, 4);
    entry.writeUInt32LE(offset, 16);
    entry.writeUInt32LE(size, 20);
    return entry;
  };
  const table = [Buffer.alloc(40), section(1, dataAt, content.length), section(7, namesAt, names.length)];
  return Buffer.concat([header, content, names, ...table]);
}

describe("differences of objects", () => {
  test("are the sections that differ, and no others", () => {
    const other = compiled('int a = 2; const char *t(void) { return "two"; }');
    const differences = objectDifferences(PLAIN, other);
    assert.deepEqual(
      differences.map(({ section }) => section),
      [".data", ".rodata"],
    );
    const data = differences.find(({ section }) => section === ".data")!;
    assert.deepEqual([data.first?.size, data.second?.size, data.at], [4, 4, 0]);
    assert.equal(PLAIN[data.first!.offset], 1);
    assert.match(describeDifference(data), /^section \.data: 4 bytes at \d+ against 4 bytes at \d+, from byte 0 on$/);
  });

  test("are sections that only one has", () => {
    const debug = objectDifferences(PLAIN, compiled('int a = 1; const char *t(void) { return "one"; }', "-g"));
    const added = debug.filter(({ first }) => first === null).map(({ section }) => section);
    assert.ok(added.includes(".debug_info"), added.join());
    assert.match(describeDifference(debug.at(-1)!), /only in the second/);
  });

  test("of 32 bits too", () => {
    const [difference, ...more] = objectDifferences(elf32(Buffer.from("abcd")), elf32(Buffer.from("abXd")));
    assert.deepEqual([difference?.section, difference?.at, more.length], [".data", 2, 0]);
  });

  test("of other files are the first byte that differs", () => {
    assert.deepEqual(objectDifferences(Buffer.from("abc"), Buffer.from("abd")), [
      { section: null, first: { offset: 0, size: 3 }, second: { offset: 0, size: 3 }, at: 2 },
    ]);
    assert.equal(objectDifferences(Buffer.from("abc"), Buffer.from("abcd"))[0]?.at, 3);
    assert.deepEqual(objectDifferences(PLAIN, PLAIN), []);
  });

  test("outside of all sections are told as the file's", () => {
    const flags = Buffer.from(PLAIN);
    flags[48]! ^= 1;
    assert.deepEqual(
      objectDifferences(PLAIN, flags).map(({ section, at }) => [section, at]),
      [[null, 48]],
    );
  });

  test("are told of any bytes, and always told when there are some", () => {
    const whole = fc.constantFrom(PLAIN, elf32(Buffer.from("abcd")));
    const changes = fc.array(fc.tuple(fc.nat(8192), fc.nat(255)), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(whole, changes, fc.nat(8192), (file, changed, cut) => {
        const hostile = Buffer.from(file.subarray(0, Math.max(1, cut % (file.length + 1))));
        for (const [at, byte] of changed) hostile[at % hostile.length] = byte;
        const sections = elfSections(hostile);
        for (const { offset, size } of sections ?? []) assert.ok(size === 0 || offset + size <= hostile.length);
        assert.equal(objectDifferences(file, hostile).length === 0, file.equals(hostile));
      }),
      { numRuns: 500 },
    );
  });
});
