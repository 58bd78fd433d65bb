// `hpcc witness` as a program, a log that it cosigns, and `hpcc audit verify` that demands it. What it signs is read by an implementation that
// is not hpcc's.
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { readOrMakeLogSigner } from "../audit/log-key-file.ts";
import { emptyRow } from "../audit/row.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import { parseWitnessAddress } from "../core/note/witness-address.ts";
import { openWitnessedLog } from "../worker/witnessed-log.ts";

const MAIN = join(import.meta.dirname, "main.ts");
const GO = join(import.meta.dirname, "../../.cache/witness-go");
const skip = existsSync(GO) ? false : ".cache/witness-go was not built, as there is no Go";
const NAME = "x.example/worker/w1";

let root = "";
let config = "";
let state = "";
let logKey = "";
let witnessKey = "";
let program: ChildProcess | null = null;
let port = 0;

const run = (...argv: string[]) => spawnSync(process.execPath, [MAIN, ...argv], { encoding: "utf8" });

before(async () => {
  root = mkdtempSync(join(tmpdir(), "hpcc-witness-"));
  state = join(root, "worker");
  logKey = (await readOrMakeLogSigner(state, NAME)).verifier.text;
  witnessKey = execFileSync(
    process.execPath,
    [MAIN, "ca", "witness-key", "--state", join(root, "witness"), "--new", "witness.example/w"],
    { encoding: "utf8" },
  ).trim();
  config = join(root, "witness.toml");
  writeFileSync(config, `listen = "127.0.0.1:0"\nstate_dir = "witness"\nlogs = ["${logKey}"]\n`);
  await start();
});
after(async () => {
  await stop("SIGTERM");
  rmSync(root, { recursive: true });
});

async function start(): Promise<void> {
  const child = spawn(process.execPath, [MAIN, "witness", "--config", config], {
    stdio: ["ignore", "inherit", "pipe"],
  });
  program = child;
  for await (const line of createInterface({ input: child.stderr })) {
    const { event, port: given } = JSON.parse(line) as { event: string; port?: number };
    if (event !== "witness.started") continue;
    port = given!;
    break;
  }
  child.stderr.resume();
}

async function stop(signal: "SIGTERM" | "SIGKILL"): Promise<unknown> {
  const child = program;
  program = null;
  if (child === null) return null;
  const ended = once(child, "close");
  child.kill(signal);
  return ended;
}

async function grow(folder: string, count: number, version: number) {
  const signer = await readOrMakeLogSigner(state, NAME);
  const witnesses = [parseWitnessAddress(`http://127.0.0.1:${port} ${witnessKey}`)];
  const options = { folder, worker: "w1", clock: SYSTEM_CLOCK, logger: SILENT_LOGGER, signer };
  const opened = await openWitnessedLog(options, { witnesses, ca: [] });
  const { log, witnessing } = opened;
  const body = { kind: "policy", event: "in-force", startMs: 0, endMs: 0, digest: null, version } as const;
  await Promise.all(Array.from({ length: count }, async () => log.append(emptyRow("w1"), body)));
  await opened.close();
  return witnessing!.counters;
}

const verify = (folder: string, ...more: string[]) =>
  run("audit", "verify", folder, "--key", logKey, "--witness", witnessKey, ...more);

describe("a witness that is a program", () => {
  test("cosigns a log; killed and started again, it refuses the log's fork and goes on with the log", async () => {
    const folder = join(state, "audit");
    assert.ok((await grow(folder, 40, 1)).cosigned > 0);
    const fork = join(root, "fork");
    cpSync(folder, fork, { recursive: true });
    assert.ok((await grow(folder, 5, 1)).cosigned > 0);
    assert.deepEqual(await stop("SIGKILL"), [null, "SIGKILL"]);
    const away = await grow(folder, 1, 1);
    assert.ok(away.failed > 0 && away.disputed === 0);
    await start();
    const forked = await grow(fork, 9, 2);
    assert.ok(forked.disputed > 0 && forked.cosigned === 0);
    assert.equal((await grow(folder, 1, 1)).disputed, 0);
    const good = verify(folder, "--witness-quorum", "1");
    assert.match(good.stdout, /^witness\.example\/w had seen 48 rows on 20/m);
    assert.match(good.stdout, /^the log is what was signed$/m);
    assert.equal(good.status, 0, good.stdout + good.stderr);
    assert.match(verify(fork).stdout, /^rows 42 to 50 are not cosigned/m);
    rmSync(join(fork, "witnessed"), { recursive: true });
    const bad = verify(fork);
    assert.match(bad.stdout, /^the log is cosigned by 0 witnesses, and 1 are demanded$/m);
    assert.equal(bad.status, 1);
    const late = verify(folder, "--witness-since", "2999-01-01", "--json");
    assert.equal((JSON.parse(late.stdout) as { problems: unknown[] }).problems.length, 1);
    for (const wrong of [
      ["--witness-quorum", "2"],
      ["--witness", "x"],
      ["--witness", witnessKey],
    ])
      assert.equal(verify(folder, ...wrong).status, 2, wrong.join(" "));
  });

  test("signs what Go's module for cosignatures reads, and nothing else", { skip }, () => {
    const id = witnessKey.split("+")[1]!;
    const file = join(state, "audit", "witnessed", id);
    const go = (log: string, witness: string) => spawnSync(GO, [log, witness, file], { encoding: "utf8" });
    const good = go(logKey, witnessKey);
    assert.equal(good.stderr, "");
    assert.match(good.stdout, /^x\.example\/worker\/w1 48 \d{10}\n$/);
    const other = run("ca", "witness-key", "--state", join(root, "other"), "--new", "witness.example/w").stdout.trim();
    assert.equal(go(logKey, other).status, 1);
  });

  test("does not start on a folder that another one has, and names it", () => {
    const { status, stderr } = run("witness", "--config", config);
    assert.equal(status, 2, stderr);
    assert.ok(stderr.includes(`another witness runs on ${join(root, "witness")} [config.invalid]`), stderr);
  });

  test("does not start without a key, a log or a certificate that it needs, and says what is missing", async () => {
    const refused = (text: string, why: RegExp) => {
      writeFileSync(join(root, "bad.toml"), text);
      const { status, stderr } = run("witness", "--config", join(root, "bad.toml"));
      assert.equal(status, 2, stderr);
      assert.match(stderr, why);
    };
    const logs = `logs = ["${logKey}"]\n`;
    refused(`state_dir = "none"\nlisten = "127.0.0.1:0"\n${logs}`, /ca witness-key --state .*\/none --new NAME/);
    refused(`state_dir = "witness"\n`, /logs names none/);
    refused(logs, /state_dir is required/);
    refused(`state_dir = "witness"\nlisten = "0.0.0.0:9444"\n${logs}`, /this machine alone/);
    refused(`state_dir = "witness"\n${logs}[tls]\ncertificate = "c"\n`, /belong together/);
    assert.deepEqual(await stop("SIGTERM"), [0, null]);
  });
});
