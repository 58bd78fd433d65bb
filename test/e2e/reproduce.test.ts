// `hpcc reproduce` as its users type it: two workers with real microVMs, an object, a row and a hash, on another worker, here, and from a
// state folder; and what it says when something differs or is gone.
import assert from "node:assert/strict";
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { digestHex, sha256 } from "../../src/core/digest/digest.ts";
import { CHECKOUT, Farm, HPCC, type RunningWorker, type User } from "../support/farm.ts";

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

const BUILD = "app #1234";

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
    env: { HPCC_BUILD_ID: BUILD },
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

interface Step {
  readonly command: string;
  readonly said: string;
}

/** Types the commands of a page's block of bash into one shell, as they stand but for the folder and the key; gives what each said. */
async function typed(page: string, { state, key }: { state: string; key: string }): Promise<Step[]> {
  const text = readFileSync(join(CHECKOUT, page), "utf8");
  const block = /^```bash\n(.*?)^```$/ms.exec(text)?.[1] ?? "";
  const commands = block.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  const script = commands.flatMap((command) => [
    "echo '@@'",
    command.replaceAll("/var/lib/hpcc", state).replaceAll("KEY", key),
  ]);
  const PATH = `${dirname(HPCC)}:${process.env["PATH"]}`;
  const options = { cwd: project, env: { PATH } };
  const { code, stdout, stderr } = await ann.run(["bash", "-euo", "pipefail", "-c", script.join("\n")], options);
  assert.equal(code, 0, `${stdout}\n${stderr}`);
  const said = stdout.split("@@\n").slice(1);
  return commands.map((command, at) => ({ command, said: said[at] ?? "" }));
}

test("an auditor walks from an object to its row, source, image, machine, host, proof, second compile and statement", async () => {
  copyFileSync(join(project, "a.o"), join(project, "main.o"));
  const [row] = (await reproduce("--here", "a.o")).report.rows;
  const { state } = workers[row!.worker]!;
  const key = (await ann.hpcc(["ca", "log-key", "--state", state])).stdout.trim();
  const steps = await typed("docs/operations/audit.md", { state, key });
  const after = (start: string) => {
    const step = steps.find(({ command }) => command.startsWith(start));
    assert.ok(step !== undefined, start);
    return step.said;
  };
  assert.equal(steps.length, 12);
  assert.match(after("hpcc audit verify"), /^the log is what was signed$/m);
  const [line] = readFileSync(join(project, "row.tsv"), "latin1").split("\n");
  assert.equal(`sha256:${digestHex(sha256(Buffer.from(line!, "latin1")))}`, row!.row);
  const [image, source, , object, tenant, worker, vm] = line!.split("\t");
  assert.equal(object, sha256(readFileSync(join(project, "main.o"))));
  assert.deepEqual([tenant, worker], ["acme", row!.worker]);
  const [ofRow, ofSource] = steps.filter(({ command }) => command.startsWith("hpcc inspect"));
  assert.match(ofRow!.said, /tenant\/acme\/user\/ann/);
  assert.match(ofSource!.said, /\/a\.c/);
  assert.ok(ofSource!.said.includes(source!.slice(7)) && after("hpcc image show").includes(image!.slice(7, 19)));
  const lives = after("hpcc audit search /var/lib/hpcc --kind vm").trim().split("\r\n").slice(1);
  assert.ok(lives.length >= 1 && lives.every((life) => life.includes(vm!)) && lives[0]!.includes("booted"));
  const host = JSON.parse(after("hpcc audit search /var/lib/hpcc --kind host")) as { envelope: { parts: object } };
  assert.ok("kernel" in host.envelope.parts);
  assert.match(readFileSync(join(project, "row.tlog-proof"), "utf8"), /^c2sp\.org\/tlog-proof@v1\n/);
  assert.match(after("hpcc reproduce"), /^verdict +equal$/m);
  assert.match(after("hpcc audit check-attestation"), /^main\.o: row \d+ of w[12]$/m);
});

test("a build's name is in its rows, and its statements are those of its client", async () => {
  for (const { state } of Object.values(workers)) {
    const searched = await ann.hpcc(["audit", "search", state, "--build", BUILD, "--format", "jsonl"]);
    const rows = searched.stdout.split("\n").filter((line) => line !== "");
    assert.ok(rows.every((line) => (JSON.parse(line) as { envelope: { build: string } }).envelope.build === BUILD));
    if (rows.length === 0) continue;
    const argv = ["audit", "attest", "--build", BUILD, "--log", state, "--sign-key", "attest.key", "--json"];
    const { code, stdout, stderr } = await ann.hpcc(argv, { cwd: project });
    assert.equal(code, 0, stderr);
    assert.equal((JSON.parse(stdout) as object[]).length, rows.length);
    return;
  }
  assert.fail("no worker has a row of the build");
});

test("a build without a name has one of its build tool, for all of its calls", async () => {
  writeFileSync(join(project, "Makefile"), "all:\n\t$(MAKE) -f Makefile b.o\n\t$(MAKE) -f Makefile c.o\n");
  for (const name of ["b", "c"]) writeFileSync(join(project, `${name}.c`), `int ${name};\n`);
  const { code, stderr } = await ann.run(["make", `CC=${HPCC} gcc`], { cwd: project });
  assert.equal(code, 0, stderr);
  const builds: (string | undefined)[] = [];
  for (const { state } of Object.values(workers)) {
    const { stdout } = await ann.hpcc(["audit", "search", state, "--kind", "compile", "--format", "jsonl"]);
    for (const line of stdout.split("\n").filter((text) => text !== "")) {
      const { row, envelope } = JSON.parse(line) as { row: string; envelope: { build?: string } };
      if (/[/"][bc]\.c"/.test(row)) builds.push(envelope.build);
    }
  }
  assert.equal(builds.length, 2);
  assert.match(builds[0] ?? "", /^make-[0-9a-f]{24}$/);
  assert.equal(builds[1], builds[0], "both belong to the make above");
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
