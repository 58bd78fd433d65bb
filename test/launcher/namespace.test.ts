import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import {
  chownSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import { ascii, byteStringOfText } from "../../src/base/byte-string.ts";
import { plannedConfiguration } from "../../src/daemon/project-files.ts";
import type { NamespaceRef } from "../../src/wire/launcher/messages.ts";
import {
  encodePlan,
  type ImagePlan,
  type Plan,
  type PlannedConfiguration,
  planFileName,
} from "../../src/wire/launcher/plan-file.ts";
import { type Ended, HOST_EXEC, hostRun, IS_ROOT, LauncherFolder, PLAIN_UID } from "./launcher-folder.ts";

/** A process that keeps a namespace. In it /opt/image/bin/gcc exists, which tells that it is the image's. */
class Holder {
  readonly reference: NamespaceRef;
  readonly #process: ChildProcess;

  private constructor(process: ChildProcess, pid: number) {
    this.#process = process;
    const ino = (kind: string) => statSync(`/proc/${pid}/ns/${kind}`, { bigint: true }).ino;
    const ownUser = statSync("/proc/self/ns/user", { bigint: true }).ino;
    const user = ino("user");
    this.reference = {
      holderPid: pid,
      userNamespaceIno: user === ownUser ? null : user,
      mountNamespaceIno: ino("mnt"),
    };
  }

  static async start(folder: LauncherFolder, plain: boolean, how: "bwrap" | "unshare" = "bwrap"): Promise<Holder> {
    const hold = "echo $$; exec sleep 1000";
    const argv =
      how === "bwrap"
        ? [...sandboxArgv(folder), "/bin/sh", "-c", hold]
        : [
            "unshare",
            ...(plain ? ["-Ur"] : []),
            "-m",
            "/bin/sh",
            "-c",
            `mount --bind ${imageOf(folder)} /opt && ${hold}`,
          ];
    const asPlain = ["setpriv", `--reuid=${PLAIN_UID}`, `--regid=${PLAIN_UID}`, "--clear-groups", "--"];
    const command = [...(plain && IS_ROOT ? asPlain : []), ...argv];
    const child = spawn(command[0]!, command.slice(1), { stdio: ["ignore", "pipe", "inherit"], cwd: "/" });
    const line = await new Promise<string>((resolve, reject) => {
      child.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString()));
      child.once("exit", () => reject(new Error(`${how} did not hold a namespace`)));
    });
    return new Holder(child, Number(line));
  }

  async stop(): Promise<void> {
    const exited = new Promise((resolve) => this.#process.once("exit", resolve));
    process.kill(this.reference.holderPid, "SIGKILL");
    await exited;
  }
}

/** The image's root file system. */
function rootfsOf(folder: LauncherFolder): string {
  return join(folder.path, "rootfs");
}

/** What of it stands in the namespace, at the same path. */
function imageOf(folder: LauncherFolder): string {
  return join(rootfsOf(folder), "opt");
}

function sandboxArgv(folder: LauncherFolder): string[] {
  // `--dev` makes bubblewrap add a second user namespace for a plain user.
  return ["/usr/bin/bwrap", "--bind", "/", "/", "--dev", "/dev", "--bind", imageOf(folder), "/opt", "--"];
}

function makeImage(folder: LauncherFolder): void {
  mkdirSync(join(imageOf(folder), "image/bin"), { recursive: true });
  writeFileSync(
    join(imageOf(folder), "image/bin/gcc"),
    '#!/bin/sh\necho "image $*"; echo cwd $(pwd); echo uid $(id -u); echo ns $(readlink /proc/self/ns/mnt)\nif [ -n "$CODE" ]; then exit $CODE; fi\n',
    { mode: 0o755 },
  );
}

const IMAGE_GCC = ascii("/opt/image/bin/gcc");
const nsName = (reference: NamespaceRef) => `mnt:[${reference.mountNamespaceIno}]`;

const USERS = [
  { name: "root", plain: false, skip: IS_ROOT ? false : "needs root" },
  { name: "a plain user", plain: true, skip: false },
] as const;

for (const { name, plain, skip } of USERS) {
  for (const how of ["bwrap", "unshare"] as const)
    test(`RUN and EXEC enter a namespace kept by ${how} as ${name}`, { skip }, async () => {
      await using folder = new LauncherFolder();
      makeImage(folder);
      if (plain) folder.givePlain();
      const holder = await Holder.start(folder, plain, how);
      const captured = join(folder.state, "captured");
      try {
        await folder.serve(
          async (peer) => {
            await peer.call();
            const ran = await peer.run(
              hostRun([IMAGE_GCC, "-E"], {
                namespace: holder.reference,
                cwd: ascii("/opt/image"),
                stdout: { kind: "file", path: ascii(captured) },
              }),
            );
            assert.deepEqual(ran.outcome, { kind: "exited", code: 0 });
            peer.send({ ...HOST_EXEC, namespace: holder.reference, program: { kind: "path", path: IMAGE_GCC } });
          },
          { plain },
        );
        const end = await folder.run('exec "$HPCC" gcc -c a.c', { plain, environment: { CODE: "33" } });
        assert.deepEqual([end.code, end.stderr, folder.fallbacks()], [33, "", []]);
        const uid =
          plain && how === "bwrap" && IS_ROOT ? PLAIN_UID : how === "unshare" || IS_ROOT ? 0 : process.getuid?.();
        const facts = (argv: string, cwd: string) =>
          `image ${argv}\ncwd ${cwd}\nuid ${uid}\nns ${nsName(holder.reference)}\n`;
        assert.equal(end.stdout, facts("-c a.c", folder.work));
        assert.equal(readFileSync(captured, "latin1"), facts("-E", "/opt/image"));
        assert.equal(statSync(captured).mode & 0o777, 0o600);
        assert.notEqual(readlinkSync("/proc/self/ns/mnt"), nsName(holder.reference));
      } finally {
        await holder.stop();
      }
    });

  test(`a child in a namespace dies with its launcher, as ${name}`, { skip }, async () => {
    await using folder = new LauncherFolder();
    makeImage(folder);
    if (plain) folder.givePlain();
    const holder = await Holder.start(folder, plain);
    try {
      await folder.serve(
        async (peer) => {
          await peer.call();
          peer.send(hostRun(["/bin/sh", "-c", "echo $$; exec sleep 1000"], { namespace: holder.reference }));
          await peer.ended();
        },
        { plain },
      );
      const child = folder.start('exec "$HPCC" gcc -c a.c', { plain });
      const pid = Number(
        await new Promise((resolve) => child.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString()))),
      );
      process.kill(child.pid!, "SIGKILL");
      for (;;) {
        try {
          if (/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, "latin1"))) break;
        } catch {
          break;
        }
        await new Promise((resolve) => setImmediate(resolve));
      }
    } finally {
      await holder.stop();
    }
  });

  test(`without a daemon the plan's image runs: kept namespace, then a new sandbox, then the policy; as ${name}`, {
    skip,
  }, async () => {
    await using folder = new LauncherFolder();
    makeImage(folder);
    mkdirSync(join(folder.work, ".git"));
    mkdirSync(join(folder.work, "sub"));
    if (plain) folder.givePlain();
    if (plain && IS_ROOT) chownSync(join(folder.work, "sub"), PLAIN_UID, PLAIN_UID);
    const holder = await Holder.start(folder, plain);
    const call = (command: string, environment = {}) =>
      folder.run(command, { plain, environment, cwd: join(folder.work, "sub") });
    const plan: ImagePlan = {
      kind: "image",
      projectRoot: byteStringOfText(folder.work),
      configuration: configurationOf(folder.work),
      imageDigest: `sha256:${"0".repeat(64)}`,
      namespace: holder.reference,
      sandboxArgv: sandboxArgv(folder).map(ascii),
      compilers: [{ name: ascii("gcc"), path: IMAGE_GCC, arguments: [ascii("-injected")] }],
      fallback: "image",
      imageRoot: byteStringOfText(rootfsOf(folder)),
      programFolders: [ascii("/none"), ascii("/opt/image/bin")],
    };
    const CALL = 'exec "$HPCC" gcc -c a.c';
    try {
      writePlan(folder, plan);
      const kept = await call(CALL, { CODE: "9" });
      assert.deepEqual([kept.code, kept.stderr], [9, ""]);
      assert.match(kept.stdout, /^image -injected -c a\.c\n/);
      assert.ok(
        kept.stdout.includes(`cwd ${join(folder.work, "sub")}\n`) && kept.stdout.includes(nsName(holder.reference)),
      );
      const disabled = await call(CALL, { HPCC_DISABLE: "1" });
      assert.match(disabled.stdout, /^image -injected/);
      const missing = await call('exec "$HPCC" clang -c a.c');
      assert.deepEqual([missing.code, missing.stdout], [127, ""]);
      assert.match(missing.stderr, /^hpcc: clang: not in the project's image sha256:0+\n$/);
      const byPath = await call('exec "$HPCC" /opt/image/bin/gcc -c a.c');
      assert.match(byPath.stdout, /^image -injected -c a\.c\n/);
      const hostPath = await call('exec "$HPCC" /usr/bin/gcc -c a.c');
      assert.match(hostPath.stdout, /^image -injected -c a\.c\n/);
      const wrapper = await call('mkdir -p tools && cp /bin/echo tools/gcc && exec "$HPCC" ./tools/gcc wrapper');
      assert.equal(wrapper.stdout, "wrapper\n");
      // A shell tells how it was called.
      copyFileSync("/bin/dash", join(imageOf(folder), "image/bin/cc"));
      writePlan(folder, {
        ...plan,
        compilers: [...plan.compilers, { name: ascii("cc"), path: ascii("/opt/image/bin/cc"), arguments: [] }],
      });
      const called = async (path: string, word = "cc") =>
        (await call(`PATH=${path}:$PATH; export PATH; exec "$HPCC" ${word} -c 'echo $0'`)).stdout;
      assert.equal(await called("/opt/image/bin:/usr/bin"), "cc\n", "the caller's word, where PATH has the program");
      assert.equal(await called("/usr/bin:/opt/image/bin"), "/opt/image/bin/cc\n", "another one stands before it");
      assert.equal(await called("/opt/image/bin", "/usr/bin/cc"), "/opt/image/bin/cc\n");
      writePlan(folder, plan);
      writeFileSync(join(imageOf(folder), "image/bin/c99"), '#!/bin/sh\necho "script $0 $*"\n', { mode: 0o755 });
      writeFileSync(join(imageOf(folder), "image/bin/cpp"), "no program", { mode: 0o644 });
      symlinkSync("/opt/image/bin/c99", join(imageOf(folder), "image/bin/c89"));
      for (const name of ["c99", "/usr/bin/c89"]) {
        const script = await call(`exec "$HPCC" ${name} -c a.c`);
        assert.equal(script.stdout, `script /opt/image/bin/${basename(name)} -c a.c\n`, script.stderr);
      }
      for (const name of ["cpp", "c89-9", "/bin/echo"])
        assert.equal(
          (await call(`exec "$HPCC" ${name}`)).code,
          127,
          "an executable of the image is one in its folders",
        );
    } finally {
      await holder.stop();
    }
    const anew = await call(CALL, { CODE: "8" });
    assert.deepEqual([anew.code, anew.stderr], [8, ""]);
    assert.match(anew.stdout, /^image -injected -c a\.c\n/);
    writePlan(folder, { ...plan, sandboxArgv: [ascii("/no/bwrap")] });
    const none = await call(CALL);
    assert.deepEqual([none.code, none.stdout], [1, ""]);
    assert.match(none.stderr, /^hpcc: cannot enter the project's image .* its policy allows no other compiler\n$/);
    writePlan(folder, { ...plan, sandboxArgv: [], fallback: "host" });
    const host = await call(CALL);
    assert.match(host.stderr, /^hpcc: cannot enter the project's image .*; using the host's compiler\nreal\n$/);
    assert.equal(host.code, 0);
  });
}

/** What a plan says of a project's configuration as it stands. */
function configurationOf(root: string): PlannedConfiguration {
  return plannedConfiguration(byteStringOfText(root));
}

function hostPlan(root: string): Plan {
  return { kind: "host", projectRoot: byteStringOfText(root), configuration: configurationOf(root) };
}

function writePlan(folder: LauncherFolder, plan: Plan): void {
  mkdirSync(join(folder.state, "plans"), { recursive: true });
  writeFileSync(join(folder.state, "plans", planFileName(plan.projectRoot)), encodePlan(plan));
}

test("EXEC in a namespace that lacks the program or the folder falls back before anything is lost", async () => {
  await using folder = new LauncherFolder();
  makeImage(folder);
  folder.givePlain();
  const holder = await Holder.start(folder, true);
  let next = { program: "/opt/image/bin/none", cwd: "/" };
  try {
    await folder.serve(
      async (peer) => {
        await peer.call();
        const program = { kind: "path", path: ascii(next.program) } as const;
        peer.send({
          ...HOST_EXEC,
          namespace: holder.reference,
          program,
          cwd: ascii(next.cwd),
          warning: "not to be seen",
        });
      },
      { plain: true },
    );
    for (const one of [next, { program: "/opt/image/bin/gcc", cwd: "/none" }, { program: "/opt/image", cwd: "/" }]) {
      next = one;
      const end = await folder.run('exec "$HPCC" gcc -c a.c', { plain: true });
      assert.deepEqual([end.code, end.stderr], [0, "real\n"]);
    }
    assert.deepEqual(folder.fallbacks(), ["namespace", "namespace", "namespace"]);
  } finally {
    await holder.stop();
  }
});

test("the plan is that of the nearest configuration, else of the nearest version control, else of the nearest planned folder", async () => {
  await using folder = new LauncherFolder();
  const deep = join(folder.work, "a/b/c");
  mkdirSync(deep, { recursive: true });
  const noEntry = (root: string): Plan => ({
    kind: "image",
    projectRoot: byteStringOfText(root),
    configuration: configurationOf(root),
    imageDigest: `image of ${root.slice(folder.work.length) || "/"}`,
    namespace: null,
    sandboxArgv: [],
    compilers: [{ name: ascii("gcc"), path: IMAGE_GCC, arguments: [] }],
    fallback: "image",
    imageRoot: ascii("/none"),
    programFolders: [],
  });
  const chosen = async () => {
    const end = await folder.run('exec "$HPCC" gcc -c a.c', { cwd: deep });
    return /image (image of \S+) /.exec(end.stderr)?.[1] ?? end.stderr;
  };
  assert.equal(await chosen(), "real\n");
  writePlan(folder, noEntry(folder.work));
  assert.equal(await chosen(), "image of /", "no marker: the nearest planned folder");
  mkdirSync(join(folder.work, "a/b/.git"));
  assert.equal(await chosen(), "real\n", "a plan above the root is not the project's");
  writePlan(folder, noEntry(join(folder.work, "a/b")));
  assert.equal(await chosen(), "image of /a/b");
  writeFileSync(join(folder.work, "a/hpcc.toml"), "");
  writePlan(folder, noEntry(join(folder.work, "a")));
  assert.equal(await chosen(), "image of /a", "a configuration further up goes before version control");
  writePlan(folder, hostPlan(join(folder.work, "a")));
  assert.equal(await chosen(), "real\n");
});

/** How a call ends that policy does not let run: with our code and words, and without any compiler's. */
function assertRefused({ code, stdout, stderr }: Ended, why: RegExp): void {
  assert.deepEqual([code, stdout], [1, ""]);
  assert.match(stderr, why);
  assert.doesNotMatch(stderr, /^real$/m);
}

test("a project whose plan cannot be had is compiled by the host's compiler under the policy host alone", async () => {
  await using folder = new LauncherFolder();
  const home = join(folder.path, ".config/hpcc");
  mkdirSync(home, { recursive: true });
  const CALL = 'exec "$HPCC" gcc -c a.c';
  const call = (environment = {}) => folder.run(CALL, { environment });
  const notReady = (policy: string) =>
    new RegExp(
      `^hpcc: the image of ${folder.work} is not ready \\(fallback = "${policy}"\\), and no worker was asked: ` +
        "daemon-[^\n]*\\. Run `hpcc doctor` there; HPCC_FALLBACK=[^\n]*\n$",
    );
  const config = (text: string) => writeFileSync(join(home, "config.toml"), text);
  const assertBound = async () => {
    assertRefused(await call(), notReady("image"));
    assertRefused(await call({ HPCC_FALLBACK: "image" }), notReady("image"));
    assertRefused(await call({ HPCC_FALLBACK: "none" }), notReady("none"));
    assertRefused(await call({ HPCC_DISABLE: "1" }), /: hpcc is switched off for this call\./);
    const WARNING = "hpcc: this project's image is not ready; using the host's compiler\nreal\n";
    assert.equal((await call({ HPCC_FALLBACK: "host" })).stderr, WARNING);
    config('remote = true\nfallback = "host"\n[identity]\n');
    assert.equal((await call()).stderr, WARNING);
    assertRefused(await call({ HPCC_FALLBACK: "none" }), notReady("none"));
    config('fallbak = "host"\n');
    assertRefused(await call(), notReady("image"));
    rmSync(join(home, "config.toml"));
  };
  // The launcher does not read what stands in it: a misspelled `image` is no reason for another compiler.
  for (const text of ['image = "sha256:00"\n', "imge = 1\n", ""]) {
    writeFileSync(join(folder.work, "hpcc.toml"), text);
    await assertBound();
  }
  mkdirSync(join(folder.state, "plans"));
  const plan = join(folder.state, "plans", planFileName(byteStringOfText(folder.work)));
  const other = encodePlan(hostPlan("/another/project"));
  const older = encodePlan(hostPlan(folder.work));
  older.writeUInt32LE(1, 10);
  for (const bytes of [Buffer.alloc(0), Buffer.from("rubbish"), Buffer.alloc(5000), other, older]) {
    writeFileSync(plan, bytes);
    assertRefused(await call(), notReady("image"));
  }
  // A plan from the time before the project was bound.
  rmSync(join(folder.work, "hpcc.toml"));
  writePlan(folder, hostPlan(folder.work));
  writeFileSync(join(folder.work, "hpcc.toml"), 'image = "sha256:00"\n');
  await assertBound();
  // A plan from the time before the lock, or with another one; and one of both files as they are.
  for (const lock of ["", "version = 1\n"]) {
    writePlan(folder, hostPlan(folder.work));
    assert.equal((await call()).stderr, "real\n");
    writeFileSync(join(folder.work, "hpcc.lock"), lock);
    await assertBound();
  }
  writePlan(folder, hostPlan(folder.work));
  assert.equal((await call()).stderr, "real\n");
});

test("without an hpcc.toml, plain use goes on, unless the user binds all projects to an image", async () => {
  await using folder = new LauncherFolder();
  mkdirSync(join(folder.work, ".git"));
  const call = (environment = {}) => folder.run('exec "$HPCC" gcc -c a.c', { environment });
  for (const HPCC_FALLBACK of ["", "image", "host", "none"])
    assert.equal((await call({ HPCC_FALLBACK })).stderr, "real\n", HPCC_FALLBACK);
  const older = encodePlan(hostPlan(folder.work));
  older.writeUInt32LE(1, 10);
  mkdirSync(join(folder.state, "plans"));
  writeFileSync(join(folder.state, "plans", planFileName(byteStringOfText(folder.work))), older);
  assert.equal((await call()).stderr, "real\n", "a plan of another release");
  assertRefused(await call({ HPCC_IMAGE: "sha256:00" }), / is not ready /);
  mkdirSync(join(folder.path, ".config/hpcc"), { recursive: true });
  writeFileSync(join(folder.path, ".config/hpcc/config.toml"), 'image = "sha256:00"\n');
  assertRefused(await call(), / is not ready /);
});

test("under the policy none nothing is compiled without a daemon, and the message says why and what to do", async () => {
  await using folder = new LauncherFolder();
  makeImage(folder);
  mkdirSync(join(folder.work, ".git"));
  writePlan(folder, {
    kind: "image",
    projectRoot: byteStringOfText(folder.work),
    configuration: configurationOf(folder.work),
    imageDigest: `sha256:${"0".repeat(64)}`,
    namespace: null,
    sandboxArgv: sandboxArgv(folder).map(ascii),
    compilers: [{ name: ascii("gcc"), path: IMAGE_GCC, arguments: [] }],
    fallback: "none",
    imageRoot: byteStringOfText(rootfsOf(folder)),
    programFolders: [],
  });
  const CALL = 'exec "$HPCC" gcc -c a.c';
  const call = (environment = {}) => folder.run(CALL, { environment });
  const WHY =
    /^hpcc: no compile may run on this machine \(fallback = "none"\), and no worker was asked: daemon-missing: [^\n]*\. Run `hpcc doctor` there; HPCC_FALLBACK=image [^\n]*\n$/;
  assertRefused(await call(), WHY);
  assertRefused(await call({ HPCC_FALLBACK: "none" }), WHY);
  assert.match((await call({ HPCC_FALLBACK: "image" })).stdout, /^image -c a\.c\n/);
  assert.match((await call({ HPCC_DISABLE: "1" })).stdout, /^image -c a\.c\n/, "who switches hpcc off means it");
  await folder.serve(async (peer) => {
    await peer.call();
    const namespace = { holderPid: 0x7fff_fffe, userNamespaceIno: null, mountNamespaceIno: 1n };
    peer.send({ ...HOST_EXEC, program: { kind: "path", path: IMAGE_GCC }, namespace });
  });
  assert.match((await call()).stdout, /^image -c a\.c\n/, "what the daemon lets run here is run");
});
