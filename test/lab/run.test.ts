// The KVM lab as a tool: what its command finds there, what comes back, what the host keeps, and that nothing stays however it ends.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { childrenOf, isAlive } from "../support/processes.ts";

const project = join(import.meta.dirname, "../..");
/** Until its QEMU runs; it packs an initramfs before. */
const START_MS_MAX = 60_000;
const END_MS_MAX = 5_000;
const POLL_MS = 20;

function start(argv: readonly string[], env: NodeJS.ProcessEnv = process.env, checkout = project): ChildProcess {
  const cwd = checkout === project ? import.meta.dirname : checkout;
  return spawn(join(checkout, "scripts/lab/run"), argv, { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
}

async function run(argv: readonly string[], env?: NodeJS.ProcessEnv, checkout?: string) {
  const child = start(argv, env, checkout);
  const output: Buffer[] = [];
  let errors = "";
  child.stdout?.on("data", (chunk: Buffer) => output.push(chunk));
  child.stderr?.on("data", (chunk: Buffer) => (errors += chunk.toString("latin1")));
  const [code] = await once(child, "close");
  return { code, output: Buffer.concat(output), errors };
}

function descendants(pid: number): number[] {
  return childrenOf(pid, "").flatMap((child) => [child, ...descendants(child)]);
}

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, "latin1").trim();
  } catch {
    return "";
  }
}

async function until(what: string, deadlineMs: number, holds: () => boolean): Promise<void> {
  const endMs = performance.now() + deadlineMs;
  while (!holds()) {
    assert.ok(performance.now() < endMs, `${what} within ${deadlineMs} ms`);
    await new Promise((resolve) => {
      setTimeout(resolve, POLL_MS);
    });
  }
}

/** All processes of a lab whose machine runs. */
async function runningLab(child: ChildProcess): Promise<number[]> {
  const pid = child.pid ?? 0;
  const all = (): number[] => descendants(pid);
  await until("the machine runs", START_MS_MAX, () => all().some((one) => nameOf(one).startsWith("qemu-system")));
  assert.ok(all().some((one) => nameOf(one) === "virtiofsd"));
  return [pid, ...all()];
}

async function assertNothingLeft(pids: readonly number[]): Promise<void> {
  await until("all processes have ended", END_MS_MAX, () => !pids.some((pid) => isAlive(pid)));
  assert.deepEqual(readdirSync(join(project, ".cache/lab")), []);
  assert.doesNotMatch(readFileSync("/proc/self/mountinfo", "latin1"), /\.cache\/lab/);
}

describe("the KVM lab", { skip: process.getuid?.() === 0 ? false : "needs root" }, () => {
  it("runs a command as root of a machine with KVM and gives back what it prints and its exit code", async () => {
    const folder = mkdtempSync(join(tmpdir(), "hpcc-lab-"));
    try {
      const script = `
        echo "user $(id -u) in $PWD, said $SAID"
        echo "device $(stat -c %F /dev/kvm)"
        echo "controllers $(cat /sys/fs/cgroup/cgroup.subtree_control)"
        echo "root $(findmnt -no FSTYPE /) disk $(findmnt -no FSTYPE /srv)"
        echo "interfaces $(tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' \\n')"
        echo "descriptors $(ls /proc/self/fd | tr '\\n' ' ')"
        touch '${project}/written-in-the-lab' && echo "written over the root"
        mount -t virtiofs host /mnt && touch '/mnt${project}/written-in-the-lab' || echo "not below it"
        echo kept >'${folder}/kept'
        echo "to stderr" >&2
        printf 'bytes \\0\\1\\377 end'
        exit 37`;
      const { code, output, errors } = await run(["--share", folder, "bash", "-c", script], {
        ...process.env,
        SAID: "it's so",
      });
      assert.equal(code, 37, errors);
      const text = output.toString("latin1");
      const lines = text.split("\n");
      assert.equal(lines[0], `user 0 in ${import.meta.dirname}, said it's so`);
      assert.equal(lines[1], "device character special file");
      for (const controller of ["cpu", "io", "memory", "pids"])
        assert.ok(lines[2]?.split(" ").includes(controller), lines[2]);
      assert.deepEqual(lines.slice(3, 7), [
        "root overlay disk ext4",
        "interfaces lo",
        // The fourth is the folder that ls reads.
        "descriptors 0 1 2 3 ",
        "written over the root",
      ]);
      assert.match(text, /Read-only file system\nnot below it\nto stderr\nbytes \0\x01\xff end$/);
      assert.equal(readFileSync(join(folder, "kept"), "utf8"), "kept\n");
      assert.ok(!existsSync(join(project, "written-in-the-lab")), "the host's files stay as they are");
    } finally {
      rmSync(folder, { recursive: true });
    }
    await assertNothingLeft([]);
  });

  it("runs in a clone below /tmp, in a home that lets nobody else in", async () => {
    const home = mkdtempSync("/tmp/hpcc-lab-home-");
    try {
      chownSync(home, 1000, 1000);
      chmodSync(home, 0o700);
      const checkout = join(home, "hpcc");
      for (const part of ["package.json", "scripts", "src", ".cache/guest"])
        cpSync(join(project, part), join(checkout, part), { recursive: true, verbatimSymlinks: true });
      for (const part of ["out", "node_modules"]) symlinkSync(join(project, part), join(checkout, part));
      const script = `
        pwd
        echo more >>package.json && echo "written over the clone"
        exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -c 'id -un && head -n 1 ${checkout}/package.json'`;
      const { code, output, errors } = await run(["--memory", "2048", "bash", "-c", script], process.env, checkout);
      assert.equal(code, 0, errors);
      assert.equal(output.toString("latin1"), `${checkout}\nwritten over the clone\nnobody\n{\n`);
      assert.equal(statSync(home).mode & 0o777, 0o700, "the host's folder stays as it is");
      const own = readFileSync(join(project, "package.json"), "latin1");
      assert.equal(readFileSync(join(checkout, "package.json"), "latin1"), own);
    } finally {
      rmSync(home, { recursive: true });
    }
  });

  it("says that the machine ended before its command", async () => {
    const { code, errors } = await run(["bash", "-c", "echo o >/proc/sysrq-trigger; sleep 60"]);
    assert.equal(code, 125);
    assert.match(errors, /ended before its command did/);
    await assertNothingLeft([]);
  });

  it("ends at its deadline", async () => {
    const child = start(["--deadline", "2", "sleep", "600"]);
    const [code] = await once(child, "close");
    assert.equal(code, 124);
    await assertNothingLeft([]);
  });

  for (const [signal, expected] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGKILL", null],
  ] as const)
    it(`leaves nothing after ${signal}`, async () => {
      const child = start(["sleep", "600"]);
      const pids = await runningLab(child);
      child.kill(signal);
      const [code] = await once(child, "exit");
      assert.equal(code, expected);
      await assertNothingLeft(pids);
    });

  it("refuses what it does not understand", async () => {
    for (const [argv, why] of [
      [[], /no command/],
      [["--deadline", "soon", "true"], /--deadline wants a number, not soon/],
      [["--quick", "1", "true"], /unknown option --quick/],
      [["--share", "/nowhere/at/all", "true"], /\/nowhere\/at\/all/],
    ] as const) {
      const { code, errors } = await run(argv);
      assert.equal(code, 125);
      assert.match(errors, why);
    }
  });
});
