// Envelopes: each kind has its own fields alone, one text for each value, and nothing else is read.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { anyEnvelope, BODIES } from "../../test/support/audit-envelopes.ts";
import { sha256 } from "../core/digest/digest.ts";
import { type AuditEnvelope, decodeEnvelope, encodeEnvelope } from "./envelope.ts";
import { emptyRow, encodeRow } from "./row.ts";
import { noteOf, SHAPES } from "./rows/bodies.ts";
import { kindOfRecord } from "./segment.ts";

const D = sha256(new Uint8Array());
const PLACE = { sequence: 7, previous: D };

test("the properties cover all kinds", () => {
  assert.deepEqual(Object.keys(BODIES), Object.keys(SHAPES));
});

for (const [name, body] of Object.entries(BODIES))
  test(`any envelope of ${name} is one printable line, says no null, and comes back`, () => {
    fc.assert(
      fc.property(body, (body) => {
        const line = encodeEnvelope({ ...body, ...PLACE });
        assert.match(line, /^[ -~]*$/);
        assert.ok(!Object.values(JSON.parse(line) as object).includes(null), line);
        assert.deepEqual(decodeEnvelope(line), { ...body, ...PLACE });
        assert.equal(typeof noteOf(body), "string");
      }),
    );
  });

test("a time that no date can be made of is refused with a name, and the last one is not", () => {
  const last = 8.64e15;
  const written = (endMs: number) =>
    encodeEnvelope({ kind: "log", event: "torn", startMs: 0, endMs, bytes: 1, file: "x", ...PLACE });
  assert.equal(decodeEnvelope(written(last)).endMs, last);
  for (const ms of [last + 1, -last - 1, Number.MAX_SAFE_INTEGER, Number.NaN, Number.POSITIVE_INFINITY, 0.5])
    assert.throws(() => written(ms), { code: "argument.invalid", message: /is no time that a row can hold/ });
});

test("a record's kind is read from its place in the chain alone, and from no other one", () => {
  const row = encodeRow(emptyRow("w1"));
  fc.assert(
    fc.property(anyEnvelope, (envelope) => {
      const place = { sequence: envelope.sequence - 1, leaf: envelope.previous };
      const payload = (line: string, first = row) => Buffer.from(`${first}\n${line}\n`, "latin1");
      const line = encodeEnvelope(envelope);
      assert.equal(kindOfRecord(payload(line), place), envelope.kind);
      const other = sha256(Buffer.from("another"));
      assert.equal(kindOfRecord(payload(line), { ...place, leaf: other }), null);
      assert.equal(kindOfRecord(payload(line), { ...place, sequence: place.sequence + 1 }), null);
      for (const bad of [`${line} `, `${line}\n`, `${line.slice(0, -1)}]`, `${line.slice(0, -1)}\n}`, ` ${line}`])
        assert.equal(kindOfRecord(payload(bad), place), null, bad);
      assert.equal(kindOfRecord(payload(line, `${row}\t-`), place), null);
    }),
  );
});

describe("what is not canonical is refused", () => {
  const refused = (line: string) => assert.throws(() => decodeEnvelope(line), { code: "audit.corrupt" }, line);

  test("other JSON", () => {
    const [good] = fc.sample(anyEnvelope, { numRuns: 1, seed: 7 }).map(encodeEnvelope);
    assert.ok(good);
    for (const bad of [
      "",
      "[]",
      "null",
      "{}",
      ` ${good}`,
      good.replace('"v":2', '"v": 2'),
      good.replace('"v":2', '"v":3'),
    ])
      refused(bad);
  });

  test("a field more, a field less, a field of another kind, another order", () => {
    fc.assert(
      fc.property(anyEnvelope, fc.nat(), (envelope, at) => {
        const json = JSON.parse(encodeEnvelope(envelope)) as Record<string, unknown>;
        const names = Object.keys(json);
        const name = names[at % names.length]!;
        const { [name]: value, ...others } = json;
        refused(JSON.stringify({ ...json, extra: 1 }));
        refused(JSON.stringify({ ...json, [name]: null }));
        if (name !== names.at(-1)) refused(JSON.stringify({ ...others, [name]: value }));
        const back = decodeEnvelopeOrNull(JSON.stringify(others));
        // What may be left out is another envelope.
        if (back !== null) assert.notDeepEqual(back, envelope);
      }),
    );
  });

  test("a changed byte is another envelope or none", () => {
    fc.assert(
      fc.property(anyEnvelope, fc.nat(), fc.integer({ min: 0x20, max: 0x7e }), (envelope, at, byte) => {
        const line = encodeEnvelope(envelope);
        const place = at % line.length;
        const changed = line.slice(0, place) + String.fromCharCode(byte) + line.slice(place + 1);
        if (changed === line) return;
        const back = decodeEnvelopeOrNull(changed);
        if (back !== null) assert.notDeepEqual(back, envelope);
      }),
      { numRuns: 1000 },
    );
  });

  test("names that are none: of the object's own, of digits, and of what every object has", () => {
    const line = (versions: string) =>
      encodeEnvelope({
        ...PLACE,
        kind: "vm",
        event: "restored",
        startMs: 0,
        endMs: 0,
        isolation: "firecracker",
        life: "clean",
        user: null,
        versions: { a: "b" },
      }).replace('{"a":"b"}', versions);
    assert.ok(decodeEnvelope(line('{"a":"b","c":"d"}')));
    for (const bad of ['{"10":"b"}', '{"__proto__":"b"}', '{"c":"d","a":"b"}', '{"a":1}', "[]", "null"])
      refused(line(bad));
    const event = '"kind":"vm","event":"restored"';
    assert.ok(line('{"a":"b"}').includes(event));
    for (const bad of ['"kind":"toString"', '"kind":"vm restored"', '"kind":["vm"],"event":"restored"', '"kind":"vm"'])
      refused(line('{"a":"b"}').replace(event, bad));
  });
});

test("a log of the form before is told from a damaged one, and the error says what to do", () => {
  const old =
    '{"sequence":1,"kind":"log","note":"","principal":null,"start":"1970-01-01T00:00:00.000Z","end":"1970-01-01T00:00:00.000Z",' +
    `"isolation":null,"life":null,"action_key":null,"result_digest":null,"compile_us":null,"versions":{},"previous":"${D}"}`;
  assert.throws(() => decodeEnvelope(old), { code: "audit.corrupt", message: /older version/, hint: /aside/ });
});

function decodeEnvelopeOrNull(line: string): AuditEnvelope | null {
  try {
    return decodeEnvelope(line);
  } catch (error) {
    assert.equal((error as { code?: string }).code, "audit.corrupt");
    return null;
  }
}
