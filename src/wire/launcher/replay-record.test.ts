import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { crc32 } from "node:zlib";
import * as fc from "fast-check";
import { ascii, type ByteString, byteStringOf } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import { REFUSING, REFUSING_PREFIXES } from "../../core/compile/grammar/environment.ts";
import type { Digest } from "../../core/digest/digest.ts";
import { OUTPUT_MANNERS } from "./messages.ts";
import {
  countsForReplay,
  REPLAY_VARIABLE_PREFIXES,
  REPLAY_VARIABLE_SUFFIXES,
  REPLAY_VARIABLES,
  REPLAY_VARIABLES_APART,
} from "./replay-environment.ts";
import {
  decodeReplayRecord,
  encodeReplayName,
  encodeReplayRecord,
  type ReplayCall,
  type ReplayRecord,
  replayName,
  type StampedPath,
} from "./replay-record.ts";

interface Vectors {
  readonly variables: readonly string[];
  readonly prefixes: readonly string[];
  readonly suffixes: readonly string[];
  readonly apart: readonly string[];
  readonly names: readonly { name: string; call: Record<string, unknown>; hex: string; digest: string }[];
  readonly records: readonly { name: string; hex: string; record?: unknown; fault?: string }[];
}

const vectors = JSON.parse(
  readFileSync(new URL("../../../test/golden/replay/vectors.json", import.meta.url), "utf8"),
) as Vectors;

/** The fault's name; null when nothing is thrown. Any other error fails the test. */
function faultOf(run: () => unknown): string | null {
  try {
    run();
    return null;
  } catch (error) {
    assert.ok(error instanceof HpccError && error.code === "peer.protocol", String(error));
    return String(error.details["fault"]);
  }
}

/** Byte strings as latin1 text, u64 as decimal text, bytes as hex. */
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

function callOf(call: Record<string, unknown>): ReplayCall {
  const { dev, ino } = call["mountNamespace"] as { dev: string; ino: string };
  return { ...call, mountNamespace: { dev: BigInt(dev), ino: BigInt(ino) } } as unknown as ReplayCall;
}

test("what refuses a call counts, so that no record answers it", () => {
  for (const names of Object.values(REFUSING)) for (const name of names) assert.ok(countsForReplay(name), name);
  for (const prefixes of Object.values(REFUSING_PREFIXES))
    for (const prefix of prefixes) assert.ok(countsForReplay(`${prefix}X`), prefix);
});

test("the lists of variables are those of the vectors, and each counts", () => {
  assert.deepEqual(REPLAY_VARIABLES, vectors.variables);
  assert.deepEqual(REPLAY_VARIABLES, [...REPLAY_VARIABLES].sort());
  assert.deepEqual(REPLAY_VARIABLE_PREFIXES, vectors.prefixes);
  assert.deepEqual(REPLAY_VARIABLE_SUFFIXES, vectors.suffixes);
  assert.deepEqual(REPLAY_VARIABLES_APART, vectors.apart);
  for (const name of REPLAY_VARIABLES_APART) assert.ok(!countsForReplay(name) && countsForReplay(`${name}S`), name);
  for (const name of REPLAY_VARIABLES) assert.ok(countsForReplay(name), name);
  for (const name of ["LC_ALL", "HPCC_IMAGE", "GCC_COLORS", "OBJC_INCLUDE_PATH", "ASAN_OPTIONS", "LD_PRELOAD"])
    assert.ok(countsForReplay(name), name);
  for (const name of ["MAKEFLAGS", "_", "OLDPWD", "SHLVL", "PATHS", "XPATH", "SSH_TTY", ""])
    assert.ok(!countsForReplay(name), name);
});

test("the golden vectors of names have their bytes and digests", () => {
  assert.ok(vectors.names.length >= 3);
  for (const { name, call, hex, digest } of vectors.names) {
    assert.equal(encodeReplayName(callOf(call)).toString("hex"), hex, name);
    assert.equal(replayName(callOf(call)), digest, name);
  }
});

test("the golden vectors of records decode to their records and encode to their bytes", () => {
  assert.ok(vectors.records.length >= 30);
  for (const { name, hex, record, fault } of vectors.records) {
    const bytes = Buffer.from(hex, "hex");
    if (fault !== undefined) {
      assert.equal(
        faultOf(() => decodeReplayRecord(bytes)),
        fault,
        name,
      );
      continue;
    }
    const decoded = decodeReplayRecord(bytes);
    assert.deepEqual(describe(decoded), record, name);
    assert.equal(encodeReplayRecord(decoded).toString("hex"), hex, name);
  }
});

const bytes = (max: number) =>
  fc.uint8Array({ maxLength: max }).map((value) => byteStringOf(value.map((byte) => (byte === 0 ? 1 : byte))));
const path = bytes(30).map((text) => `/${text}` as ByteString);
const u64 = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn });
const i64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const record = <T extends object>(arbitraries: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record(arbitraries, { noNullPrototype: true }) as fc.Arbitrary<T>;
const digest = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map((value) => `sha256:${Buffer.from(value).toString("hex")}` as Digest);
const stamped: fc.Arbitrary<StampedPath> = record({
  path,
  stamp: record({
    dev: u64,
    ino: u64,
    size: u64,
    mtimeNs: i64,
    ctimeNs: i64,
    mode: fc.bigInt({ min: 0n, max: 0xffff_ffffn }),
  }),
});
const someBytes = fc.uint8Array({ maxLength: 40 }).map((value) => Buffer.from(value));
const records: fc.Arbitrary<ReplayRecord> = record({
  name: digest,
  recordedMs: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
  stamps: fc.array(stamped, { maxLength: 4 }),
  absent: fc.array(path, { maxLength: 4 }),
  places: fc.array(record({ path, dev: u64, ino: u64 }), { maxLength: 2 }),
  outputs: fc.array(
    record({
      destination: path,
      kept: stamped,
      executable: fc.boolean(),
      manner: fc.constantFrom(...OUTPUT_MANNERS),
      digest,
    }),
    { maxLength: 3 },
  ),
  stdout: someBytes,
  stderr: someBytes,
  project: fc.option(path),
  source: path,
  output: path,
  call: fc.option(digest),
});

test("a record survives its coding, and no altered byte passes", () => {
  fc.assert(
    fc.property(records, fc.nat(), fc.integer({ min: 1, max: 255 }), (value, at, by) => {
      const file = encodeReplayRecord(value);
      assert.deepEqual(decodeReplayRecord(file), value);
      file[at % file.length]! ^= by;
      assert.notEqual(
        faultOf(() => decodeReplayRecord(file)),
        null,
      );
    }),
  );
});

test("any bytes behind a right checksum are a record or a fault", () => {
  fc.assert(
    fc.property(records, fc.nat(), fc.integer({ min: 1, max: 255 }), (value, at, by) => {
      const file = encodeReplayRecord(value);
      const end = file.length - 4;
      file[at % end]! ^= by;
      file.writeUInt32LE(crc32(file.subarray(0, end)), end);
      faultOf(() => assert.deepEqual(encodeReplayRecord(decodeReplayRecord(file)), file));
    }),
    { numRuns: 1000 },
  );
});

test("what a launcher sees changes the name, and what does not count leaves it", () => {
  const call = callOf(vectors.names[0]!.call);
  const name = replayName(call);
  const changes: Partial<ReplayCall>[] = [
    { argv: [...call.argv, ascii("-O2")] },
    { argv: call.argv.map((word) => word.replace("-c", "-S") as ByteString) },
    { cwd: ascii("/elsewhere") },
    { environment: [...call.environment, ascii("CPATH=/x")] },
    { environment: call.environment.filter((entry) => !entry.startsWith("LC_ALL")) },
    { environment: call.environment.toReversed() },
    { umask: 0 },
    { terminal: { ...call.terminal, stdout: true } },
    { terminal: { ...call.terminal, columns: 80 } },
    { user: 1 },
    { groups: [1] },
    { mountNamespace: { dev: 4n, ino: 1n } },
    { pwd: "leads" },
    { launcherVersion: "0.2.0" },
  ];
  const names = changes.map((change) => replayName({ ...call, ...change }));
  assert.equal(new Set([name, ...names]).size, changes.length + 1);
  const same: Partial<ReplayCall>[] = [
    { environment: [...call.environment, ascii("MAKEFLAGS=-j9")] },
    {
      environment: [
        ascii("SHLVL=3"),
        ...call.environment.toSorted((a, b) => (a.split("=")[0]! < b.split("=")[0]! ? -1 : 1)),
      ],
    },
    { groups: call.groups.toReversed() },
  ];
  for (const change of same) assert.equal(replayName({ ...call, ...change }), name);
});

test("a record that could not be read is not written", () => {
  const decoded = vectors.records.filter(({ fault }) => fault === undefined);
  const record = decodeReplayRecord(Buffer.from(decoded[0]!.hex, "hex"));
  const [stamped, output] = [record.stamps[0]!, record.outputs[0]!];
  const cases: readonly (readonly [fault: string, change: Partial<ReplayRecord>])[] = [
    ["value-nul", { absent: [ascii("/a\0b")] }],
    ["value-limit", { absent: [ascii(`/${"x".repeat(4095)}`)] }],
    ["value-range", { absent: [ascii("a")] }],
    ["value-range", { stamps: [{ ...stamped, path: ascii("") }] }],
    ["value-range", { source: ascii("a.c") }],
    ["value-range", { outputs: [{ ...output, destination: ascii("") }] }],
    ["value-limit", { outputs: Array.from({ length: 257 }, () => output) }],
    ["value-limit", { absent: Array.from({ length: 65_537 }, () => ascii("/a")) }],
    ["frame-too-long", { stdout: Buffer.alloc(8 * 1024 * 1024) }],
  ];
  for (const [fault, change] of cases)
    assert.equal(
      faultOf(() => encodeReplayRecord({ ...record, ...change })),
      fault,
      Object.keys(change).join(),
    );
});
