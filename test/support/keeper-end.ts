// The keeper's end of the socket of a worker that a test starts: it agrees to everything and makes nothing.
import type { Duplex } from "node:stream";
import { sha256 } from "../../src/core/digest/digest.ts";

const PROGRAM = { version: "1.16.1", sha256: sha256(Buffer.from("program")), known_release: true };
const HELLO = {
  version: 1,
  keeper: "a test's",
  vmm: PROGRAM,
  jailer: PROGRAM,
  host: { cpu_model: "a processor", microcode: "0x1", kernel: "6.18" },
};

/** Answers each request with success; `asked` is told its name. */
export function agreeToAll(socket: Duplex, asked: (request: string) => void = () => undefined): void {
  let read = "";
  socket.on("error", () => undefined);
  socket.on("data", (bytes: Buffer) => {
    const lines = (read + bytes.toString("utf8")).split("\n");
    read = lines.pop() ?? "";
    for (const line of lines) {
      const { id, request } = JSON.parse(line) as { id: number; request: string };
      asked(request);
      socket.write(`${JSON.stringify({ id, ok: request === "hello" ? HELLO : {} })}\n`);
    }
  });
}
