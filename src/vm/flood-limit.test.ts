// Guests that talk without saying anything, through the channel's process; and those that say much.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { after, describe, it } from "node:test";
import { create } from "@bufbuild/protobuf";
import { CHANNEL_PROGRAM } from "../../test/support/agent-streams.ts";
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import { SessionResponseSchema } from "../gen/hpcc/agent/v1/agent_pb.js";
import { streamThroughChannel } from "./agent/channel.ts";
import { DEFAULT_AGENT_DEADLINES } from "./agent/limits.ts";
import { Breach } from "./agent/reply.ts";
import { openSession } from "./agent/session.ts";
import type { OpenStream } from "./agent/stream.ts";
import { limitFlood } from "./flood-limit.ts";

const folder = mkdtempSync(join(tmpdir(), "hpcc-flood-"));
after(() => rmSync(folder, { recursive: true }));
const DEADLINE_MS = 20_000;
const BYTES_MAX = 1024 * 1024;
/** What may be under way in sockets and pipes when the guest is cut off. */
const UNDER_WAY_MAX = 2 * 1024 * 1024;

const SETTINGS = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
const FRAMES: Record<string, Buffer> = {
  "a PING": Buffer.from([0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
  SETTINGS,
  "an unknown frame": Buffer.from([0, 0, 0, 0xfa, 0, 0, 0, 0, 0]),
};

/** A guest that sends a frame again and again, as fast as it is taken. */
function flooding(frame: Buffer, socket: Socket): void {
  const frames = Buffer.concat(Array.from({ length: 1_000 }, () => frame));
  const send = (): void => {
    while (!socket.destroyed && socket.write(frames));
  };
  socket.on("error", () => undefined).on("drain", send);
  socket.resume();
  socket.write(SETTINGS);
  send();
}

describe("a guest is a breach that sends without end", () => {
  for (const [name, frame] of Object.entries(FRAMES))
    it(name, async () => {
      const path = join(folder, `guest-${randomBytes(6).toString("hex")}`);
      const taken = Promise.withResolvers<Socket>();
      const server = createServer((socket) => {
        taken.resolve(socket);
        flooding(frame, socket);
      });
      await new Promise<void>((resolve) => server.listen(path, resolve));
      const options = {
        clock: SYSTEM_CLOCK,
        deadlines: DEFAULT_AGENT_DEADLINES,
        folder,
        randomBytes,
        openStream: limitFlood(streamThroughChannel(CHANNEL_PROGRAM), BYTES_MAX),
      };
      const opening = openSession(connect(path), options, AbortSignal.timeout(DEADLINE_MS));
      await assert.rejects(opening, { code: "vm.breach", message: /bytes came without a message/ });
      server.close();
      const { bytesWritten } = await taken.promise;
      assert.ok(bytesWritten > BYTES_MAX && bytesWritten < BYTES_MAX + UNDER_WAY_MAX, `${bytesWritten} bytes`);
    });
});

describe("what a guest sends", () => {
  const RESPONSE = create(SessionResponseSchema, {});
  const endless = new AbortController().signal;

  /** A stream on which so many bytes come before each message; it ends with an error when it is cut off. */
  function saying(bytesBefore: readonly number[]): { openStream: OpenStream; connection: Duplex } {
    const connection = new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done() });
    const openStream: OpenStream = async function* (_connection, _requests, signal) {
      for (const bytes of bytesBefore) {
        connection.push(Buffer.alloc(bytes));
        await new Promise((resolve) => setImmediate(resolve));
        if (signal.aborted) throw new Error("the process was killed");
        yield RESPONSE;
      }
    };
    return { openStream, connection };
  }

  async function countMessages(bytesBefore: readonly number[], bytesMax: number): Promise<number> {
    const { openStream, connection } = saying(bytesBefore);
    let messages = 0;
    for await (const _ of limitFlood(openStream, bytesMax)(connection, (async function* () {})(), endless))
      messages += 1;
    assert.equal(connection.listenerCount("data"), 0);
    return messages;
  }

  it("counts from the last message on, however much it was before", async () => {
    assert.equal(await countMessages([100, 100, 100, 60], 100), 4);
  });

  it("is too much when no message comes, and that is the reason told", async () => {
    await assert.rejects(
      countMessages([100, 101], 100),
      (error) => error instanceof Breach && error.message.startsWith("100 "),
    );
  });
});
