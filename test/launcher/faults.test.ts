import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ascii } from "../../src/base/byte-string.ts";
import { encodeMessage } from "../../src/wire/launcher/encode.ts";
import {
  HOST_EXEC,
  hostRun,
  IS_ROOT,
  inlineFile,
  LauncherFolder,
  outputsOf,
  type Peer,
  PLAIN_UID,
} from "./launcher-folder.ts";

const QUICK = { HPCC_DAEMON_TIMEOUT_MS: "300" };

/** The call ended in the real compiler, with this reason noted once. */
async function assertFellBack(folder: LauncherFolder, reason: string) {
  const environment: Record<string, string> = reason === "silence" ? QUICK : {};
  const end = await folder.run('exec "$HPCC" gcc -c a.c', { environment });
  assert.deepEqual([end.code, end.stderr], [0, "real\n"], reason);
  assert.equal(readFileSync(join(folder.work, "real.out"), "latin1"), "real\n");
  assert.deepEqual(folder.fallbacks(), [reason]);
}

const rubbish = (bytes: Uint8Array) => async (peer: Peer) => {
  await peer.call();
  peer.socket.write(bytes);
  await peer.ended();
};

const FAULTS: readonly (readonly [string, string, (peer: Peer) => Promise<void>])[] = [
  ["text on the socket", "protocol", rubbish(Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n"))],
  ["zeroes on the socket", "protocol", rubbish(Buffer.alloc(4096))],
  ["a frame of unknown type", "protocol", rubbish(Buffer.from([1, 0, 0, 0, 77]))],
  ["a frame that promises 64 MiB and stops", "silence", rubbish(Buffer.from([0, 0, 0, 4, 5, 1]))],
  ["a frame over the limit", "protocol", rubbish(Buffer.from([1, 0, 0, 4, 5]))],
  [
    "a truncated OUTPUTS, then the end",
    "closed",
    async (peer) => {
      await peer.call();
      const frame = encodeMessage(outputsOf([inlineFile("a.o", "object")]));
      await new Promise((resolve) => peer.socket.write(frame.subarray(0, -1), resolve));
      peer.socket.end();
    },
  ],
  [
    "another version",
    "refused",
    async (peer) => {
      await peer.call();
      peer.send({ type: "refuse", protocolVersion: 2, reason: "newer" });
    },
  ],
  [
    "silence",
    "silence",
    async (peer) => {
      await peer.call();
      await peer.ended();
    },
  ],
  ["a daemon that reads nothing and says nothing", "silence", (peer) => peer.ended()],
  [
    "death before the answer",
    "closed",
    async (peer) => {
      await peer.call();
      peer.socket.destroy();
    },
  ],
  [
    "death during a run",
    "closed",
    async (peer) => {
      await peer.call();
      peer.send(hostRun(["/bin/sh", "-c", "sleep 1000 & sleep 1000"]));
      // The launcher has read RUN when it is silent on our side and its child is up; ending at once is a fault as well.
      peer.socket.end();
    },
  ],
  [
    "a second RUN during a RUN",
    "protocol",
    async (peer) => {
      await peer.call();
      peer.send(hostRun(["/bin/sleep", "1000"]));
      peer.send(hostRun(["/bin/sleep", "1000"], { id: 2 }));
      await peer.ended();
    },
  ],
  [
    "a reply out of place",
    "protocol",
    async (peer) => {
      await peer.call();
      peer.send({ type: "reply", reply: {} });
      await peer.ended();
    },
  ],
  [
    "EXEC of a program that is not there",
    "exec",
    async (peer) => {
      await peer.call();
      peer.send({ ...HOST_EXEC, program: { kind: "path", path: ascii("/no/such/gcc") }, cwd: ascii("/") });
    },
  ],
  [
    "EXEC in a namespace whose holder is gone",
    "namespace",
    async (peer) => {
      await peer.call();
      const namespace = { holderPid: 0x7fff_fffe, userNamespaceIno: null, mountNamespaceIno: 1n };
      peer.send({ ...HOST_EXEC, program: { kind: "path", path: ascii("/bin/true") }, namespace });
    },
  ],
  [
    "EXEC in a namespace whose pid was reused",
    "namespace",
    async (peer) => {
      await peer.call();
      const namespace = { holderPid: process.pid, userNamespaceIno: null, mountNamespaceIno: 1n };
      peer.send({ ...HOST_EXEC, program: { kind: "path", path: ascii("/bin/true") }, namespace });
    },
  ],
];

for (const [what, reason, script] of FAULTS)
  test(`${what}: the real compiler runs`, async () => {
    await using folder = new LauncherFolder();
    await folder.serve(script);
    await assertFellBack(folder, reason);
  });

test("what became of a final message is told to the daemon", async () => {
  for (const [message, expected] of [
    [outputsOf([inlineFile("a.o", "x")]), { kind: "written" }],
    [outputsOf([inlineFile("missing/a.o", "x")]), { kind: "fell-back", reason: "write" }],
  ] as const) {
    await using folder = new LauncherFolder();
    await folder.serve(async (peer) => {
      await peer.call();
      peer.send(message);
    });
    await folder.run('exec "$HPCC" gcc -c a.c');
    await folder.settle();
    assert.deepEqual(folder.said, [{ type: "done", result: expected }]);
  }
});

test("a daemon that accepts nobody is given up in time, by those in its queue and those behind", async () => {
  await using folder = new LauncherFolder();
  const listen = `use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, pack_sockaddr_un("${folder.runtime}/daemon.sock")); listen(S, 0); $| = 1; print "up"; sleep`;
  const hung = spawn("/usr/bin/perl", ["-e", listen], { stdio: ["ignore", "pipe", "inherit"] });
  try {
    await once(hung.stdout, "data");
    const call = () => folder.run('exec "$HPCC" gcc -c a.c', { environment: QUICK });
    const ends = await Promise.all([call(), call(), call(), call()]);
    assert.ok(ends.every((end) => end.code === 0 && end.stderr === "real\n"));
    assert.ok(folder.fallbacks().includes("silence"));
  } finally {
    hung.kill("SIGKILL");
  }
});

test("silence is remembered: the next calls lose no time", async () => {
  await using folder = new LauncherFolder();
  let calls = 0;
  await folder.serve(async (peer) => {
    calls++;
    await peer.ended();
  });
  for (let call = 0; call < 3; call++) await folder.run('exec "$HPCC" gcc -c a.c', { environment: QUICK });
  assert.deepEqual(folder.fallbacks(), ["silence", "daemon-failed-recently", "daemon-failed-recently"]);
  assert.equal(calls, 1);
});

test("a runtime folder that others may write, or that is a link, means no daemon", async () => {
  for (const spoil of [
    (folder: LauncherFolder) => chmodSync(folder.runtime, 0o755),
    (folder: LauncherFolder) => {
      rmSync(folder.runtime, { recursive: true });
      mkdirSync(join(folder.path, "elsewhere"), { mode: 0o700 });
      symlinkSync(join(folder.path, "elsewhere"), folder.runtime);
    },
    (folder: LauncherFolder) => {
      rmSync(folder.runtime, { recursive: true });
      writeFileSync(folder.runtime, "");
    },
  ]) {
    await using folder = new LauncherFolder();
    await folder.serve(async () => assert.fail("the launcher must not connect"));
    spoil(folder);
    await assertFellBack(folder, "runtime-folder");
  }
});

test("a socket of another user is not trusted", { skip: IS_ROOT ? false : "needs root to be two users" }, async () => {
  await using folder = new LauncherFolder();
  folder.givePlain();
  await folder.serve(async (peer) => assert.equal(await peer.next(), null, "nothing of the call is told"));
  const end = await folder.run('exec "$HPCC" gcc -c a.c', { plain: true });
  assert.deepEqual([end.code, end.stderr, folder.fallbacks()], [0, "real\n", ["peer-user"]]);
  chownSync(folder.runtime, 0, 0);
  await folder.run('exec "$HPCC" gcc -c a.c', { plain: true });
  assert.deepEqual(folder.fallbacks(), ["peer-user", "runtime-folder"]);
  assert.notEqual(PLAIN_UID, process.getuid?.());
});

test("HPCC_DISABLE goes straight to the compiler; 0 and nothing do not", async () => {
  for (const [value, served] of [
    ["1", 0],
    ["yes", 0],
    ["0", 1],
    ["", 1],
  ] as const) {
    await using folder = new LauncherFolder();
    let calls = 0;
    await folder.serve(async (peer) => {
      await peer.call();
      calls++;
      peer.send(HOST_EXEC);
    });
    const end = await folder.run('exec "$HPCC" gcc -c a.c', { environment: { HPCC_DISABLE: value } });
    assert.deepEqual([end.stderr, calls, folder.fallbacks()], ["real\n", served, []]);
  }
});

test("a missing compiler is 127, one that may not run 126, with or without a daemon", async () => {
  await using folder = new LauncherFolder();
  writeFileSync(join(folder.bin, "clang-99"), "no", { mode: 0o644 });
  await folder.serve(async (peer) => {
    await peer.call();
    peer.send(HOST_EXEC);
  });
  for (const environment of [{}, { HPCC_DISABLE: "1" }] as Record<string, string>[]) {
    const none = await folder.run('exec "$HPCC" gcc-99 -c a.c', { environment });
    assert.deepEqual([none.code, none.stderr], [127, "hpcc: gcc-99: command not found\n"]);
    const path = await folder.run('exec "$HPCC" ./none/gcc -c a.c', { environment });
    assert.deepEqual([path.code, path.stderr], [127, "hpcc: ./none/gcc: command not found\n"]);
    const locked = await folder.run('exec "$HPCC" clang-99 -c a.c', { environment, plain: true });
    assert.deepEqual([locked.code, locked.stderr], [126, "hpcc: clang-99: Permission denied\n"]);
  }
});

test("the real compiler is found past every launcher, and wrappers that find us again end in it", async () => {
  await using folder = new LauncherFolder();
  const links = folder.link("gcc");
  const wrappers = join(folder.path, "wrappers");
  mkdirSync(wrappers);
  // Like ccache: runs the first gcc on PATH that is not itself.
  writeFileSync(join(wrappers, "gcc"), '#!/bin/sh\necho wrapper >&2\nexec "$LINKS/gcc" "$@"\n', { mode: 0o755 });
  symlinkSync(join(links, "gcc"), join(folder.path, "again"));
  let calls = 0;
  await folder.serve(async (peer) => {
    calls++;
    await peer.call();
    peer.send(HOST_EXEC);
  });
  const path = [links, links, wrappers, folder.bin, "/usr/bin", "/bin"].join(":");
  const before = `LINKS=${links}; PATH=${path}; export LINKS PATH`;
  assert.equal((await folder.run("exec gcc -c a.c", { before })).stderr, "wrapper\nreal\n");
  assert.equal(calls, 1);
  assert.equal((await folder.run(`exec ${join(folder.path, "again")} -c a.c`, { before })).code, 127);
});

test("argv[0] is the caller's word, unless a launcher stands before the compiler on PATH", async () => {
  await using folder = new LauncherFolder();
  const links = folder.link("gcc");
  // Without `#!`, so that the shell that stands in for exec tells the name.
  writeFileSync(join(folder.bin, "gcc"), "tr '\\0' ' ' < /proc/$$/cmdline\n", { mode: 0o755 });
  const environment = { HPCC_DISABLE: "1" };
  const script = await folder.run('exec "$HPCC" gcc -c', { environment });
  assert.equal(script.stdout, `/bin/sh ${join(folder.bin, "gcc")} -c `);
  const name = async (command: string) =>
    (await folder.run(command, { environment, before: `ln -sf /bin/busybox-none x; PATH=${links}:$PATH` })).stdout;
  assert.equal(await name("exec gcc -c"), `/bin/sh ${join(folder.bin, "gcc")} -c `);
});

test("a sub-command becomes node with the bundle, recursion included", async () => {
  await using folder = new LauncherFolder();
  const library = join(folder.path, "lib");
  mkdirSync(library);
  writeFileSync(join(library, "node"), '#!/bin/sh\nprintf "%s\\n" "$@"; exit 23\n', { mode: 0o755 });
  writeFileSync(join(library, "hpcc.mjs"), "");
  for (const command of ["stats --json 'a b'", "hpcc stats --json 'a b'"]) {
    const end = await folder.run(`exec "$HPCC" ${command}`);
    assert.equal(end.code, 23);
    assert.deepEqual(end.stdout.split("\n").slice(1), [join(library, "hpcc.mjs"), "stats", "--json", "a b", ""]);
  }
  rmSync(library, { recursive: true });
  const broken = await folder.run('exec "$HPCC" stats');
  assert.equal(broken.code, 1);
  assert.match(broken.stderr, /^hpcc: the installation is not complete: .*\/lib\/node/);
});

test("a current folder that was removed is the compiler's matter", async () => {
  await using folder = new LauncherFolder();
  folder.compiler("gcc", "echo real >&2");
  await folder.serve(async (peer) => peer.ended());
  const end = await folder.run('mkdir gone; cd gone; rmdir ../gone; exec "$HPCC" gcc -c a.c');
  assert.deepEqual([end.code, end.stderr.endsWith("real\n"), folder.fallbacks()], [0, true, ["no-cwd"]]);
});
