// Calls that the launcher answers alone, from records that the daemon's writer made of real compiles. No daemon runs: what is not replayed
// falls back to the real compiler, which shows in the log of fall-backs.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ascii } from "../../src/base/byte-string.ts";
import { ManualClock } from "../../src/base/clock.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { SYSTEM_CLOCK } from "../../src/base/system/clock.ts";
import { sha256 } from "../../src/core/digest/digest.ts";
import type { AnsweredCall } from "../../src/daemon/call/answered-call.ts";
import { FolderNamesCache } from "../../src/daemon/inputs/folder-names.ts";
import { HitLog } from "../../src/daemon/replay/hit-log.ts";
import { ReplayWriter, type ReplayWriterOptions } from "../../src/daemon/replay/replay-writer.ts";
import type { CallMessage } from "../../src/wire/launcher/messages.ts";
import { decodeReplayRecord, encodeReplayRecord } from "../../src/wire/launcher/replay-record.ts";
import { type AnsweredCallParts, answeredCall, storeAt } from "../support/answered-call.ts";
import { type Ended, HOST_EXEC, IS_ROOT, LauncherFolder, PLAIN_UID, type RunOptions } from "./launcher-folder.ts";

const COMPILE = 'exec "$HPCC" gcc -c -O1 -Wall -MD -Iinc1 -Iinc2 -Imissing/deep -o out/a.o src/a.c';
/** The files of this test are older than calls that are said to begin so much later. */
const LATER_MS = 10_000;

/** A working folder with a source, a header found in the second include folder, and the record of its compile. */
class Recorded {
  readonly launcher = new LauncherFolder();
  readonly store = join(this.launcher.path, "store");
  readonly records = join(this.launcher.state, "replay");
  readonly configuration = join(this.launcher.path, "config.toml");
  message: CallMessage | null = null;

  constructor() {
    rmSync(join(this.launcher.bin, "gcc"));
    for (const folder of ["src", "inc1", "inc2", "out"]) mkdirSync(this.path(folder));
    this.write("src/a.c", '#include "h.h"\nint twice(void) { int unused; return 2 * H; }\n');
    this.write("inc2/h.h", "#define H 21\n");
  }

  path(name: string): string {
    return join(this.launcher.work, name);
  }

  write(name: string, text: string): void {
    writeFileSync(this.path(name), text);
  }

  read(name: string): string {
    return readFileSync(this.path(name), "latin1");
  }

  /** Makes the call with a daemon that only listens; the real compiler runs. */
  async compile(script: string, options: RunOptions = {}): Promise<Ended> {
    await this.launcher.serve(async (peer) => {
      this.message = await peer.call();
      peer.send(HOST_EXEC);
    });
    const ended = await this.launcher.run(script, options);
    this.launcher.stop();
    rmSync(join(this.launcher.runtime, "daemon.sock"), { force: true });
    return ended;
  }

  /** Compiles and records what came of it. */
  async record(script = COMPILE, options: RunOptions = {}, more: Partial<AnsweredCallParts> = {}): Promise<Ended> {
    const ended = await this.compile(script, options);
    assert.equal(ended.code, 0, ended.stderr);
    const writer = this.writer();
    this.observe(writer, this.answered({ stdout: ended.stdout, stderr: ended.stderr, ...more }));
    await writer.settled();
    assert.deepEqual(writer.counts, { written: 1, refused: {} });
    return ended;
  }

  answered(more: Partial<AnsweredCallParts> = {}): AnsweredCall {
    return answeredCall({
      message: this.message!,
      source: "src/a.c",
      headers: ["inc2/h.h"],
      absent: [
        { folder: ascii(this.path("src")), names: [ascii("h.h")] },
        { folder: ascii(this.path("inc1")), names: [ascii("h.h")] },
        { folder: ascii(this.path("missing/deep")), names: [ascii("h.h")] },
      ],
      outputs: [
        { destination: "out/a.o", manner: "assembler" },
        { destination: "out/a.d", manner: "text" },
      ],
      store: this.store,
      startedMs: Date.now() + LATER_MS,
      ...more,
    });
  }

  readonly clock = new ManualClock(Date.now() + 2 * LATER_MS);

  writer(more: Partial<ReplayWriterOptions> = {}): ReplayWriter {
    return new ReplayWriter({
      folder: this.records,
      store: storeAt(this.store),
      names: new FolderNamesCache(SYSTEM_CLOCK),
      clock: this.clock,
      logger: SILENT_LOGGER,
      configurationFiles: [this.configuration],
      program: null,
      bytesMax: 10 ** 9,
      ...more,
    });
  }

  observe(writer: ReplayWriter, call: AnsweredCall): void {
    writer.answered(call);
    this.clock.advance(1_000);
  }

  recordFile(): string {
    const [shard] = readdirSync(this.records).filter((name) => name.length === 2);
    const [name] = readdirSync(join(this.records, shard!));
    return join(this.records, shard!, name!);
  }

  hits(): string[][] {
    const log = join(this.records, "hits.log");
    if (!existsSync(log)) return [];
    return readFileSync(log, "latin1")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => line.split("\t"));
  }

  removeOutputs(): void {
    for (const name of readdirSync(this.path("out"))) rmSync(this.path(`out/${name}`), { recursive: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.launcher[Symbol.asyncDispose]();
  }
}

test("a recorded call is replayed without a daemon, byte for byte, and said in the log", async () => {
  await using recorded = new Recorded();
  const plain = await recorded.record();
  assert.match(plain.stderr, /unused/);
  const files = [recorded.read("out/a.o"), recorded.read("out/a.d")];
  recorded.removeOutputs();
  const before = Date.now();
  const ended = await recorded.launcher.run(COMPILE);
  assert.deepEqual(ended, plain);
  assert.deepEqual([recorded.read("out/a.o"), recorded.read("out/a.d")], files);
  assert.deepEqual(readdirSync(recorded.path("out")).sort(), ["a.d", "a.o"]);
  assert.deepEqual(recorded.launcher.fallbacks(), []);
  const [[ms, name, us], ...more] = recorded.hits() as [string[], ...string[][]];
  assert.equal(more.length, 0);
  assert.ok(Number(ms) >= before && Number(ms) <= Date.now());
  assert.ok(recorded.recordFile().endsWith(`/${name}`));
  assert.ok(Number(us) >= 0 && Number(us) < 10_000_000);
  // make compares times: what is replayed is newer than what it was made of.
  assert.ok(statSync(recorded.path("out/a.o")).mtimeMs >= statSync(recorded.path("src/a.c")).mtimeMs);
  assert.deepEqual(await recorded.launcher.run(COMPILE), plain);
  assert.equal(recorded.hits().length, 2);
});

/** Changes after which the record must not hold, by what is changed. Each leaves a compile that works. */
const CHANGES: Readonly<Record<string, (recorded: Recorded) => RunOptions | void>> = {
  "a source of the same size and time": (recorded) => {
    const { atime, mtime } = statSync(recorded.path("src/a.c"));
    recorded.write("src/a.c", '#include "h.h"\nint twice(void) { int unused; return 3 * H; }\n');
    utimesSync(recorded.path("src/a.c"), atime, mtime);
  },
  "a header": (recorded) => recorded.write("inc2/h.h", "#define H 22\n"),
  "a header that was replaced": (recorded) => {
    recorded.write("inc2/new.h", "#define H 22\n");
    renameSync(recorded.path("inc2/new.h"), recorded.path("inc2/h.h"));
  },
  "a header's mode": (recorded) => chmodSync(recorded.path("inc2/h.h"), 0o600),
  "a header that appears in an earlier folder": (recorded) => recorded.write("inc1/h.h", "#define H 23\n"),
  "a header that appears beside the source": (recorded) => recorded.write("src/h.h", "#define H 23\n"),
  "a link to nothing that appears in an earlier folder": (recorded) =>
    symlinkSync("/nonexistent", recorded.path("inc1/h.h")),
  "an include folder that appears": (recorded) => {
    mkdirSync(recorded.path("missing/deep"), { recursive: true });
    recorded.write("missing/deep/h.h", "#define H 24\n");
  },
  "a folder that is swapped for another one": (recorded) => {
    mkdirSync(recorded.path("other"));
    copyFileSync(recorded.path("inc2/h.h"), recorded.path("other/h.h"));
    renameSync(recorded.path("inc2"), recorded.path("old"));
    renameSync(recorded.path("other"), recorded.path("inc2"));
  },
  "a folder that becomes a link": (recorded) => {
    mkdirSync(recorded.path("other"));
    recorded.write("other/h.h", "#define H 25\n");
    renameSync(recorded.path("inc2"), recorded.path("old"));
    symlinkSync("other", recorded.path("inc2"));
  },
  "the environment": () => ({ environment: { CPATH: "/nonexistent" } }),
  "a variable by its prefix": () => ({ environment: { LC_ALL: "C" } }),
  "the umask": () => ({ before: "umask 077" }),
  "a program that PATH finds first": (recorded) => {
    writeFileSync(join(recorded.launcher.bin, "gcc"), '#!/bin/sh\nexec /usr/bin/gcc "$@"\n', { mode: 0o755 });
  },
  "an assembler that PATH finds first": (recorded) => {
    writeFileSync(join(recorded.launcher.bin, "as"), '#!/bin/sh\nexec /usr/bin/as "$@"\n', { mode: 0o755 });
  },
  "a configuration file that appears": (recorded) => writeFileSync(recorded.configuration, ""),
  "a project's configuration that appears": (recorded) => {
    // Without a plan, such a project's compiler is not known.
    recorded.write("hpcc.toml", "");
  },
  "a version-control folder that appears": (recorded) => mkdirSync(recorded.path(".git")),
  "a kept file that is gone": (recorded) => rmSync(recorded.store, { recursive: true }),
  "a kept file that is cut": (recorded) => {
    for (const name of readdirSync(recorded.store)) truncateSync(join(recorded.store, name), 10);
  },
  "a kept file of the same size and time": (recorded) => {
    for (const name of readdirSync(recorded.store)) {
      const path = join(recorded.store, name);
      const { atime, mtime, size } = statSync(path);
      writeFileSync(path, "x".repeat(size));
      utimesSync(path, atime, mtime);
    }
  },
  "a kept file that is a link": (recorded) => {
    for (const name of readdirSync(recorded.store)) {
      const path = join(recorded.store, name);
      renameSync(path, `${path}.moved`);
      symlinkSync(`${path}.moved`, path);
    }
  },
  "a kept file that is a fifo": (recorded) => {
    for (const name of readdirSync(recorded.store)) {
      const path = join(recorded.store, name);
      rmSync(path);
      assert.equal(spawnSync("mkfifo", [path]).status, 0);
    }
  },
  "a record that is a fifo": (recorded) => {
    const path = recorded.recordFile();
    rmSync(path);
    assert.equal(spawnSync("mkfifo", [path]).status, 0);
  },
  "a record that others may write": (recorded) => chmodSync(recorded.recordFile(), 0o622),
  "a record that is cut": (recorded) => truncateSync(recorded.recordFile(), 100),
  "an empty record": (recorded) => truncateSync(recorded.recordFile(), 0),
  "another call's record": (recorded) => {
    // Whole, and only where it does not belong.
    const path = recorded.recordFile();
    const record = decodeReplayRecord(readFileSync(path));
    writeFileSync(path, encodeReplayRecord({ ...record, name: sha256(Buffer.from("another")) }));
  },
  "HPCC_REPLAY=0": () => ({ environment: { HPCC_REPLAY: "0" } }),
  "a log that the daemon must read first": (recorded) =>
    writeFileSync(join(recorded.records, "hits.log"), Buffer.alloc(4 * 1024 * 1024 + 1, "\n")),
};

for (const [what, change] of Object.entries(CHANGES))
  test(`not replayed after a change of ${what}`, async () => {
    await using recorded = new Recorded();
    await recorded.record();
    const options = change(recorded) ?? {};
    recorded.removeOutputs();
    const ended = await recorded.launcher.run(COMPILE, options);
    assert.equal(recorded.hits().length, 0);
    assert.equal(recorded.launcher.fallbacks().length, 1, ended.stderr);
    if (existsSync(recorded.path("hpcc.toml"))) return assert.match(ended.stderr, /image of .* is not ready/);
    assert.equal(ended.code, 0, ended.stderr);
    const object = recorded.read("out/a.o");
    recorded.removeOutputs();
    const plain = spawnSync("gcc", "-c -O1 -MD -Iinc1 -Iinc2 -Imissing/deep -o out/a.o src/a.c".split(" "), {
      cwd: recorded.launcher.work,
    });
    assert.equal(plain.status, 0);
    assert.equal(object, recorded.read("out/a.o"));
  });

test("who asks for results anew is given none that is recorded, his own neither", async () => {
  await using recorded = new Recorded();
  const environment = { HPCC_RECACHE: "1" };
  await recorded.record(COMPILE, { environment });
  assert.equal((await recorded.launcher.run(COMPILE, { environment })).code, 0);
  assert.deepEqual([recorded.hits().length, recorded.launcher.fallbacks().length], [0, 1]);
});

test("a record of another user is none", { skip: IS_ROOT ? false : "needs root to be two users" }, async () => {
  await using recorded = new Recorded();
  await recorded.record();
  chownSync(recorded.recordFile(), PLAIN_UID, PLAIN_UID);
  assert.equal((await recorded.launcher.run(COMPILE)).code, 0);
  assert.deepEqual([recorded.hits().length, recorded.launcher.fallbacks().length], [0, 1]);
});

test("a version-control folder may change within, and must be the one that it was", async () => {
  await using recorded = new Recorded();
  mkdirSync(recorded.path(".git"));
  await recorded.record();
  recorded.write(".git/index", "");
  assert.equal((await recorded.launcher.run(COMPILE)).code, 0);
  assert.equal(recorded.hits().length, 1);
  renameSync(recorded.path(".git"), recorded.path("old"));
  mkdirSync(recorded.path(".git"));
  assert.equal((await recorded.launcher.run(COMPILE)).code, 0);
  assert.deepEqual([recorded.hits().length, recorded.launcher.fallbacks().length], [1, 1]);
});

test("a compiler that is a link is another one when the link is moved, even to the same file", async () => {
  await using recorded = new Recorded();
  const link = join(recorded.launcher.bin, "gcc");
  symlinkSync("/usr/bin/gcc", link);
  await recorded.record();
  assert.equal((await recorded.launcher.run(COMPILE)).code, 0);
  assert.equal(recorded.hits().length, 1);
  unlinkSync(link);
  symlinkSync("/usr/bin/../bin/gcc", link);
  assert.equal((await recorded.launcher.run(COMPILE)).code, 0);
  assert.equal(recorded.hits().length, 1);
  assert.equal(recorded.launcher.fallbacks().length, 1);
});

test("PWD's spelling of the working folder counts, and where its links lead", async () => {
  await using recorded = new Recorded();
  const link = join(recorded.launcher.path, "link");
  symlinkSync("work", link);
  // A shell sets PWD for itself; `env` hands it on as it is said here.
  const compile = (pwd: string) => COMPILE.replace("exec", `exec env PWD=${pwd}`);
  await recorded.record(compile(link));
  assert.equal((await recorded.launcher.run(compile(link))).code, 0);
  assert.equal(recorded.hits().length, 1);
  assert.equal((await recorded.launcher.run(compile(recorded.launcher.work))).code, 0);
  assert.equal(recorded.hits().length, 1);
  unlinkSync(link);
  symlinkSync("./work", link);
  assert.equal((await recorded.launcher.run(compile(link))).code, 0);
  unlinkSync(link);
  symlinkSync("bin", link);
  assert.equal((await recorded.launcher.run(compile(link))).code, 0);
  assert.equal(recorded.hits().length, 1);
  assert.equal(recorded.launcher.fallbacks().length, 3);
});

test("words on both streams are not replayed into one", async () => {
  await using recorded = new Recorded();
  await recorded.record(COMPILE, {}, { stdout: "words\n", stderr: "others\n" });
  const apart = await recorded.launcher.run(COMPILE);
  assert.deepEqual([apart.stdout, apart.stderr, recorded.hits().length], ["words\n", "others\n", 1]);
  const joined = await recorded.launcher.run(`${COMPILE} 2>&1`);
  assert.match(joined.stdout, /unused/);
  assert.deepEqual([recorded.hits().length, recorded.launcher.fallbacks().length], [1, 1]);
});

test("a limit on files' sizes leaves nothing half written by a replay", async () => {
  await using recorded = new Recorded();
  recorded.write("src/a.c", '#include "h.h"\nchar big[300000] = {H};\n');
  await recorded.record();
  recorded.removeOutputs();
  // GCC dies of the limit, too.
  const ended = await recorded.launcher.run(COMPILE, { before: "ulimit -f 64; ulimit -c 0" });
  assert.notEqual(ended.code, 0);
  assert.deepEqual([recorded.launcher.fallbacks(), recorded.hits().length], [["write"], 0]);
  assert.deepEqual(
    readdirSync(recorded.path("out")).filter((name) => name.startsWith(".hpcc-")),
    [],
  );
});

test("outputs that cannot be written are the real compiler's to complain of", async () => {
  await using recorded = new Recorded();
  await recorded.record();
  recorded.removeOutputs();
  mkdirSync(recorded.path("out/a.d"));
  const ended = await recorded.launcher.run(COMPILE);
  assert.equal(ended.code, 1);
  assert.match(ended.stderr, /out\/a\.d/);
  assert.deepEqual(recorded.launcher.fallbacks(), ["write"]);
  assert.equal(recorded.hits().length, 0);
  assert.deepEqual(
    readdirSync(recorded.path("out")).filter((name) => name.startsWith(".hpcc-")),
    [],
  );
});

test("a file that is replaced keeps its other names, and the new one has the caller's mode", async () => {
  await using recorded = new Recorded();
  await recorded.record();
  chmodSync(recorded.path("out/a.o"), 0o400);
  linkSync(recorded.path("out/a.o"), recorded.path("out/other"));
  const before = statSync(recorded.path("out/other")).ino;
  assert.equal((await recorded.launcher.run(COMPILE)).code, 0);
  assert.equal(recorded.hits().length, 1);
  assert.equal(statSync(recorded.path("out/other")).ino, before);
  assert.notEqual(statSync(recorded.path("out/a.o")).ino, before);
  assert.equal(statSync(recorded.path("out/a.o")).mode & 0o777, 0o644);
  assert.equal(statSync(recorded.path("out/other")).nlink, 1);
});

test("many replays at once write whole files and whole lines", async () => {
  await using recorded = new Recorded();
  await recorded.record();
  const object = recorded.read("out/a.o");
  const calls = 40;
  const ended = await Promise.all(Array.from({ length: calls }, () => recorded.launcher.run(COMPILE)));
  assert.deepEqual(new Set(ended.map(({ code }) => code)), new Set([0]));
  assert.equal(recorded.read("out/a.o"), object);
  assert.deepEqual(readdirSync(recorded.path("out")).sort(), ["a.d", "a.o"]);
  const uses = await new HitLog(recorded.records, SILENT_LOGGER).take();
  assert.equal(uses.hits + recorded.launcher.fallbacks().length, calls);
  // Each names one record, which says what it was of.
  assert.deepEqual(
    uses.uses.map(({ source, count }) => [source, count]),
    [[recorded.path("src/a.c"), uses.hits]],
  );
});

test("HPCC_VERBOSE says why a record did not hold", async () => {
  await using recorded = new Recorded();
  await recorded.record(COMPILE, { environment: { HPCC_VERBOSE: "1" } });
  recorded.write("inc2/h.h", "#define H 1\n");
  const ended = await recorded.launcher.run(COMPILE, { environment: { HPCC_VERBOSE: "1" } });
  assert.match(ended.stderr, /^hpcc: no replay: changed: \/.*\/inc2\/h\.h$/m);
});

test("a response file counts by what it says, and one within another is left to the daemon", async () => {
  await using recorded = new Recorded();
  recorded.write("args", "-Iinc2 -DLEVEL=1");
  const compile = 'exec "$HPCC" gcc -c @args -o out/a.o src/a.c';
  const outputs = [{ destination: "out/a.o", manner: "assembler" }] as const;
  await recorded.record(compile, {}, { outputs });
  assert.equal((await recorded.launcher.run(compile)).code, 0);
  assert.equal(recorded.hits().length, 1);
  const { atime, mtime } = statSync(recorded.path("args"));
  recorded.write("args", "-Iinc2 -DLEVEL=2");
  utimesSync(recorded.path("args"), atime, mtime);
  assert.equal((await recorded.launcher.run(compile)).code, 0);
  assert.equal(recorded.hits().length, 1);
  recorded.write("more", "-DMORE");
  recorded.write("args", "-Iinc2 '@more'");
  const writer = recorded.writer();
  recorded.observe(writer, recorded.answered({ outputs }));
  await writer.settled();
  assert.deepEqual(writer.counts, { written: 0, refused: { response_file: 1 } });
});
