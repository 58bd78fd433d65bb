import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { ascii } from "../../base/byte-string.ts";
import { decodeMessage } from "../../wire/launcher/decode.ts";
import { encodeMessage } from "../../wire/launcher/encode.ts";
import { FrameReader } from "../../wire/launcher/frame-reader.ts";
import { JSON_BYTES_MAX, PROTOCOL_VERSION, WAIT_INTERVAL_MS } from "../../wire/launcher/limits.ts";
import type { LauncherMessage, Message, RunMessage } from "../../wire/launcher/messages.ts";
import { hostAnswer, refusalAnswer } from "../tiers/local-answer.ts";
import { type CallAnswer, type LauncherCall, serveLauncher } from "./launcher-connection.ts";

type Answer = (call: LauncherCall) => Promise<CallAnswer>;

let folder = "";
let close = () => {};
let answer: Answer = async () => hostAnswer(null);
let reply: unknown = null;
const faults: unknown[] = [];
/** How often somebody wanted to know what takes so long. */
let asked = 0;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "hpcc-connection-"));
  faults.length = 0;
  const server = createServer((socket) =>
    serveLauncher(socket, {
      call: (call) => answer(call),
      done: () => undefined,
      control: async () => reply,
      doing: () => {
        asked += 1;
        return null;
      },
      fault: (error) => faults.push(error),
    }),
  );
  await new Promise<void>((resolve) => server.listen(join(folder, "socket"), resolve));
  close = () => server.close();
});
afterEach(() => {
  close();
  rmSync(folder, { recursive: true });
});

const CALL: LauncherMessage = {
  type: "call",
  protocolVersion: PROTOCOL_VERSION,
  launcherVersion: "test",
  mountNamespace: { dev: 1n, ino: 1n },
  argv: [ascii("gcc")],
  cwd: ascii("/"),
  environment: [],
  umask: 0o022,
  terminal: { stdin: false, stdout: false, stderr: false, columns: null },
  pid: 1,
  hostCompiler: null,
};
const RUN: Omit<RunMessage, "type" | "id"> = {
  program: ascii("/usr/bin/gcc"),
  argv: [ascii("gcc")],
  environment: [],
  cwd: ascii("/"),
  namespace: null,
  stdin: "null",
  stdout: { kind: "discard" },
  stderr: { kind: "discard" },
  timeLimitMs: null,
};

/** What comes back until the connection ends or a frame of the wanted type is there. */
async function ask(message: LauncherMessage, until: Message["type"] | null = null): Promise<Message[]> {
  const socket: Socket = connect(join(folder, "socket"));
  const reader = new FrameReader();
  const answers: Message[] = [];
  await new Promise<void>((resolve, reject) => {
    socket.on("error", reject);
    socket.on("close", () => resolve());
    socket.on("data", (chunk) => {
      for (const frame of reader.push(chunk)) answers.push(decodeMessage(frame) as Message);
      if (answers.some(({ type }) => type === until)) socket.destroy();
    });
    socket.write(encodeMessage(message));
  });
  return answers;
}

test("an answer over a limit costs its call alone", async () => {
  for (const unspeakable of [
    hostAnswer(`the image of /${"p".repeat(4096)} is forbidden; the host's compiler runs`),
    { ...refusalAnswer("refused"), exitCode: 256 },
  ]) {
    answer = async () => unspeakable;
    assert.deepEqual(await ask(CALL), []);
  }
  assert.equal(faults.length, 2);
  answer = async () => hostAnswer(null);
  const [last] = await ask(CALL, "exec");
  assert.equal(last?.type, "exec");
});

test("a program that cannot be told is a fault of that run, and another may follow", async () => {
  answer = async (call) => {
    await assert.rejects(call.run({ ...RUN, cwd: ascii(`/${"p".repeat(4096)}`) }), { code: "peer.protocol" });
    void call.run(RUN).catch(() => undefined);
    return new Promise(() => undefined);
  };
  const [run] = await ask(CALL, "run");
  assert.deepEqual(run?.type === "run" && run.argv, ["gcc"]);
});

test("a reply over a limit costs its command alone", async () => {
  const command: LauncherMessage = { type: "control", protocolVersion: PROTOCOL_VERSION, request: {} };
  reply = "x".repeat(JSON_BYTES_MAX);
  assert.deepEqual(await ask(command), []);
  assert.equal(faults.length, 1);
  reply = { ok: true };
  const [second] = await ask(command, "reply");
  assert.deepEqual(second?.type === "reply" && second.reply, { ok: true });
});

test("what takes long is for a caller who waits for it, not for one whose own program runs", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  asked = 0;
  const seen: number[] = [];
  answer = async (call) => {
    t.mock.timers.tick(WAIT_INTERVAL_MS);
    seen.push(asked);
    void call.run(RUN).catch(() => undefined);
    t.mock.timers.tick(WAIT_INTERVAL_MS);
    seen.push(asked);
    return new Promise(() => undefined);
  };
  await ask({ ...CALL, terminal: { ...CALL.terminal, stderr: true } }, "run");
  assert.deepEqual(seen, [1, 1]);
});
