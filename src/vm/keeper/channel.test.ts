import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ManualClock } from "../../base/clock.ts";
import { HpccError } from "../../base/errors.ts";
import { refused } from "./answers.ts";
import { type Fields, KeeperChannel, KeeperRefusal } from "./channel.ts";

interface Ends {
  readonly channel: KeeperChannel;
  /** The keeper's end. */
  readonly keeper: Socket;
  readonly clock: ManualClock;
  readonly events: Fields[];
  /** The next request that came. */
  readonly next: () => Promise<{ readonly id: number; readonly request: string; readonly with: Fields }>;
  readonly say: (text: string) => void;
}

async function ends(t: TestContext): Promise<Ends> {
  const folder = await mkdtemp(join(tmpdir(), "hpcc-channel-"));
  const server = createServer();
  server.listen(join(folder, "s"));
  await once(server, "listening");
  const socket = connect(join(folder, "s"));
  const [keeper] = (await once(server, "connection")) as [Socket];
  t.after(async () => {
    socket.destroy();
    keeper.destroy();
    server.close();
    await rm(folder, { recursive: true });
  });
  const clock = new ManualClock();
  const events: Fields[] = [];
  const channel = new KeeperChannel(socket, { clock, onEvent: (event) => events.push(event) });
  let text = "";
  const lines: string[] = [];
  const arrived = Promise.withResolvers<void>();
  let wake = arrived.resolve;
  let waiting = arrived.promise;
  keeper.on("error", () => {});
  keeper.on("data", (bytes: Buffer) => {
    text += bytes.toString("utf8");
    const parts = text.split("\n");
    text = parts.pop() ?? "";
    lines.push(...parts);
    wake();
    ({ promise: waiting, resolve: wake } = Promise.withResolvers<void>());
  });
  return {
    channel,
    keeper,
    clock,
    events,
    next: async () => {
      while (lines.length === 0) await waiting;
      return JSON.parse(lines.shift() ?? "");
    },
    say: (line) => keeper.write(line),
  };
}

test("answers find their requests, in any order and in any pieces", async (t) => {
  const { channel, next, say, clock } = await ends(t);
  const [one, other] = [channel.ask("seal", { vm: "a" }, 1000), channel.ask("start", { vm: "b" }, 1000)];
  const [first, second] = [await next(), await next()];
  assert.deepEqual([first.request, first.with, second.request], ["seal", { vm: "a" }, "start"]);
  const text = `{"id":${second.id},"ok":{"uid":7}}\n{"id":${first.id},"error":{"code":"not-found","message":"no ä"}}\n`;
  say(text.slice(0, 20));
  say(text.slice(20));
  assert.deepEqual(await other, { uid: 7 });
  await assert.rejects(one, (error) => error instanceof KeeperRefusal && error.code === "not-found");
  assert.equal(clock.pendingTimers, 0);
});

test("a keeper that does not answer in time is given up, and every request with it", async (t) => {
  const { channel, next, clock } = await ends(t);
  const slow = channel.ask("snapshot", {}, 1000);
  const other = channel.ask("destroy", {}, 5000);
  await next();
  clock.advance(1000);
  await assert.rejects(slow, { code: "vm.lost", message: /did not answer "snapshot" in 1000 ms/ });
  await assert.rejects(other, { code: "vm.lost" });
  assert.match(await channel.ended, /did not answer/);
  await assert.rejects(channel.ask("destroy", {}, 1000), { code: "vm.lost" });
  assert.equal(clock.pendingTimers, 0);
});

for (const [what, line] of [
  ["text", "hello\n"],
  ["no object", "[1]\n"],
  ["an answer to nothing", '{"id":99,"ok":{}}\n'],
  ["an answer with both", '{"id":1,"ok":{},"error":{"code":"io","message":""}}\n'],
  ["an answer with neither", '{"id":1}\n'],
  ["an answer that is no object", '{"id":1,"ok":5}\n'],
  ["a line without end", "x".repeat(70_000)],
] as const)
  test(`a keeper that sends ${what} is given up`, async (t) => {
    const { channel, next, say } = await ends(t);
    const asked = channel.ask("hello", {}, 1000);
    await next();
    say(line);
    await assert.rejects(asked, { code: "vm.lost" });
    assert.match(await channel.ended, /^the keeper sent/);
  });

test("the end of the keeper ends what waits", async (t) => {
  const { channel, next, keeper, events, say } = await ends(t);
  const asked = channel.ask("start", {}, 1000);
  await next();
  say('{"event":"exited","vm":"a","status":"was killed by signal 9"}\n');
  keeper.end();
  await assert.rejects(asked, { code: "vm.lost" });
  assert.equal(await channel.ended, "the keeper closed its connection");
  assert.deepEqual(events, [{ event: "exited", vm: "a", status: "was killed by signal 9" }]);
});

test("no more requests are under way than the keeper takes", async (t) => {
  const { channel, next, say } = await ends(t);
  const asked = Array.from({ length: 100 }, () => channel.ask("destroy", {}, 60_000));
  const seen: number[] = [];
  for (let count = 0; count < 48; count += 1) seen.push((await next()).id);
  say(`{"id":${seen[5]},"ok":{}}\n`);
  assert.equal((await next()).id, 49);
  for (const id of seen) if (id !== seen[5]) say(`{"id":${id},"ok":{}}\n`);
  say('{"id":49,"ok":{}}\n');
  for (let count = 49; count < 100; count += 1) say(`{"id":${(await next()).id},"ok":{}}\n`);
  assert.equal((await Promise.all(asked)).length, 100);
});

test("a hostile jail is a breach, other refusals are what the call says, with the keeper's code", () => {
  for (const [code, expected] of [
    ["jail-hostile", "vm.breach"],
    ["snapshot-bad", "vm.boot"],
  ] as const) {
    const error = refused(new KeeperRefusal(code, "why"), "vm.boot");
    assert.ok(error instanceof HpccError);
    assert.deepEqual([error.code, error.details], [expected, { keeper: code }]);
  }
});
