// `make demo`, as a newcomer runs it after the set-up: it checks what it promises and says so by its exit code.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { CHECKOUT, runCommand } from "../support/farm.ts";

const DEMO_MS = 900_000;

test("the demo keeps its promises and shows each step", { timeout: DEMO_MS + 30_000 }, async () => {
  const demo = join(CHECKOUT, "scripts/demo.ts");
  const result = await runCommand([process.execPath, demo], { cwd: CHECKOUT, timeoutMs: DEMO_MS });
  assert.equal(result.code, 0, result.stdout + result.stderr);
  assert.equal(result.stderr, "");
  const shown = [
    /^cold +[\d.]+ +3\d +0 +0 +2$/m,
    /^34 hits: no compiler, no preprocessor, and no word with the daemon/m,
    /^compiled because\n +src\/lcode\.h changed$/m,
    /^37 rows for 37 jobs, [12] of kind vm/m,
    /^isolation (qemu-tcg|qemu-kvm|firecracker)$/m,
  ];
  for (const pattern of shown) assert.match(result.stdout, pattern);
});
