// Cosignatures: what another implementation has made is read, what is made is read back, and nothing else is.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { leafHash } from "../merkle/hashes.ts";
import { openCheckpoint, signCheckpoint } from "./checkpoint.ts";
import { cosign, cosignaturesOf } from "./cosignature.ts";
import { encodeSigner, noteSigner, parseSigner, parseVerifier, parseWitnessKey, signNote } from "./signed-note.ts";

const LOG = noteSigner("x.example/worker/w1", Buffer.alloc(32, 1));
const WITNESS = noteSigner("witness.example/w1", Buffer.alloc(32, 2), "cosignature");
const OTHER = noteSigner("witness.example/w1", Buffer.alloc(32, 3), "cosignature");
const KEY = WITNESS.verifier;
const NOTE = signCheckpoint({ size: 5, root: leafHash(Buffer.from("x")) }, LOG);
const WHEN = Date.UTC(2027, 0, 2, 3, 4, 5);
const both = NOTE + cosign(NOTE, WITNESS, WHEN + 678);
const refused = (run: () => unknown) => assert.throws(run, { code: "audit.corrupt" });

test("a checkpoint that the Go module of transparency.dev has signed and cosigned is read", () => {
  const log = parseVerifier("x.example/worker/w1+771e24f6+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs");
  const witness = parseWitnessKey("witness.example/w1+fea3b187+BBOY9ixtGkV8UbpqS189vS9p/KkyFiGNyJl+QWvRfZPK");
  const note =
    "x.example/worker/w1\n42\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n" +
    "\u2014 x.example/worker/w1 dx4k9nr8HRb8Trtwh7+RD9tuCWIRmnVevVZOj0iUXFuxtr/vTZh6joYJBFMFNOrBVo3FhWVJu5iTiC5Td0fyvzkHTQE=\n" +
    "\u2014 witness.example/w1 /qOxhwAAAABrC2SyQ2xNkOVcTHXbK3CiBGvHgpJRKMklf6KHifmyviRlBu87jgLmO3BOzyUY7Gy1qy1y1GyysCSJY+76Po/BGfCNCw==\n";
  assert.equal(openCheckpoint(note, [log]).size, 42);
  const [cosignature] = cosignaturesOf(note, [witness]);
  assert.equal(cosignature?.timeMs, 1_795_908_786_000);
});

describe("a cosignature", () => {
  test("of a time that no date can be made of is refused", () => {
    assert.equal(cosignaturesOf(NOTE + cosign(NOTE, WITNESS, 8.64e15), [KEY])[0]?.timeMs, 8.64e15);
    refused(() => cosignaturesOf(NOTE + cosign(NOTE, WITNESS, 8.64e15 + 1000), [KEY]));
  });

  test("says who and when, in whole seconds, beside the log's own signature", () => {
    const [first, ...more] = cosignaturesOf(both, [OTHER.verifier, KEY]);
    assert.deepEqual([first?.by.text, first?.timeMs, more.length], [KEY.text, WHEN, 0]);
    assert.equal(`${NOTE}${first?.line}\n`, both);
    assert.equal(openCheckpoint(both, [LOG.verifier]).size, 5);
    assert.deepEqual(cosignaturesOf(both, [OTHER.verifier]), []);
    assert.deepEqual(cosignaturesOf(NOTE, [KEY]), []);
  });

  test("of another checkpoint, another time or another kind is refused", () => {
    const line = both.split("\n").at(-2)!;
    refused(() => cosignaturesOf(`${NOTE.replace("\n5\n", "\n6\n")}${line}\n`, [KEY]));
    const bytes = Buffer.from(line.split(" ")[2]!, "base64");
    for (const at of [11, 12, 75]) {
      const bent = Buffer.from(bytes);
      bent[at]! ^= 1;
      refused(() => cosignaturesOf(`${NOTE}\u2014 ${KEY.name} ${bent.toString("base64")}\n`, [KEY]));
    }
    // A plain signature of the witness's key is no cosignature, and a cosignature is no log's signature.
    const plain = signNote(NOTE.slice(0, NOTE.indexOf("\n\n") + 1), WITNESS);
    refused(() => cosignaturesOf(plain, [KEY]));
    refused(() => openCheckpoint(both, [{ ...KEY, name: LOG.verifier.name }]));
    fc.assert(
      fc.property(fc.nat(both.length - 1), fc.integer({ min: 1, max: 0x7e }), (at, byte) => {
        const changed = both.slice(0, at) + String.fromCharCode(byte) + both.slice(at + 1);
        if (changed === both) return;
        let good = false;
        try {
          good = openCheckpoint(changed, [LOG.verifier]).size === 5 && cosignaturesOf(changed, [KEY]).length === 1;
        } catch {}
        assert.ok(!good);
      }),
      { numRuns: 300 },
    );
  });

  test("has keys of its own, which are no log's", () => {
    assert.equal(parseWitnessKey(KEY.text).text, KEY.text);
    assert.throws(() => parseVerifier(KEY.text), { code: "argument.invalid" });
    assert.throws(() => parseWitnessKey(LOG.verifier.text), { code: "argument.invalid" });
    const secret = encodeSigner(KEY, Buffer.alloc(32, 2), "cosignature");
    assert.equal(parseSigner(secret, "cosignature").verifier.text, KEY.text);
    assert.throws(() => parseSigner(secret), { code: "config.invalid", message: /log-key/ });
  });
});
