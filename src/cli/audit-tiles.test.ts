// The log as another implementation reads it: Go's golang.org/x/mod, which verifies checkpoint, notes, tiles, entries and proofs.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { AuditLog } from "../audit/audit-log.ts";
import { emptyRow } from "../audit/row.ts";
import { ManualClock } from "../base/clock.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { noteSigner } from "../core/note/signed-note.ts";
import { exportTiles, prove } from "./audit-check.ts";

const SIGNER = noteSigner("x.example/worker/w1", Buffer.alloc(32, 1));
const SOURCE = join(import.meta.dirname, "../../test/golden/audit-go");
const skip = spawnSync("go", ["version"]).status === 0 ? false : "skipped: no go";

describe("Go's implementation of notes and logs", { skip }, () => {
  test("verifies logs of all shapes, and none that was altered", async () => {
    const root = await mkdtemp(join(tmpdir(), "hpcc-go-"));
    try {
      const program = join(root, "audit-go");
      execFileSync("go", ["build", "-o", program, "."], { cwd: SOURCE });
      const verify = (folder: string, key: string, proofs: readonly string[]) =>
        spawnSync(program, [folder, key, ...proofs], { encoding: "utf8" });
      for (const rows of [1, 255, 256, 700]) {
        const { folder, proofs } = await signedLog(root, rows);
        const out = join(root, `tiles-${rows}`);
        assert.deepEqual(await exportTiles(folder, out), { rows: rows + 1, leftOut: 0 });
        const good = verify(out, SIGNER.verifier.text, proofs);
        assert.equal(good.stderr, "");
        assert.equal(good.stdout, `${rows + 1} entries and ${proofs.length} proofs verified\n`);
        const other = noteSigner("x.example/worker/w1", Buffer.alloc(32, 2));
        assert.equal(verify(out, other.verifier.text, []).status, 1);
        for (const name of (await readdir(out, { recursive: true })).filter((name) => /tile\/.*\d$/.test(name))) {
          const path = join(out, name);
          const bytes = await readFile(path).catch(() => null);
          if (bytes === null) continue;
          const bad = Buffer.from(bytes);
          bad[bad.length - 1]! ^= 1;
          await writeFile(path, bad);
          assert.equal(verify(out, SIGNER.verifier.text, []).status, 1, name);
          await writeFile(path, bytes);
        }
      }
    } finally {
      await rm(root, { recursive: true });
    }
  });
});

/** A log with so many rows beside the one of its key, and proofs of some: as receipts, and by `hpcc audit prove`. */
async function signedLog(root: string, count: number): Promise<{ folder: string; proofs: string[] }> {
  const folder = join(root, `log-${count}`);
  const log = await AuditLog.open({
    folder,
    worker: "w1",
    clock: new ManualClock(),
    logger: SILENT_LOGGER,
    signer: SIGNER,
  });
  const texts: string[] = [];
  for (let done = 0; done < count; done += 100) {
    const group = Array.from({ length: Math.min(100, count - done) }, (_, at) => done + at);
    const body = { kind: "policy", event: "in-force", startMs: 0, endMs: 0, digest: null } as const;
    const rows = await Promise.all(group.map(async (version) => log.append(emptyRow("w1"), { ...body, version })));
    texts.push(rows[0]!.receipt!.proof, rows.at(-1)!.receipt!.proof);
  }
  await log.close();
  for (const row of [1, Math.ceil(count / 2), count, count + 1]) texts.push((await prove(folder, String(row))).proof);
  const proofs = texts.map((_, at) => join(root, `${count}-${at}.tlog-proof`));
  await Promise.all(texts.map(async (text, at) => writeFile(proofs[at]!, text)));
  return { folder, proofs };
}
