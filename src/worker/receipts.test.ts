// The receipt that a client is given with a result, held against the worker's log.
import assert from "node:assert/strict";
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { TestWorker } from "../../test/support/test-worker.ts";
import { readLogSigner } from "../audit/log-key-file.ts";
import { verifyLog } from "../audit/verify/verify-log.ts";
import { evidenceOfFolder, readReceipts } from "../audit/verify-folder.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { digestHex } from "../core/digest/digest.ts";
import { checkProof, decodeProof } from "../core/note/checkpoint.ts";
import { ReceiptKeeper } from "../daemon/remote/receipt-keeper.ts";

const NEVER = { signal: new AbortController().signal };
const file = (name: string) => ({ path: `/hpcc/project/${name}.c`, content: `int ${name};\n` });

test("a compile and a hit have receipts that verify at once, and convict a log that is written anew", async (t) => {
  const at = await TestWorker.start(t);
  const state = join(at.folder, "state");
  const client = await at.client();
  const keeper = new ReceiptKeeper({ folder: at.folder, logger: SILENT_LOGGER });
  const { verifier } = (await readLogSigner(state))!;
  assert.equal(verifier.name, "test.example/worker/w1");
  for (const [name, outcome] of [
    ["a", "compiled"],
    ["a", "hit"],
    ["b", "compiled"],
  ] as const) {
    const result = await client.compile(await at.job({ files: [file(name)] }), NEVER);
    assert.equal(result.outcome, outcome);
    const { leaf, proof } = result.receipt!;
    checkProof(Buffer.from(digestHex(leaf), "hex"), decodeProof(proof), [verifier]);
    const row = (await at.rows()).find(({ digest }) => digest === result.rowDigest);
    assert.equal(row?.leaf, leaf);
    keeper.keep(result);
  }
  await keeper.settled();
  await at.stop();
  const log = join(state, "audit");
  const receipts = await readReceipts(join(at.folder, "receipts"));
  assert.equal(receipts.length, 3);
  const verdict = async () => verifyLog(await evidenceOfFolder(log, { keys: [verifier], receipts }));
  assert.deepEqual((await verdict()).problems, []);

  // The worker's operator begins the log again, under the same key.
  await cp(log, join(at.folder, "aside"), { recursive: true });
  await rm(log, { recursive: true });
  const again = await TestWorker.start(t, {}, {}, at.folder);
  await (await again.client()).compile(await again.job({ files: [file("a")] }), NEVER);
  await again.stop();
  const { problems } = await verdict();
  assert.ok(
    problems.some(({ problem }) => /two logs were signed|is missing/.test(problem)),
    JSON.stringify(problems),
  );
});
