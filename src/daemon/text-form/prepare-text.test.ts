import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { HostProject } from "../../../test/support/host-project.ts";
import { ascii, type ByteString } from "../../base/byte-string.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { Semaphore } from "../../base/semaphore.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { HeaderHints } from "../inputs/header-hints.ts";
import { prepareText } from "./prepare-text.ts";

/** Whether all of it is taken: a free place is given before the event loop turns. */
async function isFull(places: Semaphore): Promise<boolean> {
  const leaving = new AbortController();
  const given = places.take(leaving.signal).then(
    (release) => (release(), true),
    () => false,
  );
  await setImmediate();
  leaving.abort();
  return !(await given);
}

test("calls wait for each other's preprocessed text, until their launchers are done", async () => {
  using made = new HostProject({ config: { sourceForm: "text" } });
  made.write({ "a.c": "int a;\n", "b.c": "int b;\n" });
  // The clock is ahead, so that all files are older than the calls.
  const clock = { ...SYSTEM_CLOCK, wallMs: () => Date.now() + 60_000 };
  // Less than either text has, so one call at a time takes all.
  const textBytes = new Semaphore(16);
  const options = { ...made.caches, headers: new HeaderHints({ logger: SILENT_LOGGER }), clock, textBytes };
  const [first, second] = ["a.c", "b.c"].map((name) => made.call(["gcc", "-c", name]));
  assert.ok(first !== undefined && second !== undefined);
  const [one, other] = [first, second].map((call) => made.prepare(call));
  assert.ok(one?.kind === "next" && other?.kind === "next");
  const job = await prepareText(one.value, options);
  assert.equal(job.kind, "next", JSON.stringify(job));
  assert.equal(await isFull(textBytes), true);
  const waiting = prepareText(other.value, options);
  await first.finish();
  assert.equal((await waiting).kind, "next");
  assert.equal(await isFull(textBytes), true);
  await second.finish();
  assert.equal(await isFull(textBytes), false);
});

test("GCC is given a date that is an error, whatever warnings are switched off, but under the policy that pins it", async () => {
  for (const [determinism, date] of [
    ["default", "dates-are-not-reproducible"],
    ["pin", "0"],
  ] as const) {
    using made = new HostProject({ config: { sourceForm: "text", determinism } });
    made.write({ "a.c": "int a;\n" });
    const options = {
      ...made.caches,
      headers: new HeaderHints({ logger: SILENT_LOGGER }),
      clock: { ...SYSTEM_CLOCK, wallMs: () => Date.now() + 60_000 },
      textBytes: new Semaphore(1000),
    };
    const prepared = made.prepare(made.call(["gcc", "-w", "-c", "a.c"]));
    assert.ok(prepared.kind === "next");
    const job = await prepareText(prepared.value, options);
    assert.ok(job.kind === "next");
    assert.ok(job.value.action.environment.includes(ascii(`SOURCE_DATE_EPOCH=${date}`)));
  }
});

test("what the text form cannot keep is refused before anything runs", async () => {
  using made = new HostProject({ config: { sourceForm: "text" } });
  made.write({ "a.c": "int a;\n", "a.s": "" });
  const options = {
    ...made.caches,
    headers: new HeaderHints({ logger: SILENT_LOGGER }),
    clock: SYSTEM_CLOCK,
    textBytes: new Semaphore(1),
  };
  for (const [argv, reason, detail] of [
    ["gcc -c a.c -g3", "macro_debug_info", "-g3"],
    ["gcc -c a.s", "assembler_source", "a.s"],
    ["gcc -c a.c -fstack-usage", "side_outputs", "-fstack-usage"],
  ] as const) {
    const call = made.call(argv.split(" "));
    const prepared = made.prepare(call);
    assert.ok(prepared.kind === "next");
    const refused = await prepareText(prepared.value, options);
    assert.deepEqual(refused, { kind: "bypass", reason, detail: detail as ByteString, advice: null });
    assert.equal(call.ran.length, 0);
  }
});
