// How a worker's program ends: by an error or a signal while it starts, and after it has served. It runs as a process of its own,
// below a keeper that agrees to everything.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { after, before, test } from "node:test";
import { TestAuthority } from "../../test/support/certificates.ts";
import { agreeToAll } from "../../test/support/keeper-end.ts";
import { sha256 } from "../core/digest/digest.ts";

const MAIN = join(import.meta.dirname, "main.ts");
const DEADLINE_MS = 60_000;
const folder = mkdtempSync(join(tmpdir(), "hpcc-worker-start-"));
const guest = join(folder, "guest");
after(() => rmSync(folder, { recursive: true }));

before(async () => {
  const { certificate, key, ca } = await (await TestAuthority.create()).issue("worker/w1");
  writeFileSync(join(folder, "certificate"), certificate);
  writeFileSync(join(folder, "key"), key, { mode: 0o600 });
  writeFileSync(join(folder, "ca"), ca);
  mkdirSync(guest);
  for (const name of ["kernel", "initramfs"]) writeFileSync(join(guest, name), name);
  const part = (file: string) => ({ file, digest: sha256(Buffer.from(file)) });
  const description = { format: 1, kernel: part("kernel"), initramfs: part("initramfs"), agent: part("agent") };
  writeFileSync(join(guest, "guest.json"), JSON.stringify(description));
});

interface Started {
  readonly child: ChildProcess;
  /** Settles when it serves, or has ended. */
  readonly served: Promise<void>;
  /** Requests that its keeper had. */
  readonly asked: readonly string[];
  /** How it ended, and what it had said. */
  readonly ended: Promise<{ readonly end: number | string; readonly said: string }>;
}

/** Starts a worker; it fails the test when it does not end by itself. */
function start(lines: string): Started {
  const file = join(folder, "worker.toml");
  writeFileSync(
    file,
    `${lines}
state_dir = "${folder}/state"
identity = { certificate = "certificate", key = "key", ca = "ca" }
`,
  );
  const child = spawn(process.execPath, [MAIN, "worker", "--config", file], {
    env: { HPCC_KEEPER_FD: "3", HPCC_LOG_LEVEL: "debug" },
    stdio: ["ignore", "ignore", "pipe", "pipe"],
    timeout: DEADLINE_MS,
    killSignal: "SIGKILL",
  });
  const asked: string[] = [];
  agreeToAll(child.stdio[3] as Duplex, (request) => asked.push(request));
  let said = "";
  const { promise: served, resolve } = Promise.withResolvers<void>();
  child.once("exit", () => resolve());
  child.stderr?.on("data", (bytes: Buffer) => {
    said += bytes.toString();
    if (said.includes("worker.started")) resolve();
  });
  const ended = once(child, "close").then(([code, signal]) => ({ end: (code ?? signal) as number | string, said }));
  return { child, served, asked, ended };
}

test("a worker whose guest is not there says so and ends, though its keeper lives", async () => {
  const { ended, asked } = start('firecracker.guest_dir = "/no/guest"\nlisten = "127.0.0.1:0"');
  const { end, said } = await ended;
  assert.equal(end, 1, said);
  assert.match(said, /no guest in \/no\/guest.*\[vm\.boot\]/);
  assert.deepEqual(asked, ["hello"]);
});

test("a worker that cannot listen says so and ends, and gives its runtime back", async () => {
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  const address = taken.address();
  assert.ok(typeof address === "object" && address !== null);
  const { ended, asked } = start(`firecracker.guest_dir = "${guest}"\nlisten = "127.0.0.1:${address.port}"`);
  const { end, said } = await ended;
  taken.close();
  assert.equal(end, 1, said);
  assert.match(said, new RegExp(`${address.port}.*\\[[a-z]+\\.[a-z]+\\]`));
  assert.deepEqual(asked, ["hello", "admit", "admit"]);
});

test("a worker that served lets its keeper go when it is told to end", async () => {
  const { child, served, ended } = start(`firecracker.guest_dir = "${guest}"\nlisten = "127.0.0.1:0"`);
  await served;
  child.kill("SIGTERM");
  const { end, said } = await ended;
  assert.equal(end, 0, said);
  assert.match(said, /program\.stopping/);
});

for (const signal of ["SIGTERM", "SIGINT"] as const)
  test(`a worker that ${signal} meets when its runtime is open ends as one that was told to`, async () => {
    // It looks at its host's Firecracker until the test has sent the signal.
    const program = join(folder, "firecracker");
    const [looks, go] = [join(folder, `looks-${signal}`), join(folder, `go-${signal}`)];
    writeFileSync(program, `#!/bin/sh\ntouch ${looks}\nuntil [ -e ${go} ]; do sleep 0.05; done\n`);
    chmodSync(program, 0o755);
    const { child, ended } = start(
      `firecracker.guest_dir = "${guest}"\nhost.firecracker = "${program}"\nlisten = "127.0.0.1:0"`,
    );
    while (!existsSync(looks) && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 10));
    child.kill(signal);
    writeFileSync(go, "");
    const { end, said } = await ended;
    assert.equal(end, 130, said);
    assert.match(said, /told to end while it started \[job\.cancelled\]/);
    assert.doesNotMatch(said, /worker\.started/);
  });
