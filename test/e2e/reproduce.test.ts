// `hpcc reproduce` as its users type it: two workers with real microVMs, an object, a row and a hash, on another worker, here, and from a
// state folder; and what it says when something differs or is gone.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { digestHex, sha256 } from "../../src/core/digest/digest.ts";
import { Farm, HPCC, type RunningWorker, type User } from "../support/farm.ts";

interface Report {
  readonly equal: number;
  readonly different: number;
  readonly gone: number;
  readonly rows: readonly {
    readonly row: string;
    readonly verdict: string;
    readonly worker: string;
    readonly where: string | null;
  }[];
}

let farm: Farm;
let workers: Readonly<Record<string, RunningWorker>>;
let ann: User;
let project: string;

before(async () => {
  farm = new Farm();
  await farm.init();
  const image = await farm.image("e2e");
  await farm.startScheduler();
  workers = {
    w1: await farm.startWorker("w1", { layouts: [image.layout] }),
    w2: await farm.startWorker("w2", { layouts: [image.layout] }),
  };
  ann = await farm.addUser("ann", { images: [image.digest], fallback: "none" });
  project = join(ann.folder, "project");
  mkdirSync(project);
  writeFileSync(join(project, "hpcc.toml"), `image = "${image.digest}"\n`);
  writeFileSync(join(project, "a.c"), "int f(int a) { char c = a; return c; }\n");
  const { code, stderr } = await ann.run([HPCC, "gcc", "-Wconversion", "-g", "-c", "a.c", "-o", "a.o"], {
    cwd: project,
  });
  assert.equal(code, 0, stderr);
});

after(async () => {
  await farm?.close();
});

async function reproduce(...argv: string[]): Promise<{ code: number | null; report: Report; stderr: string }> {
  const { code, stdout, stderr } = await ann.run([HPCC, "reproduce", "--json", ...argv], { cwd: project });
  return { code, stderr, report: stdout === "" ? (null as never) : (JSON.parse(stdout) as Report) };
}

test("an object's file is compiled again on the worker that did not write its row", async () => {
  const { code, report, stderr } = await reproduce("a.o");
  assert.equal(code, 0, stderr);
  const [row] = report.rows;
  assert.equal(row!.verdict, "equal");
  const other = row!.worker === "w1" ? "w2" : "w1";
  assert.match(row!.where ?? "", new RegExp(`^worker ${other}, microVM \\S+, qemu-\\w+, clean$`));
});

test("a row is compiled again here, and from a state folder, with a page as report", async () => {
  const object = digestHex(sha256(readFileSync(join(project, "a.o")))).slice(0, 12);
  const here = await reproduce("--here", object);
  const [row] = here.report.rows;
  assert.equal(row?.verdict, "equal", here.stderr);
  const writer = workers[row.worker]!;
  const page = join(project, "report.html");
  const sampled = await reproduce("--here", "--state", writer.state, "--sample", "5", "--html", page);
  assert.ok(sampled.report.equal >= 1, sampled.stderr);
  assert.equal(sampled.report.different + sampled.report.gone, 0);
  assert.match(readFileSync(page, "utf8"), /<span class="tag good">equal<\/span>/);
});

test("what is unknown, and what is gone, is said", async () => {
  const unknown = await reproduce("--here", "0123456789abcdef");
  assert.match(unknown.stderr, /hash\.unknown/);
  const neither = await reproduce("no such file");
  assert.match(neither.stderr, /neither a file nor/);
  const [first] = (await reproduce("--here", "a.o")).report.rows;
  const writer = workers[first!.worker]!;
  const source = sha256(readFileSync(join(project, "a.c")));
  const kept = join(writer.state, "store/acme/kept", digestHex(source).slice(0, 2), digestHex(source));
  assert.ok(existsSync(kept), kept);
  rmSync(kept);
  const gone = await reproduce("--here", "a.o");
  assert.equal(gone.code, 1);
  assert.equal(gone.report.rows[0]!.verdict, "gone");
});
