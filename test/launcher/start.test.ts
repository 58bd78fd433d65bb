import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, statSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { LauncherFolder, outputsOf } from "./launcher-folder.ts";

const SOURCE = join(import.meta.dirname, "../../src/wire/launcher");

/** Installs a daemon of its own kind: `body` runs with `serve(decide)`, `log(text)` and `folder` at hand. */
function installDaemon(folder: LauncherFolder, body: string): void {
  const library = join(folder.path, "lib");
  mkdirSync(library);
  symlinkSync(process.execPath, join(library, "node"));
  writeFileSync(
    join(library, "hpcc.mjs"),
    `
    import { appendFileSync, readFileSync, readdirSync, readlinkSync, rmSync } from "node:fs";
    import { createServer } from "node:net";
    import { join } from "node:path";
    import { encodeMessage } from ${JSON.stringify(join(SOURCE, "encode.ts"))};
    const runtime = process.env.HPCC_RUNTIME_DIR;
    const state = process.env.HPCC_STATE_DIR;
    appendFileSync(join(state, "starts"), process.pid + "\\n");
    const outputs = (exitCode) => encodeMessage({ type: "outputs", exitCode, stdout: null, stderr: null, files: [] });
    const serve = () => createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", () => socket.end(outputs(17)));
    }).listen({ path: join(runtime, "daemon.sock"), backlog: 512 });
    ${body}
    `,
  );
}

const starts = (folder: LauncherFolder) => {
  const file = join(folder.state, "starts");
  return existsSync(file) ? readFileSync(file, "latin1").trim().split("\n").map(Number) : [];
};

function killDaemons(folder: LauncherFolder): void {
  for (const pid of starts(folder))
    try {
      process.kill(pid, "SIGKILL");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
}

/** Waits until nobody listens on the socket any more. */
async function refused(path: string): Promise<void> {
  for (;;) {
    const isRefused = await new Promise<boolean>((resolve) => {
      const probe = connect(path, () => {
        probe.destroy();
        resolve(false);
      }).on("error", () => resolve(true));
    });
    if (isRefused) return;
  }
}

const CALL = 'exec "$HPCC" gcc -c a.c';

test("twenty calls at once start one daemon, and all are served by it", async () => {
  await using folder = new LauncherFolder();
  installDaemon(folder, "serve();");
  try {
    const ends = await Promise.all(Array.from({ length: 20 }, () => folder.run(CALL)));
    assert.deepEqual(
      ends.map((end) => end.code),
      Array.from({ length: 20 }, () => 17),
    );
    assert.equal(starts(folder).length, 1);
    assert.deepEqual(folder.fallbacks(), []);
  } finally {
    killDaemons(folder);
  }
});

test("a daemon is free of its first caller: session, folder, umask, signals, descriptors, environment", async () => {
  await using folder = new LauncherFolder();
  installDaemon(
    folder,
    `
    const status = readFileSync("/proc/self/status", "latin1");
    const field = (name) => new RegExp("^" + name + ":\\\\s*(.*)$", "m").exec(status)[1];
    const links = [0, 1, 2, 3, 4, 5].map((fd) => { try { return readlinkSync("/proc/self/fd/" + fd); } catch { return null; } });
    const stat = readFileSync("/proc/self/stat", "latin1").split(") ")[1].split(" ");
    appendFileSync(join(state, "facts"), JSON.stringify({
      cwd: process.cwd(), umask: field("Umask"), ignored: field("SigIgn"), blocked: field("SigBlk"), links,
      inherited: readdirSync("/proc/self/fd").map((fd) => { try { return readlinkSync("/proc/self/fd/" + fd); } catch { return ""; } }),
      isLeader: Number(stat[3]) !== Number(process.env.HPCC_TEST_SESSION), parent: Number(stat[1]), env: process.env, args: process.argv.slice(2),
    }));
    console.log("to the log");
    serve();
    `,
  );
  try {
    const before = "umask 0; trap '' HUP INT; exec 9< /etc/passwd; MAKEFLAGS=-j9; SECRET=1; export MAKEFLAGS SECRET";
    const end = await folder.run(CALL, { before });
    assert.equal(end.code, 17);
    const facts = JSON.parse(readFileSync(join(folder.state, "facts"), "latin1")) as {
      cwd: string;
      umask: string;
      ignored: string;
      blocked: string;
      links: (string | null)[];
      inherited: string[];
      env: Record<string, string>;
      args: string[];
      parent: number;
    };
    assert.deepEqual([facts.cwd, facts.umask, facts.args], ["/", "0077", ["daemon", "--foreground"]]);
    assert.equal(BigInt(`0x${facts.ignored}`) & 0x3n, 0n);
    assert.equal(BigInt(`0x${facts.blocked}`), 0n);
    assert.deepEqual(facts.links.slice(0, 4), [
      "/dev/null",
      join(folder.state, "daemon.log"),
      join(folder.state, "daemon.log"),
      join(folder.runtime, "daemon.lock"),
    ]);
    assert.ok(!facts.inherited.includes("/etc/passwd"));
    assert.equal(facts.env["MAKEFLAGS"], undefined);
    assert.equal(facts.env["SECRET"], undefined);
    assert.equal(facts.env["HPCC_RUNTIME_DIR"], folder.runtime);
    assert.equal(readFileSync(join(folder.state, "daemon.log"), "latin1"), "to the log\n");
    assert.equal(statSync(join(folder.state, "daemon.log")).mode & 0o777, 0o600);
  } finally {
    killDaemons(folder);
  }
});

test("a caller's limits are not the daemon's; where they cannot be lifted, none is started", async () => {
  const DAEMON = `
    appendFileSync(join(state, "limits"), readFileSync("/proc/self/limits", "latin1"));
    serve();
    `;
  const before = "ulimit -S -f 2000; ulimit -S -t 600";
  for (const plain of [false, true]) {
    await using folder = new LauncherFolder();
    installDaemon(folder, DAEMON);
    if (plain) folder.givePlain();
    try {
      assert.equal((await folder.run(CALL, { before, plain })).code, 17);
      const limits = readFileSync(join(folder.state, "limits"), "latin1");
      assert.match(limits, /^Max file size +unlimited +unlimited /m);
      assert.match(limits, /^Max cpu time +unlimited +unlimited /m);
    } finally {
      killDaemons(folder);
    }
  }
  await using folder = new LauncherFolder();
  installDaemon(folder, DAEMON);
  folder.givePlain();
  const end = await folder.run(CALL, { before: "ulimit -f 2000", plain: true });
  assert.equal(end.stderr, "real\n");
  assert.deepEqual([starts(folder), folder.fallbacks()], [[], ["file-size-limit"]]);
});

test("a daemon that ends at once is tried once; the next calls cost nothing for a while, then it is tried again", async () => {
  await using folder = new LauncherFolder();
  installDaemon(folder, "process.exit(3);");
  const ends = await Promise.all(Array.from({ length: 8 }, () => folder.run(CALL)));
  assert.ok(ends.every((end) => end.code === 0 && end.stderr === "real\n"));
  assert.equal(starts(folder).length, 1);
  await folder.run(CALL);
  assert.equal(folder.fallbacks().at(-1), "daemon-failed-recently");
  assert.equal(starts(folder).length, 1);
  const past = new Date(Date.now() - 31_000);
  utimesSync(join(folder.runtime, "daemon.failed"), past, past);
  await folder.run(CALL);
  assert.equal(starts(folder).length, 2);
});

test("a daemon that never listens is given up in time, and not started twice", async () => {
  await using folder = new LauncherFolder();
  installDaemon(folder, "setInterval(() => {}, 1000);");
  try {
    const environment = { HPCC_DAEMON_TIMEOUT_MS: "3000" };
    const ends = await Promise.all(Array.from({ length: 5 }, () => folder.run(CALL, { environment })));
    assert.ok(ends.every((end) => end.code === 0 && end.stderr === "real\n"));
    // It is given up by the clock, which may be before it says that it started.
    while (starts(folder).length === 0) await setTimeout(5);
    assert.equal(starts(folder).length, 1);
    assert.ok(folder.fallbacks().every((reason) => reason.startsWith("daemon-")));
    const past = new Date(Date.now() - 31_000);
    utimesSync(join(folder.runtime, "daemon.failed"), past, past);
    utimesSync(join(folder.runtime, "daemon.lock"), past, past);
    assert.equal((await folder.run(CALL, { environment })).stderr, "real\n");
    assert.equal(starts(folder).length, 1, "its lock is held, so no second one is started beside it");
  } finally {
    killDaemons(folder);
  }
});

test("a daemon that was killed, its socket left behind, is replaced", async () => {
  await using folder = new LauncherFolder();
  installDaemon(folder, 'rmSync(join(runtime, "daemon.sock"), { force: true }); serve();');
  try {
    assert.equal((await folder.run(CALL)).code, 17);
    killDaemons(folder);
    await refused(join(folder.runtime, "daemon.sock"));
    assert.equal((await folder.run(CALL)).code, 17);
    assert.equal(starts(folder).length, 2);
  } finally {
    killDaemons(folder);
  }
});

test("a daemon that came up by other means after a failure is used at once", async () => {
  await using folder = new LauncherFolder();
  installDaemon(folder, "process.exit(3);");
  await folder.run(CALL);
  assert.deepEqual(folder.fallbacks(), ["daemon-start"]);
  // Files' times advance with the kernel's tick, of 10 ms at most: a socket of the failure's own tick is not known to be newer.
  await setTimeout(30);
  await folder.serve(async (peer) => {
    await peer.call();
    peer.send(outputsOf([], { exitCode: 21 }));
  });
  assert.deepEqual([(await folder.run(CALL)).code, folder.fallbacks()], [21, ["daemon-start"]]);
});

test("without the program there is no start, no stamp and no wait", async () => {
  await using folder = new LauncherFolder();
  assert.equal((await folder.run(CALL)).stderr, "real\n");
  assert.deepEqual(folder.fallbacks(), ["daemon-missing"]);
  assert.ok(!existsSync(join(folder.runtime, "daemon.failed")));
});

test("a daemon started by hand holds the lock; a second one is refused", async () => {
  await using folder = new LauncherFolder();
  installDaemon(folder, "serve();");
  const daemon = folder.start('exec "$HPCC" daemon --foreground');
  try {
    // Its first call waits for the lock's holder to listen.
    assert.equal((await folder.run(CALL)).code, 17);
    const second = await folder.run('exec "$HPCC" daemon --foreground');
    assert.deepEqual([second.code, second.stderr], [1, "hpcc: a daemon runs already\n"]);
    assert.deepEqual(starts(folder).length, 1);
  } finally {
    daemon.kill("SIGKILL");
    killDaemons(folder);
  }
});
