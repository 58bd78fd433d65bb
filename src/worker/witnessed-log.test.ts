// A log that witnesses on real sockets cosign: what they have signed proves it to who demands that, a fork and a log that was put back have
// nobody's signature, and no row waits for a witness.
import assert from "node:assert/strict";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { AuditLog } from "../audit/audit-log.ts";
import { emptyRow } from "../audit/row.ts";
import { type Verdict, verifyLog } from "../audit/verify/verify-log.ts";
import type { WitnessDemand } from "../audit/verify/witnesses.ts";
import { evidenceOfFolder } from "../audit/verify-folder.ts";
import { Witness } from "../audit/witness/witness.ts";
import { WitnessServer } from "../audit/witness/witness-server.ts";
import { ManualClock } from "../base/clock.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { createAuthority, issueCertificate } from "../cli/ca-authority.ts";
import { parseSpiffeId, parseTrustDomain } from "../core/identity/spiffe.ts";
import { noteSigner } from "../core/note/signed-note.ts";
import { parseWitnessAddress, type WitnessAddress } from "../core/note/witness-address.ts";
import { openWitnessedLog, type WitnessedLog } from "./witnessed-log.ts";

const SIGNER = noteSigner("x.example/worker/w1", Buffer.alloc(32, 1));
const START_MS = Date.UTC(2027, 0, 2);
const clock = new ManualClock(START_MS);

let root = "";
const witnesses: { address: WitnessAddress; folder: string; server: WitnessServer }[] = [];
const closing: (() => Promise<void>)[] = [];

async function startWitness(nth: number, tls: { certificate: string; key: string } | null = null) {
  const folder = await mkdtemp(join(root, `witness-${nth}-`));
  const signer = noteSigner(`witness.example/${nth}`, Buffer.alloc(32, 10 + nth), "cosignature");
  const witness = await Witness.open({ folder, signer, logs: [SIGNER.verifier], clock, logger: SILENT_LOGGER });
  const listen = { host: "127.0.0.1", port: 0 };
  const server = await WitnessServer.listen({ witness, listen, tls, logger: SILENT_LOGGER });
  closing.push(async () => server.close());
  const scheme = tls === null ? "http" : "https";
  const address = parseWitnessAddress(`${scheme}://127.0.0.1:${server.port}/ ${signer.verifier.text}`);
  return { address, folder, server };
}

before(async () => {
  root = await mkdtemp(join(tmpdir(), "hpcc-witnessed-"));
  for (const nth of [1, 2]) witnesses.push(await startWitness(nth));
});
after(async () => {
  for (const close of closing) await close();
  await rm(root, { recursive: true });
});

const open = async (folder: string, asked: readonly WitnessAddress[], ca: readonly string[] = []) =>
  openWitnessedLog({ folder, worker: "w1", clock, logger: SILENT_LOGGER, signer: SIGNER }, { witnesses: asked, ca });

async function append(log: AuditLog, count: number, version: number): Promise<void> {
  const body = { kind: "policy", event: "in-force", startMs: 0, endMs: 0, digest: null, version } as const;
  await Promise.all(Array.from({ length: count }, async () => log.append(emptyRow("w1"), body)));
}

/** Appends rows, has them cosigned, and tells what the witnesses said. */
async function grow(
  folder: string,
  asked: readonly WitnessAddress[],
  count: number,
  version = 1,
): Promise<WitnessedLog> {
  const opened = await open(folder, asked);
  await append(opened.log, count, version);
  await opened.close();
  return opened;
}

const addresses = () => witnesses.map(({ address }) => address);

async function verdictOf(folder: string, demand: Partial<WitnessDemand> = {}, kept: string[] = []): Promise<Verdict> {
  const keys = addresses().map(({ key }) => key);
  const asked = { keys, quorum: keys.length, sinceMs: null, ...demand };
  return verifyLog(await evidenceOfFolder(folder, { keys: [SIGNER.verifier], kept, witnesses: asked }));
}

/** What a witness has seen last, as its operator would hand it out. */
async function wordOf({ folder }: { folder: string }): Promise<string> {
  const [name] = await readdir(join(folder, "logs"));
  return readFile(join(folder, "logs", name!), "utf8");
}

async function copyOf(folder: string): Promise<string> {
  const copy = await mkdtemp(join(root, "copy-"));
  await cp(folder, copy, { recursive: true });
  return copy;
}

const problemsOf = ({ problems }: Verdict) => problems.map(({ row, problem }) => `${row ?? ""} ${problem}`);

describe("a log with two witnesses", () => {
  let folder = "";
  let early = "";

  before(async () => {
    folder = join(root, "log");
  });

  test("is cosigned by both at its worker's end, over restarts, and proven to who demands both", async () => {
    for (const count of [1, 300, 5]) {
      const { witnessing } = await grow(folder, addresses(), count);
      assert.deepEqual(witnessing?.counters, { cosigned: witnessing?.counters.cosigned, failed: 0, disputed: 0 });
    }
    const { problems, rows, witnessedRows, witnessed } = await verdictOf(folder);
    assert.deepEqual([problems, rows, witnessedRows], [[], 307, 307]);
    const when = new Date(START_MS).toISOString();
    assert.deepEqual(
      witnessed,
      [1, 2].map((nth) => ({ witness: `witness.example/${nth}`, rows: 307, when })),
    );
    early = await copyOf(folder);
  });

  test("is cosigned while it grows, when its checkpoint is", async () => {
    const opened = await open(folder, addresses());
    const { log, witnessing } = opened;
    await append(log, 3, 1);
    const cosigned = witnessing!.counters.cosigned;
    for (let turn = 0; witnessing!.counters.cosigned < cosigned + 2; turn++) {
      assert.ok(turn < 10_000, "both are asked");
      clock.advance(100);
      await delay(1);
    }
    await opened.close();
    assert.equal((await verdictOf(folder)).witnessedRows, 310);
  });

  test("goes on without one that is away; who demands both is told, and up to where the other has seen it", async () => {
    await grow(folder, [addresses()[0]!], 4);
    const { problems, witnessedRows } = await verdictOf(folder);
    assert.deepEqual([problems, witnessedRows], [[], 310], "both have seen it up to there");
    assert.equal((await verdictOf(folder, { quorum: 1 })).witnessedRows, 314);
    const gone = await copyOf(folder);
    await rm(join(gone, "witnessed", addresses()[1]!.key.id.toString("hex")));
    assert.deepEqual(problemsOf(await verdictOf(gone)), [" the log is cosigned by 1 witnesses, and 2 are demanded"]);
    assert.deepEqual(problemsOf(await verdictOf(gone, { quorum: 1 })), []);
    const other = noteSigner("witness.example/9", Buffer.alloc(32, 9), "cosignature").verifier;
    assert.equal((await verdictOf(folder, { keys: [other], quorum: 1 })).problems.length, 1);
  });

  test("is cosigned further when its tiles are lost or damaged while it runs: they are made again, and the log says so", async () => {
    const lost = await mkdtemp(join(root, "lost-"));
    const signer = noteSigner("x.example/worker/w1", Buffer.alloc(32, 1));
    const { address, folder: of } = await startWitness(5);
    const events: string[] = [];
    const logger = { ...SILENT_LOGGER, error: (event: string) => void events.push(event) };
    const options = { folder: lost, worker: "w1", clock, logger, signer };
    const opened = await openWitnessedLog(options, { witnesses: [address], ca: [] });
    const { log, witnessing } = opened;
    const until = async (what: string, isDone: () => boolean) => {
      for (let turn = 0; !isDone(); turn++) {
        assert.ok(turn < 100_000, what);
        clock.advance(10);
        await delay(1);
      }
    };
    const growing = async () => {
      await append(log, 1, 1);
      const { cosigned } = witnessing!.counters;
      await until("it is cosigned", () => witnessing!.counters.cosigned > cosigned);
    };
    await append(log, 100, 1);
    await growing();
    const [name] = await readdir(join(of, "logs"));
    const early = await readFile(join(of, "logs", name!));
    await append(log, 200, 1);
    await growing();
    const right = await readFile(join(lost, "tile/0/000"));
    for (const damage of [
      async () => writeFile(join(lost, "tile/0/000"), Buffer.alloc(right.length)),
      async () => rm(join(lost, "tile/0/000")),
    ]) {
      await damage();
      // A witness that has not seen the newest rows is shown the older ones.
      await writeFile(join(of, "logs", name!), early);
      events.length = 0;
      await growing();
      assert.deepEqual(events, ["audit.tiles.lost"]);
      assert.ok(right.equals(await readFile(join(lost, "tile/0/000"))));
    }
    await opened.close();
  });

  test("that was put back: its witness refuses it, and whoever has the witness's word or asks for a newer one finds it", async () => {
    const [first] = witnesses;
    const back = await copyOf(early);
    assert.deepEqual(problemsOf(await verdictOf(back)), [], "by itself nobody knows");
    const { problems } = await verdictOf(back, {}, [await wordOf(first!)]);
    assert.equal(problems[0]?.row, 308);
    const late = await verdictOf(back, { sinceMs: START_MS + 100 });
    assert.match(problemsOf(late)[0] ?? "", /cosigned since 2027-01-02T00:00:00\.100Z by 0 witnesses/);
    const { witnessing } = await grow(back, [first!.address], 2, 5);
    assert.ok(witnessing!.counters.cosigned === 0 && witnessing!.counters.disputed > 0);
  });

  test("that was forked: no witness signs the other one, and the word of the first convicts it", async () => {
    const [first] = witnesses;
    const fork = await copyOf(early);
    const { witnessing } = await grow(fork, [first!.address], 60, 7);
    assert.ok(witnessing!.counters.cosigned === 0 && witnessing!.counters.disputed > 0);
    const alone = await verdictOf(fork);
    assert.deepEqual(
      [problemsOf(alone), alone.witnessedRows, alone.rows],
      [[], 307, 367],
      "60 rows have no cosignature",
    );
    assert.match(problemsOf(await verdictOf(fork, {}, [await wordOf(first!)]))[0] ?? "", /two logs were signed/);
    // With the true log's cosigned checkpoints beside it, too.
    await cp(join(folder, "witnessed"), join(fork, "witnessed"), { recursive: true });
    assert.match(problemsOf(await verdictOf(fork))[0] ?? "", /two logs were signed/);
    await rm(join(fork, "witnessed"), { recursive: true });
    assert.equal((await verdictOf(fork)).problems.length, 1);
  });

  test("with a cosigned checkpoint that is damaged, or whose cosignature is of another one, is not proven by it", async () => {
    const file = join("witnessed", addresses()[0]!.key.id.toString("hex"));
    const good = await readFile(join(folder, file), "utf8");
    const line = good.split("\n").at(-2)!;
    const older = await readFile(join(early, file), "utf8");
    const bent = older.replace(older.split("\n").at(-2)!, line);
    for (const note of ["", good.replace("\n314\n", "\n313\n"), bent, good.slice(0, -20)]) {
      const copy = await copyOf(folder);
      await writeFile(join(copy, file), note);
      assert.ok((await verdictOf(copy)).problems.length > 0, note);
    }
  });
});

describe("a witness", () => {
  test("that is silent holds up no row, and the worker's end a short time at most", async () => {
    const { address, close } = await scripted(() => undefined);
    const opened = await open(await mkdtemp(join(root, "silent-")), [address]);
    const { log, witnessing } = opened;
    await append(log, 3, 1);
    const state = { ended: false };
    void opened.close().then(() => (state.ended = true));
    for (let turn = 0; !state.ended; turn++) {
      assert.ok(turn < 100_000);
      clock.advance(10);
      await delay(1);
    }
    assert.ok(witnessing!.counters.failed > 0 && witnessing!.counters.cosigned === 0);
    await close();
  });

  test("that answers nonsense, another's cosignature, or without end is counted as failed, and nothing is kept of it", async () => {
    const other = noteSigner("witness.example/9", Buffer.alloc(32, 9), "cosignature").verifier;
    const answers: RequestListener[] = [
      (_, response) => response.end("nonsense"),
      (_, response) => response.writeHead(500).end(),
      (_, response) => response.writeHead(409).end("5\n"),
      (_, response) => response.end(`\u2014 ${other.name} ${Buffer.alloc(76).toString("base64")}\n`),
      (_, response) => response.end("x".repeat(1024 * 1024)),
      (_, response) => response.destroy(),
    ];
    for (const answer of answers) {
      const { address, close } = await scripted(answer);
      const folder = await mkdtemp(join(root, "nonsense-"));
      const { witnessing } = await grow(folder, [address], 1);
      assert.ok(witnessing!.counters.failed > 0 && witnessing!.counters.cosigned === 0);
      assert.ok(!(await readdir(folder)).includes("witnessed"));
      await close();
    }
  });

  test("on HTTPS is asked when its certificate is of an authority that is trusted, and not otherwise", async () => {
    const authority = await createAuthority(parseTrustDomain("x.example"), Date.now());
    const identity = parseSpiffeId("spiffe://x.example/worker/witness");
    const pair = await issueCertificate(authority, identity, { nowMs: Date.now(), addresses: ["127.0.0.1"] });
    const { address } = await startWitness(3, { certificate: pair.certificate, key: pair.key });
    for (const [ca, cosigned] of [
      [[authority.certificate], true],
      [[], false],
    ] as const) {
      const folder = await mkdtemp(join(root, "tls-"));
      const opened = await open(folder, [address], ca);
      await append(opened.log, 1, 1);
      await opened.close();
      assert.equal(opened.witnessing!.counters.cosigned > 0, cosigned);
    }
  });

  test("is named by an address and a key, and plain HTTP only on this machine", () => {
    const key = addresses()[0]!.key.text;
    for (const good of ["https://w.example/a", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost"])
      assert.equal(parseWitnessAddress(`${good} ${key}`).key.text, key);
    const bad = [
      "",
      key,
      `http://w.example ${key}`,
      `ftp://w.example ${key}`,
      `https://w.example ${SIGNER.verifier.text}`,
      `https://a:b@w.example ${key}`,
      `https://w.example/?a ${key}`,
    ];
    for (const text of bad) assert.throws(() => parseWitnessAddress(text), { code: "argument.invalid" }, text);
  });
});

async function scripted(answer: RequestListener): Promise<{ address: WitnessAddress; close: () => Promise<void> }> {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { address: parseWitnessAddress(`http://127.0.0.1:${port} ${addresses()[0]!.key.text}`), close };
}
