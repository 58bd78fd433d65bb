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
import { comparePaths } from "./guest-path.ts";
import { decodeResultManifest, encodeResultManifest, type ResultManifest, resultDigest } from "./result-manifest.ts";
import {
  decodeSourceManifest,
  encodeSourceManifest,
  SOURCE_ENTRIES_MAX,
  type SourceEntry,
  type SourceForm,
  sourceDigest,
  sourceManifest,
} from "./source-manifest.ts";

const record = <T>(shape: { [K in keyof T]: fc.Arbitrary<T[K]> }) => fc.record(shape, { noNullPrototype: true });
const bytes = fc
  .uint8Array({ maxLength: 12 })
  .map((array) => Buffer.from(array).toString("latin1").replaceAll("\0", "0") as ByteString);
const component = bytes.map((text) => `f${text.replaceAll("/", "_")}`);
const path = fc
  .tuple(fc.constantFrom("hpcc", "home", "tmp", "caf\u00e9"), fc.array(component, { minLength: 1, maxLength: 3 }))
  .map(([top, parts]) => `/${top}/${parts.join("/")}` as ByteString);
const digest = fc.nat(1000).map((n) => sha256(Buffer.from(String(n))));
const size = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const entry: fc.Arbitrary<SourceEntry> = fc.oneof(
  record({
    kind: fc.constant("file" as const),
    path,
    mode: fc.constantFrom(0o644 as const, 0o755 as const),
    digest,
    size,
  }),
  record({
    kind: fc.constant("link" as const),
    path,
    target: bytes.map((text) => `${text}.` as ByteString),
  }),
  record({ kind: fc.constant("folder" as const), path }),
);
const entries = fc.uniqueArray(entry, { selector: (e) => e.path.split("/")[2]!, maxLength: 8 });
const form = fc.constantFrom<SourceForm>("files", "text");
const source = fc.tuple(form, entries);
/** Manifests of all kinds of entries, more often near the rules' edges than `source`, and not always within them. */
const anyEntries = fc.array(
  fc.oneof(
    entry,
    fc
      .tuple(
        fc.constantFrom("file", "link", "folder"),
        fc.constantFrom("/hpcc/a", "/hpcc/a.b", "/hpcc/a/b", "/hpcc", "/bin/x"),
      )
      .map(([kind, at]) => ({ ...entryOf(at), kind, target: "t" }) as unknown as SourceEntry),
  ),
  { maxLength: 5 },
);
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
            kind: fc.constantFrom(...OUTPUT_KINDS.names),
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
    .uniqueArray(record({ path, required: fc.boolean(), kind: fc.constantFrom(...OUTPUT_KINDS.names) }), {
      selector: (output) => output.kind,
      maxLength: 3,
    })
    .map((outputs) => [...new Map(outputs.map((output) => [output.path, output])).values()]),
  terminalColumns: fc.option(fc.integer({ min: 1, max: 10_000 }), { nil: null }),
  determinism: fc.constantFrom(...DETERMINISM_POLICIES.names),
});
const keyParts: fc.Arbitrary<ActionKeyParts> = record({
  action,
  sourceDigest: digest,
  scope: record({
    tenant: fc.stringMatching(/^[a-z]{1,5}$/) as fc.Arbitrary<TenantId>,
    tier: fc.option(fc.stringMatching(/^[a-z]{1,3}$/), { nil: null }),
    principal: fc.option(fc.stringMatching(/^spiffe:[a-z]{1,5}$/), { nil: null }),
  }),
});

interface GoldenVectors {
  readonly source: {
    readonly form: SourceForm;
    readonly entries: SourceEntry[];
    readonly encoded: string;
    readonly digest: string;
  }[];
  readonly result: { readonly manifest: ResultManifest; readonly encoded: string; readonly digest: string }[];
  readonly key: { readonly parts: ActionKeyParts; readonly key: string }[];
}

const golden = JSON.parse(
  readFileSync(join(import.meta.dirname, "../../../test/golden/action/vectors.json"), "utf8"),
) as GoldenVectors;

describe("golden vectors", () => {
  test("of source manifests", () => {
    assert.ok(golden.source.length >= 5);
    for (const { form, entries, encoded, digest } of golden.source) {
      const bytes = encodeSourceManifest(sourceManifest(form, entries));
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
    assert.ok(golden.key.length >= 6);
    for (const { parts, key } of golden.key) assert.equal(deriveActionKey(parts), key);
    assert.equal(new Set(golden.key.map(({ key }) => key)).size, golden.key.length);
  });
});

describe("source manifests", () => {
  test("come back whatever the order of their entries, with one encoding", () => {
    fc.assert(
      fc.property(source, fc.nat(), ([form, list], rotation) => {
        const encoded = encodeSourceManifest(sourceManifest(form, list));
        const at = list.length === 0 ? 0 : rotation % list.length;
        const turned = [...list.slice(at), ...list.slice(0, at)];
        assert.deepEqual(encodeSourceManifest(sourceManifest(form, turned)), encoded);
        assert.deepEqual(decodeSourceManifest(encoded), sourceManifest(form, list));
        const other = form === "files" ? "text" : "files";
        assert.notDeepEqual(encodeSourceManifest(sourceManifest(other, list)), encoded);
      }),
    );
  });

  test("bytes that are changed are another manifest or none", () => {
    fc.assert(
      fc.property(source, fc.nat(), fc.integer({ min: 1, max: 255 }), ([form, list], place, flip) => {
        const encoded = encodeSourceManifest(sourceManifest(form, list));
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

  test("bytes that are cut out and put in make another manifest or none", () => {
    const noise = fc.uint8Array({ maxLength: 40 });
    fc.assert(
      fc.property(source, source, fc.nat(), fc.nat(), noise, ([form, list], [, others], from, to, put) => {
        const encoded = encodeSourceManifest(sourceManifest(form, list));
        const piece = encodeSourceManifest(sourceManifest(form, others));
        const at = from % (encoded.length + 1);
        for (const inserted of [put, piece.subarray(to % (piece.length + 1))]) {
          const rest = encoded.subarray(Math.min(encoded.length, at + (to % 8)));
          const changed = Buffer.concat([encoded.subarray(0, at), inserted, rest]);
          const refused = refusalOf(() =>
            assert.deepEqual(encodeSourceManifest(decodeSourceManifest(changed)), changed),
          );
          assert.ok(refused === null || refused.startsWith("the source manifest "), String(refused));
        }
      }),
      { numRuns: 2000 },
    );
  });

  test("what the encoder refuses, the decoder refuses, and what it takes is one tree", () => {
    fc.assert(
      fc.property(anyEntries, (list) => {
        const sorted = [...list].sort((a, b) => comparePaths(a.path, b.path));
        const encoded = encodeSourceManifest({ form: "files", entries: sorted });
        const refused = refusalOf(() => sourceManifest("files", list));
        assert.equal(
          refusalOf(() => decodeSourceManifest(encoded)),
          refused,
        );
        assert.equal(refused === null, isTree(list), JSON.stringify(list));
      }),
      { numRuns: 1000 },
    );
  });

  test("paths that are not normal ones below a job's folder are refused both ways", () => {
    const bad = [
      "",
      "/",
      "/hpcc",
      "/foo",
      "/hpcc/",
      "hpcc/a",
      "/hpcc/../etc/passwd",
      "/hpcc/a/..",
      "/hpcc/./a",
      "/hpcc//a",
      "//hpcc/a",
      "/hpcc/a/",
      "/hpcc/a\0b",
      `/hpcc/${"a".repeat(256)}`,
      `/hpcc/${"a/".repeat(2100)}a`,
      ...RESERVED.map((name) => `/${name}/a`),
    ];
    for (const path of bad) {
      refusedBothWays([entryOf(path)]);
      refusedBothWays([{ kind: "link", path: path as ByteString, target: "x" as ByteString }]);
    }
    for (const path of ["/", "/hpcc/", "/a/../b", ...RESERVED.map((name) => `/${name}`)])
      refusedBothWays([{ kind: "folder", path: path as ByteString }]);
    for (const path of [
      "/hpccx/a",
      "/home/ann/x/a.c",
      "/work/x",
      "/tmp/x",
      "/var/lib/y",
      "/opt/z",
      "/library/a",
      "/us/r",
    ])
      assert.equal(sourceManifest("files", [entryOf(path)]).entries.length, 1);
    assert.equal(sourceManifest("files", [{ kind: "folder", path: "/foo" as ByteString }]).entries.length, 1);
  });

  test("doubled, unsorted and conflicting paths are refused", () => {
    const kinds = (path: string): SourceEntry[] => [
      entryOf(path),
      { kind: "link", path: path as ByteString, target: "/nowhere" as ByteString },
      { kind: "folder", path: path as ByteString },
    ];
    for (const above of kinds("/hpcc/a")) {
      for (const same of kinds("/hpcc/a")) refusedBothWays([above, same]);
      for (const below of kinds("/hpcc/a/b")) refusedBothWays([above, below]);
      for (const below of kinds("/hpcc/a/b/c")) refusedBothWays([above, entryOf("/hpcc/a.b"), below]);
    }
    const [a, b] = [entryOf("/hpcc/a"), entryOf("/hpcc/b")];
    assert.throws(() => decodeSourceManifest(encodedEntries([b, a])), { code: "argument.invalid" });
    assert.equal(sourceManifest("files", [b, a]).entries[0]!.path, "/hpcc/a");
  });

  test("targets of links are kept as they are spelled, and have limits", () => {
    const link = (target: string): SourceEntry => ({
      kind: "link",
      path: "/hpcc/a" as ByteString,
      target: target as ByteString,
    });
    for (const target of ["", "a\0b", "a".repeat(4096)]) refusedBothWays([link(target)]);
    for (const target of ["..", "/", "a//b/", "../../../etc/passwd", "/proc/self/mem", "a".repeat(4095), "\xff"])
      assert.deepEqual(decodeSourceManifest(encodedEntries([link(target)])).entries, [link(target)]);
  });

  test("too many entries, other modes, forms, kinds and schemas, and trailing bytes are refused", () => {
    const many = (count: number) =>
      Array.from({ length: count }, (_, i): SourceEntry => {
        const path = `/hpcc/${String(i).padStart(6, "0")}`;
        return i % 2 === 0 ? entryOf(path) : { kind: "folder", path: path as ByteString };
      });
    refusedBothWays(many(SOURCE_ENTRIES_MAX + 1));
    assert.equal(sourceManifest("files", many(SOURCE_ENTRIES_MAX)).entries.length, SOURCE_ENTRIES_MAX);
    const good = encodedEntries([entryOf("/hpcc/a")]);
    const raw = ({ schema = "hpcc.source.v2", form = 1, tag = 3, mode = 0o644 }) =>
      new FieldWriter()
        .ascii(1, schema)
        .u32(2, form)
        .record(tag, (f) =>
          f
            .ascii(1, "/hpcc/a")
            .u32(2, mode)
            .digest(3, sha256(Buffer.from("x")))
            .u64(4, 1),
        )
        .finish();
    assert.deepEqual(raw({}), good);
    const bad = [
      raw({ mode: 0o600 }),
      raw({ mode: 0o4755 }),
      raw({ form: 0 }),
      raw({ form: 3 }),
      raw({ tag: 2 }),
      raw({ tag: 4 }),
      raw({ tag: 5 }),
      raw({ tag: 6 }),
      raw({ schema: "hpcc.source.v1" }),
      Buffer.concat([good, Buffer.from([9])]),
      good.subarray(0, -1),
      Buffer.alloc(0),
    ];
    for (const bytes of bad) assert.throws(() => decodeSourceManifest(bytes), { code: "argument.invalid" });
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
          { ...parts, scope: { ...scope, tier: scope.tier === null ? "" : null } },
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
    const scope = { tenant: "acme" as TenantId, tier: null, principal: null };
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
    const good = fc.sample(action, { numRuns: 1, seed: 2 })[0]!;
    for (const cwd of ["/foo", "/hpcc", "/home/ann", "/tmp"]) checkAction({ ...good, cwd: cwd as ByteString });
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
      { cwd: "/etc" as ByteString },
      { cwd: "/usr/src/x" as ByteString },
      { cwd: "/hpcc/.." as ByteString },
      { outputs: [{ ...output, path: "/etc/passwd" as ByteString }] },
      { outputs: [{ ...output, path: "/foo" as ByteString }] },
      { outputs: [output, { ...output, kind: "dwo" }] },
      {
        outputs: Array.from({ length: 2 }, (_, i) => ({
          ...output,
          kind: "dump",
          path: `/hpcc/${i}${"x".repeat(3100)}` as ByteString,
        })),
      },
      {
        outputs: Array.from({ length: 65 }, (_, i) => ({ ...output, kind: "dump", path: `/hpcc/${i}` as ByteString })),
      },
      { outputs: [output, { ...output, path: "/hpcc/out/p" as ByteString }] },
      { terminalColumns: 0 },
      { terminalColumns: 10_001 },
      { terminalColumns: 1.5 },
    ];
    for (const part of bad)
      assert.throws(() => checkAction({ ...good, ...part }), { code: "argument.invalid" }, JSON.stringify(part));
  });
});

const RESERVED = "bin boot dev etc lib lib32 lib64 libo32 libx32 proc run sbin sys usr".split(" ");

function entryOf(path: string): SourceEntry {
  return { kind: "file", path: path as ByteString, mode: 0o644, digest: sha256(Buffer.from("x")), size: 1 };
}

/** Encoded as they are. */
function encodedEntries(entries: readonly SourceEntry[]): Uint8Array {
  return encodeSourceManifest({ form: "files", entries });
}

function refusedBothWays(entries: readonly SourceEntry[]): void {
  assert.throws(() => sourceManifest("files", entries), { code: "argument.invalid" }, JSON.stringify(entries[0]));
  const sorted = [...entries].sort((a, b) => comparePaths(a.path, b.path));
  assert.throws(() => decodeSourceManifest(encodedEntries(sorted)), { code: "argument.invalid" });
}

/** The message of a refusal; null when there is none. */
function refusalOf(attempt: () => unknown): string | null {
  try {
    attempt();
    return null;
  } catch (error) {
    assert.equal((error as { code?: string }).code, "argument.invalid");
    return (error as Error).message;
  }
}

/** The rule of trees in another way than the code's: each pair of paths is looked at. */
function isTree(entries: readonly SourceEntry[]): boolean {
  const placed = entries.every(
    ({ kind, path }) => !path.startsWith("/bin/") && (kind === "folder" || path.split("/").length > 2),
  );
  return (
    placed &&
    entries.every((a, i) => entries.every((b, j) => i === j || (a.path !== b.path && !b.path.startsWith(`${a.path}/`))))
  );
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
    scope.tier,
  ];
}
