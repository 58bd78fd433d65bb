import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { answeredCall, callInput } from "../../../test/support/call-shapes.ts";
import { SmallDisk } from "../../../test/support/full-disk.ts";
import { ascii } from "../../base/byte-string.ts";
import { ManualClock } from "../../base/clock.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import type { CallHistory } from "../../core/explain/recorded-call.ts";
import { CallHistoryRecorder, HISTORY_LIMITS } from "./call-history.ts";
import { HistoryDatabase } from "./history-database.ts";
import { openHistory } from "./history-reader.ts";

describe("the history of calls", () => {
  let folder = "";
  const events: string[] = [];
  const clock = new ManualClock();
  const logger = { ...SILENT_LOGGER, warn: (event: string) => void events.push(event) };
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "hpcc-history-"));
    events.length = 0;
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const recorder = (limits = HISTORY_LIMITS) => new CallHistoryRecorder({ folder, clock, logger, limits });

  function read<T>(question: (history: CallHistory) => T): T {
    const history = openHistory(folder);
    assert.ok(history, "there is a history");
    try {
      return question(history);
    } finally {
      history.close();
    }
  }

  test("what a call was is known after the daemon's end, byte for byte", () => {
    const recording = recorder();
    const odd = "/p/\u00e4 \u0001/b.c";
    const answered = answeredCall(
      {
        source: odd,
        output: "/p/build/../b.o",
        words: ["-c", "-DX=\u00ff"],
        environment: { CPATH: "/x", LANG: "C" },
        inputs: [callInput(odd, "int b;"), callInput("/p/x.h", "1"), callInput("/p/sub/../y.h", "2")],
        absent: ["/p/inc/y.h", "/root.h"],
      },
      { outcome: "local", reason: "date_time_macro", detail: ascii("__DATE__"), durationMs: 12.6 },
    );
    recording.answered(answered);
    recording.close();
    // Some of it is decoded when it is asked for.
    const [call, ...more] = read((history) => history.callsOf(ascii("/p/b.o"), 10).map((found) => ({ ...found })));
    assert.equal(more.length, 0);
    assert.ok(call);
    assert.deepEqual(
      { ...call, id: 0, inputs: call.inputs.toSorted((a, b) => (a.path < b.path ? -1 : 1)) },
      {
        id: 0,
        outcome: "local",
        reason: "date_time_macro",
        detail: "__DATE__",
        project: "/p",
        compiler: {
          identity: answered.compiler?.identity,
          image: null,
          files: [{ path: "/usr/bin/gcc", digest: answered.compiler?.files[0]?.digest }],
        },
        source: odd,
        output: "/p/build/../b.o",
        cwd: "/p",
        words: ["-c", "-DX=\u00ff"],
        environment: { CPATH: "/x", LANG: "C" },
        callDigest: answered.callDigest,
        inputs: answered.inputs
          .map(({ path, digest }) => ({ path, digest }))
          .toSorted((a, b) => (a.path < b.path ? -1 : 1)),
        absent: ["/p/inc/y.h", "/root.h"],
        configuration: [],
        kept: true,
        startedMs: answered.startedMs,
        durationMs: 13,
      },
    );
    assert.equal(statSync(join(folder, "history.db")).mode & 0o777, 0o600);
  });

  test("nothing is written while a call is answered, and all of it soon after", () => {
    const recording = recorder();
    for (let index = 0; index < 50; index += 1) recording.answered(answeredCall({ source: `/p/${index}.c` }));
    assert.ok(!existsSync(join(folder, "history.db")));
    clock.advance(200);
    assert.equal(
      read((history) => history.newest(null, 100).length),
      50,
    );
    assert.deepEqual(
      read((history) => history.newest(ascii("/other"), 100)),
      [],
    );
    recording.close();
  });

  test("300 files with 400 headers take little room", () => {
    const recording = recorder();
    const headers = Array.from({ length: 400 }, (_, index) =>
      callInput(`/p/include/part/header-${index}.h`, `${index}`),
    );
    for (let build = 0; build < 3; build += 1)
      for (let index = 0; index < 300; index += 1) {
        const source = `/p/src/file-${index}.c`;
        const inputs = [callInput(source, "int a;"), ...headers.slice(index % 7)];
        recording.answered(answeredCall({ source, inputs }));
      }
    recording.close();
    const { size } = statSync(join(folder, "history.db"));
    assert.ok(size < 900 * 1024, `${size} bytes for 900 calls`);
    assert.equal(read((history) => history.callsOf(ascii("/p/src/file-7.c"), 10)).length, 3);
  });

  test("the call before is that of the same output, else of the same source and words", () => {
    const recording = recorder();
    recording.answered(answeredCall({ words: ["-O0"] }));
    recording.answered(answeredCall({ output: "/q/a.o" }));
    recording.answered(answeredCall({ words: ["-O3"] }));
    recording.answered(answeredCall({ output: "/r/a.o" }));
    recording.answered(answeredCall({ output: "/s/a.o", words: ["-Os"] }));
    recording.close();
    read((history) => {
      const before = (output: string) => history.callBefore(history.callsOf(ascii(output), 1)[0]!);
      assert.deepEqual(before("/p/a.o")?.words, ["-O0"]);
      assert.equal(before("/r/a.o")?.output, "/q/a.o");
      assert.equal(before("/s/a.o"), null);
      assert.equal(history.keptBefore(history.callsOf(ascii("/r/a.o"), 1)[0]!)?.output, "/q/a.o");
      assert.equal(history.keptBefore(history.callsOf(ascii("/q/a.o"), 1)[0]!), null);
    });
  });

  test("replays are calls like the one whose result they gave, at their own time", () => {
    const recording = recorder();
    const at = (seconds: number) => ({ startedMs: 1_700_000_000_000 + seconds * 1_000 });
    recording.answered(answeredCall({ words: ["-O1"] }, at(0)));
    recording.answered(answeredCall({ words: ["-O2"] }, at(20)));
    // Told late, and of a call that nobody knows.
    const replay = { count: 3, lastMs: at(10).startedMs, totalUs: 4_500 };
    recording.replayed([
      { ...replay, output: ascii("/p/a.o") },
      { ...replay, output: ascii("/p/unknown.o") },
    ]);
    recording.close();
    read((history) => {
      const calls = history.callsOf(ascii("/p/a.c"), 10);
      assert.deepEqual(
        calls.map(({ outcome, words, startedMs, durationMs }) => [
          outcome,
          words[0],
          startedMs - at(0).startedMs,
          durationMs,
        ]),
        [
          ["local_compiled", "-O2", 20_000, 40],
          ["replayed", "-O1", 10_000, 2],
          ["local_compiled", "-O1", 0, 40],
        ],
      );
      assert.deepEqual(Object.fromEntries(history.outcomes(null)), { local_compiled: 2, replayed: 3 });
      assert.deepEqual(
        history.newest(null, 10).map(({ outcome }) => outcome),
        ["local_compiled", "replayed", "local_compiled"],
      );
      assert.equal(history.callBefore(calls[0]!)?.words[0], "-O1");
    });
  });

  test("the oldest calls go first, and the file stays within its limit", () => {
    const limits = { callsMax: 100, bytesMax: 400 * 1024 };
    const recording = recorder(limits);
    for (let index = 0; index < 1_000; index += 1) {
      const source = `/p/${index}.c`;
      recording.answered(answeredCall({ source, inputs: [callInput(source, "a"), callInput(`/p/${index}.h`, "b")] }));
    }
    clock.advance(60_000);
    const rows = read((history) => history.newest(null, 2_000));
    assert.ok(rows.length <= limits.callsMax && rows.length >= limits.callsMax * 0.8, `${rows.length} calls`);
    assert.equal(read((history) => history.callsOf(ascii("/p/999.c"), 1)).length, 1);
    assert.equal(read((history) => history.callsOf(ascii("/p/0.c"), 1)).length, 0);
    // By bytes alone.
    const words = (index: number) => [`-D${"x".repeat(5_000)}=${index}`];
    for (let index = 0; index < 1_000; index += 1)
      recording.answered(answeredCall({ source: `/p/long-${index}.c`, words: words(index) }));
    clock.advance(60_000);
    recording.close();
    assert.equal(recording.lost, 0);
    assert.ok(statSync(join(folder, "history.db")).size <= limits.bytesMax);
    assert.ok(read((history) => history.newest(null, 2_000).length) > 20);
    assert.equal(read((history) => history.callsOf(ascii("/p/long-999.c"), 1)).length, 1);
  });

  for (const [name, damage] of [
    ["no database at all", (path: string) => writeFileSync(path, "x".repeat(10_000))],
    ["cut", (path: string) => truncateSync(path, 4096 * 3 + 17)],
    [
      "overwritten in the middle",
      (path: string) => {
        const bytes = readFileSync(path);
        writeFileSync(path, bytes.fill(0x5a, 4096));
      },
    ],
    ["of another version", (path: string) => makeOtherVersion(path)],
  ] as const)
    test(`a database that is ${name} is said to be, set aside and begun anew`, () => {
      const first = recorder();
      for (let index = 0; index < 100; index += 1) first.answered(answeredCall({ source: `/p/${index}.c` }));
      first.close();
      damage(join(folder, "history.db"));
      assert.throws(() => read((history) => history.callsOf(ascii("/p/1.c"), 10)), { code: "store.corrupt" });
      const second = recorder();
      second.answered(answeredCall({ source: "/p/new.c" }));
      second.close();
      assert.ok(events.includes("history.set_aside"), events.join());
      assert.equal(second.lost, 0);
      assert.ok(existsSync(join(folder, "history.db.damaged")));
      assert.equal(read((history) => history.callsOf(ascii("/p/new.c"), 10)).length, 1);
    });

  test("several daemons write into one history, and one that another set aside is left", () => {
    const recordings = [recorder(), recorder(), recorder()];
    for (let round = 0; round < 30; round += 1)
      for (const [index, recording] of recordings.entries()) {
        recording.answered(answeredCall({ source: `/p/${index}-${round}.c` }));
        recording.flush();
      }
    assert.equal(read((history) => history.newest(null, 1_000)).length, 90);
    rmSync(join(folder, "history.db"));
    for (const recording of recordings) {
      recording.answered(answeredCall());
      recording.close();
      assert.equal(recording.lost, 0);
    }
    assert.equal(read((history) => history.newest(null, 1_000)).length, 3);
  });

  test("a writer that another one holds up tries again", () => {
    const recording = recorder();
    recording.answered(answeredCall());
    recording.flush();
    const { database } = HistoryDatabase.forWriting(folder, HISTORY_LIMITS.bytesMax);
    database.transaction("IMMEDIATE", () => {
      recording.answered(answeredCall());
      clock.advance(1_000);
    });
    assert.equal(database.prepare("SELECT count(*) AS n FROM call").get()?.["n"], 1);
    database.close();
    clock.advance(1_000);
    assert.equal(read((history) => history.newest(null, 10)).length, 2);
    recording.close();
  });

  test("without room or a folder calls are lost and nothing else, and later ones are kept again", () => {
    const recording = recorder();
    rmSync(folder, { recursive: true });
    writeFileSync(folder, "no folder");
    recording.answered(answeredCall());
    clock.advance(1_000);
    recording.answered(answeredCall());
    assert.equal(recording.lost, 2);
    rmSync(folder);
    mkdirSync(folder);
    clock.advance(120_000);
    recording.answered(answeredCall());
    recording.close();
    assert.equal(recording.lost, 2);
    assert.equal(read((history) => history.newest(null, 10)).length, 1);
    assert.deepEqual(events, ["history.failed"]);
  });

  test("on a full disk calls are lost, what is there stays readable, and with room again calls are kept", () => {
    using disk = new SmallDisk(join(folder, "disk"), { mebibytes: 4 });
    const recording = new CallHistoryRecorder({ folder: disk.path, clock, logger });
    const answered = (name: string) => {
      recording.answered(answeredCall({ source: `/p/${name}.c`, words: [`-D${"y".repeat(20_000)}=${name}`] }));
      clock.advance(1_000);
    };
    answered("first");
    disk.fillBytes();
    for (let index = 0; index < 100; index += 1) answered(`${index}`);
    assert.ok(recording.lost > 90, `${recording.lost} lost`);
    assert.ok(events.includes("history.failed") && !events.includes("history.set_aside"), events.join());
    const known = () => {
      const history = openHistory(disk.path);
      assert.ok(history);
      const calls = history.newest(null, 200).flatMap(({ id }) => history.call(id)?.source ?? []);
      history.close();
      return calls;
    };
    disk.free();
    clock.advance(120_000);
    answered("last");
    recording.close();
    const calls = known();
    assert.ok(calls.includes(ascii("/p/first.c")) && calls.includes(ascii("/p/last.c")), calls.join());
  });

  test("a disk that is full from the start costs history alone", () => {
    using disk = new SmallDisk(join(folder, "disk"), { mebibytes: 1 });
    disk.fillBytes();
    const recording = new CallHistoryRecorder({ folder: disk.path, clock, logger });
    recording.answered(answeredCall());
    recording.close();
    assert.equal(recording.lost, 1);
    assert.deepEqual(events, ["history.failed"]);
  });
});

function makeOtherVersion(path: string): void {
  const { database } = HistoryDatabase.forWriting(join(path, ".."), HISTORY_LIMITS.bytesMax);
  database.prepare("PRAGMA user_version = 99").run();
  database.close();
}
