import assert from "node:assert/strict";
import { test } from "node:test";
import { ascii, type ByteString } from "../../base/byte-string.ts";
import { FieldWriter } from "../../core/action/fields.ts";
import { sha256 } from "../../core/digest/digest.ts";
import { decodeRecord, encodeRecord, VARIANTS_MAX, type Variant } from "./local-record.ts";

const digest = (text: string) => sha256(Buffer.from(text));
const VARIANT: Variant = {
  files: [
    { path: ascii("a.c"), digest: digest("1") },
    { path: ascii("/usr/include/x.h"), digest: digest("2") },
  ],
  absent: [
    { folder: ascii("inc"), names: [ascii("x.h"), ascii("sys/y.h")] },
    { folder: ascii(""), names: [ascii("opt/z.h")] },
  ],
  same: [0, 1],
  stdout: Uint8Array.from([]),
  stderr: Uint8Array.from([0, 255, 10]),
  outputs: [
    { destination: "\xff.d" as ByteString, digest: digest("3"), manner: "text" },
    { destination: ascii("a.o"), digest: digest("4"), manner: "assembler" },
  ],
};

test("a record comes back as it was, with its newest variant first", () => {
  const other = { ...VARIANT, files: [VARIANT.files[0]!, { path: ascii("b.h"), digest: digest("5") }] };
  const record = [other, VARIANT];
  assert.deepEqual(decodeRecord(encodeRecord(record)), record);
  assert.deepEqual(decodeRecord(encodeRecord([])), []);
});

test("variants share files and names", () => {
  const text = Buffer.from(encodeRecord([VARIANT, VARIANT])).toString("latin1");
  assert.equal(text.split("/usr/include/x.h").length, 2);
  assert.equal(text.split("sys/y.h").length, 2);
});

test("a damaged record is refused", () => {
  const bytes = encodeRecord([VARIANT]);
  const refused = /the local record/;
  // Cut between two items it has no variant left; the store itself knows what it has written.
  for (let length = 0; length < bytes.length; length++) {
    let left = 0;
    try {
      left = decodeRecord(bytes.subarray(0, length)).length;
    } catch (error) {
      assert.match(String(error), refused);
    }
    assert.equal(left, 0, `cut to ${length}`);
  }
  const longer = new Uint8Array([...bytes, 0]);
  assert.throws(() => decodeRecord(longer), refused);
  const stranger = new FieldWriter().ascii(1, "hpcc.local.v1").finish();
  assert.throws(() => decodeRecord(stranger), refused);
  const many = encodeRecord(Array.from({ length: VARIANTS_MAX + 1 }, () => VARIANT));
  assert.throws(() => decodeRecord(many), refused);
});
