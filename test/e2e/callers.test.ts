// Calls of an unusual kind through a whole hpcc: from a terminal, from another mount namespace, by a launcher of another version.
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { PROTOCOL_VERSION } from "../../src/wire/launcher/limits.ts";
import { compileCall } from "../support/compile-call.ts";
import { Farm, HPCC, runCommand, type User } from "../support/farm.ts";
import { shellWord } from "../support/one-step.ts";

const CODE = `int f(int first_argument_of_a_function_with_a_long_name, long second_argument_of_it) { char narrowed = first_argument_of_a_function_with_a_long_name; return narrowed + second_argument_of_it; }
void g(void) { int unused; }
`;
/** Offset of the protocol version in a CALL: after length, type, tag and the field's length. */
const VERSION_OFFSET = 10;

let farm: Farm;
let user: User;
let project: string;

before(async () => {
  farm = new Farm();
  await farm.init();
  const image = await farm.image("e2e");
  await farm.startScheduler();
  await farm.startWorker("w", { layouts: [image.layout] });
  user = await farm.addUser("alice", { images: [image.digest], fallback: "none" });
  project = join(farm.folder, "p");
  mkdirSync(project);
  const files = {
    "hpcc.toml": `image = "${image.digest}"\n`,
    "a.c": CODE,
    "bad.c": "int f(void) { return missing; }\n",
  };
  for (const [name, text] of Object.entries(files)) {
    writeFileSync(join(project, name), text);
    utimesSync(join(project, name), 1_700_000_000, 1_700_000_000);
  }
  // Boots the machine: a call that waits for one says so on a terminal.
  const first = await user.run([HPCC, "gcc", "-c", "a.c", "-o", "first.o"], { cwd: project });
  assert.equal(first.code, 0, first.stderr);
});

after(async () => {
  await farm?.close();
});

const FLAGS = ["-O1", "-g", "-Wall", "-Wconversion"];

/** The object of the host's compiler, of which the image is made, with what a local compile injects. */
async function plainObject(): Promise<Buffer> {
  const out = join(farm.folder, "plain.o");
  const injected = [`-ffile-prefix-map=${project}=.`, "-gno-record-gcc-switches"];
  const made = await runCommand(["gcc", ...injected, ...FLAGS, "-c", "a.c", "-o", out], {
    cwd: project,
    env: { PATH: "/usr/bin:/bin" },
  });
  assert.equal(made.code, 0, made.stderr);
  return readFileSync(out);
}

describe("a call under a terminal", () => {
  interface Terminal {
    readonly setup?: string;
    readonly env: Readonly<Record<string, string>>;
  }

  async function onTerminal(argv: readonly string[], { setup = "stty cols 100", env }: Terminal) {
    const command = `${setup}; exec ${argv.map(shellWord).join(" ")}`;
    const ran = await user.run(["script", "-qec", command, "/dev/null"], {
      cwd: project,
      env: { LC_ALL: "C.UTF-8", ...env },
    });
    rmSync(join(project, "a.o"), { force: true });
    return { code: ran.code, said: ran.stdout };
  }

  const TERMINALS: Readonly<Record<string, Terminal>> = {
    "100 columns with colours and links": { env: { TERM: "xterm-256color" } },
    "40 columns": { setup: "stty cols 40", env: { TERM: "xterm-256color" } },
    "a terminal that knows no width": { setup: "stty cols 0", env: { TERM: "xterm" } },
    "a dumb one": { env: { TERM: "dumb" } },
    "colours of the user's own": { env: { TERM: "xterm", GCC_COLORS: "warning=01;32:caret=01;34" } },
    "colours switched off": { env: { TERM: "xterm", GCC_COLORS: "" } },
    "COLUMNS set": { env: { TERM: "xterm", COLUMNS: "55" } },
  };
  for (const [name, terminal] of Object.entries(TERMINALS))
    for (const [source, code] of [
      ["a.c", 0],
      ["bad.c", 1],
    ] as const)
      test(`${name}, ${source}`, async () => {
        const argv = ["gcc", ...FLAGS, "-c", source, "-o", "a.o"];
        const plain = await onTerminal(argv, terminal);
        assert.equal(plain.code, code);
        await user.stats(true);
        const ours = await onTerminal([HPCC, ...argv], terminal);
        const { jobs_sent: jobs, reasons } = await user.stats();
        assert.deepEqual({ jobs, reasons }, { jobs: 1, reasons: {} }, ours.said);
        assert.deepEqual(ours, plain);
        if (terminal.env["TERM"] === "xterm-256color") assert.match(plain.said, /\u001b\[/);
      });
});

test("a call from another mount namespace is compiled in the image, here, and counted", async () => {
  const makes = [join(project, "a.o")];
  const argv = ["gcc", ...FLAGS, "-c", "a.c", "-o", "a.o"];
  const prefix = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /mnt && exec "$@"', "sh"];
  const called = await compileCall(user, argv, { cwd: project, prefix, makes, env: { HPCC_FALLBACK: "image" } });
  assert.equal(called.outcome, "local: mount_namespace", called.stderr);
  assert.equal(called.code, 0);
  assert.ok(called.files.get(makes[0]!)?.equals(await plainObject()));
  const refused = await compileCall(user, argv, { cwd: project, prefix, makes });
  assert.equal(refused.outcome, "refused: mount_namespace");
  const asked = await compileCall(user, ["gcc", "--version"], { cwd: project, prefix });
  assert.equal(asked.code, 0, "what compiles nothing is not refused");
});

describe("a launcher of another version", () => {
  /** Stands before the daemon and changes the version that calls claim. */
  async function otherVersion(runtime: string, version: number) {
    mkdirSync(runtime, { mode: 0o700 });
    let calls = 0;
    const server = createServer((launcher: Socket) => {
      calls += 1;
      const daemon = connect(join(user.env["HPCC_RUNTIME_DIR"]!, "daemon.sock"));
      launcher.once("data", (chunk: Buffer) => {
        chunk.writeUInt32LE(version, VERSION_OFFSET);
        daemon.write(chunk);
        launcher.pipe(daemon);
      });
      daemon.pipe(launcher);
      launcher.on("error", () => daemon.destroy());
      daemon.on("error", () => launcher.destroy());
    });
    server.listen(join(runtime, "daemon.sock"));
    await once(server, "listening");
    return { server, calls: () => calls };
  }

  for (const [name, version] of [
    ["older", 0],
    ["newer", PROTOCOL_VERSION + 1],
  ] as const)
    test(`one ${name} than the daemon gets the image's compiler, and is counted`, async () => {
      const makes = [join(project, "a.o")];
      const argv = ["gcc", ...FLAGS, "-c", "a.c", "-o", "a.o"];
      // The plan is there from the first call on.
      assert.match((await compileCall(user, argv, { cwd: project, makes })).outcome, /^remote_/);
      const runtime = join(farm.folder, `run-${name}`);
      const { server, calls } = await otherVersion(runtime, version);
      const log = join(user.env["HPCC_STATE_DIR"]!, "fallbacks.log");
      rmSync(log, { force: true });
      try {
        const env = { HPCC_RUNTIME_DIR: runtime, HPCC_FALLBACK: "image" };
        const called = await user.run([HPCC, ...argv], { cwd: project, env });
        assert.equal(calls(), 1);
        assert.equal(called.code, 0, called.stderr);
        assert.ok(readFileSync(makes[0]!).equals(await plainObject()));
        assert.match(readFileSync(log, "latin1"), /^\d+\trefused\t/);
        assert.equal(readFileSync(log, "latin1").split("\n").length, 2);
        assert.deepEqual(readdirSync(runtime), ["daemon.sock"], "no second daemon was started");
      } finally {
        server.close();
        rmSync(makes[0]!, { force: true });
      }
      await user.run([HPCC, "daemon", "start"]);
      assert.equal((await user.stats()).launcher_fallbacks["refused"], 1);
      rmSync(log);
      assert.match((await compileCall(user, argv, { cwd: project, makes })).outcome, /^remote_/);
    });
});
