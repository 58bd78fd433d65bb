// `hpcc explain`, and what `hpcc stats` takes from the history, over a real one that no daemon writes.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { answeredCall, type CallShape, callInput } from "../../test/support/call-shapes.ts";
import { ascii, byteStringOfText } from "../base/byte-string.ts";
import { ManualClock } from "../base/clock.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import type { AnsweredCall } from "../daemon/call/answered-call.ts";
import { CallHistoryRecorder } from "../daemon/history/call-history.ts";
import { openHistory } from "../daemon/history/history-reader.ts";
import { addExplain } from "./explain-command.ts";
import { exitCodeOf, printError } from "./output.ts";
import { addStats } from "./stats-command.ts";

const START_MS = 1_700_000_000_000;

describe("explain", () => {
  let folder = "";
  let project = "";
  let calls = 0;
  const started = process.cwd();
  beforeEach(() => {
    folder = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-explain-")));
    project = join(folder, "p");
    mkdirSync(join(project, ".git"), { recursive: true });
    mkdirSync(join(project, "src"));
    process.chdir(project);
    calls = 0;
  });
  afterEach(() => {
    process.chdir(started);
    rmSync(folder, { recursive: true });
  });

  /** Files are named from the project's root. */
  function record(shapes: readonly (readonly [CallShape, Partial<AnsweredCall>])[]): void {
    const recorder = new CallHistoryRecorder({
      folder: join(folder, "state"),
      clock: new ManualClock(),
      logger: SILENT_LOGGER,
    });
    const at = (path: string) => join(project, path);
    for (const [shape, more] of shapes) {
      const source = at(shape.source ?? "src/a.c");
      const startedMs = START_MS + calls * 100;
      const absolute = { ...shape, source, output: at(shape.output ?? "a.o"), cwd: project };
      recorder.answered(answeredCall(absolute, { project: byteStringOfText(project), startedMs, ...more }));
      calls += 1;
    }
    recorder.close();
  }

  const input = (path: string, text: string) => callInput(join(project, path), text);

  async function run(...argv: string[]): Promise<{ code: number; out: string; error: string }> {
    const { Command } = await import("commander");
    let out = "";
    const host = {
      env: { HOME: folder, HPCC_RUNTIME_DIR: folder, HPCC_STATE_DIR: join(folder, "state") },
      uid: 1,
      clock: new ManualClock(START_MS + 3_600_000),
      output: { out: (text: string) => (out += text), error: () => undefined },
      history: async () => openHistory(join(folder, "state")),
    };
    const program = new Command("hpcc").exitOverride();
    addExplain(program, host);
    addStats(program, host);
    try {
      await program.parseAsync(argv, { from: "user" });
      return { code: 0, out, error: "" };
    } catch (error) {
      return { code: exitCodeOf(error), out, error: printError(error) };
    }
  }

  function chainOfHeaders(): void {
    writeFileSync("src/a.c", '#include "app.h"\n');
    writeFileSync("src/app.h", '#include "config.h"\n');
    writeFileSync("src/config.h", "2\n");
  }

  test("a file by its source or object, relative, absolute or through a link: the causes and the way to the header", async () => {
    chainOfHeaders();
    const inputs = (config: string) => ({
      inputs: [input("src/a.c", "s"), input("src/app.h", "a"), input("src/config.h", config)],
    });
    record([
      [{ words: ["-O2"], ...inputs("1") }, {}],
      [{ words: ["-O0", "-DX"], ...inputs("2") }, {}],
      [{ words: ["-O0", "-DX"], ...inputs("2") }, { outcome: "local_hit" }],
    ]);
    const expected = [
      "src/a.c -> a.o",
      "  last call    59 min ago, from the local store",
      "  last compile 59 min ago, compiled here, kept, in 0.04 s",
      "",
      "last compiled because",
      "  src/config.h changed",
      "      src/a.c includes src/app.h includes src/config.h",
      "  flag changed: -O2 -> -O0",
      "  flag added: -DX",
      "",
    ].join("\n");
    symlinkSync(project, join(folder, "link"));
    for (const name of [
      "src/a.c",
      "a.o",
      "./src/../a.o",
      join(project, "a.o"),
      join(folder, "link/src/a.c"),
      "../link/a.o",
    ])
      assert.deepEqual(await run("explain", name), { code: 0, out: expected, error: "" }, name);
    const found = JSON.parse((await run("explain", "a.o", "--json")).out);
    assert.equal(found.last_call.outcome, "local_hit");
    assert.deepEqual(
      found.causes.map(({ kind, include_chain }: { kind: string; include_chain: string[] | null }) => [
        kind,
        include_chain?.length,
      ]),
      [
        ["header-changed", 3],
        ["flag", undefined],
        ["flag", undefined],
      ],
    );
  });

  test("300 of 312: config.h", async () => {
    writeFileSync("src/app.h", '#include "config.h"\n');
    writeFileSync("src/config.h", "2\n");
    const names = Array.from({ length: 312 }, (_, index) => `src/f${index}.c`);
    for (const name of names) writeFileSync(name, '#include "app.h"\n');
    const many = Array.from({ length: 400 }, (_, index) => input(`include/h${index}.h`, `${index}`));
    const build = (config: string) =>
      names.map((source, index): [CallShape, Partial<AnsweredCall>] => {
        const own = index < 300 ? [input("src/app.h", "a"), input("src/config.h", config)] : [];
        const outcome = index >= 300 && config === "2" ? "local_hit" : "local_compiled";
        return [{ source, output: `${index}.o`, inputs: [input(source, "s"), ...own, ...many] }, { outcome }];
      });
    record([...build("1"), ...build("2")]);
    const cpu = process.cpuUsage();
    const { out } = await run("explain", "--last-build");
    const { user, system } = process.cpuUsage(cpu);
    assert.match(out, /^last build: 312 calls in 31\.1 s, ended 58 min ago$/m);
    assert.match(out, /^ {2}from the local store +12$/m);
    assert.match(out, /^why 300 of 312 were compiled$/m);
    assert.match(out, /^ {2}300 of 300: src\/config\.h changed$/m);
    assert.match(out, /^ +such as src\/f0\.c includes src\/app\.h includes src\/config\.h$/m);
    // A fault in it takes seconds, as when each call's files were read from the database anew.
    assert.ok(user + system < 2_000_000, `${(user + system) / 1000} ms of processor time`);
    const { groups } = JSON.parse((await run("explain", "--last-build", "--json")).out);
    assert.deepEqual(
      groups.map((group: { calls: number; cause: { kind: string } }) => [group.calls, group.cause.kind]),
      [[300, "header-changed"]],
    );
  });

  test("a file that no call is known for, or that calls only read, is told apart", async () => {
    assert.match((await run("explain", "src/a.c")).error, /no call is known yet[^]*hpcc gcc -c/);
    record([[{ inputs: [input("src/a.c", "s"), input("src/x.h", "1")] }, {}]]);
    const unknown = await run("explain", "src/b.c");
    assert.equal(unknown.code, 2);
    assert.match(unknown.error, /no call for src\/b\.c is known[^]*since 2023-/);
    const header = await run("explain", "src/x.h");
    assert.equal(header.code, 2);
    assert.match(header.error, /neither source nor output[^]*ask about one of them, as in `hpcc explain .*src\/a\.c`/);
    for (const argv of [["explain"], ["explain", "a.o", "--last-build"]]) assert.equal((await run(...argv)).code, 2);
  });

  test("a damaged history is said to be", async () => {
    mkdirSync(join(folder, "state"));
    writeFileSync(join(folder, "state/history.db"), "x".repeat(5_000));
    const { code, error } = await run("explain", "src/a.c");
    assert.equal(code, 1);
    assert.match(error, /history\.db is damaged .*the next compile begins it anew \[store\.corrupt\]/);
  });

  test("nothing of a checkout moves a cursor", async () => {
    const evil = "src/\u001b[2J\u0007.h";
    record([
      [{ inputs: [input("src/a.c", "s"), input(evil, "1")] }, {}],
      [
        {
          words: ["-D\u001b]0;x\u0007"],
          inputs: [input("src/a.c", "s"), input(evil, "2")],
          environment: { CPATH: "\u009b1m" },
        },
        { outcome: "local", reason: "side_outputs", detail: ascii("\u001bc") },
      ],
    ]);
    const shown = await Promise.all([
      run("explain", "a.o"),
      run("explain", "--last-build"),
      run("stats", "--why"),
      run("stats", "--project", "--why"),
    ]);
    for (const { code, out } of shown) {
      assert.equal(code, 0);
      assert.doesNotMatch(out, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
    }
    assert.match(shown[0]?.out ?? "", /not kept: side_outputs/);
  });

  test("stats of a project, and why calls were not kept, with examples and what to do", async () => {
    const local = (reason: "date_time_macro" | "called_for_link", detail: string | null) => ({
      outcome: "local" as const,
      reason,
      detail: detail === null ? null : ascii(detail),
    });
    record([
      [{}, {}],
      [{}, { outcome: "local_hit" }],
      [{ source: "src/v.c", output: "v.o" }, local("date_time_macro", null)],
      [{ source: "src/v.c", output: "v.o" }, local("date_time_macro", null)],
      [{ source: "src/w.c", output: "w.o" }, local("date_time_macro", "__DATE__")],
      [{}, { ...local("called_for_link", null), source: null, output: null }],
      [{}, { outcome: "local_hit", project: ascii("/other") }],
    ]);
    const { out } = await run("stats", "--project", "--why");
    assert.match(out, /^project +\/.*\/p$/m);
    assert.match(out, /^calls +6$/m);
    assert.match(out, /^ {2}from the local store +1 +16\.7 %$/m);
    assert.match(out, /^hit rate +1 of 2 +50\.0 %$/m);
    assert.match(
      out,
      /^ {2}date_time_macro: 3\n.*\n {6}such as .*src\/w\.c: __DATE__\n {6}such as .*src\/v\.c\n {6}-> Keep the date/m,
    );
    assert.match(out, /^ {2}called_for_link: 1\n.*\n {6}-> Nothing to do/m);
    const stats = JSON.parse((await run("stats", "--why", "--json")).out);
    assert.deepEqual(
      stats.why.map(({ reason, calls }: { reason: string; calls: number }) => [reason, calls]),
      [
        ["date_time_macro", 3],
        ["called_for_link", 1],
      ],
    );
    const other = JSON.parse((await run("stats", "--project", "/other", "--json")).out);
    assert.deepEqual([other.calls, other.outcomes], [1, { local_hit: 1 }]);
  });
});
