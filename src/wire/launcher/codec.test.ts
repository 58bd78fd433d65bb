import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as fc from "fast-check";
import { ascii, type ByteString, byteStringOf } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import { decodeMessage, parseFrame } from "./decode.ts";
import { encodeMessage } from "./encode.ts";
import { FrameReader } from "./frame-reader.ts";
import { PROTOCOL_VERSION } from "./limits.ts";
import {
  type Content,
  FRAME_TYPES,
  type Message,
  type NamespaceRef,
  OUTPUT_MANNERS,
  RUN_FAILURES,
  type StreamPolicy,
} from "./messages.ts";
import { decodePlan, encodePlan, type Plan, planFileName } from "./plan-file.ts";

const record = <T extends object>(arbitraries: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record(arbitraries, { noNullPrototype: true }) as fc.Arbitrary<T>;
const bytes = (max: number) =>
  fc.uint8Array({ maxLength: max }).map((value) => byteStringOf(value.map((byte) => (byte === 0 ? 1 : byte))));
const path = bytes(40).map((text) => `/${text}` as ByteString);
const argv = fc.array(bytes(20), { minLength: 1, maxLength: 8 });
const environment = fc.array(bytes(20), { maxLength: 8 });
const u32 = fc.nat({ max: 0xffff_ffff });
const pid = fc.nat({ max: 0x7fff_ffff });
const u64 = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn });
const text = fc.string({ unit: "binary", maxLength: 30 }).map((value) => value.toWellFormed());
const namespace: fc.Arbitrary<NamespaceRef> = record({
  holderPid: pid,
  userNamespaceIno: fc.option(u64),
  mountNamespaceIno: u64,
});
const stream: fc.Arbitrary<StreamPolicy> = fc.oneof(
  fc.constant({ kind: "inherit" } as const),
  fc.constant({ kind: "discard" } as const),
  path.map((value) => ({ kind: "file", path: value }) as const),
  path.map((value) => ({ kind: "terminal", path: value }) as const),
);
const content: fc.Arbitrary<Content> = fc.oneof(
  fc.uint8Array({ maxLength: 60 }).map((value) => ({ kind: "inline", bytes: Buffer.from(value) }) as const),
  path.map((value) => ({ kind: "file", path: value }) as const),
);
const count = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const json = fc.jsonValue().map((value) => JSON.parse(JSON.stringify(value)) as unknown);

const messages: fc.Arbitrary<Message> = fc.oneof(
  record({
    type: fc.constant("call" as const),
    protocolVersion: fc.constant(PROTOCOL_VERSION),
    launcherVersion: text,
    mountNamespace: record({ dev: u64, ino: u64 }),
    argv,
    cwd: path,
    environment,
    umask: fc.nat({ max: 0o777 }),
    terminal: record({
      stdin: fc.boolean(),
      stdout: fc.boolean(),
      stderr: fc.boolean(),
      columns: fc.option(fc.nat({ max: 65_535 })),
    }),
    pid,
    hostCompiler: fc.option(path),
  }),
  record({
    type: fc.constant("run" as const),
    id: u32,
    program: path,
    argv,
    environment,
    cwd: path,
    namespace: fc.option(namespace),
    stdin: fc.constantFrom("inherit" as const, "null" as const),
    stdout: stream,
    stderr: stream,
    timeLimitMs: fc.option(u32),
  }),
  record({
    type: fc.constant("ran" as const),
    id: u32,
    outcome: fc.oneof(
      record({ kind: fc.constant("exited" as const), code: fc.nat({ max: 255 }) }),
      record({ kind: fc.constant("signaled" as const), signal: fc.nat({ max: 64 }) }),
      record({
        kind: fc.constant("failed" as const),
        failure: fc.constantFrom(...RUN_FAILURES),
        errno: fc.nat({ max: 4095 }),
      }),
    ),
    usage: record({ userUs: count, systemUs: count, maxRssKiB: count, wallUs: count }),
  }),
  record({ type: fc.constant("wait" as const), doing: fc.option(text) }),
  record({
    type: fc.constant("outputs" as const),
    exitCode: fc.nat({ max: 255 }),
    stdout: fc.option(content),
    stderr: fc.option(content),
    files: fc.array(
      record({
        destination: path,
        content,
        executable: fc.boolean(),
        manner: fc.constantFrom(...OUTPUT_MANNERS),
      }),
      { maxLength: 4 },
    ),
  }),
  record({
    type: fc.constant("outputs" as const),
    exitCode: fc.nat({ max: 255 }),
    stdout: fc.option(content),
    stderr: fc.option(content),
    files: fc.constant([]),
    removals: fc.array(path, { minLength: 1, maxLength: 4 }),
  }),
  record({
    type: fc.constant("exec" as const),
    namespace: fc.option(namespace),
    program: fc.oneof(
      fc.constant({ kind: "host" } as const),
      path.map((value) => ({ kind: "path", path: value }) as const),
    ),
    argv: fc.option(argv),
    environment: fc.option(environment),
    cwd: fc.option(path),
    warning: fc.option(text),
  }),
  record({ type: fc.constant("control" as const), protocolVersion: fc.constant(PROTOCOL_VERSION), request: json }),
  record({ type: fc.constant("reply" as const), reply: json }),
  record({ type: fc.constant("refuse" as const), protocolVersion: u32, reason: text }),
  record({
    type: fc.constant("done" as const),
    result: fc.oneof(
      fc.constant({ kind: "written" } as const),
      text.map((reason) => ({ kind: "fell-back", reason }) as const),
    ),
  }),
);

const configuration = record({ path, digest: fc.option(text) });
const plans: fc.Arbitrary<Plan> = fc.oneof(
  record({ kind: fc.constant("host" as const), projectRoot: path, configuration }),
  record({
    kind: fc.constant("image" as const),
    projectRoot: path,
    configuration,
    imageDigest: text,
    namespace: fc.option(namespace),
    sandboxArgv: fc.array(bytes(20), { maxLength: 6 }),
    compilers: fc.array(record({ name: bytes(20), path, arguments: fc.array(bytes(20), { maxLength: 3 }) }), {
      maxLength: 3,
    }),
    fallback: fc.constantFrom("image" as const, "host" as const, "none" as const),
    imageRoot: path,
    programFolders: fc.array(path, { maxLength: 3 }),
  }),
);

function faultOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof HpccError && error.code === "peer.protocol") return String(error.details["fault"]);
    throw error;
  }
  return "none";
}

test("each message comes back from its frame, however the stream was cut", () => {
  fc.assert(
    fc.property(
      fc.array(messages, { minLength: 1, maxLength: 4 }),
      fc.array(fc.nat(), { maxLength: 8 }),
      (sent, cuts) => {
        const all = Buffer.concat(sent.map(encodeMessage));
        const reader = new FrameReader();
        const got: unknown[] = [];
        const edges = [0, ...cuts.map((cut) => cut % (all.length + 1)).sort((a, b) => a - b), all.length];
        for (let index = 1; index < edges.length; index++)
          for (const frame of reader.push(all.subarray(edges[index - 1], edges[index]))) got.push(decodeMessage(frame));
        assert.deepEqual(got, sent);
        assert.equal(reader.pendingBytes, 0);
      },
    ),
  );
});

test("a plan comes back from its file", () => {
  fc.assert(fc.property(plans, (plan) => assert.deepEqual(decodePlan(encodePlan(plan)), plan)));
});

test("hostile bytes give a named fault or a message that encodes to the same bytes", () => {
  const typed = fc.tuple(
    fc.constantFrom(...Object.values(FRAME_TYPES), 0, 11, 64, 255),
    fc.uint8Array({ maxLength: 200 }),
  );
  fc.assert(
    fc.property(typed, ([type, fields]) => {
      assert.notEqual(
        faultOf(() => decodeMessage({ type, fields })),
        "",
      );
    }),
  );
  const mutated = fc.tuple(messages, fc.nat(), fc.nat({ max: 255 }));
  fc.assert(
    fc.property(mutated, ([message, at, value]) => {
      const frame = encodeMessage(message);
      frame[at % frame.length] = value;
      faultOf(() => {
        const decoded = decodeMessage(parseFrame(frame));
        const hasJson = decoded.type === "control" || decoded.type === "reply";
        if (decoded.type !== "other-version" && !hasJson) assert.deepEqual(encodeMessage(decoded), frame);
      });
    }),
    { numRuns: 2000 },
  );
});

test("a reader refuses a frame over its limit before its bytes come, and takes nothing after", () => {
  const reader = new FrameReader(100);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(101);
  assert.equal(
    faultOf(() => reader.push(length)),
    "frame-too-long",
  );
  assert.equal(
    faultOf(() => reader.push(Buffer.from([1]))),
    "frame-length",
  );
  assert.equal(
    faultOf(() => new FrameReader().push(Buffer.alloc(4))),
    "frame-empty",
  );
});

test("values that the protocol cannot carry are refused when encoding", () => {
  const base = { type: "exec", namespace: null, environment: null, cwd: null, warning: null } as const;
  const cases: [string, Message][] = [
    ["value-nul", { ...base, program: { kind: "path", path: ascii("/a\0b") }, argv: null }],
    ["value-range", { ...base, program: { kind: "path", path: "/\u{1f600}" as ByteString }, argv: null }],
    ["value-range", { ...base, program: { kind: "host" }, argv: [] }],
    ["value-limit", { ...base, program: { kind: "path", path: ascii(`/${"x".repeat(4095)}`) }, argv: null }],
    ["value-limit", { ...base, program: { kind: "host" }, argv: [ascii("x".repeat(131_072))] }],
    [
      "value-limit",
      { ...base, program: { kind: "host" }, argv: Array.from({ length: 70 }, () => ascii("x".repeat(131_000))) },
    ],
  ];
  for (const [fault, message] of cases)
    assert.equal(
      faultOf(() => encodeMessage(message)),
      fault,
    );
});

interface Vector {
  readonly name: string;
  readonly hex: string;
  readonly message?: unknown;
  readonly fault?: string;
}

const vectors = JSON.parse(
  readFileSync(new URL("../../../test/golden/launcher-protocol/vectors.json", import.meta.url), "utf8"),
) as Vector[];

/** The JSON form of a message in the vectors: byte strings as latin1 text, u64 as decimal text, bytes as hex. */
function describe(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (_key, item: unknown) => {
      if (typeof item === "bigint") return item.toString();
      if (typeof item === "object" && item !== null && "type" in item && item.type === "Buffer")
        return Buffer.from((item as unknown as { data: number[] }).data).toString("hex");
      return item;
    }),
  ) as unknown;
}

test("the golden vectors decode to their messages and encode to their bytes", () => {
  assert.ok(vectors.length >= 30, "the vectors are there");
  for (const vector of vectors) {
    const frame = Buffer.from(vector.hex, "hex");
    const isPlan = frame[4] === 64;
    const decode = () => (isPlan ? decodePlan(frame) : decodeMessage(parseFrame(frame)));
    if (vector.fault !== undefined) {
      assert.equal(faultOf(decode), vector.fault, vector.name);
      continue;
    }
    const decoded = decode();
    assert.deepEqual(describe(decoded), vector.message, vector.name);
    if ("type" in decoded && decoded.type === "other-version") continue;
    const again = "type" in decoded ? encodeMessage(decoded) : encodePlan(decoded);
    assert.equal(again.toString("hex"), vector.hex, vector.name);
  }
});

test("a plan file is named by the digest of its root's bytes", () => {
  assert.equal(
    planFileName("/\u00ff" as ByteString),
    "ce4db70e8ac268d1711ce53fb3a1493dc5c2281b6141bdd0036b8076a7fdbbb2",
  );
});
