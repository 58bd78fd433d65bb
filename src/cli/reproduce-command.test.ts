// What `hpcc reproduce` refuses before anything is compiled.
import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Command } from "commander";
import { digestOfFile } from "./audit-attest.ts";
import { addReproduce } from "./reproduce-command.ts";

test("a page that cannot be written, and a sample of nothing, are refused before a row is looked for", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-reproduce-"));
  t.after(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, "file"), "x");
  let opened = 0;
  const run = async (...words: string[]) => {
    const program = new Command().exitOverride();
    const reproducing = async () => {
      opened++;
      throw new Error("opened");
    };
    const output = { out: () => undefined, error: () => undefined };
    addReproduce(program, { output, reproducing }, () => undefined);
    await program.parseAsync(["reproduce", "--state", folder, "--here", ...words], { from: "user" });
  };
  for (const html of [folder, join(folder, "none/x.html"), join(folder, "file/x.html")])
    await assert.rejects(run("12345678", "--html", html), { code: "argument.invalid", message: /cannot be written/ });
  await assert.rejects(run("--sample", "0"), { code: "argument.invalid", message: /one row at least/ });
  assert.equal(opened, 0);
  await assert.rejects(run("12345678", "--html", join(folder, "x.html")), /opened/);
  assert.deepEqual(await readdir(folder), ["file"], "and no empty page is left");
});

test("what is no file has no digest", async () => {
  for (const path of [tmpdir(), join(tmpdir(), "hpcc-no-such-file")])
    await assert.rejects(digestOfFile(path), { code: "argument.invalid", message: /cannot be read/ });
});
