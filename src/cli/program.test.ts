import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { HpccError } from "../base/errors.ts";
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import { VERSION } from "../base/version.ts";
import { decodeMessage } from "../wire/launcher/decode.ts";
import { encodeMessage } from "../wire/launcher/encode.ts";
import { FrameReader } from "../wire/launcher/frame-reader.ts";
import { printError, table } from "./output.ts";
import { type CliHost, runCli } from "./program.ts";
import { size } from "./stats.ts";

describe("command line", () => {
  let folder = "";
  let server: Server | null = null;
  const ran: string[] = [];
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "hpcc-cli-"));
    ran.length = 0;
  });
  afterEach(async () => {
    if (server) {
      server.close();
      await once(server, "close");
      server = null;
    }
    rmSync(folder, { recursive: true, force: true });
  });

  async function run(...argv: string[]): Promise<{ code: number; out: string; error: string }> {
    let out = "";
    let error = "";
    const host: CliHost = {
      env: { HOME: folder, HPCC_RUNTIME_DIR: folder, HPCC_STATE_DIR: folder },
      uid: 1,
      clock: SYSTEM_CLOCK,
      node: "/nonexistent/node",
      bundle: "/nonexistent/hpcc.mjs",
      output: { out: (text) => (out += text), error: (text) => (error += text) },
      runDaemon: async () => void ran.push("daemon"),
      runWorker: async (file, flags) => void ran.push(`worker ${file} ${JSON.stringify(flags)}`),
      runScheduler: async (file, flags) => void ran.push(`scheduler ${file} ${JSON.stringify(flags)}`),
      runWitness: async (file) => void ran.push(`witness ${file}`),
      images: async () => {
        throw new HpccError("image.missing", "no images in this test");
      },
      replayUpkeep: async () => ({ lastReplays: async () => new Map(), removeReplays: async () => {} }),
      doctorChecks: async () => [
        async () => ({ name: "extra", status: "missing", detail: "broken\u001b[2J", fix: "mend it" }),
        async () => [
          { name: "SMT", status: "warn", detail: "on", fix: "turn it off" },
          { name: "cgroup v2", status: "fail", detail: "not mounted", fix: null },
          { name: "microcode", status: "unknown", detail: "0x1", fix: null },
        ],
      ],
      history: async () => null,
      keptBlobs: async () => null,
      revokeResults: async () => Promise.reject(new Error("no worker")),
      askRetention: async () => Promise.reject(new Error("no worker")),
      reproducing: () => assert.fail("no evidence in this test"),
      inspectState: async () => {
        throw new Error("something unforeseen");
      },
    };
    const code = await runCli(argv, host);
    return { code, out, error };
  }

  /** A daemon that answers control requests from a list, one per connection. */
  async function daemon(...replies: unknown[]): Promise<unknown[]> {
    const asked: unknown[] = [];
    server = createServer((socket) => {
      const reader = new FrameReader();
      socket.on("error", () => {});
      socket.on("data", (bytes) => {
        for (const frame of reader.push(bytes)) {
          const message = decodeMessage(frame);
          assert.equal(message.type, "control");
          if (message.type === "control") asked.push(message.request);
          socket.write(encodeMessage({ type: "wait", doing: null }));
          socket.write(encodeMessage({ type: "reply", reply: replies.shift() }));
        }
      });
    });
    server.listen(join(folder, "daemon.sock"));
    await once(server, "listening");
    return asked;
  }

  test("help, version and nothing at all", async () => {
    for (const argv of [[], ["help"], ["--help"]]) {
      const { code, out } = await run(...argv);
      assert.equal(code, 0);
      for (const word of [
        "stats",
        "explain",
        "clean",
        "daemon",
        "doctor",
        "inspect",
        "worker",
        "scheduler",
        "image",
        "ca",
        "config",
        "debug-map",
      ])
        assert.match(out, new RegExp(`^  ${word} `, "m"), word);
      for (const [page] of out.matchAll(/\b[a-z]+\.md\b/g))
        assert.ok(existsSync(new URL(`../../docs/operations/${page}`, import.meta.url)), page);
      assert.match(out, /docs\/operations\/client\.md, worker\.md/);
    }
    assert.deepEqual(await run("version"), { code: 0, out: `hpcc ${VERSION}\n`, error: "" });
    assert.match((await run("help", "ca")).out, /issue/);
  });

  test("a wrong command line is exit code 2 and names what was meant", async () => {
    const unknown = await run("stast");
    assert.equal(unknown.code, 2);
    assert.match(unknown.error, /unknown command 'stast'[^]*stats/);
    const other = await run("tcc", "--version");
    assert.deepEqual([other.code, other.out], [2, ""], "not this program's version");
    assert.match(other.error, /unknown command 'tcc'[^]*hpcc \/usr\/bin\/tcc/);
    for (const argv of [
      ["clean", "--project", ""],
      ["clean", "--project="],
      ["setup", "--dir", ""],
      ["explain", ""],
    ]) {
      const { code, error } = await run(...argv);
      assert.equal(code, 2, argv.join(" "));
      assert.match(error, /an argument is empty/);
    }
    for (const argv of [
      ["worker"],
      ["stats", "--nothing"],
      ["inspect"],
      ["daemon"],
      ["ca", "issue", "--dir", "x", "--days", "soon"],
    ])
      assert.equal((await run(...argv)).code, 2, argv.join(" "));
    assert.match(
      (await run("inspect", "xyz")).error,
      /at least 8 lower-case hex digits \[argument\.invalid\]\n {6}See `hpcc help`/,
    );
  });

  test("an error has code and hint; a bug has exit code 70", async () => {
    const failed = await run("image", "ls");
    assert.equal(failed.code, 1);
    assert.match(failed.error, /^hpcc: no images in this test \[image\.missing\]\n {6}`hpcc image ls`/);
    const bug = await run("inspect", "--state", folder, "0123456789");
    assert.equal(bug.code, 70);
    assert.match(bug.error, /^hpcc: bug: Error: something unforeseen/);
    assert.doesNotMatch(printError(new HpccError("peer.protocol", "\u001b[2Jx\r\ny")), /[\u001b\r]/);
  });

  test("servers get their file and settings", async () => {
    await run("worker", "--config", "w.toml", "--set", "slots=2", "--set", "listen=a:1");
    await run("scheduler", "--config", "s.toml");
    await run("daemon", "--foreground");
    assert.deepEqual(ran, ['worker w.toml {"slots":"2","listen":"a:1"}', "scheduler s.toml {}", "daemon"]);
    assert.equal((await run("worker", "--config", "w", "--set", "slots")).code, 2);
  });

  test("stats come from the daemon, as text and JSON, and are zeroed", async () => {
    assert.equal((await run("stats")).code, 1);
    const stats = {
      calls: 4,
      outcomes: { remote_hit: 3, local: 1 },
      reasons: { "linking\u001b": 1 },
      jobs_sent: 3,
      sources: { files: 2, text: 1, shared_paths: 3, own_paths: 0 },
      source_bytes: 4_000_000,
      source_wire_bytes: 500_000,
    };
    const asked = await daemon(stats, stats);
    const text = await run("stats");
    assert.match(text.out, /^calls +4$/m);
    assert.match(text.out, /from a worker's cache +3 +75\.0 %/);
    assert.match(text.out, /hit rate +3 of 3 +100\.0 %/);
    assert.match(text.out, /^calls sent as files +2$/m);
    assert.match(text.out, /^calls sent as preprocessed text +1$/m);
    assert.doesNotMatch(text.out, /own path/);
    assert.match(text.out, /sources on the wire +488\.3 KiB of 3\.8 MiB +8\.0 times smaller/);
    assert.doesNotMatch(text.out, /\u001b|hpcc doctor/);
    assert.match(text.out, /^local store +0 B of 5\.0 GiB +0 results in 0 files$/m);
    assert.deepEqual(JSON.parse((await run("stats", "--json", "--zero")).out), {
      ...stats,
      local_store: { bytes: 0, bytes_max: 5 * 1024 ** 3, results: 0, files: 0 },
    });
    assert.deepEqual(asked, [
      { command: "stats", zero: false },
      { command: "stats", zero: true },
    ]);
  });

  test("stats say where to look when something is not as it should be", async () => {
    await daemon({ calls: 1, reasons: { remote_unavailable: 1 } }, { calls: 0, launcher_fallbacks: { refused: 1 } });
    assert.match((await run("stats")).out, /\n-> run `hpcc doctor` in the project's folder\n$/);
    assert.match((await run("stats")).out, /\n-> run `hpcc doctor` .*HPCC_VERBOSE=1/);
  });

  test("a daemon that refuses, or is none, is told", async () => {
    await daemon({ ok: false, message: "no" }, "nonsense");
    assert.match((await run("daemon", "status")).error, /the daemon refused: no \[peer\.protocol\]/);
    assert.match((await run("daemon", "status")).error, /not a reply of a daemon/);
  });

  test("a daemon that cannot be started is told", async () => {
    const { code, error } = await run("daemon", "start");
    assert.equal(code, 1);
    assert.match(error, /the daemon ended with exit code|cannot run flock/);
    assert.equal((await run("daemon", "stop")).out, "no daemon runs\n");
  });

  test("doctor ends with 1 when something is missing, and says what to do", async () => {
    const { code, out } = await run("doctor");
    assert.equal(code, 1);
    assert.match(out, /^ok +node: /m);
    assert.match(out, /^MISSING extra: broken\ufffd\[2J\n +-> mend it$/m);
    assert.match(out, /^warn {4}SMT: on\n +-> turn it off\nFAIL {4}cgroup v2: not mounted\nunknown microcode: 0x1\n/m);
    assert.match(out, /\n\d+ of \d+ checks found something missing or wrong\n$/);
    const results = JSON.parse((await run("doctor", "--json")).out) as { name: string; status: string }[];
    assert.ok(results.length >= 9);
    const host = results.slice(-3).map(({ name, status }) => [name, status]);
    assert.deepEqual(host, [
      ["SMT", "warn"],
      ["cgroup v2", "fail"],
      ["microcode", "unknown"],
    ]);
  });

  test("config show prints each value and where it came from", async () => {
    writeFileSync(
      join(folder, "w.toml"),
      'state_dir = "/s"\nslots = 3\n[identity]\ncertificate = "/c"\nkey = "/k"\nca = "/a"\n',
    );
    const { out } = await run("config", "show", "--worker", join(folder, "w.toml"));
    assert.match(out, new RegExp(`^slots +3 +${folder}/w.toml$`, "m"));
    assert.match(out, /^qemu\.accelerator +"auto" +default$/m);
    const values = JSON.parse((await run("config", "show", "--json")).out) as { key: string; source: string }[];
    assert.ok(values.every(({ source }) => source !== ""));
  });

  test("debug-map speaks of the current folder's project", async () => {
    assert.match((await run("debug-map")).out, /^# No map is needed: /);
    assert.equal((await run("debug-map", "--format", "ddd")).code, 2);
    assert.match((await run("help", "debug-map")).out, /\[folders\.\.\.\]/);
  });

  test("ca init and issue make files that a configuration can name", async () => {
    const ca = join(folder, "ca");
    assert.equal((await run("ca", "init", ca, "--trust-domain", "x.example")).code, 0);
    const { out } = await run("ca", "issue", "--dir", ca, "--worker", "w1", "--ip", "127.0.0.1", "--dns", "w1");
    assert.match(out, /^\[identity\] {2}# spiffe:\/\/x\.example\/worker\/w1\ncertificate = "/);
    for (const argv of [
      ["--tenant", "a"],
      ["--user", "a"],
      ["--worker", "a", "--scheduler", "b"],
      [],
      ["--worker", "../x"],
      ["--worker", "v", "--ip", "x"],
    ])
      assert.notEqual((await run("ca", "issue", "--dir", ca, ...argv)).code, 0, argv.join(" "));
    assert.equal((await run("ca", "init", ca)).code, 2);
  });
});

test("tables and sizes", () => {
  assert.equal(
    table([
      ["a", "bb"],
      ["ccc", "d", "e"],
    ]),
    "a    bb\nccc  d   e\n",
  );
  assert.deepEqual([0, 1023, 1024, 5 * 2 ** 30].map(size), ["0 B", "1023 B", "1.0 KiB", "5.0 GiB"]);
});
