import assert from "node:assert/strict";
import { appendFileSync, existsSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { HostProject } from "../../../test/support/host-project.ts";
import { ascii, type ByteString, byteStringOfText, bytesOf } from "../../base/byte-string.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { DiskLocalStore } from "../../store/local/disk-local-store.ts";
import type { AnsweredCall } from "../call/answered-call.ts";
import { CallCounts } from "../control/call-counts.ts";
import type { LauncherCall } from "../control/launcher-connection.ts";
import { HeaderHints } from "../inputs/header-hints.ts";
import { LocalUse } from "./local-use.ts";

const FILES = { "a.c": "int a;\n", "w.c": "int f(int x) { if (x = 1) return 2; return 3; }\n" };
/** Longer than a tick of the file system's clock. */
const TICKS_MS = 30;

class User implements Disposable {
  readonly made = new HostProject();
  readonly told: AnsweredCall[] = [];
  readonly use: LocalUse;
  environment = ["PATH=/usr/bin:/bin"];

  /** `kept`: done to each file that the store has just kept. */
  constructor(storeBelow = "store", kept: (path: ByteString) => void = () => undefined) {
    this.made.write(FILES);
    const { names, folders } = this.made.caches;
    const clock = SYSTEM_CLOCK;
    const root = join(this.made.base, storeBelow);
    const store = new DiskLocalStore({ root, sizeBytesMax: 1024 ** 3, clock, logger: SILENT_LOGGER });
    const keepFile = store.keepFile.bind(store);
    store.keepFile = async (path) => {
      const file = await keepFile(path);
      kept(path);
      return file;
    };
    this.use = new LocalUse({
      store,
      names,
      folders,
      headers: new HeaderHints({ logger: SILENT_LOGGER }),
      counts: new CallCounts(),
      observers: [{ answered: (call) => void this.told.push(call) }],
      callFolder: byteStringOfText(join(this.made.base, "calls")),
      clock,
      logger: SILENT_LOGGER,
    });
  }

  /** A call of the machine's own gcc; on a terminal of so many columns. */
  async call(
    words: string,
    terminal: boolean | number = false,
  ): Promise<LauncherCall & { readonly ran: unknown[]; finish(): Promise<void> }> {
    for (const start = Date.now(); Date.now() < start + TICKS_MS; ) await new Promise(setImmediate);
    const call = this.made.call(["gcc", ...words.split(" ")], this.environment);
    const is = terminal !== false;
    const tty = { stdin: is, stdout: is, stderr: is, columns: is ? Number(terminal) : null };
    const message = { ...call.message, hostCompiler: ascii("/usr/bin/gcc"), terminal: tty };
    return { ...call, message, run: (request) => call.run(request) };
  }

  /** What becomes of a call, and how many programs run for it. */
  async compile(words: string, terminal: boolean | number = false) {
    const call = await this.call(words, terminal);
    const answer = await this.use.answer(call);
    await call.finish();
    const { outcome, reason } = this.told.at(-1)!;
    return [answer.type, outcome, reason, call.ran.length];
  }

  [Symbol.dispose](): void {
    this.made[Symbol.dispose]();
  }
}

test("a compiler is asked once, a miss runs one program, and a hit none", async () => {
  using user = new User();
  const [, outcome, , ran] = await user.compile("-c a.c");
  assert.equal(outcome, "local_compiled");
  // Itself, what each of driver, compiler proper and assembler loads, and the call.
  assert.equal(ran, 5);
  assert.deepEqual(await user.compile("-DOTHER -c a.c"), ["outputs", "local_compiled", null, 1]);
  rmSync(join(user.made.root, "a.o"));
  assert.deepEqual(await user.compile("-c a.c"), ["outputs", "local_hit", null, 0]);
});

test("what is said to a terminal is kept for it and its like, and silence for everybody", async () => {
  using user = new User();
  await user.compile("-c a.c");
  assert.deepEqual(await user.compile("-c a.c", true), ["outputs", "local_hit", null, 0]);
  assert.deepEqual(await user.compile("-DX -c a.c", true), ["outputs", "local_compiled", null, 1]);
  assert.deepEqual(await user.compile("-c a.c"), ["outputs", "local_hit", null, 0]);
  for (const terminal of [true, false, 100]) {
    assert.deepEqual(await user.compile("-Wall -c w.c", terminal), ["outputs", "local_compiled", null, 1]);
    assert.deepEqual(await user.compile("-Wall -c w.c", terminal), ["outputs", "local_hit", null, 0]);
  }
  assert.deepEqual(await user.compile("-Wall -c w.c", true), ["outputs", "local_hit", null, 0]);
});

test("two calls that write one object at a time are both answered, and neither is kept", async () => {
  using user = new User();
  await user.compile("-c a.c -o warm.o");
  const calls = [await user.call("-DONE -c a.c -o same.o"), await user.call("-DTWO -c a.c -o same.o")];
  const answers = await Promise.all(calls.map((call) => user.use.answer(call)));
  for (const call of calls) await call.finish();
  assert.deepEqual(
    answers.map(({ type }) => type),
    ["outputs", "outputs"],
  );
  assert.deepEqual(
    user.told.slice(-2).map(({ outcome, reason }) => [outcome, reason]),
    [
      ["host", "overlapping_outputs"],
      ["host", "overlapping_outputs"],
    ],
  );
  assert.equal((await user.compile("-DONE -c a.c -o same.o"))[1], "local_compiled");
});

test("an output that is written again while it is kept is not kept", async () => {
  using user = new User("store", (path) => appendFileSync(bytesOf(path), "more"));
  for (const turn of [1, 2])
    assert.deepEqual((await user.compile("-c a.c")).slice(1, 3), ["host", "overlapping_outputs"], `call ${turn}`);
});

test("a name may be sought in vain beside a source whose folder changes, however the call spells it", async () => {
  using user = new User("store", () => writeFileSync(join(user.made.root, "sub/made.o"), ""));
  user.made.write({ "sub/x.c": "#include <sub/x.h>\n", "sub/x.h": '#include "y.h"\n', "inc/y.h": "int y;\n" });
  assert.deepEqual(await user.compile("-Isub/.. -Iinc -c sub/x.c"), ["outputs", "local_compiled", null, 5]);
});

test("nothing is kept of a call where a link to a folder was set while a name was sought below it", async () => {
  const link = (to: string) => {
    rmSync(join(user.made.root, "d"), { force: true });
    symlinkSync(to, join(user.made.root, "d"));
  };
  using user = new User("store", () => link("without"));
  user.made.write({ "with/n.h": "", "without/o.h": "", "x.c": '#if __has_include("d/n.h")\nint n;\n#endif\n' });
  link("with");
  assert.deepEqual(await user.compile("-c x.c"), ["outputs", "host", "modified_input_file", 5]);
});

test("nothing is kept of a call that reads by the way of a process, which leads each caller elsewhere", async () => {
  using user = new User();
  user.made.write({ "i.c": '#include "i.h"\n', "inc/i.h": "int i;\n" });
  const way = `-I/proc/${process.pid}/root${user.made.root}/inc`;
  // What the kernel says of such a way counts as new for the first call alone.
  for (const turn of [1, 2])
    assert.deepEqual((await user.compile(`${way} -c i.c`)).slice(1, 3), ["host", "extra_input_file"], `call ${turn}`);
  assert.deepEqual((await user.compile("-Iinc -c i.c")).slice(1, 3), ["local_compiled", null]);
});

test("PWD of a way that each process has to itself is the compiler's to believe", async () => {
  using user = new User();
  for (const pwd of ["/none", "/proc/self/cwd"]) {
    user.environment = ["PATH=/usr/bin:/bin", `PWD=${pwd}`];
    assert.deepEqual((await user.compile("-g -c a.c")).slice(1, 3), ["local_compiled", null], pwd);
  }
});

test("observers hear what stood at the folders that a call searches", async () => {
  using user = new User();
  user.made.write({ "inc/h.h": "" });
  await user.compile("-Inone -Iinc -c a.c");
  const states = new Map(user.told.at(-1)!.searched.map(({ path, state }) => [path as string, state]));
  assert.equal(states.get(join(user.made.root, "none")), "nothing");
  const { dev, ino } = statSync(join(user.made.root, "inc"), { bigint: true });
  assert.equal(states.get(join(user.made.root, "inc")), `${dev}:${ino}`);
});

test("a store that cannot be used costs no compile", async () => {
  using user = new User("file/store");
  writeFileSync(join(user.made.base, "file"), "no folder");
  const [type, outcome, reason] = await user.compile("-c a.c");
  assert.deepEqual([type, outcome, reason], ["exec", "host", "storage_unavailable"]);
  assert.ok(!existsSync(join(user.made.root, "a.o")), "the caller's compiler is left to compile");
});

test("whatever is not understood runs as it is, and observers hear why", async () => {
  using user = new User();
  assert.deepEqual(await user.compile("--version"), ["exec", "host", "compiler_query", 0]);
  assert.deepEqual(await user.compile("-c a.c -fplugin=x"), ["exec", "host", "unsupported_compiler_option", 0]);
  for (const words of ["-S a.c -o a.s -o b.s", "-S a.c --output=a.s -o b.s"])
    assert.deepEqual(await user.compile(words), ["exec", "host", "bad_compiler_arguments", 0], words);
  assert.deepEqual(await user.compile("-c none.c"), ["outputs", "host", "compile_failed", 5]);
});
