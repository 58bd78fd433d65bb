import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { readConsole } from "./console.ts";

const folder = mkdtempSync(join(tmpdir(), "hpcc-console-"));
const pipe = join(folder, "console");
execFileSync("mkfifo", [pipe]);
after(() => rmSync(folder, { recursive: true }));

async function until(condition: () => boolean): Promise<void> {
  for (let turns = 0; !condition(); turns += 1) {
    assert.ok(turns < 1_000_000, "it comes in time");
    await new Promise<void>((resolve) => {
      setImmediate(resolve);
    });
  }
}

test("the end of what a guest writes is kept, printable", async () => {
  const reader = readConsole({ pipe, bytesMax: 1_000, onFlood: () => assert.fail("no flood") });
  const writer = createWriteStream(pipe);
  writer.end("first\r\n\u001b[31mlast words\n");
  await once(writer, "close");
  await until(() => reader.log.totalBytes > 0);
  assert.equal(reader.log.tail(), "first\n[31mlast words");
  reader.close();
});

test("a guest that floods its console is told of once and read no more", async () => {
  let floods = 0;
  const reader = readConsole({ pipe, bytesMax: 100_000, onFlood: () => (floods += 1) });
  const writer = createWriteStream(pipe);
  const refused = Promise.withResolvers<Error>();
  writer.on("error", refused.resolve);
  writer.write("x".repeat(1_000_000));
  await until(() => floods > 0);
  assert.match(String(await refused.promise), /EPIPE/);
  assert.equal(floods, 1);
  assert.ok(reader.log.totalBytes <= 200_000, String(reader.log.totalBytes));
  assert.ok(reader.log.tail().length <= 16 * 1024);
});

test("a pipe that is a link is not opened", () => {
  const link = join(folder, "link");
  execFileSync("ln", ["-s", pipe, link]);
  assert.throws(() => readConsole({ pipe: link, bytesMax: 1, onFlood: () => undefined }), /ELOOP/);
});
