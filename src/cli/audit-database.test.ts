// Rows in a real PostgreSQL: each once whatever ends in the middle, seen by whom they concern, and found as in the files.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { chmod, cp, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Command } from "commander";
import * as fc from "fast-check";
import type { Client, DatabaseError } from "pg";
import {
  BUILDS,
  DAYS,
  DIGESTS,
  FIRST_MS,
  growLog,
  PRINCIPALS,
  TENANTS,
  VMS,
} from "../../test/support/generated-log.ts";
import { PostgresServer } from "../../test/support/postgres-server.ts";
import { AuditLog } from "../audit/audit-log.ts";
import { encodeEnvelope } from "../audit/envelope.ts";
import { planPrune } from "../audit/prune/plan.ts";
import { pruneLog } from "../audit/prune/prune-log.ts";
import { listPrunes, PRUNE_DISK } from "../audit/prune/stub-files.ts";
import { readLog } from "../audit/read-log.ts";
import { emptyRow } from "../audit/row.ts";
import { Database } from "../audit/sink/database.ts";
import { databaseTarget } from "../audit/sink/database-target.ts";
import { MIGRATIONS, migrate } from "../audit/sink/schema.ts";
import { questionSql } from "../audit/sink/search-rows.ts";
import { ManualClock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import type { LogFields, Logger } from "../base/log.ts";
import { SILENT_LOGGER } from "../base/log.ts";
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import { sha256 } from "../core/digest/digest.ts";
import { noteSigner } from "../core/note/signed-note.ts";
import { addAudit } from "./audit-command.ts";
import { grantRole, migrateDatabase, searchDatabase, sink } from "./audit-database.ts";
import { type RowFilter, searchLog } from "./audit-search.ts";

const ORIGIN = "x.example/worker/w1";
const SIGNER = noteSigner(ORIGIN, Buffer.alloc(32, 1));
const OTHER = noteSigner("x.example/worker/w2", Buffer.alloc(32, 2));
const ROWS = 720;
const LIMITS = { connectMs: 5000, statementMs: 30_000, application: "test" };
const MAIN = join(import.meta.dirname, "../programs/main.ts");

let server: PostgresServer;
let root = "";
let one = "";
let two = "";
let databases = 0;

before(async () => {
  root = await mkdtemp(join(tmpdir(), "hpcc-sink-"));
  [one, two] = [join(root, "one"), join(root, "two")];
  const made = PostgresServer.start();
  await growLog({ folder: one, signer: SIGNER, rows: ROWS - 1, seed: 1 });
  await growLog({ folder: two, signer: OTHER, rows: 300, seed: 2 });
  server = await made;
  await makeTemplate();
});
after(async () => {
  await server?.[Symbol.asyncDispose]();
  await rm(root, { recursive: true });
});

const TEMPLATE = "tables";

/** What all databases of the tests are made of: the tables, and roles with their grants. */
async function makeTemplate(): Promise<void> {
  const roles = ["owner", "sink", "pruner", "auditor", "acme PASSWORD 'correct horse'", "beta", "nobody"];
  const made = roles.map((role) => `CREATE ROLE ${role.replace(/ |$/, " LOGIN ")}`);
  await ask("postgres", "postgres", ...made, `CREATE DATABASE ${TEMPLATE} OWNER owner`);
  const database = names("owner", TEMPLATE);
  await migrateDatabase(database);
  await grantRole(database, "sink", { to: "sink", log: null, prunes: false });
  await grantRole(database, "pruner", { to: "sink", log: null, prunes: true });
  await grantRole(database, "auditor", { to: "auditor" });
  for (const tenant of TENANTS) await grantRole(database, tenant, { to: "tenant", tenant });
}

/** A database of its own with all tables and roles. */
async function newDatabase(): Promise<string> {
  const name = `hpcc${++databases}`;
  await ask("postgres", "postgres", `CREATE DATABASE ${name} TEMPLATE ${TEMPLATE} OWNER owner`);
  return name;
}

const names = (user: string, database: string) => ({ url: server.url(user, database), file: null });
const open = async (user: string, database: string) => Database.open(databaseTarget(names(user, database), LIMITS));

async function sinkOnce(
  database: string,
  folder: string,
  change: { again?: boolean; keys?: string[]; name?: string; user?: string; logger?: Logger } = {},
) {
  const { again = false, keys = [], name = null, user = "sink", logger = SILENT_LOGGER } = change;
  const request = { database: names(user, database), folder, name, keys, once: true, again };
  return sink(request, { clock: SYSTEM_CLOCK, logger, signal: new AbortController().signal });
}

interface Line {
  readonly line: string;
  readonly envelope: string;
}

async function linesOf(folder: string): Promise<Line[]> {
  const lines: Line[] = [];
  for await (const { record } of readLog(folder))
    lines.push({ line: record.line, envelope: encodeEnvelope(record.envelope) });
  return lines;
}

/** All rows as the server's superuser sees them. */
async function rowsIn(database: string, log = ORIGIN): Promise<Line[]> {
  const client = await server.connect("postgres", database);
  try {
    const sql = "SELECT line, envelope FROM hpcc_audit.record WHERE log = $1 ORDER BY sequence";
    return (await client.query<Line>(sql, [log])).rows;
  } finally {
    await client.end();
  }
}

async function ask(user: string, database: string, ...statements: string[]): Promise<unknown[][]> {
  const client = await server.connect(user, database);
  try {
    let rows: unknown[][] = [];
    for (const text of statements) rows = (await client.query({ text, rowMode: "array" })).rows;
    return rows;
  } finally {
    await client.end();
  }
}

describe("the sink", () => {
  test("puts each row of several logs down once, however often it is run", async () => {
    const database = await newDatabase();
    assert.deepEqual(await sinkOnce(database, one), { log: ORIGIN, added: ROWS, removed: 0, pruned: 0, rows: ROWS });
    assert.deepEqual(await sinkOnce(database, two), {
      log: OTHER.verifier.name,
      added: 301,
      removed: 0,
      pruned: 0,
      rows: 301,
    });
    for (const again of [false, true])
      assert.deepEqual(await sinkOnce(database, one, { again }), {
        log: ORIGIN,
        added: 0,
        removed: 0,
        pruned: 0,
        rows: ROWS,
      });
    const both = await Promise.all([1, 2, 3].map(async () => sinkOnce(database, one, { again: true, name: "same" })));
    assert.deepEqual([both.reduce((sum, { added }) => sum + added, 0), both[0]!.rows], [ROWS, ROWS]);
    for (const log of [ORIGIN, "same"]) assert.deepEqual(await rowsIn(database, log), await linesOf(one));
    assert.deepEqual(await rowsIn(database, OTHER.verifier.name), await linesOf(two));
    const folder = join(root, "grown");
    await cp(one, folder, { recursive: true });
    await growLog({ folder, signer: SIGNER, rows: 7, seed: 3 });
    assert.deepEqual(await sinkOnce(database, folder), {
      log: ORIGIN,
      added: 7,
      removed: 0,
      pruned: 0,
      rows: ROWS + 7,
    });
    assert.deepEqual(await rowsIn(database), await linesOf(folder));
  });

  test("takes no row that is not signed, and goes on with those that are", async () => {
    const [database, folder] = [await newDatabase(), join(root, "unsigned")];
    await cp(one, folder, { recursive: true });
    const signed = await readFile(join(folder, "checkpoint"));
    await growLog({ folder, signer: SIGNER, rows: 20, seed: 4 });
    const later = await readFile(join(folder, "checkpoint"));
    await writeFile(join(folder, "checkpoint"), signed);
    assert.equal((await sinkOnce(database, folder)).rows, ROWS);
    await writeFile(join(folder, "checkpoint"), later);
    assert.deepEqual(await sinkOnce(database, folder), {
      log: ORIGIN,
      added: 20,
      removed: 0,
      pruned: 0,
      rows: ROWS + 20,
    });
  });

  test("goes on over rows that retention has removed, and from key to key", async () => {
    const [database, pruned] = [await newDatabase(), join(import.meta.dirname, "../../test/golden/audit-pruned")];
    const all = await linesOf(pruned);
    const { log, ...count } = await sinkOnce(database, pruned);
    assert.equal(count.added, all.length);
    assert.ok(count.removed > 0 && count.added + count.removed === count.rows, JSON.stringify(count));
    assert.deepEqual(await rowsIn(database, log), all);
    assert.deepEqual(await sinkOnce(database, pruned, { again: true }), { log, ...count, added: 0 });

    const folder = join(root, "keys");
    await cp(two, folder, { recursive: true });
    await sinkOnce(database, folder);
    const next = noteSigner("renamed.example/worker/w2", Buffer.alloc(32, 7));
    await growLog({ folder, signer: next, rows: 3, seed: 7 });
    const keys = [OTHER.verifier.text];
    await assert.rejects(sinkOnce(database, folder, { keys }), { code: "audit.corrupt", message: /none of the keys/ });
    const both = { keys: [...keys, next.verifier.text] };
    assert.deepEqual(await sinkOnce(database, folder, both), {
      log: OTHER.verifier.name,
      added: 4,
      removed: 0,
      pruned: 0,
      rows: 305,
    });
  });

  test("ends with an alarm where log and database are not the same", async (t) => {
    const database = await newDatabase();
    const alarm = { code: "audit.corrupt" };
    const stranger = noteSigner(ORIGIN, Buffer.alloc(32, 9));
    await assert.rejects(sinkOnce(database, one, { keys: [stranger.verifier.text] }), alarm);
    await sinkOnce(database, one, { keys: [SIGNER.verifier.text] });
    const fork = join(root, "fork");
    await growLog({ folder: fork, signer: SIGNER, rows: ROWS + 5, seed: 5 });
    await assert.rejects(sinkOnce(database, fork), alarm);
    const short = join(root, "short");
    await growLog({ folder: short, signer: SIGNER, rows: 5, seed: 1 });
    await assert.rejects(sinkOnce(database, short), alarm);
    // The whole of a log of the same length and name.
    const equal = join(root, "equal");
    await growLog({ folder: equal, signer: SIGNER, rows: ROWS - 1, seed: 6 });
    await assert.rejects(sinkOnce(database, equal), alarm);
    // Rows that were not signed so, with all numbers, hashes and checksums as they ought to be.
    const altered = join(root, "altered");
    await cp(equal, altered, { recursive: true });
    for (const name of ["checkpoint", "key"]) await cp(join(one, name), join(altered, name));
    await assert.rejects(sinkOnce(database, altered, { name: "altered" }), alarm);
    assert.deepEqual(await rowsIn(database, "altered"), []);

    // One that goes on ends as well, and says so where it logs.
    const follower = follow(t, database, fork);
    await assert.rejects(
      follower.seen(() => false),
      alarm,
    );
    await assert.rejects(follower.end(), alarm);
    assert.equal(follower.said.at(-1)!.event, "audit.sink.alarm");

    const before = await rowsIn(database);
    await ask("postgres", database, "DELETE FROM hpcc_audit.record WHERE sequence IN (5, 700)");
    assert.equal((await sinkOnce(database, one)).added, 0);
    assert.equal((await sinkOnce(database, one, { again: true })).added, 2);
    assert.deepEqual(await rowsIn(database), before);
    await ask("postgres", database, "UPDATE hpcc_audit.record SET leaf = sha256('') WHERE sequence = 600");
    await assert.rejects(sinkOnce(database, one, { again: true }), { ...alarm, message: /^row 600 of x\.example/ });
    await assert.rejects(searchText("auditor", database, ANY), { ...alarm, message: /^row 600 of x\.example/ });
  });

  test("loses nothing while the database is away for the length of a build", async (t) => {
    const [database, folder] = [await newDatabase(), join(root, "built")];
    await cp(one, folder, { recursive: true });
    const follower = follow(t, database, folder);
    await follower.seen(({ event, rows }) => event === "audit.sink.rows" && rows === ROWS);
    await server.stop();
    for (let seed = 10; seed < 13; seed++) await growLog({ folder, signer: SIGNER, rows: 200, seed });
    await follower.seen(({ event, failures }) => event === "audit.sink.waiting" && Number(failures) > 2);
    await server.resume();
    await follower.seen(({ event, rows }) => event === "audit.sink.rows" && rows === ROWS + 600);
    assert.deepEqual(await follower.end(), { added: ROWS + 600, removed: 0, pruned: 0, rows: ROWS + 600 });
    assert.deepEqual(await rowsIn(database), await linesOf(folder));
    assert.doesNotMatch(JSON.stringify(follower.said), /correct horse/);
  });

  test("has each row once after the server's process was killed in mid-batch", async (t) => {
    const [database, folder] = [await newDatabase(), join(root, "backend")];
    await cp(two, folder, { recursive: true });
    const follower = follow(t, database, folder);
    await follower.seen(({ event }) => event === "audit.sink.rows");
    await using held = await holdPosition(database);
    await growLog({ folder, signer: OTHER, rows: 400, seed: 20 });
    process.kill(await held.waiting(), "SIGKILL");
    await follower.seen(({ event }) => event === "audit.sink.going_on");
    assert.deepEqual(await follower.end(), { added: 701, removed: 0, pruned: 0, rows: 701 });
    assert.deepEqual(await rowsIn(database, OTHER.verifier.name), await linesOf(folder));
  });

  test("has each row once after it was killed itself in mid-batch", async () => {
    const [database, folder] = [await newDatabase(), join(root, "killed")];
    await cp(two, folder, { recursive: true });
    await sinkOnce(database, folder);
    for (let seed = 30; seed < 32; seed++) {
      await using held = await holdPosition(database);
      await growLog({ folder, signer: OTHER, rows: 50, seed });
      const words = ["audit", "sink", "--log", folder, "--database", server.url("sink", database)];
      const child = spawn(process.execPath, [MAIN, ...words], { stdio: "ignore" });
      const pid = await held.waiting();
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
      await held.letGo();
      await until(
        async () => (await ask("postgres", database, `SELECT FROM pg_stat_activity WHERE pid = ${pid}`)).length === 0,
      );
      assert.equal((await rowsIn(database, OTHER.verifier.name)).length, 301 + (seed - 30) * 50);
      assert.equal((await sinkOnce(database, folder)).added, 50);
    }
    assert.deepEqual(await rowsIn(database, OTHER.verifier.name), await linesOf(folder));
  });
});

describe("retention", () => {
  const DAY = 86_400_000;
  const day = (number: number) => ({ startMs: FIRST_MS + number * DAY, endMs: FIRST_MS + number * DAY });
  const NOW = FIRST_MS + 60 * DAY;

  async function withLog(folder: string, run: (log: AuditLog) => Promise<void>): Promise<void> {
    const parts = { worker: "w1", clock: new ManualClock(), logger: SILENT_LOGGER, signer: SIGNER };
    const log = await AuditLog.open({ folder, ...parts, segmentBytesMax: 8000 });
    try {
      await run(log);
    } finally {
      await log.close();
    }
  }

  /** A refused job a day, of one tenant for ten days and then of the other. */
  const grow = (folder: string, from: number, to: number) =>
    withLog(folder, async (log) => {
      for (let at = from; at < to; at++) {
        const tenant = TENANTS[Math.floor(at / 10) % 2]!;
        const principal = `spiffe://x.example/tenant/${tenant}/user/u${at % 2}`;
        const none = { policy: null, tier: null, code: "x.y", actionKey: null, build: null };
        await log.append({ ...emptyRow("w1"), tenant }, { kind: "denied", principal, ...none, ...day(at) });
      }
    });

  const prune = (folder: string, olderThan: number, disk = PRUNE_DISK) =>
    withLog(folder, async (log) => {
      const { signal } = new AbortController();
      const ruleOf = () => ({ ageMs: NOW - FIRST_MS - olderThan * DAY, bytes: null });
      const plan = await planPrune({ folder, size: log.sequence, nowMs: NOW, ruleOf, weigh: null, signal });
      const reason = { cause: "operator", askedBy: "ann", why: () => "old", policy: null, nowMs: NOW } as const;
      const parts = { folder, log, worker: "w1", signer: SIGNER, disk, signal, sweep: async () => undefined };
      await pruneLog(plan, reason, parts);
    });

  test("takes the same rows out of the database, those that are held excepted, and keeps the stubs", async () => {
    const [database, folder] = [await newDatabase(), join(root, "retained")];
    await grow(folder, 0, 60);
    await withLog(folder, async (log) => {
      const none = { principal: null, build: null, hash: null, sinceMs: null, untilMs: null };
      const held = { ...none, principal: "spiffe://x.example/tenant/beta/user/u1" };
      const hold = { kind: "hold", event: "added", name: "case-7", askedBy: "ann", reason: "a dispute" } as const;
      await log.append(emptyRow("w1"), { ...hold, ...held, ...day(60) });
    });
    await sinkOnce(database, folder);
    const before = await rowsIn(database);
    await prune(folder, 30);
    const notes: string[] = [];
    const warn = (event: string) => void notes.push(event);
    const logger: Logger = { ...SILENT_LOGGER, warn, with: () => logger };
    const without = await sinkOnce(database, folder, { logger });
    assert.deepEqual([without.added, without.pruned, notes], [2, 0, ["audit.sink.prune_not_granted"]]);
    assert.deepEqual((await rowsIn(database)).slice(0, before.length), before, "nobody allowed it");
    const { pruned, rows } = await sinkOnce(database, folder, { user: "pruner" });
    assert.deepEqual([pruned, rows], [25, 64]);
    const left = await linesOf(folder);
    assert.equal(left.length, 64 - 25);
    assert.deepEqual(await rowsIn(database), left);
    const removals = "SELECT tenant, rows::int, note FROM hpcc_audit.removal ORDER BY tenant";
    const stubs = await listPrunes(folder);
    const ofTenant = (tenant: string) => stubs.find(({ name }) => name.endsWith(tenant))!.note.toString();
    const [acme, beta] = [
      ["acme", 20, ofTenant("acme")],
      ["beta", 5, ofTenant("beta")],
    ];
    assert.deepEqual(await ask("auditor", database, removals), [acme, beta]);
    assert.deepEqual(await ask("beta", database, removals), [beta]);
    const again = await sinkOnce(database, folder, { user: "pruner", again: true });
    assert.deepEqual([again.added, again.pruned], [0, 0]);
    assert.deepEqual(await rowsIn(database), left);
  });

  test("reaches the database when the log has done it, and only as its row and stub say", async () => {
    const [database, folder] = [await newDatabase(), join(root, "half")];
    await grow(folder, 0, 60);
    await sinkOnce(database, folder);
    const before = await rowsIn(database);
    const remove = async () => Promise.reject(new Error("EIO"));
    await assert.rejects(prune(folder, 10, { ...PRUNE_DISK, remove }), /EIO/);
    const pruner = { user: "pruner" };
    assert.deepEqual(await sinkOnce(database, folder, pruner), {
      log: ORIGIN,
      added: 1,
      removed: 0,
      pruned: 0,
      rows: 62,
    });
    assert.deepEqual((await rowsIn(database)).slice(0, before.length), before);
    const [stub] = await listPrunes(folder);
    const path = join(folder, "pruned", stub!.name);
    await rm(`${path}~rows`);
    await writeFile(path, stub!.note.toString().replace("why old", "why new"));
    const alarm = (message: RegExp) => ({ code: "audit.corrupt", message });
    await assert.rejects(sinkOnce(database, folder, pruner), alarm(/^the stub .* is not the one that row 62 of/));
    await writeFile(path, stub!.note);
    // A row of the log that is another one in the database stays, for whoever finds out why.
    await ask("postgres", database, "UPDATE hpcc_audit.record SET leaf = sha256('') WHERE sequence = 4");
    await assert.rejects(sinkOnce(database, folder, pruner), alarm(/^row 4 of .* is another one here/));
    assert.equal((await rowsIn(database)).length, 62, "all or nothing");
  });

  test("lets a role that may remove rows remove none that no removal covers, and none of other kinds", async () => {
    const [database, folder] = [await newDatabase(), join(root, "covered")];
    await grow(folder, 0, 60);
    await prune(folder, 10);
    await sinkOnce(database, folder);
    const gone = async (where: string) => {
      const before = (await rowsIn(database)).length;
      await ask("pruner", database, `DELETE FROM hpcc_audit.record WHERE ${where}`);
      return before - (await rowsIn(database)).length;
    };
    assert.equal(await gone("log = log"), 0);
    const order = (first: number, last: number, tenant: string) =>
      ask(
        "pruner",
        database,
        `INSERT INTO hpcc_audit.removal (log, sequence, tenant, size, first, last, rows, removed, stub)
        VALUES ('${ORIGIN}', ${1000 + first}, '${tenant}', 1, ${first}, ${last}, 1, sha256(''), sha256(''))`,
      );
    await order(12, 14, "acme");
    assert.equal(await gone("log = log"), 0, "of another tenant");
    await order(12, 15, "beta").catch(() => order(13, 15, "beta"));
    assert.equal(await gone("log = log"), 3);
    await order(1, 1000, "-");
    assert.equal(await gone("log = log"), 0, "the log's key and its removals");
    await assert.rejects(ask("pruner", database, "DELETE FROM hpcc_audit.removal"), { code: "42501" });
    await assert.rejects(ask("pruner", database, "UPDATE hpcc_audit.removal SET first = 1"), { code: "42501" });
    await assert.rejects(ask("sink", database, "DELETE FROM hpcc_audit.record"), { code: "42501" });
  });

  test("may remove rows on both sides of the checkpoint that a sink knows", async (t) => {
    const [database, folder] = [await newDatabase(), join(root, "across")];
    await grow(folder, 0, 25);
    const early = await readFile(join(folder, "checkpoint"));
    await grow(folder, 25, 60);
    await prune(folder, 30);
    const late = await readFile(join(folder, "checkpoint"));
    await writeFile(join(folder, "checkpoint"), early);
    const follower = follow(t, database, folder);
    await follower.seen(({ event, rows }) => event === "audit.sink.rows" && rows === 26);
    await writeFile(join(folder, "new"), late);
    await rename(join(folder, "new"), join(folder, "checkpoint"));
    await follower.seen(({ event, rows }) => event === "audit.sink.rows" && rows === 63);
    assert.deepEqual(await follower.end(), { added: 33, removed: 30, pruned: 0, rows: 63 });
    assert.deepEqual(await rowsIn(database), await linesOf(folder));
  });
});

describe("migrations", () => {
  const owned = async (name: string) => {
    await ask("postgres", "postgres", `CREATE DATABASE ${name} OWNER owner`);
    return open("owner", name);
  };

  test("go forward from each form, one at a time and all or none", async () => {
    await using database = await owned("forward");
    await assert.rejects(sinkOnce("forward", one), { code: "database.refused", hint: /audit database migrate/ });
    const bad = { number: 2, name: "bad", sql: "CREATE TABLE hpcc_audit.more (); SELECT 1 / 0" };
    await assert.rejects(migrate(database, [MIGRATIONS[0]!, bad]), { code: "database.refused" });
    assert.deepEqual(
      await ask("owner", "forward", "SELECT nspname FROM pg_namespace WHERE nspname = 'hpcc_audit'"),
      [],
    );
    for (const [at, step] of MIGRATIONS.entries()) {
      assert.deepEqual(await migrate(database, MIGRATIONS.slice(0, at + 1)), [step]);
      const held = await ask("owner", "forward", "SELECT number FROM hpcc_audit.migration ORDER BY number");
      assert.deepEqual(
        held.flat(),
        MIGRATIONS.slice(0, at + 1).map(({ number }) => number),
      );
    }
    assert.deepEqual(await migrate(database), []);
    await using both = await owned("pair");
    await using again = await open("owner", "pair");
    const made = await Promise.all([both, again].map(async (connection) => migrate(connection)));
    assert.deepEqual(
      made.map(({ length }) => length).toSorted((a, b) => a - b),
      [0, MIGRATIONS.length],
    );
  });

  test("are refused, as everything is, where the database is newer", async () => {
    const database = await newDatabase();
    await ask("owner", database, "INSERT INTO hpcc_audit.migration VALUES (99, 'of the future')");
    const refused = { code: "database.refused", message: /form 99, and this version of hpcc knows form/ };
    await assert.rejects(migrateDatabase(names("owner", database)), refused);
    await assert.rejects(sinkOnce(database, one), refused);
    await assert.rejects(searchText("auditor", database, ANY), refused);
    await assert.rejects(grantRole(names("owner", database), "nobody", { to: "auditor" }), refused);
  });
});

describe("a password", () => {
  const SECRET = "correct horse";
  const said = (error: unknown) =>
    `${error instanceof Error ? `${error.message} ${error.stack}` : ""} ${JSON.stringify(error)}`;
  const silent = (code: string) => (error: unknown) => {
    assert.ok(error instanceof HpccError && error.code === code, said(error));
    assert.doesNotMatch(`${said(error)} ${said(error.cause)}`, /correct|horse/);
    return true;
  };
  const opened = async (file: string) => Database.open(databaseTarget({ url: null, file }, LIMITS));

  test("is taken from a file that nobody else can read, anew for each connection, and is in no message", async () => {
    const database = await newDatabase();
    const file = join(root, "url");
    const url = (password: string) =>
      server.loopbackUrl("acme", database).replace("acme@", `acme:${encodeURIComponent(password)}@`);
    await writeFile(file, `${url(SECRET)}\n`, { mode: 0o644 });
    await assert.rejects(opened(file), silent("config.invalid"));
    await chmod(file, 0o600);
    await (await opened(file))[Symbol.asyncDispose]();
    await writeFile(file, url(`${SECRET}!`));
    await assert.rejects(opened(file), silent("database.refused"));
    for (const bad of [`mysql://acme:${SECRET}@127.0.0.1/x`, `postgresql://acme:${SECRET}@127.0.0.1:port/x`, SECRET]) {
      await writeFile(file, bad);
      await assert.rejects(opened(file), silent("config.invalid"));
    }
    await writeFile(file, url(SECRET).replace(String(server.port), "1"));
    await assert.rejects(opened(file), silent("database.unavailable"));
  });

  test("is refused on a command line, and nothing leaves the machine in clear text unasked", async () => {
    for (const url of [`postgresql://acme:${SECRET}@h/x`, `postgres://h/x?user=acme&password=${SECRET}`])
      assert.throws(() => databaseTarget({ url, file: null }, LIMITS), silent("argument.invalid"));
    const ssl = async (url: string) => (await databaseTarget({ url, file: null }, LIMITS)()).ssl;
    assert.equal(await ssl("postgresql://acme@db.example.com/x"), true);
    for (const url of [
      "postgresql://acme@db.example.com/x?sslmode=disable",
      "postgresql://acme@127.0.0.1/x",
      server.url(),
    ])
      assert.equal(await ssl(url), false, url);
  });
});

describe("a search", () => {
  const start = fc.tuple(fc.constantFrom(...DIGESTS), fc.nat(71)).map(([digest, length]) => digest.slice(0, length));
  const digest = fc.oneof(
    start,
    fc.constantFrom("ABC", "g", "0", `${DIGESTS[0]}0`),
    start.map((text) => text.slice(7)),
  );
  const time = fc.oneof(fc.nat(DAYS * 86_400_000), fc.constantFrom(0)).map((ms) => FIRST_MS + ms);
  const text = (known: readonly string[]) =>
    fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...known) }, fc.constantFrom("", "x'; --", "é"));
  const columns: { readonly [K in keyof RowFilter]: fc.Arbitrary<RowFilter[K]> } = {
    tenant: text([...TENANTS, "-"]),
    principal: text(PRINCIPALS),
    kind: text(["compile", "hit", "vm", "host", "hold"]),
    build: text(BUILDS),
    vm: text(VMS),
    image: digest,
    source: digest,
    output: digest,
    sinceMs: time,
    untilMs: time,
  };
  /** With at most three conditions, so that something is found. */
  const filters: fc.Arbitrary<RowFilter> = fc
    .tuple(fc.record(columns), fc.subarray(Object.keys(columns), { maxLength: 3 }))
    .map(([all, kept]) => ({
      ...ANY,
      ...Object.fromEntries(Object.entries(all).filter(([name]) => kept.includes(name))),
    }));

  test("gives each role what it may see of what the files give, in every form", async () => {
    const database = await newDatabase();
    await sinkOnce(database, one);
    await sinkOnce(database, two);
    let found = 0;
    const users = fc.constantFrom("auditor", ...TENANTS);
    const formats = fc.constantFrom("tsv", "jsonl", "csv");
    await fc.assert(
      fc.asyncProperty(filters, users, formats, fc.constantFrom(one, two), async (filter, user, format, folder) => {
        const texts = { files: "", database: "" };
        const into = (name: keyof typeof texts) => (part: string) => void (texts[name] += part);
        const isHidden = user !== "auditor" && filter.tenant !== null && filter.tenant !== user;
        const seen = user === "auditor" ? filter : { ...filter, tenant: isHidden ? "none at all" : user };
        const count = await searchLog(folder, { filter: seen, format, last: null, more: null, out: into("files") });
        const log = (folder === one ? SIGNER : OTHER).verifier.name;
        const own = await searchDatabase(names(user, database), { filter, log, format, out: into("database") });
        assert.equal(texts.database, texts.files);
        assert.equal(own, count);
        found += count;
      }),
      { numRuns: 25 },
    );
    assert.ok(found > 100, `${found} rows were found`);
    const all = (await searchText("auditor", database, ANY)).trimEnd().split("\n").length;
    assert.equal(all, ROWS + 301);
  });
});

describe("a role", () => {
  let database = "";
  const refused = { code: "42501" };
  const count = "SELECT count(*)::int FROM hpcc_audit.record";

  before(async () => {
    database = await newDatabase();
    await sinkOnce(database, one);
  });

  test("of a tenant sees that tenant's rows, whatever it sets, becomes, calls or joins", async () => {
    const [[mine]] = (await ask("postgres", database, `${count} WHERE tenant = 'acme'`)) as [[number]];
    assert.ok(mine > 100 && mine < ROWS / 2);
    const seen = async (...statements: string[]) => (await ask("acme", database, ...statements, count))[0]![0];
    assert.equal(await seen(), mine);
    assert.deepEqual(await ask("acme", database, "SELECT DISTINCT tenant FROM hpcc_audit.record"), [["acme"]]);
    await assert.rejects(ask("nobody", database, count), refused);
    for (const setting of ["hpcc.tenant = 'beta'", "tenant = 'beta'", "search_path = hpcc_audit", "role = 'beta'"])
      assert.ok([mine, null].includes((await seen(`SET ${setting}`).catch(() => null)) as number | null), setting);
    // Without its own policies the table is closed, and not open.
    await assert.rejects(seen("SET row_security = off"), { message: /row-level security/ });
    for (const other of ["beta", "auditor", "sink", "owner", "postgres"]) {
      await assert.rejects(seen(`SET ROLE ${other}`), refused);
      await assert.rejects(seen(`SET SESSION AUTHORIZATION ${other}`), refused);
      await assert.rejects(seen(`GRANT ${other} TO acme`), refused);
    }
    const view = "CREATE TEMP VIEW mine AS SELECT * FROM hpcc_audit.record";
    assert.deepEqual(await ask("acme", database, view, "SELECT count(*)::int FROM mine"), [[mine]]);
    const copied = await ask(
      "acme",
      database,
      "CREATE TEMP TABLE kept AS TABLE hpcc_audit.record",
      "SELECT count(*)::int FROM kept",
    );
    assert.deepEqual(copied, [[mine]]);
  });

  test("of a tenant is told of no other row by a function, an error, statistics or another table", async () => {
    const notices: string[] = [];
    const client = await server.connect("acme", database);
    client.on("notice", ({ message }) => notices.push(message ?? ""));
    await client.query(`CREATE FUNCTION pg_temp.tell(t text) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql
      AS $$ BEGIN RAISE NOTICE '%', t; RETURN true; END $$`);
    await client.query("SELECT FROM hpcc_audit.record WHERE pg_temp.tell(tenant)");
    assert.deepEqual([...new Set(notices)], ["acme"]);
    await client.query("SELECT FROM hpcc_audit.record WHERE 1 / (CASE tenant WHEN 'acme' THEN 1 ELSE 0 END) = 1");
    const stats = "SELECT FROM pg_stats WHERE schemaname = 'hpcc_audit' AND tablename = 'record'";
    await ask("postgres", database, "ANALYZE hpcc_audit.record");
    assert.equal((await client.query(stats)).rowCount, 0);
    await client.end();
    await assert.rejects(ask("acme", database, "TABLE hpcc_audit.log"), refused);
    // A row that is there already would be told by a unique violation, or by a foreign key.
    for (const sql of [
      "INSERT INTO hpcc_audit.record SELECT * FROM hpcc_audit.record",
      "CREATE TEMP TABLE probe (log text, sequence bigint, FOREIGN KEY (log, sequence) REFERENCES hpcc_audit.record)",
      "CREATE TABLE hpcc_audit.own ()",
      "CREATE TRIGGER t BEFORE INSERT ON hpcc_audit.record EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ])
      await assert.rejects(
        ask("acme", database, sql),
        ({ code }: DatabaseError) => code === "42501" || code === "42P16",
      );
  });

  test("changes and removes nothing, and nobody but an owner changes the rules", async () => {
    for (const user of ["acme", "auditor", "sink"])
      for (const sql of [
        "UPDATE hpcc_audit.record SET tenant = 'acme'",
        "DELETE FROM hpcc_audit.record",
        "TRUNCATE hpcc_audit.record",
        "ALTER TABLE hpcc_audit.record DISABLE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON hpcc_audit.record USING (true)",
        "DROP TABLE hpcc_audit.record",
      ])
        await assert.rejects(ask(user, database, sql), refused, `${user}: ${sql}`);
    // The owner of the tables sees no row by owning them.
    assert.deepEqual(await ask("owner", database, count), [[0]]);
    assert.deepEqual(await ask("auditor", database, count), [[ROWS]]);
  });

  test("of a sink adds rows and reads none, of its log alone where that was granted, each under its own tenant", async () => {
    for (const column of ["line", "envelope", "tenant", "*"])
      await assert.rejects(ask("sink", database, `SELECT ${column} FROM hpcc_audit.record`), refused);
    const put = (user: string, log: string, tenant = "acme") =>
      ask(
        user,
        database,
        `INSERT INTO hpcc_audit.record (log, sequence, leaf, tenant, kind, ended, line, envelope)
        VALUES ('${log}', 1, sha256(''), '${tenant}', 'vm', now(), E'-\\t-\\t-\\t-\\tacme\\tw1\\t-\\t0\\t-', '{}')`,
      );
    await put("sink", "any");
    await assert.rejects(put("sink", "other", "beta"), { code: "23514" });
    await ask("postgres", database, "CREATE ROLE narrow LOGIN");
    await grantRole(names("owner", database), "narrow", { to: "sink", log: "its own", prunes: false });
    await put("narrow", "its own");
    await assert.rejects(put("narrow", "another"), refused);
    await assert.rejects(ask("narrow", database, "INSERT INTO hpcc_audit.log (name) VALUES ('another')"), refused);
    assert.deepEqual(await ask("narrow", database, "SELECT DISTINCT log FROM hpcc_audit.record"), [["its own"]]);
    await ask("narrow", database, "UPDATE hpcc_audit.log SET rows = 0, leaf = NULL");
    assert.deepEqual(await ask("postgres", database, `SELECT rows::int FROM hpcc_audit.log WHERE name = '${ORIGIN}'`), [
      [ROWS],
    ]);
  });

  test("gets no rights that others' would widen, and loses them all at once", async () => {
    const owner = names("owner", database);
    await ask(
      "postgres",
      database,
      "CREATE ROLE maker CREATEROLE",
      "CREATE ROLE passer BYPASSRLS",
      "CREATE ROLE heir IN ROLE owner",
    );
    await ask("postgres", database, "CREATE ROLE member IN ROLE auditor", "CREATE ROLE through IN ROLE passer");
    const tenant = { to: "tenant", tenant: "acme" } as const;
    for (const role of [
      "maker",
      "passer",
      "through",
      "heir",
      "owner",
      "postgres",
      "member",
      "auditor",
      "sink",
      "absent",
    ])
      await assert.rejects(grantRole(owner, role, tenant), { code: "database.refused" }, role);
    await assert.rejects(grantRole(owner, "nobody", { to: "tenant", tenant: "-" }), { code: "identity.invalid" });
    await assert.rejects(grantRole(names("acme", database), "nobody", tenant), { code: "database.refused" });
    await ask("postgres", database, 'CREATE ROLE "two; --" LOGIN');
    for (const name of ["acme", "beta"]) await grantRole(owner, "two; --", { to: "tenant", tenant: name });
    const seen = await ask("two; --", database, "SELECT DISTINCT tenant FROM hpcc_audit.record ORDER BY 1");
    assert.deepEqual(seen, [["acme"], ["beta"]]);
    await ask("postgres", database, 'DROP OWNED BY "two; --"');
    await assert.rejects(ask("two; --", database, count), refused);
  });
});

describe("the page about the database", () => {
  const page = readFileSync(join(import.meta.dirname, "../../docs/operations/audit-database.md"), "utf8");
  const commands = [...page.matchAll(/^```sh\n(.*?)^```/gms)].flatMap((match) => match[1]!.trim().split("\n"));

  async function run(words: readonly string[]): Promise<string> {
    let text = "";
    const program = new Command("hpcc").exitOverride();
    const output = { out: (part: string) => void (text += part), error: () => {} };
    const askRetention = async () => assert.fail("not asked for");
    addAudit(program, { env: {}, uid: 0, output, keptBlobs: async () => null, askRetention }, () => {});
    await program.parseAsync(words, { from: "user" });
    return text;
  }

  test("has commands that run as they are written, and make what it says", async () => {
    const place = `@/hpcc?host=${server.folder}&port=${server.port}`;
    const env = { ...process.env, PGHOST: server.folder, PGPORT: String(server.port), PGUSER: "postgres" };
    const said: string[] = [];
    for (const command of commands) {
      const [program, ...words] = command
        .replaceAll("@db.example.com/hpcc", place)
        .replaceAll("/var/lib/hpcc", one)
        .replaceAll("build.example.com/worker/w1", ORIGIN)
        .split(" ");
      if (program === "hpcc") said.push(await run(words));
      else execFileSync(program!, words, { env });
    }
    const [made, sink, auditor, acme, added, again, policies, found, all, prunes] = said;
    assert.equal(made, "made: tables, row security, indexes, removals\n");
    for (const granted of [sink, auditor, acme, prunes]) assert.match(granted!, /^granted to hpcc_/);
    assert.equal(added, `${ROWS} rows added; ${ORIGIN} is there up to row ${ROWS}\n`);
    assert.equal(again, `0 rows added; ${ORIGIN} is there up to row ${ROWS}\n`);
    assert.ok(policies!.split("\n").length > 5);
    assert.match(found!, /^sequence,start,end,/);
    assert.equal(all!.trimEnd().split("\n").length, ROWS);
    assert.equal(said.length, 10);
    await ask("hpcc_auditor", "hpcc", /`(SELECT name, rows [^`]*)`/.exec(page)![1]!);
    const may = "SELECT has_table_privilege('hpcc_audit.record', 'DELETE')";
    assert.deepEqual(await ask("hpcc_sink", "hpcc", may), [[true]]);
    await ask("postgres", "hpcc", "DROP OWNED BY hpcc_acme");
    await assert.rejects(ask("hpcc_acme", "hpcc", "TABLE hpcc_audit.record"), { code: "42501" });
  });

  test("names what a command line lacks", async () => {
    const url = server.url("auditor", "hpcc");
    for (const words of [
      ["search"],
      ["search", one, "--database", url],
      ["search", one, "--log", ORIGIN],
      ["search", "--database", url, "--database-file", "x"],
      ["sink", "--database", url],
      ["sink", "--log", one],
      ["database", "migrate"],
      ["database", "grant", "x", "--database", url],
      ["database", "grant", "x", "--database", url, "--auditor", "--sink"],
      ["database", "grant", "x", "--database", url, "--auditor", "--log", "x"],
      ["database", "grant", "x", "--database", url, "--auditor", "--prune"],
    ])
      await assert.rejects(run(["audit", ...words]), { code: "argument.invalid" }, words.join(" "));
  });
});

describe("with many rows of many tenants", () => {
  let database = "";
  const sha = (text: string) => sha256(Buffer.from(text)).slice(7);

  before(async () => {
    database = await newDatabase();
    await ask("postgres", database, MANY, "ANALYZE hpcc_audit.record");
  });

  const QUESTIONS: Record<string, Partial<RowFilter>> = {
    tenant: { tenant: "acme" },
    principal: { principal: "acme/7" },
    kind: { kind: "policy" },
    build: { build: "acme build 17" },
    vm: { vm: "acme-vm-17" },
    image: { image: sha("image 17").slice(0, 9) },
    source: { source: `sha256:${sha("17")}` },
    output: { output: sha("x17").slice(0, 12) },
    since: { sinceMs: FIRST_MS + 19_900_000 },
    until: { untilMs: FIRST_MS + 100_000 },
    "tenant and time": { tenant: "acme", sinceMs: FIRST_MS + 19_000_000, untilMs: FIRST_MS + 19_500_000 },
    "source and kind": { source: sha("17").slice(0, 8), kind: "compile" },
  };

  async function plan(client: Client, filter: Partial<RowFilter>): Promise<string> {
    const { text, values } = questionSql({ ...ANY, log: null, ...filter })!;
    const explain = `EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF) ${text}`;
    const { rows } = await client.query<string[]>({ text: explain, values: [...values], rowMode: "array" });
    return rows.map(([line]) => line).join("\n");
  }

  test("each question uses an index", async () => {
    for (const user of ["auditor", "acme"]) {
      const client = await server.connect(user, database);
      for (const [name, filter] of Object.entries(QUESTIONS)) {
        const text = await plan(client, filter);
        assert.match(text, /Index (Only )?Scan/, `${name}: ${text}`);
        assert.doesNotMatch(text, /Seq Scan/, `${name}: ${text}`);
      }
      await client.end();
    }
  });

  test("a tenant's plan tells nothing of whether others have what he asks for", async () => {
    const pairs: [Partial<RowFilter>, Partial<RowFilter>][] = [
      [{ source: sha("18") }, { source: sha("none") }],
      [{ source: sha("18").slice(0, 20) }, { source: sha("none").slice(0, 20) }],
      [{ output: sha("x18") }, { output: sha("none") }],
      [{ image: sha("image 18") }, { image: sha("none") }],
      [{ principal: "beta/1" }, { principal: "none/1" }],
      [{ build: "beta build 18" }, { build: "none build 1" }],
      [{ vm: "beta-vm-18" }, { vm: "none-vm-1" }],
      [{ tenant: "beta" }, { tenant: "none" }],
    ];
    const ways = ["", ...["seqscan", "bitmapscan", "indexscan"].map((way) => `SET enable_${way} = off`)];
    const bare = (text: string, filter: Partial<RowFilter>) =>
      Object.values(filter).reduce<string>(
        (rest, value) => rest.replaceAll(new RegExp(`${value}[0f]*`, "g"), "VALUE"),
        text,
      );
    const client = await server.connect("acme", database);
    for (const setting of ways) {
      await client.query(`RESET ALL; ${setting}`);
      for (const [theirs, nobodys] of pairs)
        assert.equal(bare(await plan(client, theirs), theirs), bare(await plan(client, nobodys), nobodys));
    }
    await client.end();
  });
});

/** 20,000 rows of twelve tenants. */
const MANY = `
INSERT INTO hpcc_audit.record
SELECT 'many', g, sha256(g::text::bytea), t, CASE WHEN g % 500 = 0 THEN 'policy' ELSE 'compile' END, t || '/' || g % 40,
  t || ' build ' || g / 100, t || '-vm-' || g / 50, sha256(('image ' || g % 300)::bytea), sha256((g / 2)::text::bytea),
  sha256(('x' || g)::bytea), timestamptz '2027-01-01Z' + g * interval '1 second', E'-\t-\t-\t-\t' || t || E'\tw1\t-\t0\t-', '{}'
FROM generate_series(1, 20000) AS g, LATERAL (SELECT CASE WHEN g % 10 = 0 THEN 'acme' WHEN g % 10 = 1 THEN 'beta'
  ELSE 't' || g % 10 END AS t) AS named`;

const ANY: RowFilter = {
  tenant: null,
  principal: null,
  kind: null,
  build: null,
  vm: null,
  image: null,
  source: null,
  output: null,
  sinceMs: null,
  untilMs: null,
};

async function searchText(
  user: string,
  database: string,
  filter: RowFilter,
  log: string | null = null,
): Promise<string> {
  let text = "";
  const out = (part: string) => void (text += part);
  await searchDatabase(names(user, database), { filter, log, format: "jsonl", out });
  return text;
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 1000; tries++) {
    if (await holds()) return;
    await delay(10);
  }
  throw new Error("it never came to that");
}

interface Said extends LogFields {
  readonly event: string;
}

/** A sink that goes on, and what it logs. */
function follow(context: TestContext, database: string, folder: string) {
  const said: Said[] = [];
  const waiting = new Set<() => void>();
  const say = (event: string, fields: LogFields = {}) => {
    said.push({ event, ...fields });
    for (const wake of waiting) wake();
  };
  const logger: Logger = { debug: say, info: say, warn: say, error: say, with: () => logger };
  const stop = new AbortController();
  const running = sink(
    { database: names("sink", database), folder, name: null, keys: [], once: false, again: false },
    { clock: SYSTEM_CLOCK, logger, signal: stop.signal, backoff: { firstMs: 10, maxMs: 50 } },
  );
  const alive = setInterval(() => {}, 1000);
  const end = async () => {
    stop.abort();
    clearInterval(alive);
    const { log: _, ...count } = await running;
    return count;
  };
  context.after(async () => end().catch(() => {}));
  return {
    end,
    said,
    async seen(wanted: (said: Said) => boolean): Promise<void> {
      const { promise, resolve } = Promise.withResolvers<void>();
      const look = () => said.some(wanted) && resolve();
      waiting.add(look);
      look();
      await Promise.race([promise, running]);
      waiting.delete(look);
      assert.ok(said.some(wanted), JSON.stringify(said.slice(-5)));
    },
  };
}

/** Lets no sink of the database end a batch: its rows are there and the position is not. */
async function holdPosition(database: string) {
  const holder = await server.connect("postgres", database);
  await holder.query("BEGIN; SELECT FROM hpcc_audit.log FOR UPDATE");
  const letGo = async () => holder.end().catch(() => {});
  return {
    letGo,
    /** The server's process for a sink that waits at this point. */
    async waiting(): Promise<number> {
      const sql = `SELECT pid FROM pg_stat_activity WHERE datname = '${database}'
        AND application_name = 'hpcc audit sink' AND wait_event_type = 'Lock'`;
      let pid = 0;
      await until(async () => {
        pid = Number((await ask("postgres", database, sql))[0]?.[0] ?? 0);
        return pid !== 0;
      });
      return pid;
    },
    [Symbol.asyncDispose]: letGo,
  };
}
