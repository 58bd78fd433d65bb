import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ascii, byteStringOf } from "../../src/base/byte-string.ts";
import type { CallMessage } from "../../src/wire/launcher/messages.ts";
import { ended, HOST_EXEC, hostRun, inlineFile, LauncherFolder, outputsOf } from "./launcher-folder.ts";

async function callOf(folder: LauncherFolder, script: string, before = ""): Promise<CallMessage> {
  const calls: CallMessage[] = [];
  await folder.serve(async (peer) => {
    calls.push(await peer.call());
    peer.send(outputsOf([]));
  });
  const end = await folder.run(script, { before });
  assert.deepEqual([end.code, end.stderr], [0, ""]);
  return calls[0]!;
}

test("CALL tells argv, cwd, environment, umask and namespace as they are, in bytes", async () => {
  await using folder = new LauncherFolder();
  const odd = Buffer.concat([Buffer.from(join(folder.work, "b")), Buffer.from([0xff, 0x20, 0xe9])]);
  mkdirSync(odd);
  const call = await callOf(
    folder,
    "ODD=$(printf '\\374') exec \"$HPCC\" gcc -c '\xff\xfe.c' '' -o 'a b'",
    `umask 027; cd '${byteStringOf(odd)}'`,
  );
  assert.deepEqual(call.argv, ["gcc", "-c", "\xff\xfe.c", "", "-o", "a b"]);
  assert.equal(call.cwd, byteStringOf(odd));
  assert.ok(call.environment.includes(byteStringOf(Buffer.from("ODD=\xfc", "latin1"))));
  assert.equal(call.umask, 0o027);
  const namespace = statSync("/proc/self/ns/mnt", { bigint: true });
  assert.deepEqual(call.mountNamespace, { dev: namespace.dev, ino: namespace.ino });
  assert.deepEqual(call.terminal, { stdin: false, stdout: false, stderr: false, columns: null });
  assert.equal(call.hostCompiler, join(folder.bin, "gcc"));
  assert.equal(call.launcherVersion, "0.1.0");
});

test("PWD keeps the caller's spelling beside the resolved cwd", async () => {
  await using folder = new LauncherFolder();
  symlinkSync(folder.work, join(folder.path, "linked"));
  const call = await callOf(folder, 'cd ../linked; exec "$HPCC" gcc -c a.c');
  assert.equal(call.cwd, folder.work);
  assert.ok(call.environment.includes(ascii(`PWD=${join(folder.path, "linked")}`)));
});

test("a terminal on stderr is told with its width", async () => {
  await using folder = new LauncherFolder();
  const calls: CallMessage[] = [];
  await folder.serve(async (peer) => {
    calls.push(await peer.call());
    peer.send(outputsOf([]));
  });
  const end = await folder.run(`script -qec "stty cols 97; $HPCC gcc -c a.c" /dev/null`, {
    environment: { HPCC: folder.launcher, TERM: "xterm" },
  });
  assert.equal(end.code, 0);
  assert.deepEqual(calls[0]?.terminal, { stdin: true, stdout: true, stderr: true, columns: 97 });
});

test("links named after compilers are calls, and launchers in front of launchers vanish", async () => {
  for (const [script, argv0] of [
    ["PATH=$LINKS:$PATH; exec g++-12 -c a.cc", "g++-12"],
    ['exec "$LINKS/x86_64-linux-gnu-gcc" -c a.c', "x86_64-linux-gnu-gcc"],
    ['exec "$HPCC" hpcc "$HPCC" gcc -c a.c', "gcc"],
    ['exec "$HPCC" "$LINKS/g++-12" -c a.c', "g++-12"],
    ['exec "$HPCC" /usr/bin/gcc -c a.c', "/usr/bin/gcc"],
  ] as const) {
    await using folder = new LauncherFolder();
    folder.link("g++-12");
    const links = folder.link("x86_64-linux-gnu-gcc");
    const call = await callOf(folder, script, `LINKS=${links}`);
    assert.equal(call.argv[0], argv0, script);
  }
});

test("RUN is a child with the caller's umask, limits, signals and jobserver; RAN tells its end", async () => {
  await using folder = new LauncherFolder();
  const out = join(folder.path, "captured");
  const check =
    "umask; ulimit -n; read -r line <&7; echo got $line; grep SigIgn /proc/self/status; grep SigBlk /proc/self/status; echo $(ls /proc/self/fd)";
  await folder.serve(async (peer) => {
    await peer.call();
    const environment = [ascii("ONLY=this"), ascii("PATH=/usr/bin:/bin")];
    const ran = await peer.run(
      hostRun(["/bin/sh", "-c", `${check}; pwd; env; echo err >&2; exit 7`], {
        id: 41,
        cwd: ascii(folder.work),
        environment,
        stdout: { kind: "file", path: ascii(out) },
        stderr: { kind: "discard" },
      }),
    );
    assert.equal(ran.id, 41);
    assert.deepEqual(ran.outcome, { kind: "exited", code: 7 });
    assert.ok(ran.usage.wallUs > 0 && ran.usage.maxRssKiB > 0);
    peer.send(outputsOf([], { exitCode: 3 }));
  });
  const before = "umask 077; ulimit -n 77; trap '' HUP PIPE; exec 7<<EOF\ntoken\nEOF\nls /proc/self/fd > fds";
  const end = await folder.run('"$HPCC" gcc -c a.c', { before });
  assert.deepEqual([end.code, end.stdout, end.stderr], [3, "", ""]);
  const lines = readFileSync(out, "latin1").split("\n");
  assert.deepEqual(lines.slice(0, 3), ["0077", "77", "got token"]);
  assert.equal(BigInt(`0x${lines[3]!.split("\t")[1]!}`) & 0x1001n, 0x1001n, "HUP and PIPE stay ignored");
  assert.match(lines[4]!, /^SigBlk:\t0+$/);
  const callersOwn = readFileSync(join(folder.work, "fds"), "latin1").trim().split(/\s+/);
  assert.deepEqual(lines[5]!.trim().split(" "), callersOwn, "nothing of the launcher is open in the child");
  assert.equal(lines[6], folder.work);
  assert.ok(lines.includes("ONLY=this") && !lines.some((line) => line.startsWith("HPCC_")));
  assert.equal(statSync(out).mode & 0o777, 0o600);
});

test("RUN may inherit stdin and stdout", async () => {
  await using folder = new LauncherFolder();
  await folder.serve(async (peer) => {
    await peer.call();
    await peer.run(hostRun(["/bin/cat"], { stdin: "inherit" }));
    peer.send(outputsOf([]));
  });
  const child = folder.start('exec "$HPCC" gcc -E -', { stdin: "pipe" });
  child.stdin.end("from the caller");
  assert.equal((await ended(child)).stdout, "from the caller");
});

test("a RUN that cannot start, is killed or takes too long is told, and the daemon goes on", async () => {
  await using folder = new LauncherFolder();
  const taken = join(folder.path, "taken");
  writeFileSync(taken, "keep");
  await folder.serve(async (peer) => {
    await peer.call();
    const outcome = async (argv: string[], more = {}) => (await peer.run(hostRun(argv, more))).outcome;
    assert.deepEqual(await outcome(["/no/such/program"]), { kind: "failed", failure: "program", errno: 2 });
    assert.deepEqual(await outcome(["/bin/true"], { cwd: ascii("/no/folder") }), {
      kind: "failed",
      failure: "cwd",
      errno: 2,
    });
    assert.deepEqual(await outcome(["/bin/true"], { stdout: { kind: "file", path: ascii(taken) } }), {
      kind: "failed",
      failure: "capture",
      errno: 17,
    });
    assert.deepEqual(await outcome(["/bin/sh", "-c", "kill -SEGV $$"]), { kind: "signaled", signal: 11 });
    const slow = await peer.run(hostRun(["/bin/sh", "-c", "sleep 1000 & sleep 1000"], { timeLimitMs: 50 }));
    assert.deepEqual(slow.outcome, { kind: "failed", failure: "time-limit", errno: 0 });
    assert.ok(slow.usage.wallUs < 20_000_000);
    peer.send(outputsOf([]));
  });
  const end = await folder.run('exec "$HPCC" gcc -c a.c');
  assert.deepEqual([end.code, end.stderr], [0, ""]);
  assert.equal(readFileSync(taken, "latin1"), "keep");
});

test("a RUN that takes too long is killed whole, also while it starts processes", async () => {
  // So told from what runs elsewhere.
  const seconds = String(1_000_000 + process.pid);
  const fork = `while :; do sleep ${seconds} & [ $((n += 1)) -lt 200 ] || wait; done`;
  const unseen = { stdout: { kind: "discard" }, stderr: { kind: "discard" } } as const;
  const left = () =>
    readdirSync("/proc").filter((pid) => {
      try {
        return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(seconds);
      } catch {
        return false;
      }
    });
  await using folder = new LauncherFolder();
  await folder.serve(async (peer) => {
    await peer.call();
    for (let id = 1; id <= 30; id++) {
      const { outcome } = await peer.run(hostRun(["/bin/sh", "-c", fork], { ...unseen, id, timeLimitMs: 5 + id }));
      assert.deepEqual(outcome, { kind: "failed", failure: "time-limit", errno: 0 });
    }
    peer.send(outputsOf([]));
  });
  try {
    assert.equal((await folder.run('exec "$HPCC" gcc -c a.c')).code, 0);
    // The dead are there until they are reaped.
    for (const end = Date.now() + 10_000; left().length > 0 && Date.now() < end; )
      await new Promise((resolve) => setTimeout(resolve, 10));
    assert.deepEqual(left(), []);
  } finally {
    for (const pid of left()) process.kill(Number(pid), "SIGKILL");
  }
});

test("a final message during a RUN ends its child", async () => {
  await using folder = new LauncherFolder();
  await folder.serve(async (peer) => {
    await peer.call();
    peer.send(hostRun(["/bin/sh", "-c", "echo $$; sleep 1000"]));
    peer.send(outputsOf([inlineFile("a.o", "object")], { exitCode: 0 }));
  });
  const end = await folder.run('exec "$HPCC" gcc -c a.c');
  assert.equal(end.code, 0);
  assert.equal(readFileSync(join(folder.work, "a.o"), "latin1"), "object");
  const pid = end.stdout.trim();
  if (pid !== "") assert.throws(() => process.kill(Number(pid), 0));
});

test("WAIT keeps a slow call alive past the launcher's patience", async () => {
  await using folder = new LauncherFolder();
  await folder.serve(async (peer) => {
    await peer.call();
    for (let waits = 0; waits < 6; waits++) {
      peer.send({ type: "wait", doing: "nothing that a pipe is told of" });
      // Each pause is under the patience, their sum over it.
      await peer.run(hostRun(["/bin/sleep", "0.4"], { id: waits }));
    }
    peer.send(outputsOf([], { exitCode: 5 }));
  });
  const end = await folder.run('exec "$HPCC" gcc -c a.c', { environment: { HPCC_DAEMON_TIMEOUT_MS: "1500" } });
  assert.deepEqual([end.code, end.stderr, folder.fallbacks()], [5, "", []]);
});

test("WAIT says at a terminal what takes long", async () => {
  await using folder = new LauncherFolder();
  await folder.serve(async (peer) => {
    await peer.call();
    peer.send({ type: "wait", doing: null });
    peer.send({ type: "wait", doing: "unpacking \x1b[2J" });
    peer.send(outputsOf([], { exitCode: 0 }));
  });
  const end = await folder.run(`script -qec "$HPCC gcc -c a.c" /dev/null`);
  assert.deepEqual([end.code, end.stdout], [0, "hpcc: unpacking ?[2J\r\n"]);
});

test("EXEC becomes the compiler: same pid, its exit status, its signal", async () => {
  for (const [script, expected] of [
    ["echo $$ > pid; exit 42", { code: 42, signal: null }],
    ["echo $$ > pid; kill -SEGV $$", { code: null, signal: "SIGSEGV" }],
  ] as const) {
    await using folder = new LauncherFolder();
    folder.compiler("gcc", script);
    let pid = 0;
    await folder.serve(async (peer) => {
      pid = (await peer.call()).pid;
      peer.send(HOST_EXEC);
    });
    const end = await folder.run('exec "$HPCC" gcc -c a.c');
    assert.deepEqual({ code: end.code, signal: end.signal }, expected);
    assert.equal(Number(readFileSync(join(folder.work, "pid"), "latin1")), pid);
  }
});

test("EXEC with its own argv, environment, folder and warning", async () => {
  await using folder = new LauncherFolder();
  mkdirSync(join(folder.work, "sub"));
  await folder.serve(async (peer) => {
    await peer.call();
    peer.send({
      ...HOST_EXEC,
      program: { kind: "path", path: ascii("/bin/sh") },
      argv: ["cc", "-c", 'pwd; env; echo "$0" "$1"', "zero", "\xff"].map(ascii),
      environment: [ascii("A=\xfe")],
      cwd: ascii(join(folder.work, "sub")),
      warning: "using another compiler\u001b[31m",
    });
  });
  const end = await folder.run('exec "$HPCC" gcc -c a.c');
  assert.equal(end.code, 0);
  assert.equal(end.stderr, "hpcc: using another compiler?[31m\n");
  assert.equal(end.stdout, `${join(folder.work, "sub")}\nA=\xfe\nPWD=${join(folder.work, "sub")}\nzero \xff\n`);
});

test("stdout and stderr arrive whole through slow pipes and vanished readers", async () => {
  await using folder = new LauncherFolder();
  const big = Buffer.alloc(3_000_000, "0123456789abcdef\n");
  const file = join(folder.path, "stdout-of-compile");
  writeFileSync(file, big);
  await folder.serve(async (peer) => {
    await peer.call();
    peer.send(
      outputsOf([inlineFile("a.o", "object")], {
        exitCode: 9,
        stdout: { kind: "file", path: ascii(file) },
        stderr: { kind: "inline", bytes: big },
      }),
    );
  });
  const whole = await folder.run('exec "$HPCC" gcc -c a.c');
  assert.equal(whole.code, 9);
  assert.ok(whole.stdout === big.toString() && whole.stderr === big.toString());
  const gone = await folder.run('{ "$HPCC" gcc -c a.c; echo $? > code; } 2>/dev/null | head -c 10');
  assert.equal(gone.stdout, "0123456789");
  assert.equal(readFileSync(join(folder.work, "code"), "latin1"), "9\n");
});

test("after DONE the daemon may remove the files that it named", async () => {
  await using folder = new LauncherFolder();
  const file = join(folder.path, "stderr-of-compile");
  const text = "0123456789abcdef".repeat(100_000);
  writeFileSync(file, text);
  await folder.serve(async (peer) => {
    await peer.call();
    const content = { kind: "file", path: ascii(file) } as const;
    peer.send(
      outputsOf([inlineFile("a.o", "", { content })], {
        stdout: { kind: "inline", bytes: Buffer.from(text) },
        stderr: content,
      }),
    );
    assert.deepEqual(await peer.next(), { type: "done", result: { kind: "written" } });
    rmSync(file);
  });
  // The launcher is held in its stdout until the file is gone: nobody reads there before.
  const end = await folder.run(
    `mkfifo out; "$HPCC" gcc -c a.c > out & exec 3< out; while [ -e ${file} ]; do sleep 0.01; done; cat <&3 | wc -c; wait $!`,
  );
  assert.deepEqual([end.code, end.stdout.trim(), end.stderr === text], [0, String(text.length), true]);
});

test("closed standard descriptors stay closed for the compiler and are no trap for the launcher", async () => {
  await using folder = new LauncherFolder();
  folder.compiler("gcc", "ls /proc/$$/fd > fds");
  await folder.serve(async (peer) => {
    await peer.call();
    peer.send(HOST_EXEC);
  });
  await folder.run('exec "$HPCC" gcc -c a.c <&- >&- 2>&-');
  const [plain, ours] = [
    await folder.run("gcc -c a.c <&- >&- 2>&-; cat fds"),
    readFileSync(join(folder.work, "fds"), "latin1"),
  ];
  assert.equal(ours, plain.stdout);
  assert.deepEqual(folder.fallbacks(), ["closed-stream"]);
});
