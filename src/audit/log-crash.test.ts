// A process with a log is killed before each operation on its files, or the machine loses its power: whatever a client was told of is there
// once, its receipt holds, and the log goes on. The order of the calls to the machine is traced as it is.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { cp, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { build } from "esbuild";
import { auditFolder, makeOldLog, runAuditSession, TORN, type Told } from "../../test/support/audit-session.ts";
import { checkSession } from "../../test/support/checked-session.ts";
import { type FileOperation, type Interfere, withFaultyFiles } from "../../test/support/faulty-files.ts";
import { SyncedDisk } from "../../test/support/power-cut.ts";

/** Kills of one session and losses of power, at least. */
const KILLS_MIN = 40;
const IMAGES_MIN = 30;
/** A kill before one of these is a kill before what follows it: a process that ends loses nothing that it has written. */
const CHANGES_NOTHING = ["sync", "datasync", "mkdir"];

let root = "";
let program = "";
let oldLog = "";
before(async () => {
  root = await mkdtemp(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "hpcc-crash-"));
  program = join(root, "session.mjs");
  const entry = join(import.meta.dirname, "../../test/support/audit-session-process.ts");
  await build({ entryPoints: [entry], outfile: program, bundle: true, platform: "node", format: "esm" });
  oldLog = join(root, "old");
  await makeOldLog(oldLog);
});
after(async () => rm(root, { recursive: true, force: true }));

const LOGS = ["a new log", "an old log"] as const;

async function fresh(name: (typeof LOGS)[number]): Promise<string> {
  const folder = await mkdtemp(join(root, "log-"));
  if (name === "an old log") await cp(oldLog, folder, { recursive: true });
  return folder;
}

const never = (error: unknown) => assert.fail(String(error));

/** The operations of a whole session. */
async function operationsOf(name: (typeof LOGS)[number]): Promise<FileOperation[]> {
  const folder = await fresh(name);
  const all: FileOperation[] = [];
  const see: Interfere = async (operation, { all: whole }) => {
    all.push(operation);
    return whole();
  };
  await withFaultyFiles(folder, see, async () => runAuditSession({ folder, tell: () => undefined, refused: never }));
  return all;
}

interface Kill {
  readonly nth: number;
  readonly what: string;
  readonly done: "nothing" | "half";
}

function killsOf(operations: readonly FileOperation[]): Kill[] {
  return operations.flatMap(({ nth, what, divisible }) => {
    if (CHANGES_NOTHING.includes(what.split(" ")[0]!)) return [];
    return [{ nth, what, done: "nothing" } as const, ...(divisible ? [{ nth, what, done: "half" } as const] : [])];
  });
}

async function runKilled(folder: string, { nth, done }: Kill): Promise<Told[]> {
  const child = spawn(process.execPath, [program, folder, String(nth), done], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let heard = "";
  child.stdout.on("data", (part: Buffer) => (heard += part.toString()));
  const signal = await new Promise<string | null>((resolve) => child.on("close", (_, by) => resolve(by)));
  assert.equal(signal, "SIGKILL", `operation ${nth} was reached`);
  return toldIn(heard);
}

function toldIn(text: string): Told[] {
  return text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Told);
}

describe("a process that is killed", () => {
  for (const name of LOGS)
    test(`with ${name}, before each operation and in the middle of it`, async () => {
      const kills = killsOf(await operationsOf(name));
      assert.ok(kills.length >= KILLS_MIN, `${kills.length} kills`);
      const told = new Set<number>();
      const work = async () => {
        for (let kill = kills.pop(); kill !== undefined; kill = kills.pop()) {
          const folder = await fresh(name);
          const rows = await runKilled(folder, kill);
          await checkSession(folder, rows, `${kill.nth} ${kill.what}, ${kill.done}`);
          told.add(rows.length);
          await rm(folder, { recursive: true });
        }
      };
      await Promise.all(Array.from({ length: availableParallelism() }, work));
      assert.ok(told.size > 2, "clients were told of more and more rows");
    });
});

async function holdsTornEnd(folder: string): Promise<boolean> {
  const names = (await readdir(folder)).filter((name) => /\.log$|\.torn-[0-9-]+$/.test(name));
  const files = await Promise.all(names.map(async (name) => readFile(join(folder, name), "latin1")));
  return files.some((text) => text.endsWith(TORN));
}

describe("a machine that loses its power", () => {
  for (const name of LOGS)
    test(`with ${name}, after each operation: what was told is on the disk`, async () => {
      const folder = await fresh(name);
      const disk = new SyncedDisk(folder);
      const told: Told[] = [];
      const images: { readonly image: string; readonly what: string; readonly told: readonly Told[]; torn: boolean }[] =
        [];
      let tornNow = false;
      const cut = async ({ nth, what }: FileOperation) => {
        // What a sync has made sure of; what came by itself of that which was written since.
        const share = /sync /.test(what) ? 0 : /^(write|append)/.test(what) ? 0.5 : null;
        if (share === null) return;
        const image = join(root, `image-${name.slice(2, 5)}-${nth}`);
        disk.restore(image, share);
        images.push({ image, what: `${nth} ${what}`, told: [...told], torn: tornNow });
      };
      const tell = (one: Told) => void told.push(one);
      const torn = (segment: string) => {
        disk.sync(segment);
        tornNow = true;
      };
      const run = async () => runAuditSession({ folder, tell, refused: never, torn });
      await withFaultyFiles(folder, disk.interfering(cut), run);
      assert.ok(images.length >= IMAGES_MIN, `${images.length} images`);
      assert.ok(images.some((one) => one.torn));
      for (const { image, what, told: before, torn: wasTorn } of images) {
        if (wasTorn) assert.ok(await holdsTornEnd(auditFolder(image)), `${what}: the torn end is there`);
        await checkSession(image, before, what);
        await rm(image, { recursive: true });
      }
    });
});

/** A call to the machine in a trace, when it had ended. */
interface Call {
  readonly name: string;
  readonly text: string;
}

/** strace's lines, with those that it cut in two put together where they ended. */
function callsOf(trace: string): Call[] {
  const open = new Map<string, string>();
  return trace.split("\n").flatMap((line) => {
    const [, pid = "", rest = ""] = /^(\d+) +(.*)$/.exec(line) ?? [];
    const cut = rest.indexOf(" <unfinished ...>");
    if (cut >= 0) {
      open.set(pid, rest.slice(0, cut));
      return [];
    }
    const [, more] = /^<\.\.\. \w+ resumed>(.*)$/.exec(rest) ?? [];
    const text = more === undefined ? rest : `${open.get(pid) ?? ""}${more}`;
    const name = /^(\w+)\(/.exec(text)?.[1];
    return name === undefined ? [] : [{ name, text }];
  });
}

test("an answer leaves the process after its row is written and synced, and a new segment's name before that", async () => {
  const folder = await fresh("an old log");
  const trace = join(root, "trace");
  const wanted = "trace=pwrite64,write,fdatasync,fsync,openat,rename,renameat,renameat2";
  const argv = ["-f", "-y", "-qq", "-s", "65536", "-e", wanted, "-e", "signal=none", "-o", trace];
  const ran = spawnSync("strace", [...argv, process.execPath, program, folder], {
    encoding: "utf8",
    env: { ...process.env, UV_USE_IO_URING: "0" },
  });
  assert.equal(ran.status, 0, ran.stderr);
  const answers = toldIn(ran.stdout);
  assert.equal(answers.length, 8);
  const calls = callsOf(readFileSync(trace, "latin1"));
  const at = (name: RegExp, text: RegExp, from = 0) =>
    calls.findIndex((call, index) => index >= from && name.test(call.name) && text.test(call.text));
  for (const { version } of answers) {
    const written = at(/^pwrite64$/, new RegExp(`\\d{16}\\.log>.*\\\\"version\\\\":${version}[,}]`));
    const synced = at(/^fdatasync$/, /\d{16}\.log>/, written);
    const told = at(/^write$/, new RegExp(`^write\\(1<.*\\\\"version\\\\":${version}[,}]`));
    assert.ok(written >= 0 && written < synced && synced < told, `row ${version}: ${written} ${synced} ${told}`);
  }
  const made = at(/^openat$/, /\/0000000000000256\.log", .*O_CREAT\|O_EXCL/);
  const named = at(/^fsync$/, /\/audit>/, made);
  const first = at(/^pwrite64$/, /0000000000000256\.log>/);
  assert.ok(made >= 0 && made < named && named < first, `a new segment: ${made} ${named} ${first}`);
  for (const file of ["checkpoint", "key"]) {
    const renamed = at(/^rename/, new RegExp(`/audit/${file}\\.new"`));
    const durable = at(/^fsync$/, new RegExp(`/audit/${file}\\.new>`));
    assert.ok(durable >= 0 && durable < renamed, `${file}: ${durable} ${renamed}`);
  }
  const tile = calls.findLastIndex(
    ({ name, text }) => name.startsWith("rename") && text.includes("/tile/0/001.p/7.new"),
  );
  assert.ok(tile >= 0 && tile < calls.findLastIndex(({ text }) => text.includes("/checkpoint.new>")));
  const [bytes, full] = [at(/^fsync$/, /\/tile\/0\/000\.new>/), at(/^rename/, /\/tile\/0\/000\.new"/)];
  const sure = at(/^fsync$/, /\/tile\/0>/, full);
  const covering = at(/^rename/, /\/audit\/checkpoint\.new"/, full);
  assert.ok(
    bytes >= 0 && bytes < full && full < sure && sure < covering,
    `a full tile: ${bytes} ${full} ${sure} ${covering}`,
  );
});
