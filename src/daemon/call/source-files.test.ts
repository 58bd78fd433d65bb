import assert from "node:assert/strict";
import { test } from "node:test";
import { zstdDecompressSync } from "node:zlib";
import { ascii } from "../../base/byte-string.ts";
import { decodeSourceManifest } from "../../core/action/source-manifest.ts";
import { sha256 } from "../../core/digest/digest.ts";
import { collectSourceFiles, type SourceParts } from "./source-files.ts";

const file = (path: string, text: string) => ({ path: ascii(path), bytes: Buffer.from(text) });
const PARTS: SourceParts = {
  files: [
    file("/hpcc/project/a.c", "int a;"),
    file("/hpcc/project/inc/h.h", "same"),
    file("/hpcc/project/i.h", "same"),
  ],
  links: [{ path: ascii("/hpcc/project/near"), target: ascii("inc") }],
  folders: ["/hpcc/project", "/hpcc/project/inc", "/hpcc/project/empty/deep", "/hpcc/project/empty"].map(ascii),
};

test("folders are named where nothing else stands in them", () => {
  const { manifest, sizeBytes } = collectSourceFiles("files", PARTS);
  const { form, entries } = decodeSourceManifest(manifest);
  assert.equal(form, "files");
  assert.equal(sizeBytes, 14);
  assert.deepEqual(entries.map(({ kind, path }) => `${kind} ${path}`).sort(), [
    "file /hpcc/project/a.c",
    "file /hpcc/project/i.h",
    "file /hpcc/project/inc/h.h",
    "folder /hpcc/project/empty/deep",
    "link /hpcc/project/near",
  ]);
});

test("the digest and the seed come of the content alone", () => {
  const one = collectSourceFiles("files", PARTS);
  const turned = collectSourceFiles("files", { ...PARTS, files: PARTS.files.toReversed() });
  assert.deepEqual([turned.digest, turned.randomSeed], [one.digest, one.randomSeed]);
  const other = collectSourceFiles("files", { ...PARTS, files: [...PARTS.files, file("/hpcc/project/j.h", "")] });
  assert.notEqual(other.digest, one.digest);
  assert.notEqual(other.randomSeed, one.randomSeed);
  assert.match(one.randomSeed, /^[0-9a-f]{16}$/);
  assert.notEqual(collectSourceFiles("text", PARTS).digest, one.digest);
});

test("blobs are opened by their digest, and no other file is", async () => {
  const source = collectSourceFiles("files", PARTS);
  assert.equal(zstdDecompressSync(await source.openBlob(sha256(Buffer.from("same")))).toString(), "same");
  await assert.rejects(source.openBlob(sha256(Buffer.from("other"))), { code: "peer.protocol" });
});
