// Manifests and keys: golden vectors, one encoding per value, strict decoders, and "a hashed input changes the key, nothing
// else does".
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import type { ByteString } from "../../base/byte-string.ts";
import { type Digest, sha256 } from "../digest/digest.ts";
import type { TenantId } from "../identity/spiffe.ts";
import { type Action, checkAction, DETERMINISM_POLICIES, OUTPUT_KINDS } from "./action.ts";
import { type ActionKeyParts, deriveActionKey } from "./action-key.ts";
import { FieldWriter } from "./fields.ts";
import { decodeResultManifest, encodeResultManifest, type ResultManifest, resultDigest } from "./result-manifest.ts";
import {
  decodeSourceManifest,
  encodeSourceManifest,
  SOURCE_ENTRIES_MAX,
  type SourceEntry,
  sourceDigest,
  sourceManifest,
} from "./source-manifest.ts";

const record = <T>(shape: { [K in keyof T]: fc.Arbitrary<T[K]> }) => fc.record(shape, { noNullPrototype: true });
const bytes = fc
  .uint8Array({ maxLength: 12 })
  .map((array) => Buffer.from(array).toString("latin1").replaceAll("\0", "0") as ByteString);
const component = bytes.map((text) => `f${text.replaceAll("/", "_")}`);
const path = fc
  .array(component, { minLength: 1, maxLength: 3 })
  .map((parts) => `/hpcc/${parts.join("/")}` as ByteString);
const digest = fc.nat(1000).map((n) => sha256(Buffer.from(String(n))));
const size = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const entry: fc.Arbitrary<SourceEntry> = record({
  path,
  mode: fc.constantFrom(0o644 as const, 0o755 as const),
  digest,
  size,
});
const entries = fc.uniqueArray(entry, { selector: (e) => e.path.split("/")[2]!, maxLength: 8 });
const blob = record({ digest, size });
const result: fc.Arbitrary<ResultManifest> = record({
  exitCode: fc.nat(255),
  outputs: fc
    .uniqueArray(fc.nat(15), { maxLength: 5 })
    .map((indices) => indices.sort((a, b) => a - b))
    .chain((indices) =>
      fc.tuple(
        ...indices.map((index) =>
          record({
            index: fc.constant(index),
            kind: fc.constantFrom(...OUTPUT_KINDS),
            executable: fc.boolean(),
            digest,
            size,
          }),
        ),
      ),
    ),
  stdout: blob,
  stderr: blob,
});
const action: fc.Arbitrary<Action> = record({
  imageDigest: digest,
  argv: fc
    .tuple(fc.constant("/usr/bin/cc" as ByteString), fc.array(bytes, { maxLength: 5 }))
    .map(([a, b]) => [a, ...b]),
  environment: fc
    .uniqueArray(fc.tuple(fc.stringMatching(/^[A-Z_]{1,4}$/), bytes), { selector: ([name]) => name, maxLength: 4 })
    .map((list) => list.map(([name, value]) => `${name}=${value}` as ByteString).sort()),
  cwd: path,
  outputs: fc
    .uniqueArray(record({ path, required: fc.boolean(), kind: fc.constantFrom(...OUTPUT_KINDS) }), {
      selector: (output) => output.kind,
      maxLength: 3,
    })
    .map((outputs) => [...new Map(outputs.map((output) => [output.path, output])).values()]),
  terminalColumns: fc.option(fc.integer({ min: 1, max: 10_000 }), { nil: null }),
  determinism: fc.constantFrom(...DETERMINISM_POLICIES),
});
const keyParts: fc.Arbitrary<ActionKeyParts> = record({
  action,
  sourceDigest: digest,
  scope: record({
    tenant: fc.stringMatching(/^[a-z]{1,5}$/) as fc.Arbitrary<TenantId>,
    principal: fc.option(fc.stringMatching(/^spiffe:[a-z]{1,5}$/), { nil: null }),
  }),
});

interface GoldenVectors {
  readonly source: { readonly entries: SourceEntry[]; readonly encoded: string; readonly digest: string }[];
  readonly result: { readonly manifest: ResultManifest; readonly encoded: string; readonly digest: string }[];
  readonly key: { readonly parts: ActionKeyParts; readonly key: string }[];
}

const golden = JSON.parse(
  readFileSync(join(import.meta.dirname, "../../../test/golden/action/vectors.json"), "utf8"),
) as GoldenVectors;

describe("golden vectors", () => {
  test("of source manifests", () => {
    assert.ok(golden.source.length >= 3);
    for (const { entries, encoded, digest } of golden.source) {
      const bytes = encodeSourceManifest(sourceManifest(entries));
      assert.equal(Buffer.from(bytes).toString("hex"), encoded);
      assert.equal(sourceDigest(bytes), digest);
    }
  });

  test("of result manifests", () => {
    assert.ok(golden.result.length >= 3);
    for (const { manifest, encoded, digest } of golden.result) {
      const bytes = encodeResultManifest(manifest);
      assert.equal(Buffer.from(bytes).toString("hex"), encoded);
      assert.equal(resultDigest(bytes), digest);
    }
  });

  test("of action keys", () => {
    assert.ok(golden.key.length >= 4);
    for (const { parts, key } of golden.key) assert.equal(deriveActionKey(parts), key);
    assert.equal(new Set(golden.key.map(({ key }) => key)).size, golden.key.length);
  });
});

describe("source manifests", () => {
  test("come back whatever the order of their entries, with one encoding", () => {
    fc.assert(
      fc.property(entries, fc.nat(), (list, rotation) => {
        const encoded = encodeSourceManifest(sourceManifest(list));
        const at = list.length === 0 ? 0 : rotation % list.length;
        const turned = [...list.slice(at), ...list.slice(0, at)];
        assert.deepEqual(encodeSourceManifest(sourceManifest(turned)), encoded);
        assert.deepEqual(decodeSourceManifest(encoded), sourceManifest(list));
      }),
    );
  });

  test("bytes that are changed are another manifest or none", () => {
    fc.assert(
      fc.property(entries, fc.nat(), fc.integer({ min: 1, max: 255 }), (list, place, flip) => {
        const encoded = encodeSourceManifest(sourceManifest(list));
        const changed = Uint8Array.from(encoded);
        changed[place % changed.length]! ^= flip;
        try {
          assert.deepEqual(encodeSourceManifest(decodeSourceManifest(changed)), Buffer.from(changed));
        } catch (error) {
          assert.equal((error as { code?: string }).code, "argument.invalid");
        }
      }),
      { numRuns: 1000 },
    );
  });

  test("paths that are not normal ones below /hpcc are refused both ways", () => {
    const bad = [
      "",
      "/",
      "/hpcc",
      "/hpcc/",
      "hpcc/a",
      "/etc/passwd",
      "/hpccx/a",
      "/hpcc/../etc/passwd",
      "/hpcc/a/..",
      "/hpcc/./a",
      "/hpcc//a",
      "/hpcc/a/",
      "/hpcc/a\0b",
      `/hpcc/${"a".repeat(256)}`,
      `/hpcc/${"a/".repeat(2100)}a`,
    ];
    for (const path of bad) refusedBothWays([path]);
  });

  test("doubled, unsorted and conflicting paths are refused", () => {
    refusedBothWays(["/hpcc/a", "/hpcc/a"]);
    refusedBothWays(["/hpcc/a", "/hpcc/a/b"]);
    refusedBothWays(["/hpcc/a", "/hpcc/a.b", "/hpcc/a/b/c"]);
    assert.throws(() => decodeSourceManifest(encodedPaths(["/hpcc/b", "/hpcc/a"])), { code: "argument.invalid" });
    assert.equal(sourceManifest(["/hpcc/b", "/hpcc/a"].map(entryOf)).entries[0]!.path, "/hpcc/a");
  });

  test("too many entries, other modes, other schemas and trailing bytes are refused", () => {
    refusedBothWays(Array.from({ length: SOURCE_ENTRIES_MAX + 1 }, (_, i) => `/hpcc/${String(i).padStart(6, "0")}`));
    const good = encodedPaths(["/hpcc/a"]);
    const withMode = (mode: number) =>
      new FieldWriter()
        .ascii(1, "hpcc.source.v1")
        .record(2, (f) => f.ascii(1, "/hpcc/a").u32(2, mode).digest(3, entryOf("/hpcc/a").digest).u64(4, 1))
        .finish();
    assert.deepEqual(withMode(0o644), good);
    const bad = [
      withMode(0o600),
      withMode(0o4755),
      Buffer.concat([good, Buffer.from([9])]),
      good.subarray(0, -1),
      Buffer.alloc(0),
    ];
    for (const bytes of [...bad, new FieldWriter().ascii(1, "hpcc.source.v2").finish()])
      assert.throws(() => decodeSourceManifest(bytes), { code: "argument.invalid" });
  });
});

describe("result manifests", () => {
  test("come back, and changed bytes are another one or none", () => {
    fc.assert(
      fc.property(result, fc.nat(), fc.integer({ min: 1, max: 255 }), (manifest, place, flip) => {
        const encoded = encodeResultManifest(manifest);
        assert.deepEqual(decodeResultManifest(encoded), manifest);
        const changed = Uint8Array.from(encoded);
        changed[place % changed.length]! ^= flip;
        try {
          assert.deepEqual(encodeResultManifest(decodeResultManifest(changed)), Buffer.from(changed));
        } catch (error) {
          assert.equal((error as { code?: string }).code, "argument.invalid");
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe("the action key", () => {
  test("is the same for equal parts and differs for all others", () => {
    fc.assert(
      fc.property(keyParts, keyParts, (a, b) => {
        assert.equal(deriveActionKey(a), deriveActionKey(structuredClone(a)));
        const equal = JSON.stringify(ordered(a)) === JSON.stringify(ordered(b));
        assert.equal(deriveActionKey(a) === deriveActionKey(b), equal);
      }),
    );
  });

  test("changes with each single input", () => {
    fc.assert(
      fc.property(keyParts, bytes, (parts, text) => {
        const { action, scope } = parts;
        const base = deriveActionKey(parts);
        const changed: ActionKeyParts[] = [
          { ...parts, sourceDigest: flipped(parts.sourceDigest) },
          { ...parts, scope: { ...scope, tenant: `${scope.tenant}x` as TenantId } },
          { ...parts, scope: { ...scope, principal: scope.principal === null ? "" : null } },
          { ...parts, action: { ...action, imageDigest: flipped(action.imageDigest) } },
          { ...parts, action: { ...action, argv: [...action.argv, text] } },
          { ...parts, action: { ...action, argv: action.argv.with(0, `${action.argv[0]!}${text}!` as ByteString) } },
          { ...parts, action: { ...action, environment: [...action.environment, "ZZZZZ=1" as ByteString] } },
          { ...parts, action: { ...action, cwd: `${action.cwd}/x` as ByteString } },
          {
            ...parts,
            action: {
              ...action,
              outputs: [...action.outputs, { path: "/hpcc/zz" as ByteString, required: true, kind: "dwo" }],
            },
          },
          ...action.outputs.map((output, i) => ({
            ...parts,
            action: { ...action, outputs: action.outputs.with(i, { ...output, required: !output.required }) },
          })),
          { ...parts, action: { ...action, terminalColumns: (action.terminalColumns ?? 0) + 1 } },
          { ...parts, action: { ...action, determinism: action.determinism === "pin" ? "strict" : "pin" } },
        ];
        for (const part of changed) assert.notEqual(deriveActionKey(part), base);
        assert.equal(new Set(changed.map(deriveActionKey)).size, changed.length);
      }),
      { numRuns: 200 },
    );
  });

  test("is not fooled by text that moves between fields", () => {
    const base: Action = fc.sample(action, { numRuns: 1, seed: 1 })[0]!;
    const scope = { tenant: "acme" as TenantId, principal: null };
    const key = (argv: string[], environment: string[]) =>
      deriveActionKey({
        action: { ...base, argv: argv as ByteString[], environment: environment as ByteString[] },
        sourceDigest: sha256(Buffer.alloc(0)),
        scope,
      });
    const keys = [
      key(["/cc", "ab", "c"], []),
      key(["/cc", "a", "bc"], []),
      key(["/cc", "abc"], []),
      key(["/cc", "ab"], ["c"]),
    ];
    assert.equal(new Set(keys).size, keys.length);
  });
});

describe("actions", () => {
  test("that keep the rules are taken as they are", () => {
    fc.assert(fc.property(action, (action) => assert.equal(checkAction(action), action)));
  });

  test("that break a rule are refused", () => {
    const good = fc.sample(action, { numRuns: 1, seed: 3 })[0]!;
    const as = (list: string[]) => list as ByteString[];
    const output = { path: "/hpcc/out/o" as ByteString, required: true, kind: "object" as const };
    const bad: Partial<Action>[] = [
      { argv: [] },
      { argv: as(["cc"]) },
      { argv: as(["/usr/../bin/cc"]) },
      { argv: as(["/bin/cc", "a\0b"]) },
      { environment: as(["A"]) },
      { environment: as(["=1"]) },
      { environment: as(["A B=1"]) },
      { environment: as(["B=1", "A=1"]) },
      { environment: as(["A=1", "A=2"]) },
      { environment: as(["A=\0"]) },
      { cwd: "/" as ByteString },
      { cwd: "/tmp" as ByteString },
      { cwd: "/hpcc/.." as ByteString },
      { outputs: [{ ...output, path: "/etc/passwd" as ByteString }] },
      { outputs: [output, { ...output, kind: "dwo" }] },
      { outputs: [output, { ...output, path: "/hpcc/out/p" as ByteString }] },
      { terminalColumns: 0 },
      { terminalColumns: 10_001 },
      { terminalColumns: 1.5 },
    ];
    for (const part of bad)
      assert.throws(() => checkAction({ ...good, ...part }), { code: "argument.invalid" }, JSON.stringify(part));
  });
});

function entryOf(path: string): SourceEntry {
  return { path: path as ByteString, mode: 0o644, digest: sha256(Buffer.from("x")), size: 1 };
}

/** Encodes paths as they are, without the rules of `sourceManifest`. */
function encodedPaths(paths: readonly string[]): Uint8Array {
  return encodeSourceManifest({ entries: paths.map(entryOf) });
}

function refusedBothWays(paths: readonly string[]): void {
  assert.throws(() => sourceManifest(paths.map(entryOf)), { code: "argument.invalid" });
  assert.throws(() => decodeSourceManifest(encodedPaths(paths)), { code: "argument.invalid" });
}

function flipped(digest: Digest): Digest {
  return (digest.slice(0, -1) + (digest.endsWith("0") ? "1" : "0")) as Digest;
}

function ordered({ action, sourceDigest, scope }: ActionKeyParts): unknown {
  const { imageDigest, argv, environment, cwd, outputs, terminalColumns, determinism } = action;
  return [
    imageDigest,
    argv,
    environment,
    cwd,
    outputs.map(({ path, required, kind }) => [path, required, kind]),
    terminalColumns,
    determinism,
    sourceDigest,
    scope.tenant,
    scope.principal,
  ];
}
