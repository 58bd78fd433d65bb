// What a person is shown of a hash.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ascii } from "../base/byte-string.ts";
import { encodeSourceManifest, sourceManifest } from "../core/action/source-manifest.ts";
import { sha256 } from "../core/digest/digest.ts";
import { printInspection } from "./inspect.ts";

test("the tree of a source is shown with its form, its files, links and empty folders", () => {
  const digest = sha256(Buffer.from("x"));
  const manifest = sourceManifest("files", [
    { kind: "file", path: ascii("/home/ann/a.c"), mode: 0o644, digest, size: 1 },
    { kind: "link", path: ascii("/home/ann/include"), target: ascii("../x\x1b[2J") },
    { kind: "folder", path: ascii("/home/ann/build") },
  ]);
  const text = printInspection({
    kind: "source",
    digest,
    rows: [],
    envelopes: [],
    sourceManifest: encodeSourceManifest(manifest),
    resultManifest: new Uint8Array(),
  });
  assert.match(text, /^source in the form of files: 1 file, 1 link, 1 folder$/m);
  assert.match(text, new RegExp(`^ {2}/home/ann/a\\.c +1 B +${digest}$`, "m"));
  assert.match(text, /^ {2}\/home\/ann\/build +folder +empty$/m);
  assert.match(text, /^ {2}\/home\/ann\/include +link +to \.\.\/x\S+$/m);
  assert.ok(!text.includes("\x1b"), "nothing of a source reaches the terminal as it is");
});
