import assert from "node:assert/strict";
import {
  copyFileSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { answeredCall, callInput, fileStamp, storeAt } from "../../../test/support/answered-call.ts";
import { ascii, type ByteString, bytesOf } from "../../base/byte-string.ts";
import { ManualClock } from "../../base/clock.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import type { CallMessage } from "../../wire/launcher/messages.ts";
import { decodeReplayRecord, type ReplayRecord } from "../../wire/launcher/replay-record.ts";
import type { AnsweredCall } from "../call/answered-call.ts";
import { folderState } from "../call/folder-state.ts";
import { FolderNamesCache } from "../inputs/folder-names.ts";
import { ReplayWriter } from "./replay-writer.ts";

/** Files of these tests are older than calls that are said to begin so much later, and folders have stood for long by then. */
const LATER_MS = 2 * 3_600_000;
const NAMESPACE = statSync("/proc/self/ns/mnt", { bigint: true });

function absentIn(folder: ByteString, ...names: string[]) {
  return [{ folder, names: names.map(ascii) }];
}

class Place implements Disposable {
  readonly folder = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-writer-")));
  readonly work = join(this.folder, "work");
  readonly records = join(this.folder, "state/replay");
  readonly clock: ManualClock;

  constructor(laterMs = LATER_MS) {
    this.clock = new ManualClock(Date.now() + laterMs);
    for (const name of ["src", "inc", "out", "bin"]) mkdirSync(join(this.work, name), { recursive: true });
    for (const name of ["src/a.c", "inc/h.h", "out/a.o"]) writeFileSync(join(this.work, name), name);
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  path(name: string): ByteString {
    return ascii(join(this.work, name));
  }

  message(more: Partial<CallMessage> = {}, environment: Readonly<Record<string, string>> = {}): CallMessage {
    const variables = { PATH: `${this.work}/bin:/usr/bin:/bin`, ...environment };
    return {
      type: "call",
      protocolVersion: 1,
      launcherVersion: "0.1.0",
      mountNamespace: { dev: NAMESPACE.dev, ino: NAMESPACE.ino },
      argv: ["gcc", "-c", "src/a.c", "-o", "out/a.o"].map(ascii),
      cwd: ascii(this.work),
      environment: Object.entries(variables).map(([name, value]) => ascii(`${name}=${value}`)),
      umask: 0o22,
      terminal: { stdin: false, stdout: false, stderr: false, columns: null },
      pid: 1,
      hostCompiler: ascii("/usr/bin/gcc"),
      ...more,
    };
  }

  call(more: Partial<AnsweredCall> = {}, message = this.message()): AnsweredCall {
    return {
      ...answeredCall({
        message,
        source: "src/a.c",
        headers: ["inc/h.h"],
        outputs: [{ destination: "out/a.o", manner: "assembler" }],
        store: join(this.folder, "store"),
        startedMs: this.clock.wallMs(),
      }),
      ...more,
    };
  }

  /** `meanwhile`: done when the evidence has been gathered and kept files are looked at. */
  writer(meanwhile: () => void = () => undefined): ReplayWriter {
    const { find } = storeAt(join(this.folder, "store"));
    return new ReplayWriter({
      folder: this.records,
      store: { find: (digest) => (meanwhile(), find(digest)) },
      names: new FolderNamesCache(SYSTEM_CLOCK),
      clock: this.clock,
      logger: SILENT_LOGGER,
      configurationFiles: [join(this.folder, "config.toml")],
      program: null,
      bytesMax: 10 ** 9,
    });
  }

  /** Why the call was not recorded; its record else. */
  async record(
    call: AnsweredCall,
    meanwhile?: () => void,
    writer = this.writer(meanwhile),
  ): Promise<string | ReplayRecord> {
    writer.answered(call);
    this.clock.advance(1_000);
    await writer.settled();
    const { written, refused } = writer.counts;
    if (written === 0) return Object.keys(refused).join();
    const names = readdirSync(this.records, { recursive: true }).map(String);
    return decodeReplayRecord(readFileSync(join(this.records, names.find((name) => name.length > 60)!)));
  }
}

test("a record holds the call's facts", async () => {
  using place = new Place();
  const record = await place.record(place.call({ project: ascii(place.work), words: [ascii("x")] }));
  assert.ok(typeof record !== "string");
  const paths = record.stamps.map(({ path }) => path);
  assert.deepEqual(paths.slice(0, 2), [place.path("src/a.c"), place.path("inc/h.h")]);
  for (const path of ["/usr/bin/gcc", "/usr/bin/as", realpathSync("/usr/bin/gcc")])
    assert.ok(paths.includes(ascii(path)), path);
  assert.ok(record.stamps.some(({ path, stamp }) => path === "/usr/bin/gcc" && (stamp.mode & 0o170000n) === 0o120000n));
  for (const path of ["bin/gcc", "bin/as", "hpcc.toml", "../hpcc.toml", "../config.toml", ".git"])
    assert.ok(record.absent.includes(ascii(join(place.work, path))), path);
  assert.equal(record.project, place.work);
  assert.equal(record.source, place.path("src/a.c"));
  assert.equal(record.outputs[0]!.destination, "out/a.o");
  const { kept } = record.outputs[0]!;
  assert.deepEqual(kept.stamp, fileStamp(kept.path));
});

test("a record holds what compilers and their loader would take if it appeared", async () => {
  using place = new Place();
  for (const folder of ["libexec/gcc", "llvm/bin"]) mkdirSync(place.path(folder), { recursive: true });
  const parts = ["libexec/gcc/cc1plus", "libexec/gcc/as", "llvm/bin/clang-14"].map((name) => place.path(name));
  for (const path of parts) writeFileSync(path, "");
  const call = place.call();
  const files = [...call.compiler!.files, ...parts.map((path) => callInput(path))];
  const record = await place.record({ ...call, compiler: { ...call.compiler!, files } });
  assert.ok(typeof record !== "string");
  const stamped = record.stamps.map(({ path }) => path);
  for (const path of ["libexec/gcc/as", "llvm/bin"]) assert.ok(stamped.includes(place.path(path)), path);
  for (const path of ["libexec/gcc/specs", "libexec/gcc/objcopy", "lib/gcc/specs"])
    assert.ok(record.absent.includes(place.path(path)), path);
  assert.ok([...record.absent, ...stamped].includes(ascii("/etc/ld.so.preload")));
});

test("a record holds the folders whose names decided where the compiler searches, and those that are missing", async () => {
  using place = new Place();
  const call = place.call();
  const places = ["inc", "sysroot/usr"].map((name) => place.path(name));
  const record = await place.record({ ...call, compiler: { ...call.compiler!, places } });
  assert.ok(typeof record !== "string");
  assert.ok(record.stamps.some(({ path }) => path === places[0]));
  assert.ok(record.absent.includes(places[1]!));
});

test("a version-control folder is a place, and nearer ones are absent; beside hpcc.toml none counts", async () => {
  using place = new Place();
  mkdirSync(join(place.folder, ".git"));
  const outer = await place.record(place.call({ project: ascii(place.folder) }));
  assert.ok(typeof outer !== "string");
  assert.deepEqual(
    outer.places.map(({ path }) => path),
    [join(place.folder, ".git")],
  );
  assert.ok(outer.absent.includes(place.path(".hg")));
  writeFileSync(join(place.folder, "hpcc.toml"), "");
  rmSync(place.records, { recursive: true });
  const configured = await place.record(place.call({ project: ascii(place.folder) }));
  assert.ok(typeof configured !== "string");
  assert.deepEqual(configured.places, []);
  assert.ok(configured.stamps.some(({ path }) => path === join(place.folder, "hpcc.toml")));
  assert.ok(configured.absent.includes(ascii(join(place.folder, "hpcc.lock"))), "which says what image that is");
  assert.ok(!configured.absent.includes(place.path(".hg")));
});

/** Calls that must not be recorded, by the reason. */
const REFUSED: Readonly<Record<string, readonly [why: string, (place: Place) => AnsweredCall][]>> = {
  no_result: [
    ["without a result", (place) => place.call({ result: null })],
    ["with a reason", (place) => place.call({ reason: "compile_failed" })],
  ],
  not_kept_here: [
    [
      "with an output that is not kept",
      (place) => {
        const call = place.call();
        const outputs = call.result!.outputs.map((output) => ({ ...output, path: null }));
        return { ...call, result: { ...call.result!, outputs } };
      },
    ],
  ],
  off: [["switched off", (place) => place.call({}, place.message({}, { HPCC_REPLAY: "0" }))]],
  mount_namespace: [["elsewhere", (place) => place.call({}, place.message({ mountNamespace: { dev: 1n, ino: 1n } }))]],
  not_understood: [
    ["of no compiler", (place) => place.call({ compiler: null })],
    ["of no source", (place) => place.call({ source: null })],
    ["of no inputs", (place) => place.call({ inputs: [] })],
  ],
  environment: [
    [
      "by a variable that does not count",
      (place) => place.call({ environment: new Map([["MAKEFLAGS", ascii("-j")]]) }),
    ],
  ],
  racy: [
    ["that began when its source was young", (place) => place.call({ startedMs: Date.now() })],
    [
      "whose header is from the future",
      (place) => {
        const header = callInput(place.path("inc/h.h"));
        const mtimeNs = BigInt(place.clock.wallMs() + 60_000) * 1_000_000n;
        return place.call({ inputs: [{ ...header, stamp: { ...header.stamp, mtimeNs } }] });
      },
    ],
    [
      "on a file system that counts seconds",
      (place) => {
        const header = callInput(place.path("inc/h.h"));
        const ctimeNs = BigInt(Math.floor(place.clock.wallMs() / 1000) - 1) * 1_000_000_000n;
        return place.call({ inputs: [{ ...header, stamp: { ...header.stamp, ctimeNs } }] });
      },
    ],
  ],
  file_system: [
    ["of a file of the kernel's", (place) => place.call({ inputs: [callInput("/sys/kernel/uevent_seqnum")] })],
    [
      "of a project whose marker is a folder of the kernel's",
      (place) => {
        symlinkSync("/proc/self", place.path(".git"));
        return place.call({ project: ascii(place.work) });
      },
    ],
  ],
  no_compiler: [
    [
      "of no known program",
      (place) => {
        const call = place.call();
        return { ...call, message: { ...call.message, hostCompiler: null } };
      },
    ],
  ],
  compiler_changed: [
    [
      "of a compiler that was replaced",
      (place) => {
        const call = place.call();
        const files = call.compiler!.files.map((file) => ({ ...file, stamp: { ...file.stamp, ctimeNs: 1n } }));
        return { ...call, compiler: { ...call.compiler!, files } };
      },
    ],
  ],
  compiler_is_script: [
    [
      "of a script",
      (place) => {
        writeFileSync(place.path("bin/gcc"), "#!/bin/sh\n", { mode: 0o755 });
        return place.call({}, place.message({ hostCompiler: place.path("bin/gcc") }));
      },
    ],
  ],
  compiler_not_on_path: [
    ["of another PATH", (place) => place.call({}, place.message({}, { PATH: "/usr/local/bin:/bin/" }))],
  ],
  present: [
    [
      "that found a name which it says was absent",
      (place) => place.call({ absent: absentIn(place.path("inc"), "h.h") }),
    ],
    [
      "that took a link to nothing for absent",
      (place) => {
        symlinkSync("/nonexistent", place.path("inc/link.h"));
        return place.call({ absent: absentIn(place.path("inc"), "link.h") });
      },
    ],
    [
      "beside which a folder of precompiled headers came",
      (place) => {
        mkdirSync(place.path("inc/h.h.gch"));
        return place.call({ absent: absentIn(place.path("inc"), "h.h.gch") });
      },
    ],
    [
      "with one of many names present",
      (place) => {
        const names = ["h.h", ...Array.from({ length: 100 }, (_, index) => `n${index}.h`)];
        return place.call({ absent: absentIn(place.path("inc"), ...names) });
      },
    ],
  ],
  native: [
    [
      "for this very processor",
      (place) => place.call({}, place.message({ argv: ["gcc", "-march=native"].map(ascii) })),
    ],
  ],
  response_file: [
    [
      "for this very processor by a file",
      (place) => {
        writeFileSync(place.path("args"), "-O2 '-mtune=native'");
        return place.call({}, place.message({ argv: ["gcc", "@args"].map(ascii) }));
      },
    ],
    ["whose words are a folder", (place) => place.call({}, place.message({ argv: ["gcc", "@inc"].map(ascii) }))],
  ],
  search_option: [
    [
      "that lets Clang choose a GCC",
      (place) => place.call({}, place.message({ argv: ["gcc", "--gcc-toolchain=/x", "-c", "src/a.c"].map(ascii) })),
    ],
  ],
  odd_name: [["with a relative folder", (place) => place.call({ absent: absentIn(ascii("inc"), "x") })]],
  output_is_input: [
    ["that writes its source", (place) => place.call({ inputs: [callInput(place.path("out/a.o"))] })],
    [
      "that writes a hard link to its source",
      (place) => {
        linkSync(place.path("out/a.o"), place.path("src/b.c"));
        return place.call({ inputs: [callInput(place.path("src/b.c"))] });
      },
    ],
  ],
  evicted: [
    [
      "whose kept file is gone",
      (place) => {
        const call = place.call();
        rmSync(join(place.folder, "store"), { recursive: true });
        return call;
      },
    ],
  ],
  damaged: [
    [
      "whose kept file was cut before it was recorded",
      (place) => {
        const call = place.call();
        truncateSync(bytesOf(call.result!.outputs[0]!.path!), 3);
        return call;
      },
    ],
  ],
  project_elsewhere: [["of another place's project", (place) => place.call({ project: ascii("/elsewhere") })]],
  loader: [
    ["with a library by its name", (place) => place.call({}, place.message({}, { LD_PRELOAD: "libx.so" }))],
    [
      "with libraries by the processor",
      (place) => {
        mkdirSync(place.path("bin/glibc-hwcaps"));
        return place.call({}, place.message({}, { LD_LIBRARY_PATH: place.path("bin") }));
      },
    ],
  ],
  too_large: [
    [
      "that says too much",
      (place) => {
        const call = place.call();
        return { ...call, result: { ...call.result!, stderr: Buffer.alloc(9 * 1024 * 1024) } };
      },
    ],
  ],
};

for (const [why, cases] of Object.entries(REFUSED))
  for (const [what, make] of cases)
    test(`no record of a call ${what}: ${why}`, async () => {
      using place = new Place();
      assert.equal(await place.record(make(place)), why);
    });

test("no record of a call whose kept file, or working folder, changes while it is recorded", async () => {
  using place = new Place();
  const call = place.call();
  const kept = bytesOf(call.result!.outputs[0]!.path!);
  assert.equal(await place.record(call, () => utimesSync(kept, 1_000_000_001, 1_000_000_001)), "damaged");
  const way = join(place.folder, "way");
  const lead = (target: string) => {
    rmSync(way, { force: true });
    symlinkSync(target, way);
  };
  lead(place.work);
  const message = place.message({}, { PWD: way });
  assert.equal(await place.record(place.call({}, message), () => lead(place.path("src"))), "pwd");
  lead(place.work);
  assert.ok(typeof (await place.record(place.call({}, message))) !== "string");
});

test("no record while a kept file may change unseen", async () => {
  using place = new Place(0);
  const call = place.call({ startedMs: Date.now() + LATER_MS });
  const path = call.result!.outputs[0]!.path!;
  const soon = new ManualClock(statSync(path).ctimeMs - 130);
  const writer = new ReplayWriter({
    folder: place.records,
    store: storeAt(join(place.folder, "store")),
    names: new FolderNamesCache(soon),
    clock: soon,
    logger: SILENT_LOGGER,
    configurationFiles: [],
    program: null,
    bytesMax: 10 ** 9,
  });
  // A call so far in the past that only the kept file is young.
  writer.answered({
    ...call,
    compiler: { ...call.compiler!, image: call.callDigest, files: [] },
    inputs: [callInput("/usr/bin/env")],
  });
  soon.advance(150);
  await writer.settled();
  assert.deepEqual(writer.counts, { written: 0, refused: { kept_racy: 1 } });
});

test("calls that come faster than they are recorded are let go", async () => {
  using place = new Place();
  const writer = place.writer();
  const call = place.call();
  for (let count = 0; count < 600; count++) writer.answered(call);
  assert.deepEqual(writer.counts, { written: 0, refused: { busy: 88 } });
  await writer.close();
  assert.equal(place.clock.pendingTimers, 0);
});

const ABSENT_MANY = Array.from({ length: 5 }, (_, index) => `m${index}.h`);

/** How absent names are held: by absent paths, or by a folder's stamp. */
test("absent names are held by their folder where it stands still, by name elsewhere", async () => {
  using place = new Place();
  writeFileSync(place.path("inc/file"), "");
  symlinkSync("nowhere", place.path("inc/dangling"));
  symlinkSync("../inc", place.path("src/linked"));
  mkdirSync(place.path("inc/sub"));
  const absent = (folder: string, ...names: string[]) => absentIn(place.path(folder), ...names);
  const record = await place.record(
    place.call({
      absent: [
        ...absent("inc", ...ABSENT_MANY),
        ...absent("src", "one.h", "two.h"),
        ...absent("out", ...ABSENT_MANY),
        ...absent("missing/deep/er", "a.h", "b/c.h"),
        ...absent("inc/sub", "x/y.h", "x/z.h"),
        ...absent("inc", "file/x.h", "dangling/x.h"),
        ...absent("src/linked", "../none.h"),
      ],
    }),
  );
  assert.ok(typeof record !== "string");
  const inWork = (paths: readonly string[]) =>
    paths
      .filter((path) => path.startsWith(`${place.work}/`))
      .map((path) => path.slice(place.work.length + 1))
      .filter((path) => !/^(?:hpcc\.toml|\.git|\.hg|\.svn)$|^bin\//.test(path))
      .sort();
  assert.deepEqual(inWork(record.stamps.map(({ path }) => path)), ["inc", "inc/h.h", "src/a.c"]);
  assert.deepEqual(
    inWork(record.absent),
    [
      ...ABSENT_MANY.map((name) => `out/${name}`),
      "inc/dangling/x.h",
      "inc/file/x.h",
      "inc/sub/x",
      "missing",
      "src/linked/../none.h",
      "src/one.h",
      "src/two.h",
    ].sort(),
  );
});

test("a folder that changed of late is held by names, unless they are many", async () => {
  using place = new Place(10_000);
  const names = (count: number) => Array.from({ length: count }, (_, index) => `n${index}.h`);
  for (const [count, byStamp] of [
    [64, false],
    [65, true],
  ] as const) {
    rmSync(place.records, { recursive: true, force: true });
    const record = await place.record(place.call({ absent: absentIn(place.path("inc"), ...names(count)) }));
    assert.ok(typeof record !== "string");
    assert.equal(
      record.stamps.some(({ path }) => path === place.path("inc")),
      byStamp,
    );
    assert.equal(record.absent.includes(place.path("inc/n0.h")), !byStamp);
  }
});

test("a folder that was seen to change is held by names, unless they are very many", async () => {
  using place = new Place(10_000);
  const inc = place.path("inc");
  const names = (count: number) => Array.from({ length: count }, (_, index) => `n${index}.h`);
  const writer = place.writer();
  const record = async (count: number) => {
    rmSync(place.records, { recursive: true, force: true });
    return place.record(place.call({ absent: absentIn(inc, ...names(count)) }), undefined, writer);
  };
  const byStamp = ({ stamps }: ReplayRecord) => stamps.some(({ path }) => path === inc);
  const before = await record(65);
  assert.ok(typeof before !== "string" && byStamp(before));
  writeFileSync(place.path("inc/made.h"), "");
  for (const [count, expected] of [
    [65, false],
    [8_192, false],
    [8_193, true],
  ] as const) {
    const after = await record(count);
    assert.ok(typeof after !== "string");
    assert.equal(byStamp(after), expected, `${count}`);
  }
});

test("searched folders are as they were when the call was looked up, and held where a warning asks for them", async () => {
  using place = new Place();
  const [gone, inc, file] = [place.path("gone"), place.path("inc"), place.path("inc/h.h")];
  const searched = [gone, inc, file].map((path) => ({ path, state: folderState(path) }));
  assert.deepEqual([searched[0]!.state, searched[2]!.state], ["nothing", "no folder"]);
  const record = async (more: Partial<AnsweredCall>) => {
    rmSync(place.records, { recursive: true, force: true });
    return place.record(place.call({ searched, ...more }));
  };
  const places = (found: string | ReplayRecord) => {
    assert.ok(typeof found !== "string");
    assert.ok(found.absent.includes(gone) && found.stamps.some(({ path }) => path === file));
    return found.places.map(({ path }) => path);
  };
  assert.ok(!places(await record({})).includes(inc));
  assert.ok(places(await record({ words: [ascii("-Werror=missing-include-dirs")] })).includes(inc));
  mkdirSync(gone);
  assert.equal(await record({}), "folder_changed");
});

test("a folder of a header's name must stay a folder", async () => {
  using place = new Place();
  mkdirSync(place.path("inc/tmp"));
  symlinkSync("tmp", place.path("inc/link"));
  const absent = absentIn(place.path("inc"), "tmp", "link", "x.h");
  const record = await place.record(place.call({ absent }));
  assert.ok(typeof record !== "string");
  for (const name of ["tmp", "link"])
    assert.ok(record.places.some(({ path }) => path === `${place.path("inc")}/${name}/.`));
  assert.ok(record.absent.includes(place.path("inc/x.h")) && !record.absent.includes(place.path("inc/tmp")));
});

test("the folder in which Clang chooses a GCC is as it is", async () => {
  using place = new Place();
  const found = place.path("lib/gcc/x86_64-linux-gnu/12/include");
  mkdirSync(found, { recursive: true });
  const record = await place.record(place.call({ absent: absentIn(found, "x.h") }));
  assert.ok(typeof record !== "string");
  assert.ok(record.stamps.some(({ path }) => path === place.path("lib/gcc/x86_64-linux-gnu")));
});

test("PATH before the compiler goes on not answering to it, but for launchers, which are stamped", async () => {
  using place = new Place();
  copyFileSync("/usr/bin/env", place.path("bin/gcc"));
  const record = await place.record(place.call());
  assert.ok(typeof record !== "string");
  assert.ok(record.stamps.some(({ path }) => path === place.path("bin/gcc")));
});
