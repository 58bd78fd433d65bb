// Any envelope of any kind, for properties.
import * as fc from "fast-check";
import type { AuditEnvelope } from "../../src/audit/envelope.ts";
import type { EnvelopeBody } from "../../src/audit/rows/bodies.ts";
import { DETERMINISM_POLICIES, OUTPUT_KINDS } from "../../src/core/action/action.ts";
import { type Digest, sha256 } from "../../src/core/digest/digest.ts";
import type { BuildId } from "../../src/core/identity/build-id.ts";
import { ISOLATIONS } from "../../src/core/isolation.ts";
import { LIVES } from "../../src/core/life.ts";

const record = <T>(shape: { [K in keyof T]: fc.Arbitrary<T[K]> }) => fc.record(shape, { noNullPrototype: true });
const orNull = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: null });
const digest: fc.Arbitrary<Digest> = fc.string().map((text) => sha256(Buffer.from(text)));
const text = fc.string({ unit: "binary" });
const count = fc.nat(2 ** 31 - 1);
const time = fc.nat(4_000_000_000_000);
const texts = fc.dictionary(fc.stringMatching(/^[a-z][a-zA-Z0-9_.-]{0,8}$/), text, { noNullPrototype: true });
const is = <const T extends string>(value: T) => fc.constant(value);
const isolation = fc.constantFrom(...ISOLATIONS);
const life = fc.constantFrom(...LIVES);

const times = { startMs: time, endMs: time };
const build = orNull(fc.stringMatching(/^[ -~]{1,128}$/).map((name) => name as BuildId));
const job = { ...times, principal: text, policy: orNull(digest), tier: orNull(text), build };
const result = { isolation, life, actionKey: digest, resultDigest: digest, compileUs: count };
const scope = orNull(fc.constantFrom("tenant", "principal"));
const output = record({ path: text, kind: fc.constantFrom(...OUTPUT_KINDS.names), required: fc.boolean() });
const action = {
  outputs: fc.array(output, { maxLength: 3 }),
  terminalColumns: orNull(count),
  determinism: fc.constantFrom(...DETERMINISM_POLICIES.names),
};
const ended = { ...job, code: text, actionKey: orNull(digest) };
const vm = { ...times, isolation, life, user: orNull(text), versions: texts };
const policy = { ...times, digest: orNull(digest), version: orNull(count) };
const finding = record({ name: text, status: fc.constantFrom("ok", "warn", "fail", "unknown"), found: text });

/** One for each shape, by its name. */
export const BODIES: Readonly<Record<string, fc.Arbitrary<EnvelopeBody>>> = {
  compile: record({ kind: is("compile"), ...job, ...result, versions: texts, scope, ...action }),
  hit: record({
    kind: is("hit"),
    ...job,
    outcome: fc.constantFrom("hit", "joined"),
    ...result,
    scope,
    from: orNull(text),
    compiledRow: orNull(digest),
    confirmedBy: orNull(text),
    ...action,
    keyTier: orNull(text),
    madeFor: orNull(text),
  }),
  denied: record({ kind: is("denied"), ...ended }),
  failed: record({ kind: is("failed"), ...ended }),
  "vm booted": record({ kind: is("vm"), event: is("booted"), origin: fc.constantFrom("kernel", "golden"), ...vm }),
  "vm boot-failed": record({
    kind: is("vm"),
    event: is("boot-failed"),
    ...times,
    code: text,
    life,
    user: orNull(text),
  }),
  "vm parked": record({
    kind: is("vm"),
    event: is("parked"),
    parking: fc.constantFrom("snapshot", "memory"),
    diskBytes: count,
    ...vm,
  }),
  "vm restored": record({ kind: is("vm"), event: is("restored"), ...vm }),
  "vm destroyed": record({ kind: is("vm"), event: is("destroyed"), reason: text, executions: count, ...vm }),
  confirm: record({
    kind: is("confirm"),
    ...job,
    outcome: fc.constantFrom("equal", "different"),
    ...result,
    versions: texts,
    firstVm: text,
    firstResultDigest: digest,
    firstRow: orNull(digest),
    ...action,
  }),
  revoke: record({
    kind: is("revoke"),
    ...times,
    what: fc.constantFrom("vm", "image", "principal", "key"),
    value: text,
    upToMs: orNull(time),
    cause: fc.constantFrom("breach", "confirmation", "operator", "peer"),
    askedBy: orNull(text),
    entries: count,
    served: orNull(count),
    servedRows: fc.array(digest, { maxLength: 5 }),
  }),
  "policy in-force": record({ kind: is("policy"), event: is("in-force"), ...policy }),
  "policy refused": record({ kind: is("policy"), event: is("refused"), ...policy, problem: text }),
  host: record({
    kind: is("host"),
    ...times,
    isolation,
    parts: texts,
    findings: fc.array(finding, { maxLength: 4 }),
  }),
  "log torn": record({ kind: is("log"), event: is("torn"), ...times, bytes: count, file: text }),
  "log key": record({ kind: is("log"), event: is("key"), ...times, key: text, before: orNull(text) }),
  "prune rows": record({
    kind: is("prune"),
    event: is("rows"),
    ...times,
    cause: fc.constantFrom("operator", "policy"),
    askedBy: text,
    reason: text,
    policy: orNull(digest),
    size: count,
    first: count,
    last: count,
    rows: count,
    bytes: count,
    removed: digest,
    stub: digest,
  }),
  "prune sources": record({ kind: is("prune"), event: is("sources"), ...times, blobs: count, bytes: count }),
  "hold added": record({
    kind: is("hold"),
    event: is("added"),
    ...times,
    name: text,
    askedBy: text,
    reason: text,
    principal: orNull(text),
    build: orNull(text),
    hash: orNull(digest),
    sinceMs: orNull(time),
    untilMs: orNull(time),
  }),
  "hold removed": record({
    kind: is("hold"),
    event: is("removed"),
    ...times,
    name: text,
    askedBy: text,
    reason: text,
  }),
};

export const anyBody: fc.Arbitrary<EnvelopeBody> = fc.oneof(...Object.values(BODIES));

export const anyEnvelope: fc.Arbitrary<AuditEnvelope> = fc
  .tuple(anyBody, fc.nat(2 ** 31 - 1), digest)
  .map(([body, sequence, previous]) => ({ ...body, sequence, previous }));
