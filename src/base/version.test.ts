import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { VERSION } from "./version.ts";

test("programs and package say the same version", () => {
  const manifest: unknown = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));
  assert.equal((manifest as { version: string }).version, VERSION);
});

test("the pinned Node has long-term support", () => {
  assert.ok(process.release.lts, `${process.version} has none`);
});
