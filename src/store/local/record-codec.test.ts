import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as fc from "fast-check";
import type { ByteString } from "../../base/byte-string.ts";
import { type Digest, sha256 } from "../../core/digest/digest.ts";
import { markOf } from "./kept-files.ts";
import { decodeHead, decodeRecord, encodeRecord, RECORD_FILES_MAX, type RecordHead } from "./record-codec.ts";

interface Vectors {
  readonly comment: string;
  readonly records: readonly {
    readonly key: Digest;
    readonly project: ByteString | null;
    readonly files: readonly { digest: Digest; stamp: { ino: string; ctimeNs: string } | null }[];
    readonly body: string;
    readonly encoded: string;
  }[];
  readonly marks: readonly { readonly digest: Digest; readonly sizeBytes: number; readonly modifiedMs: number }[];
}

const PATH = new URL("../../../test/golden/local-store/vectors.json", import.meta.url);
const vectors = JSON.parse(readFileSync(PATH, "utf8")) as Vectors;

const headOf = ({ key, project, files }: Vectors["records"][number]): RecordHead => ({
  key,
  project,
  files: files.map(({ digest, stamp }) => ({
    digest,
    stamp: stamp === null ? null : { ino: BigInt(stamp.ino), ctimeNs: BigInt(stamp.ctimeNs) },
  })),
});

test("the golden vectors", () => {
  assert.ok(vectors.records.length >= 3 && vectors.marks.length >= 3);
  for (const one of vectors.records) {
    const body = Buffer.from(one.body, "hex");
    const encoded = Buffer.from(one.encoded, "hex");
    assert.deepEqual(Buffer.from(encodeRecord(headOf(one), body)), encoded);
    const decoded = decodeRecord(one.key, encoded);
    assert.ok(typeof decoded !== "string", "it is whole");
    assert.deepEqual(decoded.head, headOf(one));
    assert.deepEqual(Buffer.from(decoded.body), body);
    assert.deepEqual(decodeHead(encoded), headOf(one));
  }
  for (const { digest, sizeBytes, modifiedMs } of vectors.marks) assert.equal(markOf(digest, sizeBytes), modifiedMs);
});

const bytes = fc.uint8Array({ maxLength: 40 });
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const PLAIN = { noNullPrototype: true };
const head: fc.Arbitrary<RecordHead> = fc.record(
  {
    key: bytes.map(sha256),
    project: fc.option(bytes.map((one) => Buffer.from(one).toString("latin1") as ByteString)),
    files: fc.array(
      fc.record(
        {
          digest: bytes.map(sha256),
          stamp: fc.option(
            fc.record({ ino: u64, ctimeNs: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }) }, PLAIN),
          ),
        },
        PLAIN,
      ),
      { maxLength: 5 },
    ),
  },
  PLAIN,
);

test("what is written is read back, and nothing that is not whole", () => {
  fc.assert(
    fc.property(head, bytes, fc.nat(), fc.integer({ min: 1, max: 255 }), (one, body, at, flip) => {
      const encoded = Buffer.from(encodeRecord(one, body));
      assert.deepEqual(decodeRecord(one.key, encoded), { head: one, body: Uint8Array.from(body) });
      const place = at % encoded.length;
      assert.equal(typeof decodeRecord(one.key, encoded.subarray(0, place)), "string");
      assert.equal(
        typeof decodeRecord(one.key, Buffer.from(encoded.with(place, encoded[place]! ^ flip))),
        "string",
        `byte ${place}`,
      );
    }),
  );
});

test("any bytes are a head or a complaint", () => {
  fc.assert(
    fc.property(head, bytes, fc.nat(), (one, noise, at) => {
      const encoded = Buffer.from(encodeRecord(one, noise));
      const start = Buffer.concat([encoded.subarray(0, at % encoded.length), noise]);
      assert.ok(["string", "object"].includes(typeof decodeHead(start)));
    }),
  );
});

test("too many files are refused", () => {
  const files = Array.from({ length: RECORD_FILES_MAX + 1 }, () => ({ digest: sha256(Buffer.from("")), stamp: null }));
  assert.throws(() => encodeRecord({ key: files[0]!.digest, project: null, files }, Buffer.from("")), {
    code: "limit.exceeded",
  });
});
