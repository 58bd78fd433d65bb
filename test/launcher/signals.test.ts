import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ascii } from "../../src/base/byte-string.ts";
import { ended, HOST_EXEC, hostRun, inlineFile, LauncherFolder, outputsOf } from "./launcher-folder.ts";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"] as const;

/** Whether a process still runs; one that nobody has waited for does not. */
function runs(pid: number): boolean {
  try {
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, "latin1"));
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) return false;
    throw error;
  }
}

async function gone(pid: number): Promise<void> {
  while (runs(pid)) await new Promise((resolve) => setImmediate(resolve));
}

/** A RUN that tells its own pid and that of a grandchild through stdout, and then hangs. */
const HANGING = hostRun(["/bin/sh", "-c", "trap '' TERM INT HUP QUIT; sleep 1000 & echo $$ $!; wait"]);

for (const signal of SIGNALS)
  test(`${signal} ends child, grandchild and call, and the launcher dies of it`, async () => {
    await using folder = new LauncherFolder();
    let closed = false;
    await folder.serve(async (peer) => {
      await peer.call();
      peer.send(HANGING);
      await peer.ended();
      closed = true;
    });
    const child = folder.start('exec "$HPCC" gcc -c a.c');
    const end = ended(child);
    const [first] = (await new Promise<Buffer[]>((resolve) => {
      child.stdout.once("data", (chunk: Buffer) => resolve([chunk]));
    })) as [Buffer];
    const pids = first.toString().trim().split(" ").map(Number);
    const begun = performance.now();
    child.kill(signal);
    assert.equal((await end).signal, signal);
    assert.ok(performance.now() - begun < 5_000);
    for (const pid of pids) await gone(pid);
    await folder.settle();
    assert.ok(closed, "the daemon saw the call being given up");
    assert.ok(!existsSync(join(folder.work, "real.out")), "no compiler ran instead");
  });

test("a signal while the daemon works ends the call at once", async () => {
  await using folder = new LauncherFolder();
  const called = Promise.withResolvers<void>();
  await folder.serve(async (peer) => {
    await peer.call();
    called.resolve();
    await peer.ended();
  });
  const child = folder.start('exec "$HPCC" gcc -c a.c');
  const end = ended(child);
  await called.promise;
  child.kill("SIGINT");
  assert.equal((await end).signal, "SIGINT");
  await folder.settle();
});

test("a child that tidies up gets the signal and its time for it", async () => {
  await using folder = new LauncherFolder();
  const tidied = join(folder.path, "tidied");
  await folder.serve(async (peer) => {
    await peer.call();
    peer.send(
      hostRun(["/bin/sh", "-c", `trap 'echo yes > ${tidied}; exit 1' TERM; echo up; while :; do sleep 0.01; done`]),
    );
    await peer.ended();
  });
  const child = folder.start('exec "$HPCC" gcc -c a.c');
  const end = ended(child);
  await new Promise((resolve) => child.stdout.once("data", resolve));
  child.kill("SIGTERM");
  assert.equal((await end).signal, "SIGTERM");
  assert.equal(readFileSync(tidied, "latin1"), "yes\n");
});

test("what the caller ignores stays ignored, in the launcher and in the compiler", async () => {
  await using folder = new LauncherFolder();
  folder.compiler("gcc", "kill -HUP $$; echo survived");
  await folder.serve(async (peer) => {
    const call = await peer.call();
    process.kill(call.pid, "SIGHUP");
    await peer.run(hostRun(["/bin/sh", "-c", "kill -HUP $$"]));
    peer.send(HOST_EXEC);
  });
  const end = await folder.run('exec "$HPCC" gcc -c a.c', { before: "trap '' HUP" });
  assert.deepEqual([end.code, end.stdout, folder.fallbacks()], [0, "survived\n", []]);
});

test("a launcher that is killed takes its child with it", async () => {
  await using folder = new LauncherFolder();
  const pidFile = join(folder.path, "pid");
  const started = Promise.withResolvers<number>();
  await folder.serve(async (peer) => {
    const call = await peer.call();
    await peer.run(hostRun(["/bin/sh", "-c", `echo $$ > ${pidFile}`], { stdout: { kind: "discard" } }));
    started.resolve(call.pid);
    peer.send(hostRun(["/bin/sleep", "1000"], { id: 2 }));
    await peer.ended();
  });
  const child = folder.start('exec "$HPCC" gcc -c a.c');
  const end = ended(child);
  const launcher = await started.promise;
  const children = () => readFileSync(`/proc/${launcher}/task/${launcher}/children`, "latin1").trim();
  while (children() === "" || !readFileSync(`/proc/${children()}/cmdline`, "latin1").startsWith("/bin/sleep"))
    await new Promise((resolve) => setImmediate(resolve));
  const sleeper = Number(children());
  child.kill("SIGKILL");
  assert.equal((await end).signal, "SIGKILL");
  await gone(sleeper);
});

test("the daemon's death during a run ends the child before the real compiler runs", async () => {
  await using folder = new LauncherFolder();
  folder.compiler("gcc", "cat pids; kill -0 $(cat pids) 2>/dev/null && echo alive; exit 0");
  await folder.serve(async (peer) => {
    await peer.call();
    peer.send(
      hostRun(["/bin/sh", "-c", "sleep 1000 & echo $$ $! > pids; echo up >&2; wait"], { cwd: ascii(folder.work) }),
    );
    while (!existsSync(join(folder.work, "pids")) || readFileSync(join(folder.work, "pids"), "latin1") === "")
      await new Promise((resolve) => setImmediate(resolve));
    peer.socket.destroy();
  });
  const end = await folder.run('exec "$HPCC" gcc -c a.c');
  const pids = end.stdout.trim().split(" ").map(Number);
  assert.equal(pids.length, 2);
  for (const pid of pids) await gone(pid);
  assert.deepEqual([end.code, folder.fallbacks()], [0, ["closed"]]);
});

test("SIGINT while outputs wait for a fifo's reader ends the call", async () => {
  await using folder = new LauncherFolder();
  const sent = Promise.withResolvers<void>();
  await folder.serve(async (peer) => {
    await peer.call();
    peer.send(outputsOf([inlineFile("a.o", "object"), inlineFile("pipe", "nobody reads")]));
    sent.resolve();
  });
  const child = folder.start('mkfifo pipe; exec "$HPCC" gcc -c a.c');
  const end = ended(child);
  await sent.promise;
  while (!existsSync(join(folder.work, "a.o"))) await new Promise((resolve) => setImmediate(resolve));
  child.kill("SIGINT");
  assert.equal((await end).signal, "SIGINT");
});

test("the child of a caller who ignores SIGCHLD is waited for", async () => {
  await using folder = new LauncherFolder();
  await folder.serve(async (peer) => {
    await peer.call();
    const ran = await peer.run(hostRun(["/bin/sh", "-c", "exit 6"]));
    assert.deepEqual(ran.outcome, { kind: "exited", code: 6 });
    peer.send(outputsOf([]));
  });
  const script = `exec perl -e '$SIG{CHLD} = "IGNORE"; exec $ENV{HPCC}, "gcc", "-c", "a.c"'`;
  assert.equal((await folder.run(script)).code, 0);
});
