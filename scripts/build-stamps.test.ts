import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { assertBuilt, type BuiltPart, sourcesDigest, writeStamp } from "./build-stamps.ts";

const ROOT = join(import.meta.dirname, "..");
const PARTS: readonly BuiltPart[] = ["bundle", "native", "guest"];
const SOURCES: Readonly<Record<BuiltPart, string>> = {
  bundle: "src/base/clock.ts",
  native: "native/crates/agent/src/main.rs",
  guest: "scripts/guest/kernel.lock",
};

/** A small tree with sources of every part, all of them built. */
function builtTree(t: TestContext) {
  const root = mkdtempSync(join(tmpdir(), "hpcc-stamps-"));
  t.after(() => rmSync(root, { recursive: true }));
  const write = (path: string, content: string) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  };
  const more = ["package-lock.json", "native/Cargo.lock", "out/lib/hpcc/agent", "out/bin/hpcc"];
  for (const path of [...Object.values(SOURCES), ...more]) write(path, "as built");
  for (const part of PARTS) writeStamp(root, part, sourcesDigest(root, part));
  return { root, write };
}

test("what was built from these sources is taken", (t) => {
  const { root, write } = builtTree(t);
  assertBuilt(root, PARTS);
  write("src/base/clock.ts", "as built");
  write("src/core/identity/spiffe.test.ts", "a test ships in nothing");
  write("native/crates/agent/tests/session.rs", "neither does this");
  assertBuilt(root, PARTS);
});

for (const part of PARTS)
  test(`an edit, a new file and a missing stamp of ${part} are told with the command to run`, (t) => {
    const { root, write } = builtTree(t);
    const refused = { message: `out/ was not made from these sources (${part}); run: make ${part}` };
    write(SOURCES[part], "edited");
    assert.throws(() => assertBuilt(root, PARTS), refused);
    write(SOURCES[part], "as built");
    assertBuilt(root, PARTS);
    write(join(dirname(SOURCES[part]), "new.rs"), "");
    write(join(dirname(SOURCES[part]), "new.ts"), "");
    assert.throws(() => assertBuilt(root, [part]), refused);
    writeStamp(root, part, sourcesDigest(root, part));
    assertBuilt(root, [part]);
    rmSync(join(root, "out/stamps", part));
    assert.throws(() => assertBuilt(root, [part]), refused);
  });

test("a guest that holds another agent is told", (t) => {
  const { root, write } = builtTree(t);
  write("out/lib/hpcc/agent", "a new agent");
  assert.throws(() => assertBuilt(root, PARTS), /\(guest\); run: make guest$/);
});

test("a tree without sources is an error, and not fresh", (t) => {
  const { root } = builtTree(t);
  rmSync(join(root, "src"), { recursive: true });
  rmSync(join(root, "package-lock.json"));
  assert.throws(() => assertBuilt(root, ["bundle"]), /no sources of bundle/);
});

test("the farm of end-to-end tests does not start on old programs", (t) => {
  const { root, write } = builtTree(t);
  for (const path of ["test/support/farm.ts", "test/support/free-port.ts", "scripts/build-stamps.ts"])
    cpSync(join(ROOT, path), join(root, path));
  symlinkSync(join(ROOT, "node_modules"), join(root, "node_modules"));
  const start = () => {
    const farm = JSON.stringify(join(root, "test/support/farm.ts"));
    const script = `const { Farm } = await import(${farm}); new Farm(${JSON.stringify(join(root, "farm"))});`;
    return spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
  };
  const fresh = start();
  assert.deepEqual([fresh.status, fresh.stderr], [0, ""]);
  write(SOURCES.bundle, "edited");
  const stale = start();
  assert.notEqual(stale.status, 0);
  assert.match(stale.stderr, /out\/ was not made from these sources \(bundle\); run: make bundle/);
});
