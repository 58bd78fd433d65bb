// Rows and flags: what is written is read back, one text per value, and nothing else is read.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import type { ByteString } from "../base/byte-string.ts";
import { sha256 } from "../core/digest/digest.ts";
import { type Command, decodeFlags, encodeFlags } from "./flags.ts";
import { type AuditRow, decodeRow, encodeRow, INLINE_FLAGS_LENGTH_MAX, ROW_LENGTH_MAX, ROW_PATTERN } from "./row.ts";

const record = <T>(shape: { [K in keyof T]: fc.Arbitrary<T[K]> }) => fc.record(shape, { noNullPrototype: true });
const bytes = (minLength = 0) =>
  fc.uint8Array({ minLength, maxLength: 30 }).map((array) => Buffer.from(array).toString("latin1") as ByteString);
const absolute = bytes().map((text) => `/${text}` as ByteString);
const variable = fc
  .tuple(fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_]{0,5}$/), bytes())
  .map(([name, value]) => `${name}=${value}` as ByteString);
const command: fc.Arbitrary<Command> = record({
  cwd: absolute,
  environment: fc.array(variable, { maxLength: 4 }),
  argv: fc.tuple(absolute, fc.array(bytes(), { maxLength: 6 })).map(([program, rest]) => [program, ...rest]),
});
const digest = fc.string().map((text) => sha256(Buffer.from(text)));
const name = fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,20}$/);
const count = fc.nat(2 ** 31 - 1);
const orNull = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: null });
const row: fc.Arbitrary<AuditRow> = record({
  imageDigest: orNull(digest),
  sourceDigest: orNull(digest),
  flags: orNull(fc.oneof(command.map(encodeFlags), digest)),
  outputDigest: orNull(digest),
  tenant: name,
  worker: name,
  vm: orNull(name),
  durationUs: count,
  exit: orNull(fc.nat(255)),
});
const PRINTABLE = /^[ -~]*$/;

describe("flags", () => {
  test("any command is one printable line and comes back", () => {
    fc.assert(
      fc.property(command, (command) => {
        const text = encodeFlags(command);
        assert.match(text, PRINTABLE);
        assert.deepEqual(decodeFlags(text), command);
        assert.ok(Array.isArray(JSON.parse(text)));
      }),
    );
  });

  test("other texts are refused", () => {
    const good = encodeFlags({
      cwd: "/a" as ByteString,
      environment: ["LC_ALL=C" as ByteString],
      argv: ["/bin/cc" as ByteString],
    });
    assert.equal(good, '["env","-i","-C","/a","LC_ALL=C","/bin/cc"]');
    const bad = [
      "",
      "[]",
      "{}",
      '["env","-i","-C","/a"]',
      '["/bin/cc"]',
      '["env","-i","-C","/a",1,"/bin/cc"]',
      good.replace('","', '", "'),
      good.replace("/a", "\\u002fa"),
      good.replace("/a", "/\\u0100"),
      `${good} `,
    ];
    for (const text of bad) assert.throws(() => decodeFlags(text), { code: "audit.corrupt" }, text);
  });
});

const fitsPattern = (line: string) => new RegExp(`^${ROW_PATTERN}$`).test(line);

function isRow(line: string): boolean {
  try {
    decodeRow(line);
    return true;
  } catch {
    return false;
  }
}

describe("rows", () => {
  test("any row is nine columns and comes back", () => {
    fc.assert(
      fc.property(row, (row) => {
        const line = encodeRow(row);
        assert.match(line.replaceAll("\t", ""), PRINTABLE);
        assert.equal(line.split("\t").length, 9);
        assert.deepEqual(decodeRow(line), row);
        assert.ok(fitsPattern(line));
      }),
    );
  });

  test("a changed column is another row or none", () => {
    fc.assert(
      fc.property(row, fc.nat(), fc.nat(255), (row, at, byte) => {
        const line = encodeRow(row);
        const place = at % line.length;
        const changed = line.slice(0, place) + String.fromCharCode(byte) + line.slice(place + 1);
        if (changed === line) return;
        assert.equal(fitsPattern(changed), isRow(changed), JSON.stringify(changed));
        try {
          assert.notDeepEqual(decodeRow(changed), row);
        } catch (error) {
          assert.equal((error as { code?: string }).code, "audit.corrupt");
        }
      }),
      { numRuns: 1000 },
    );
  });

  test("lines that are no rows are refused", () => {
    const d = sha256(new Uint8Array());
    const good = [d, d, "[]", d, "acme", "w1", "vm-1", "12", "0"];
    assert.equal(decodeRow(good.join("\t")).durationUs, 12);
    const at = (column: number, text: string) => good.with(column, text).join("\t");
    const bad = [
      "",
      good.slice(1).join("\t"),
      `${good.join("\t")}\t`,
      at(0, "sha256:00"),
      at(1, ""),
      at(2, "flags"),
      at(2, "[\u0007]"),
      at(3, d.toUpperCase()),
      at(4, ""),
      at(4, "a b"),
      at(5, "w\n1"),
      at(6, "\u001b[31m"),
      at(7, "-1"),
      at(7, "01"),
      at(7, "1.5"),
      at(8, " 0"),
      at(2, `[${" ".repeat(ROW_LENGTH_MAX)}]`),
    ];
    for (const line of bad) {
      assert.throws(() => decodeRow(line), { code: "audit.corrupt" }, JSON.stringify(line.slice(0, 400)));
      if (line.length <= ROW_LENGTH_MAX) assert.ok(!fitsPattern(line), JSON.stringify(line.slice(0, 400)));
    }
  });

  test("the longest inline flags fit", () => {
    const d = sha256(new Uint8Array());
    const long = "x".repeat(128);
    const row = { imageDigest: d, sourceDigest: d, outputDigest: d, tenant: long, worker: long, vm: long, exit: 255 };
    encodeRow({ ...row, flags: `[${" ".repeat(INLINE_FLAGS_LENGTH_MAX - 2)}]`, durationUs: 10 ** 15 });
  });
});
