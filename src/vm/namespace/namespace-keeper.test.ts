// Real namespaces with a tiny image made of this machine's shell. Everything runs as the caller and, when that is root,
// once more as a plain user.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmod, lstat, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { ascii, type ByteString, byteStringOf, byteStringOfText, bytesOf } from "../../base/byte-string.ts";
import { HpccError } from "../../base/errors.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import { sha256 } from "../../core/digest/digest.ts";
import { type HeldNamespace, namespaceInode } from "./holder.ts";
import { NamespaceKeeper, type NamespaceRequest } from "./namespace-keeper.ts";

const PLAIN_UID = 65534;
const isRoot = process.getuid?.() === 0;
const b = byteStringOfText;

let folder: string;
let keeper: NamespaceKeeper;
let request: NamespaceRequest;

/** A root file system with the host's shell, cat and their libraries, on a merged /usr. */
async function makeRootfs(rootfs: string): Promise<void> {
  await mkdir(`${rootfs}/usr/bin`, { recursive: true });
  for (const name of ["dev", "etc", "hpcc", "opt", "proc", "tmp", "usr/lib", "usr/lib64"])
    await mkdir(`${rootfs}/${name}`, { recursive: true });
  for (const name of ["bin", "lib", "lib64"]) await symlink(`usr/${name}`, `${rootfs}/${name}`);
  await writeFile(`${rootfs}/etc/who`, "image\n");
  for (const program of ["sh", "cat", "id"]) {
    const path = spawnSync("sh", ["-c", `command -v ${program}`], { encoding: "utf8" }).stdout.trim();
    spawnSync("cp", ["-L", path, `${rootfs}/usr/bin/${program}`]);
    for (const [, library] of spawnSync("ldd", [path], { encoding: "utf8" }).stdout.matchAll(/(\/\S+) \(0x/g)) {
      const place = `${rootfs}${library!}`;
      await mkdir(place.slice(0, place.lastIndexOf("/")), { recursive: true });
      spawnSync("cp", ["-L", library!, place]);
    }
  }
}

before(async () => {
  folder = await mkdtemp("/tmp/hpcc-namespace-");
  await chmod(folder, 0o755);
  await makeRootfs(`${folder}/rootfs`);
  await mkdir(`${folder}/project`);
  await mkdir(`${folder}/extra`);
  await mkdir(`${folder}/calls`);
  await writeFile(`${folder}/project/a.c`, "int a;\n");
  await writeFile(`${folder}/extra/x.h`, "int x;\n");
  await symlink(`${folder}/project`, `${folder}/linked`);
  keeper = new NamespaceKeeper({ logger: SILENT_LOGGER });
  request = {
    image: sha256(Buffer.from("an image")),
    rootfs: `${folder}/rootfs`,
    project: b(`${folder}/project`),
    extraRoots: [{ name: ascii("extra"), host: b(`${folder}/extra`) }],
    callFiles: b(`${folder}/calls`),
  };
});

after(async () => {
  await keeper.close();
  await rm(folder, { recursive: true, force: true });
});

/** Runs a shell command in a namespace, entered as a launcher does: user namespace first, then mounts. */
function enter(held: HeldNamespace, script: string, cwd = "/"): { status: number | null; out: string } {
  const user = held.userNamespaceInode === null ? [] : ["--user", "--preserve-credentials"];
  const args = [...user, "--mount", "-t", String(held.pid), "--", "/bin/sh", "-c", `cd ${cwd} && { ${script}; }`];
  const run = spawnSync("nsenter", args, { cwd: "/", encoding: "utf8", env: { PATH: "/usr/bin:/bin" } });
  return { status: run.status, out: run.stdout + run.stderr };
}

test("strict: image, roots, minimal /dev, and nothing else", async () => {
  const { strict } = await keeper.get(request);
  assert.equal(enter(strict, "echo /*").out, "/bin /dev /etc /hpcc /lib /lib64 /opt /proc /tmp /usr\n");
  assert.equal(
    enter(strict, "echo /dev/* /hpcc/* /tmp/*").out.includes("/hpcc/project /hpcc/roots /hpcc/tmp /tmp/*"),
    true,
  );
  assert.equal(enter(strict, "cat /etc/who /hpcc/project/a.c /hpcc/roots/extra/x.h").out, "image\nint a;\nint x;\n");
  assert.equal(enter(strict, `cat ${folder}/project/a.c`).status, 1, "host paths are not there");
  assert.equal(enter(strict, "echo x > /usr/bin/new").status, 2);
  assert.equal(enter(strict, "echo x > /new").status, 2);
  assert.equal(enter(strict, "echo x > /dev/null && echo x > /tmp/t && echo ok").out, "ok\n");
});

test("files made inside belong to the caller", async () => {
  const { strict, local } = await keeper.get(request);
  assert.equal(enter(strict, "echo s > /hpcc/project/s.o; echo c > /hpcc/tmp/c.i").status, 0);
  assert.equal(enter(local, `echo l > ${folder}/project/l.o`).status, 0);
  for (const name of ["project/s.o", "calls/c.i", "project/l.o"]) {
    const { uid, gid } = await lstat(`${folder}/${name}`);
    assert.deepEqual([uid, gid], [process.getuid?.(), process.getgid?.()], name);
  }
  assert.equal(enter(strict, "id -u").out, `${process.getuid?.()}\n`);
});

test("local: the image's toolchain in the host's tree, through links too", async () => {
  const { local } = await keeper.get(request);
  assert.equal(enter(local, "cat /etc/who").out, "image\n");
  assert.equal(enter(local, "cat a.c", `${folder}/project`).out, "int a;\n");
  assert.equal(enter(local, `cat ${folder}/linked/a.c /hpcc/project/a.c`).out, "int a;\nint a;\n");
  assert.equal(enter(local, "echo /usr/bin/*").out, "/usr/bin/cat /usr/bin/id /usr/bin/sh\n");
  assert.equal(enter(local, "echo x > /usr/bin/new").status, 2);
});

test("listing: some folders of the image replaced, in both namespaces, made once and again where it ended", async () => {
  await mkdir(`${folder}/shown/etc`, { recursive: true });
  await writeFile(`${folder}/shown/etc/who`, "shown\n");
  const { listing, strict } = await keeper.get(request);
  const shown = { root: `${folder}/shown`, folders: [ascii("/etc")], stamp: "one" };
  for (const base of ["strict", "local"] as const) {
    const held = await listing(base, shown);
    assert.equal(enter(held, "cat /etc/who /hpcc/project/a.c").out, "shown\nint a;\n");
    assert.equal(enter(held, "echo x > /etc/who").status, 2);
    assert.equal((await listing(base, shown)).pid, held.pid);
    assert.notEqual((await listing(base, { ...shown, stamp: "two" })).pid, held.pid);
    process.kill(held.pid, "SIGKILL");
    let next = held;
    for (let looks = 0; looks < 1000 && next.pid === held.pid; looks += 1) {
      await delay(5);
      next = await listing(base, shown);
    }
    assert.equal(enter(next, "cat /etc/who").out, "shown\n");
  }
  assert.equal(enter(strict, "cat /etc/who").out, "image\n");
  await assert.rejects(listing("strict", { ...shown, folders: [ascii("/nowhere")], stamp: "three" }), {
    code: "namespace.unavailable",
  });
});

test("run: the launcher in a compiler's place, the compiler aside, and known to be in use", async () => {
  const launcher = `${folder}/launcher`;
  await writeFile(launcher, "#!/bin/sh\necho launcher\n");
  await chmod(launcher, 0o755);
  const run = { launcher: b(launcher), compilers: [b("/usr/bin/id")], folders: [] };
  const kept = await keeper.get({ ...request, run });
  assert.equal((await keeper.get(request)).run, null);
  const held = kept.run!;
  assert.equal(
    enter(held, "id; /bin/id; /hpcc/real/usr/bin/id -u; /hpcc/bin/hpcc").out,
    `launcher\nlauncher\n${process.getuid?.()}\nlauncher\n`,
  );
  assert.equal(enter(held, "cat /etc/who; cat a.c", `${folder}/project`).out, "image\nint a;\n");
  assert.equal(enter(held, "cat /etc/passwd").out, await readFile("/etc/passwd", "utf8"));
  assert.equal(enter(kept.local, "id -u").out, `${process.getuid?.()}\n`);
  assert.deepEqual(keeper.runsInUse(), []);
  const user = held.userNamespaceInode === null ? [] : ["--user", "--preserve-credentials"];
  const shell = spawn("nsenter", [
    ...user,
    "--mount",
    "-t",
    String(held.pid),
    "--",
    "/bin/sh",
    "-c",
    "echo here; read line",
  ]);
  await once(shell.stdout, "data");
  assert.deepEqual(keeper.runsInUse(), [{ ...request, run }]);
  shell.stdin.end();
  await once(shell, "exit");
  assert.deepEqual(keeper.runsInUse(), []);
  assert.deepEqual(keeper.runRequest(BigInt(held.mountNamespaceInode)), { ...request, run });
});

test("run: known by a number that no later namespace gets, until the last one in it has left", async () => {
  const launcher = `${folder}/launcher-2`;
  await writeFile(launcher, "");
  const run = { launcher: b(launcher), compilers: [], folders: [] };
  const { run: held } = await keeper.get({ ...request, run });
  const number = BigInt(held!.mountNamespaceInode);
  process.kill(held!.pid, "SIGKILL");
  while (namespaceIsThere(held!.pid)) await new Promise((resolve) => setTimeout(resolve, 5));
  // The kernel gives the lowest number that is free. Each is alone for a moment.
  const loop = "i=0; while [ $i -lt 50 ]; do unshare --mount readlink /proc/self/ns/mnt; i=$((i + 1)); done";
  const user = isRoot ? [] : ["unshare", "--user", "--map-root-user"];
  const [program, ...words] = [...user, "sh", "-c", loop];
  const later = spawnSync(program, words, { encoding: "utf8" }).stdout;
  const numbers = [...later.matchAll(/\[([0-9]+)\]/g)].map(([, text]) => BigInt(text!));
  assert.equal(numbers.length, 50);
  for (const one of numbers) assert.equal(keeper.runRequest(one), null);
  assert.notEqual(keeper.runRequest(number), null);
  keeper.runsInUse();
  assert.equal(keeper.runRequest(number), null);
});

function namespaceIsThere(pid: number): boolean {
  try {
    return namespaceInode(pid, "mnt") > 0;
  } catch {
    return false;
  }
}

test("local works without a holder, in the caller's folder", async () => {
  const { localCommand } = await keeper.get(request);
  const [program, ...args] = localCommand.map(String);
  assert.ok(program?.startsWith("/"), "who executes it searches no PATH");
  const run = spawnSync(program!, [...args, "--", "/bin/sh", "-c", "cat a.c /etc/who"], {
    cwd: `${folder}/linked`,
    encoding: "utf8",
  });
  assert.equal(run.stdout + run.stderr, "int a;\nimage\n");
});

test("the same request gets the same namespaces, also at once; another one gets others", async () => {
  const [one, two] = await Promise.all([keeper.get(request), keeper.get(request)]);
  assert.deepEqual(one, two);
  assert.notEqual(one.strict.mountNamespaceInode, one.local.mountNamespaceInode);
  assert.equal(one.strict.mountNamespaceInode, namespaceInode(one.strict.pid, "mnt"));
  const other = await keeper.get({ ...request, project: b(`${folder}/extra`), extraRoots: [] });
  assert.notEqual(other.strict.mountNamespaceInode, one.strict.mountNamespaceInode);
});

test("a holder that died is made anew", async () => {
  const own = new NamespaceKeeper({ logger: SILENT_LOGGER });
  try {
    const first = await own.get(request);
    const gone = untilGone(first.strict.pid);
    process.kill(first.local.pid, "SIGKILL");
    await gone;
    const second = await own.get(request);
    assert.notEqual(second.local.pid, first.local.pid);
    assert.equal(enter(second.local, "cat /etc/who").out, "image\n");
  } finally {
    await own.close();
  }
});

/** Waits for the end of a process that is not our child, by its procfs entry. */
async function untilGone(pid: number): Promise<void> {
  while (await isRunning(pid)) await new Promise((settle) => setImmediate(settle));
}

async function isRunning(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, "latin1").catch(() => "");
  return stat !== "" && !/\) [ZX] /.test(stat);
}

test("holders end with the process that made them, even when it is killed", async () => {
  const script = `
    import { NamespaceKeeper } from ${JSON.stringify(new URL("./namespace-keeper.ts", import.meta.url).href)};
    const silent = { debug() {}, info() {}, warn() {}, error() {}, with: () => silent };
    const kept = await new NamespaceKeeper({ logger: silent }).get(${JSON.stringify(request)});
    console.log(kept.strict.pid, kept.local.pid);
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  const pids = line.toString().trim().split(" ").map(Number);
  assert.equal(pids.length, 2);
  assert.deepEqual(await Promise.all(pids.map(isRunning)), [true, true]);
  child.kill("SIGKILL");
  await Promise.all(pids.map(untilGone));
});

test("a project whose path is not UTF-8", async () => {
  const project = byteStringOf(Buffer.concat([Buffer.from(`${folder}/p`), Buffer.from([0xff, 0xe9])]));
  await mkdir(bytesOf(project));
  await writeFile(bytesOf(`${project}/b.c` as ByteString), "int b;\n");
  const { strict, local } = await keeper.get({ ...request, project, extraRoots: [] });
  assert.equal(enter(strict, "cat /hpcc/project/b.c").out, "int b;\n");
  assert.equal(enter(local, `cat ${folder}/p??/b.c`).out, "int b;\n");
});

test("a project below folders of the image", { skip: isRoot ? false : "only root can write below /usr" }, async () => {
  for (const project of [`/usr/src/hpcc-test-${process.pid}`, `/opt/hpcc-test-${process.pid}`]) {
    await mkdir(project, { recursive: true });
    try {
      await writeFile(`${project}/u.c`, "int u;\n");
      const { strict, local } = await keeper.get({ ...request, project: b(project) });
      assert.equal(enter(strict, "cat /hpcc/project/u.c").out, "int u;\n");
      assert.equal(enter(local, "cat u.c /etc/who; echo o > u.o", project).out, "int u;\nimage\n");
      assert.equal(await readFile(`${project}/u.o`, "utf8"), "o\n");
    } finally {
      await rm(project, { recursive: true, force: true });
    }
  }
});

test("a new folder at the host's top level is seen", {
  skip: isRoot ? false : "only root can write to /",
}, async () => {
  const path = `/hpcc-test-${process.pid}`;
  const first = await keeper.get(request);
  await mkdir(path);
  try {
    await writeFile(`${path}/n.c`, "int n;\n");
    const second = await keeper.get(request);
    assert.notEqual(second.local.pid, first.local.pid);
    assert.equal(enter(second.local, `cat ${path}/n.c`).out, "int n;\n");
    assert.equal(enter(first.local, "cat /etc/who").out, "image\n", "calls that were told of the old one can enter it");
  } finally {
    await rm(path, { recursive: true });
  }
});

test("a root that was replaced by another folder of its name is the new one", async () => {
  const project = b(`${folder}/replaced`);
  const make = async (text: string) => {
    await mkdir(`${folder}/replaced`);
    await writeFile(`${folder}/replaced/a.c`, text);
  };
  await make("int old;\n");
  const first = await keeper.get({ ...request, project });
  await rm(`${folder}/replaced`, { recursive: true });
  await make("int new;\n");
  const second = await keeper.get({ ...request, project });
  assert.notEqual(second.strict.pid, first.strict.pid);
  assert.equal(enter(second.strict, "cat /hpcc/project/a.c").out, "int new;\n");
  assert.equal(enter(second.local, "cat /hpcc/project/a.c").out, "int new;\n");
});

test("without bubblewrap, and where namespaces are forbidden, the error says so", async () => {
  const refuses = async (bwrap: string, code: string, words: RegExp) => {
    await using none = new NamespaceKeeper({ logger: SILENT_LOGGER, bwrap });
    await assert.rejects(
      none.get(request),
      (error) => error instanceof HpccError && error.code === code && words.test(error.message),
    );
  };
  await refuses(`${folder}/absent`, "tool.missing", /package bubblewrap/);
  const forbidden = `${folder}/calls/bwrap`;
  await writeFile(forbidden, "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n");
  await chmod(forbidden, 0o755);
  await refuses(forbidden, "namespace.unavailable", /No permissions to create new namespace/);
  await rm(forbidden);
});

test("all of this as a plain user", { skip: isRoot ? false : "only root can become another user" }, async () => {
  const words = [`--reuid=${PLAIN_UID}`, `--regid=${PLAIN_UID}`, "--clear-groups", "env", "-u", "NODE_TEST_CONTEXT"];
  const args = [...words, process.execPath, "--test", "--test-reporter=tap", import.meta.filename];
  const child = spawn("setpriv", args, { stdio: ["ignore", "pipe", "inherit"], cwd: "/" });
  let out = "";
  for await (const chunk of child.stdout) out += String(chunk);
  assert.equal(child.exitCode ?? (await once(child, "exit"))[0], 0, out);
  assert.match(out, /^# pass 13$/m, out);
  assert.match(out, /^# skipped 3$/m);
});
