// A witness on a real socket: it cosigns what only grows, refuses everything else with the status that C2SP's tlog-witness has for it, and
// forgets nothing that it has signed.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import * as fc from "fast-check";
import { type Interfere, withFaultyFiles } from "../../../test/support/faulty-files.ts";
import { ManualClock } from "../../base/clock.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { leafHash, nodeHash } from "../../core/merkle/hashes.ts";
import { consistencyProof, type HashAt, rootOf } from "../../core/merkle/proof.ts";
import { signCheckpoint } from "../../core/note/checkpoint.ts";
import { cosignaturesOf } from "../../core/note/cosignature.ts";
import { type NoteSigner, noteSigner } from "../../core/note/signed-note.ts";
import { encodeAddCheckpoint, REQUEST_BYTES_MAX } from "./add-checkpoint.ts";
import { Witness } from "./witness.ts";
import { WitnessServer } from "./witness-server.ts";

const LOG = noteSigner("x.example/worker/w1", Buffer.alloc(32, 1));
const OTHER_KEY = noteSigner("x.example/worker/w1", Buffer.alloc(32, 2));
const OTHER_LOG = noteSigner("x.example/worker/w2", Buffer.alloc(32, 3));
const STRANGER = noteSigner("x.example/worker/w9", Buffer.alloc(32, 4));
const SIGNER = noteSigner("witness.example/w", Buffer.alloc(32, 5), "cosignature");
const KEY = SIGNER.verifier;

/** A log's leaves, by a letter: one of another letter from a row on is a fork. */
class Leaves {
  readonly #leaves: readonly Buffer[];

  constructor(names: readonly string[]) {
    this.#leaves = names.map((name) => leafHash(Buffer.from(name)));
  }

  readonly hashAt: HashAt = (level, index) =>
    level === 0
      ? this.#leaves[index]!
      : nodeHash(this.hashAt(level - 1, index * 2), this.hashAt(level - 1, index * 2 + 1));

  checkpoint(size: number, signer: NoteSigner = LOG): string {
    return signCheckpoint({ size, root: rootOf(size, this.hashAt) }, signer);
  }

  request(oldSize: number, size: number, signer: NoteSigner = LOG): string {
    const proof = consistencyProof(oldSize, size, this.hashAt);
    return encodeAddCheckpoint({ oldSize, proof, checkpoint: this.checkpoint(size, signer) });
  }
}

const names = (count: number, forkedFrom = count) =>
  Array.from({ length: count }, (_, at) => `${at < forkedFrom ? "a" : "b"}${at}`);
const GOOD = new Leaves(names(64));
const FORK = new Leaves(names(64, 5));

let root = "";
let server: WitnessServer;
let witness: Witness;
let folder = "";
before(async () => {
  root = await mkdtemp(join(tmpdir(), "hpcc-witness-"));
});
after(async () => rm(root, { recursive: true }));

const openWitness = async (at: string, clock = new ManualClock()) =>
  Witness.open({
    folder: at,
    signer: SIGNER,
    logs: [LOG.verifier, OTHER_LOG.verifier],
    clock,
    logger: SILENT_LOGGER,
  });

async function serve(at: string): Promise<WitnessServer> {
  const listen = { host: "127.0.0.1", port: 0 };
  witness = await openWitness(at);
  return WitnessServer.listen({ witness, listen, tls: null, logger: SILENT_LOGGER });
}

async function end(): Promise<void> {
  await server.close();
  witness[Symbol.dispose]();
}

interface Got {
  readonly status: number;
  readonly type: string | undefined;
  readonly body: string;
}

async function post(
  body: string,
  { path = "/add-checkpoint", method = "POST", port = server.port } = {},
): Promise<Got> {
  const { promise, resolve, reject } = Promise.withResolvers<Got>();
  const ask = request({ host: "127.0.0.1", port, path, method, agent: false }, (response) => {
    let text = "";
    response.on("data", (part: Buffer) => (text += part.toString()));
    response.on("end", () =>
      resolve({ status: response.statusCode ?? 0, type: response.headers["content-type"], body: text }),
    );
  });
  ask.on("error", reject);
  ask.end(body);
  return promise;
}

describe("a witness", () => {
  before(async () => {
    folder = await mkdtemp(join(root, "state-"));
    server = await serve(folder);
  });
  after(end);

  test("cosigns a log's first checkpoint, longer ones, and the same again", async () => {
    for (const [oldSize, size] of [
      [0, 3],
      [3, 10],
      [10, 10],
      [10, 37],
    ] as const) {
      const { status, body } = await post(GOOD.request(oldSize, size));
      assert.equal(status, 200, body);
      const [cosignature, ...more] = cosignaturesOf(GOOD.checkpoint(size) + body, [KEY]);
      assert.deepEqual([cosignature?.by.text, cosignature?.timeMs, more.length], [KEY.text, 1_700_000_000_000, 0]);
      // The message is the checkpoint's own text: under another one it is wrong.
      assert.throws(() => cosignaturesOf(GOOD.checkpoint(size + 1) + body, [KEY]), { code: "audit.corrupt" });
    }
  });

  test("says what it knows to who asks with another size, and cosigns nothing", async () => {
    for (const oldSize of [0, 3, 40]) {
      const got = await post(GOOD.request(oldSize, 40));
      assert.deepEqual(got, { status: 409, type: "text/x.tlog.size", body: "37\n" });
    }
    assert.equal(
      (await post(encodeAddCheckpoint({ oldSize: 41, proof: [], checkpoint: GOOD.checkpoint(40) }))).status,
      400,
    );
  });

  test("refuses another log of the same name: of the same size, and longer, whatever proof comes with it", async () => {
    assert.equal((await post(FORK.request(37, 37))).status, 409);
    assert.equal((await post(FORK.request(37, 50))).status, 422);
    const goodProof = consistencyProof(37, 50, GOOD.hashAt);
    for (const proof of [goodProof, [], goodProof.slice(1), [...goodProof, goodProof[0]!]]) {
      const body = encodeAddCheckpoint({ oldSize: 37, proof, checkpoint: FORK.checkpoint(50) });
      assert.equal((await post(body)).status, 422);
    }
    assert.equal((await post(GOOD.request(37, 50))).status, 200, "and the log itself goes on");
  });

  test("refuses a log that was put back", async () => {
    assert.equal((await post(GOOD.request(20, 30))).status, 409);
    assert.equal((await post(GOOD.request(0, 30))).status, 409);
  });

  test("refuses unknown keys and logs, and a first checkpoint that comes with a proof", async () => {
    assert.equal((await post(GOOD.request(50, 51, OTHER_KEY))).status, 403);
    assert.equal((await post(GOOD.request(0, 5, STRANGER))).status, 404);
    const proof = consistencyProof(5, 6, GOOD.hashAt);
    const body = encodeAddCheckpoint({ oldSize: 0, proof, checkpoint: GOOD.checkpoint(6, OTHER_LOG) });
    assert.equal((await post(body)).status, 422);
    assert.equal((await post(GOOD.request(0, 6, OTHER_LOG))).status, 200, "the other log that it knows");
    assert.equal((await post(GOOD.request(50, 50))).status, 200, "which is not the first one");
  });

  test("refuses what is no request, and lives on", async () => {
    const good = GOOD.request(50, 60);
    const bad = [
      "",
      "old 50\n",
      good.replace("old", "new"),
      good.replace("old 50", "old 050"),
      good.replace("=\n", "\n"),
    ];
    for (const body of bad) assert.equal((await post(body)).status, 400, JSON.stringify(body));
    assert.equal((await post("x".repeat(REQUEST_BYTES_MAX + 1))).status, 413);
    assert.equal((await post(good, { path: "/other" })).status, 404);
    assert.equal((await post("", { method: "GET" })).status, 405);
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), fc.integer({ min: 0, max: 0x7e }), async (at, byte) => {
        const changed = good.slice(0, at) + String.fromCharCode(byte) + good.slice(at + 1);
        if (changed !== good) assert.notEqual((await post(changed)).status, 200);
      }),
      { numRuns: 60 },
    );
    assert.equal((await post(good, { path: "/any/prefix/add-checkpoint" })).status, 200);
  });

  test("keeps one file for each log: the newest checkpoint, with the log's signature and its own", async () => {
    const files = await readdir(join(folder, "logs"));
    assert.equal(files.length, 2);
    const notes = await Promise.all(files.map(async (name) => readFile(join(folder, "logs", name), "utf8")));
    const own = notes.find((note) => note.startsWith(`${LOG.verifier.name}\n60\n`));
    assert.equal(cosignaturesOf(own!, [KEY]).length, 1);
    assert.equal(own!.split("\n").length, 3 + 1 + 2 + 1);
  });

  test("knows after a restart what it knew, and does not start when that is damaged", async () => {
    await end();
    server = await serve(folder);
    assert.equal((await post(GOOD.request(0, 61))).body, "60\n");
    const [file] = await readdir(join(folder, "logs"));
    const path = join(folder, "logs", file!);
    const note = await readFile(path);
    await end();
    await writeFile(path, "");
    await assert.rejects(openWitness(folder), { code: "audit.corrupt" });
    await writeFile(path, note);
    server = await serve(folder);
  });

  test("is alone on its folder, and on its port", async () => {
    await assert.rejects(openWitness(folder), { code: "config.invalid", message: `another witness runs on ${folder}` });
    const { port } = server;
    await assert.rejects(
      WitnessServer.listen({ witness, listen: { host: "127.0.0.1", port }, tls: null, logger: SILENT_LOGGER }),
      { code: "config.invalid", message: `the witness cannot listen on 127.0.0.1:${port}: EADDRINUSE` },
    );
  });
});

test("of requests that come together, all that are answered with a cosignature are one growing log", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.boolean(), fc.nat(12), fc.nat(12)), { minLength: 2, maxLength: 30 }),
      async (asked) => {
        const at = await mkdtemp(join(root, "together-"));
        using own = await openWitness(at);
        const signed: { readonly size: number; readonly forked: boolean }[] = [];
        await Promise.all(
          asked.map(async ([forked, a, b]) => {
            const [oldSize, size] = a < b ? [a, b] : [b, a];
            const { status } = await own.addCheckpoint((forked ? FORK : GOOD).request(oldSize, size));
            if (status === 200) signed.push({ size, forked });
          }),
        );
        // Up to row 5 both logs are one.
        const after5 = new Set(signed.filter(({ size }) => size > 5).map(({ forked }) => forked));
        assert.ok(after5.size <= 1, JSON.stringify(signed));
        assert.ok(signed.every(({ size }, i) => i === 0 || size >= signed[i - 1]!.size));
        await rm(at, { recursive: true });
      },
    ),
    { numRuns: 40 },
  );
});

/** What a witness does with files to keep one checkpoint. */
const KEEPING = ["open", "writeFile", "sync", "rename", "sync"];

test("what cannot be kept is not cosigned, whichever operation fails, and the next request is judged by what was", async () => {
  for (const [nth, kind] of KEEPING.entries())
    for (const done of [false, true]) {
      const at = await mkdtemp(join(root, "faults-"));
      const own = await openWitness(at);
      assert.equal((await own.addCheckpoint(GOOD.request(0, 7))).status, 200);
      const seen: string[] = [];
      const fail: Interfere = async (operation, { all: whole }) => {
        seen.push(operation.what.split(" ")[0]!);
        if (operation.nth !== nth) return whole();
        if (done) await ((await whole()) as { close?: () => Promise<void> } | undefined)?.close?.();
        throw Object.assign(new Error("i/o error"), { code: "EIO" });
      };
      await withFaultyFiles(at, fail, async () =>
        assert.rejects(own.addCheckpoint(GOOD.request(7, 20)), { code: "audit.io" }),
      );
      own[Symbol.dispose]();
      assert.deepEqual(seen, KEEPING.slice(0, nth + 1));
      await goesOn(at, `${kind} ${done}`);
    }
});

/** It answered nobody about 20 rows: whichever it knows, it refuses a fork of what it did answer, and goes on with the log. */
async function goesOn(at: string, what: string): Promise<void> {
  using again = await openWitness(at);
  const { status, body } = await again.addCheckpoint(FORK.request(7, 20));
  assert.ok(status === 422 || (status === 409 && body === "20\n"), `${what}: ${status} ${body}`);
  assert.equal((await again.addCheckpoint(GOOD.request(status === 422 ? 7 : 20, 30))).status, 200, what);
}

test("killed at each operation, and between writing and answering, it has told nobody what it does not know", async () => {
  const at = (name: string) => JSON.stringify(join(import.meta.dirname, name));
  const program = `
    import { Witness } from ${at("witness.ts")};
    import { WitnessServer } from ${at("witness-server.ts")};
    import { noteSigner, parseVerifier } from ${at("../../core/note/signed-note.ts")};
    import { SYSTEM_CLOCK } from ${at("../../base/system/clock.ts")};
    import { SILENT_LOGGER as logger } from ${at("../../base/log.ts")};
    import { withFaultyFiles } from ${at("../../../test/support/faulty-files.ts")};
    const [folder, key, nth] = process.argv.slice(1);
    const signer = noteSigner("witness.example/w", Buffer.alloc(32, 5), "cosignature");
    const witness = await Witness.open({ folder, signer, logs: [parseVerifier(key)], clock: SYSTEM_CLOCK, logger });
    const server = await WitnessServer.listen({ witness, listen: { host: "127.0.0.1", port: 0 }, tls: null, logger });
    const last = ${KEEPING.length} - 1;
    const interfere = async (operation, { all }) => {
      if (operation.nth === Number(nth)) process.kill(process.pid, "SIGKILL");
      const done = await all();
      if (operation.nth === last && Number(nth) > last) process.kill(process.pid, "SIGKILL");
      return done;
    };
    await withFaultyFiles(folder, interfere, async () => {
      process.stdout.write(server.port + "\\n");
      await new Promise(() => setInterval(() => {}, 1000));
    });
  `;
  for (let nth = 0; nth <= KEEPING.length; nth++) {
    const state = await mkdtemp(join(root, "killed-"));
    {
      using own = await openWitness(state);
      assert.equal((await own.addCheckpoint(GOOD.request(0, 7))).status, 200);
    }
    const argv = ["--input-type=module-typescript", "-e", program, state, LOG.verifier.text, String(nth)];
    const child = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "inherit"] });
    const ended = once(child, "close");
    const [port] = (await once(child.stdout, "data")) as [Buffer];
    await assert.rejects(post(GOOD.request(7, 20), { port: Number(port.toString()) }), { code: "ECONNRESET" });
    assert.deepEqual(await ended, [null, "SIGKILL"]);
    await goesOn(state, `killed at ${nth}`);
  }
});
