import assert from "node:assert/strict";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { HostProject } from "../../../test/support/host-project.ts";
import { ascii, byteStringOfText } from "../../base/byte-string.ts";
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

  constructor(storeBelow = "store") {
    this.made.write(FILES);
    const { names, folders } = this.made.caches;
    const clock = SYSTEM_CLOCK;
    const root = join(this.made.base, storeBelow);
    this.use = new LocalUse({
      store: new DiskLocalStore({ root, sizeBytesMax: 1024 ** 3, clock, logger: SILENT_LOGGER }),
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
    const call = this.made.call(["gcc", ...words.split(" ")], ["PATH=/usr/bin:/bin"]);
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

test("a store that cannot be used costs no compile", async () => {
  using user = new User("file/store");
  writeFileSync(join(user.made.base, "file"), "no folder");
  const [type, outcome, reason] = await user.compile("-c a.c");
  assert.deepEqual([type, outcome, reason], ["exec", "host", "internal_error"]);
  assert.ok(!existsSync(join(user.made.root, "a.o")), "the caller's compiler is left to compile");
});

test("whatever is not understood runs as it is, and observers hear why", async () => {
  using user = new User();
  assert.deepEqual(await user.compile("--version"), ["exec", "host", "compiler_query", 0]);
  assert.deepEqual(await user.compile("-c a.c -fplugin=x"), ["exec", "host", "unsupported_compiler_option", 0]);
  assert.deepEqual(await user.compile("-c none.c"), ["outputs", "host", "compile_failed", 5]);
});
