// The channel's process: guests that break HTTP/2, a channel that is gone or was taken over, and what the process may do.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer as createHttp2Server, type ServerHttp2Stream } from "node:http2";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { CHANNEL_PROGRAM } from "../../../test/support/agent-streams.ts";
import { HpccError } from "../../base/errors.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { streamThroughChannel } from "./channel.ts";
import { DEFAULT_AGENT_DEADLINES } from "./limits.ts";
import { type OpenSession, openSession } from "./session.ts";

let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "hpcc-channel-"));
});
after(async () => {
  await rm(folder, { recursive: true });
});

const forever = new AbortController().signal;

/** Opens a session with whatever a guest's end of the connection does. */
async function open(guest: (socket: Socket) => void, program = CHANNEL_PROGRAM): Promise<OpenSession> {
  const path = join(folder, `guest-${randomBytes(6).toString("hex")}`);
  const server: Server = createServer((socket) => {
    socket.on("error", () => undefined);
    guest(socket);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  try {
    const socket = connect(path);
    const options = {
      clock: SYSTEM_CLOCK,
      deadlines: DEFAULT_AGENT_DEADLINES,
      folder,
      randomBytes,
      openStream: streamThroughChannel(program),
    };
    return await openSession(socket, options, forever);
  } finally {
    server.close();
  }
}

/** A server of real HTTP/2 that answers the stream as it likes. */
function answering(answer: (stream: ServerHttp2Stream) => void): (socket: Socket) => void {
  const server = createHttp2Server();
  server.on("sessionError", () => undefined);
  server.on("stream", (stream) => {
    stream.on("error", () => undefined);
    answer(stream);
  });
  return (socket) => server.emit("connection", socket);
}

/** A program in the channel's place that writes the bytes and then reads for ever. */
async function takenOver(bytes: Buffer): Promise<string> {
  const program = join(folder, `taken-${randomBytes(6).toString("hex")}`);
  const octal = [...bytes].map((byte) => `\\${byte.toString(8).padStart(3, "0")}`).join("");
  await writeFile(program, `#!/bin/sh\nprintf '${octal}'\nexec /usr/bin/cat >/dev/null\n`);
  await chmod(program, 0o755);
  return program;
}

function withCode(code: string, pattern = /./) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof HpccError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    return true;
  };
}

const GRPC = { ":status": 200, "content-type": "application/grpc+proto" };

describe("through the channel, a breach is", () => {
  const guests: Record<string, (socket: Socket) => void> = {
    "a guest that speaks something else": (socket) => socket.write("HTTP/1.1 200 OK\r\n\r\n"),
    "a guest that sends noise": (socket) => socket.write(Buffer.alloc(100_000, 0xa5)),
    "an HTTP error": answering((stream) => stream.respond({ ":status": 404 }, { endStream: true })),
    "another content": answering((stream) => stream.respond({ ":status": 200, "content-type": "text/html" })),
    "a compressed stream": answering((stream) => stream.respond({ ...GRPC, "grpc-encoding": "gzip" })),
    "a stream without a status": answering((stream) => {
      stream.respond(GRPC);
      stream.end();
    }),
    "headers without end": answering((stream) => stream.respond({ ...GRPC, "x-long": "x".repeat(40_000) })),
    "a compressed message": answering((stream) => {
      stream.respond(GRPC);
      stream.write(Buffer.from([1, 0, 0, 0, 1, 0]));
    }),
    "a message of 4 GiB": answering((stream) => {
      stream.respond(GRPC);
      stream.write(Buffer.from([0, 255, 255, 255, 255, 0]));
    }),
    "a message that is none": answering((stream) => {
      stream.respond(GRPC);
      stream.write(Buffer.from([0, 0, 0, 0, 3, 255, 255, 255]));
    }),
  };
  for (const [name, guest] of Object.entries(guests))
    it(name, () => assert.rejects(open(guest), withCode("vm.breach")));
});

describe("a channel that was taken over", () => {
  const lies: Record<string, Buffer> = {
    "an unknown flag": Buffer.from([7, 0, 0, 0, 0]),
    "a message over the limit": Buffer.from([0, 0, 16, 0, 0]),
    "a last frame over the limit": Buffer.from([0x80, 0, 0, 2, 0]),
    "a message that cannot be decoded": Buffer.from([0, 0, 0, 0, 2, 255, 255]),
    "a last frame without sense": Buffer.from([0x80, 0, 0, 0, 3, 1, 2, 3]),
    "a status that does not exist": Buffer.concat([Buffer.from([0x80, 0, 0, 0, 11]), Buffer.from("status 99 x")]),
    "a good end before ready": Buffer.concat([Buffer.from([0x80, 0, 0, 0, 9]), Buffer.from("status 0 ")]),
  };
  for (const [name, bytes] of Object.entries(lies))
    it(`tells nobody anything: ${name} is a breach`, async () => {
      const program = await takenOver(bytes);
      await assert.rejects(
        open(() => undefined, program),
        withCode("vm.breach"),
      );
    });
});

describe("the channel's process", () => {
  const server = answering((stream) => stream.respond(GRPC));

  async function childrenOf(parent: number): Promise<string[]> {
    const pids = (await readFile(`/proc/${parent}/task/${parent}/children`, "latin1")).trim().split(" ");
    return pids.filter((text) => text !== "");
  }

  /** The channel that is started; those of earlier tests may not have been reaped yet. */
  async function channelOf(parent: number, earlier: readonly string[]): Promise<number> {
    for (;;) {
      for (const pid of (await childrenOf(parent)).filter((child) => !earlier.includes(child))) {
        const name = await readFile(`/proc/${pid}/comm`, "latin1").catch(() => "");
        if (name === "hpcc-channel\n" || name === "channel\n") return Number(pid);
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  it("can do nothing but read and write its three sockets, and dies with the session", async () => {
    const earlier = await childrenOf(process.pid);
    const opening = open(server);
    const settled = opening.then(
      () => null,
      (error: unknown) => error,
    );
    const pid = await channelOf(process.pid, earlier);
    let status = "";
    while (!/^Seccomp:\t2$/m.test(status)) status = await readFile(`/proc/${pid}/status`, "latin1");
    assert.match(status, /^NoNewPrivs:\t1$/m);
    assert.match(status, /^Threads:\t1$/m);
    assert.equal(await readFile(`/proc/${pid}/environ`, "latin1"), "");
    const links = await readdir(`/proc/${pid}/fd`);
    assert.deepEqual(links.filter((fd) => Number(fd) <= 3).sort(), ["0", "1", "2", "3"]);
    assert.ok(links.length <= 7, `${links.join(" ")}: besides, the runtime's event descriptors`);
    process.kill(pid, "SIGKILL");
    assert.ok(withCode("vm.lost")(await settled));
    // Its socket ends before it is reaped.
    while (existsSync(`/proc/${pid}`)) await new Promise((resolve) => setImmediate(resolve));
  });

  it("that is not there is named", () =>
    assert.rejects(
      open(() => undefined, "/nowhere/hpcc-channel"),
      withCode("tool.missing", /\/nowhere\/hpcc-channel/),
    ));
});
