// What `hpcc worker revoke` asks for and prints.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Command } from "commander";
import { addRevoke, type RevokeAsk, type RevokeOutcome } from "./revoke-command.ts";

const OUTCOME: RevokeOutcome = {
  revocation: { kind: "vm", value: "vm-1", atMs: 0 },
  tenant: null,
  entries: 2,
  served: {
    total: 1,
    rows: [
      {
        row: "sha256:00",
        kind: "hit",
        principal: "spiffe://x.example/tenant/acme/user/b\u001b[2Job",
        startMs: 0,
        vm: "vm-1",
      },
    ],
  },
  by: "worker",
};

async function run(words: readonly string[]) {
  const asked: (RevokeAsk & { readonly folder: string })[] = [];
  const printed: string[] = [];
  const worker = new Command("worker").option("--config <file>").exitOverride();
  addRevoke(worker, {
    env: {},
    output: { out: (text) => void printed.push(text), error: (text) => void printed.push(text) },
    revokeResults: async (folder, ask) => {
      asked.push({ folder, ...ask });
      return OUTCOME;
    },
  });
  await worker.parseAsync(["revoke", ...words], { from: "user" });
  return { asked, printed: printed.join("") };
}

test("names one thing of one worker, and prints who had been served, whatever their names hold", async () => {
  const { asked, printed } = await run(["--state-dir", "/state", "--vm", "vm-1", "--tenant", "acme"]);
  const [{ folder, kind, value, tenant, askedBy }] = asked as [(typeof asked)[0]];
  assert.deepEqual([folder, kind, value, tenant], ["/state", "vm", "vm-1", "acme"]);
  assert.match(askedBy, /\(uid \d+\)$/);
  assert.match(printed, /^revoked vm vm-1 of all tenants\n2 results removed\.\n1 job had been answered with them:\n/);
  assert.match(printed, /hit +spiffe:\/\/x\.example\/tenant\/acme\/user\/b.\[2Job +vm-1 +sha256:00\n$/);
  assert.equal(printed.includes("\u001b"), false);
  const parsed = JSON.parse((await run(["--state-dir", "/s", "--vm", "vm-1", "--json"])).printed) as RevokeOutcome;
  assert.deepEqual(parsed, OUTCOME);
});

for (const words of [
  ["--vm", "vm-1"],
  ["--state-dir", "/s"],
  ["--state-dir", "/s", "--config", "/c", "--vm", "vm-1"],
  ["--state-dir", "/s", "--vm", "vm-1", "--key", "sha256:00"],
])
  test(`${words.join(" ")} is refused`, async () => {
    await assert.rejects(run(words), { code: "argument.invalid" });
  });
