// Notes, checkpoints and proofs: what is written is read back, and anything else is refused.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { leafHash } from "../merkle/hashes.ts";
import { TileTree } from "../merkle/tile-tree.ts";
import { checkProof, decodeProof, encodeProof, openCheckpoint, signCheckpoint } from "./checkpoint.ts";
import { encodeSigner, noteSigner, openNote, parseSigner, parseVerifier, signNote } from "./signed-note.ts";

const SEED = Buffer.alloc(32, 7);
const NAME = "build.example.com/worker/w1";
const signer = noteSigner(NAME, SEED);
const { verifier } = signer;
const other = noteSigner(NAME, Buffer.alloc(32, 8));
const refused = (run: () => unknown) => assert.throws(run, { code: "audit.corrupt" });

describe("keys", () => {
  test("are read back, and no other text is", () => {
    assert.equal(parseVerifier(verifier.text).text, verifier.text);
    assert.equal(parseSigner(encodeSigner(verifier, SEED)).verifier.text, verifier.text);
    for (const bad of ["", "a+b+c", `${verifier.text} `, verifier.text.replace("w1", "w2"), `x${verifier.text}`])
      assert.throws(() => parseVerifier(bad), { code: "argument.invalid" }, bad);
    assert.throws(() => parseSigner(verifier.text), { code: "config.invalid" });
    for (const bad of ["", "a b", "a+b", "é"])
      assert.throws(() => noteSigner(bad, SEED), { code: "argument.invalid" }, bad);
  });

  test("of the note that the Go module's documentation shows verify its signature", () => {
    const peter = parseVerifier("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
    const text =
      "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    const note =
      `${text}\n\u2014 PeterNeumann ` +
      "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    assert.equal(openNote(note, [peter]).text, text);
    refused(() => openNote(note.replace("answer", "Answer"), [peter]));
  });
});

describe("checkpoints", () => {
  const note = signCheckpoint({ size: 5, root: leafHash(Buffer.from("x")) }, signer);

  test("say what was signed, and by whom", () => {
    assert.match(
      note,
      /^build\.example\.com\/worker\/w1\n5\n[A-Za-z0-9+/]{43}=\n\n\u2014 build\.example\.com\/worker\/w1 /,
    );
    const { origin, size, by } = openCheckpoint(note, [other.verifier, verifier]);
    assert.deepEqual([origin, size, by.map(({ text }) => text)], [NAME, 5, [verifier.text]]);
  });

  test("with another byte, another key, no key or none that is known are refused", () => {
    refused(() => openCheckpoint(note, []));
    refused(() => openCheckpoint(note, [other.verifier]));
    const foreign = noteSigner("other.example.com", SEED);
    const text = note.slice(0, note.indexOf("\n\n") + 1);
    refused(() => openCheckpoint(signNote(text, foreign), [foreign.verifier]));
    fc.assert(
      fc.property(fc.nat(note.length - 1), fc.integer({ min: 1, max: 0x7e }), (at, byte) => {
        const changed = note.slice(0, at) + String.fromCharCode(byte) + note.slice(at + 1);
        if (changed !== note) refused(() => openCheckpoint(changed, [verifier]));
      }),
      { numRuns: 500 },
    );
  });

  test("keep their signature beside others", () => {
    const both = note + signNote("x\n", other).split("\n").slice(2).join("\n");
    assert.equal(openCheckpoint(both, [verifier]).size, 5);
    refused(() => openCheckpoint(both, [verifier, other.verifier]));
  });
});

test("a proof proves its leaf at its place, under its key, and nothing else", () => {
  const tree = new TileTree();
  const leaves = Array.from({ length: 300 }, (_, i) => leafHash(Buffer.from(`row ${i}`)));
  for (const leaf of leaves) tree.append(leaf);
  const checkpoint = signCheckpoint({ size: tree.size, root: tree.root() }, signer);
  for (const index of [0, 255, 256, 299]) {
    const text = encodeProof({ index, path: tree.inclusion(index), checkpoint });
    const proof = decodeProof(text);
    assert.deepEqual(encodeProof(proof), text);
    assert.equal(checkProof(leaves[index]!, proof, [verifier]).size, 300);
    refused(() => checkProof(leaves[(index + 1) % 300]!, proof, [verifier]));
    refused(() => checkProof(leaves[index]!, { ...proof, index: index === 0 ? 1 : index - 1 }, [verifier]));
    refused(() => checkProof(leaves[index]!, proof, [other.verifier]));
    for (const bad of [
      "",
      "x",
      text.replace("@v1", "@v2"),
      text.replace("index ", "index 0"),
      text.replace("\n\n", "\n"),
    ])
      refused(() => decodeProof(bad));
  }
});
