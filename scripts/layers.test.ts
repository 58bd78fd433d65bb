import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { differencesOfPage, LAYERS, mayImport } from "./layers.ts";

const PAGE = readFileSync(join(import.meta.dirname, "../ARCHITECTURE.md"), "utf8");
const ROLES = ["daemon", "scheduler", "worker", "cli"];

describe("layers of src/", () => {
  test("the scheduler reaches nothing that holds payloads", () => {
    for (const layer of ["vm", "image", "store", "audit", "daemon", "worker", "cli", "programs"])
      assert.equal(mayImport("scheduler", `src/${layer}/x.ts`), false, layer);
    for (const layer of ["base", "core", "wire", "scheduler"])
      assert.equal(mayImport("scheduler", `src/${layer}/x.ts`), true, layer);
  });

  test("what the layers of the scheduler may import reaches no payload either", () => {
    const reached = new Set(["scheduler"]);
    for (const layer of reached) for (const next of LAYERS[layer] ?? []) reached.add(next);
    assert.deepEqual([...reached].toSorted(), ["base", "config", "core", "gen", "scheduler", "wire"]);
  });

  test("no role imports another", () => {
    for (const role of ROLES)
      for (const other of ROLES)
        assert.equal(mayImport(role, `src/${other}/x.ts`), role === other, `${role}, ${other}`);
  });

  test("a folder of a layer is allowed without the rest of it", () => {
    assert.equal(mayImport("daemon", "src/vm/namespace/holder.ts"), true);
    assert.equal(mayImport("daemon", "src/vm/namespaces"), false);
    assert.equal(mayImport("daemon", "src/vm/qemu/runtime.ts"), false);
  });

  test("nothing but src/ ships", () => {
    assert.equal(mayImport("programs", "test/support/farm.ts"), false);
    assert.equal(mayImport("programs", "src/daemon/control/daemon.ts"), true);
  });

  test("ARCHITECTURE.md shows this table", () => {
    assert.deepEqual(differencesOfPage(PAGE), []);
    assert.deepEqual(differencesOfPage(PAGE.replace(/^\| `scheduler` \|.*\n/m, "")).length, 1);
    assert.equal(differencesOfPage("").length, Object.keys(LAYERS).length, "a page without the table");
  });
});
