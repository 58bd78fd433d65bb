import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ManualClock } from "../clock.ts";
import { createJsonLogger, fileWriter, type LogLevel } from "./json-logger.ts";

function fixture(level: LogLevel = "debug") {
  const lines: string[] = [];
  const logger = createJsonLogger({ write: (line) => lines.push(line), level, clock: new ManualClock(0) });
  return { lines, logger };
}

test("a line is JSON with time, level and event first", () => {
  const { lines, logger } = fixture();
  logger.with({ worker: "w1" }).info("worker.started", { port: 1, none: undefined, nothing: null });
  assert.deepEqual(lines, [
    '{"time":"1970-01-01T00:00:00.000Z","level":"info","event":"worker.started","worker":"w1","port":1,"nothing":null}\n',
  ]);
});

test("levels below the chosen one are not written", () => {
  const { lines, logger } = fixture("warn");
  logger.debug("a");
  logger.info("b");
  logger.warn("c");
  logger.error("d");
  assert.deepEqual(
    lines.map((line) => (JSON.parse(line) as { event: string }).event),
    ["c", "d"],
  );
});

test("no field breaks a line, moves a cursor, replaces the event or grows without bound", () => {
  const { lines, logger } = fixture();
  const hostile = "\u001b[2J\n\r\u0000\u007f\u009b31m\u2028\u2029";
  logger.warn("peer.said", { text: hostile, event: "forged", level: "forged", long: "x".repeat(100_000) });
  assert.equal(lines.length, 1);
  assert.doesNotMatch(lines[0]!.slice(0, -1), /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/);
  const parsed = JSON.parse(lines[0]!) as Record<string, string>;
  assert.deepEqual(
    [parsed["text"], parsed["event"], parsed["level"], parsed["long"]!.length],
    [hostile, "peer.said", "warn", 4096],
  );
});

test("a log file is private and appended to", () => {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-log-"));
  const path = join(folder, "log");
  for (const event of ["one", "two"])
    createJsonLogger({ write: fileWriter(path), level: "info", clock: new ManualClock() }).info(event);
  assert.equal(readFileSync(path, "utf8").trim().split("\n").length, 2);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  rmSync(folder, { recursive: true });
});
