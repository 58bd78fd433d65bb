// README.md's five-minute start, typed as it stands into one shell, in a home folder with nothing in it. Only the ports are
// exchanged, so that a start that somebody has running stays undisturbed.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CHECKOUT, runCommand } from "../support/farm.ts";
import { freePort } from "../support/free-port.ts";

const SECTION = "## Five-minute start";
const BLOCKS_MIN = 8;
const START_MS = 300_000;

/** The commands of the section, block by block. */
function commandBlocks(readme: string): string[] {
  const from = readme.indexOf(`\n${SECTION}\n`);
  assert.notEqual(from, -1, `README.md has a section "${SECTION}"`);
  const to = readme.indexOf("\n## ", from + SECTION.length);
  const section = readme.slice(from, to);
  const fences = section.match(/^```/gm)?.length ?? 0;
  const blocks = [...section.matchAll(/^```sh\n(.*?)^```$/gms)].map((match) => match[1]!);
  assert.equal(fences, 2 * blocks.length, "every fenced block of the start is one of commands");
  assert.ok(blocks.length >= BLOCKS_MIN, `${blocks.length} blocks`);
  return blocks;
}

test("the five-minute start works, command by command", { timeout: START_MS + 30_000 }, async () => {
  const isSetUp = readFileSync(join(CHECKOUT, "node_modules/.hpcc-lock")).equals(
    readFileSync(join(CHECKOUT, "package-lock.json")),
  );
  assert.ok(isSetUp, "`make setup` has been run, so that the start's own installs nothing below running tests");
  const [schedulerPort, workerPort] = [await freePort(), await freePort()];
  const blocks = commandBlocks(readFileSync(join(CHECKOUT, "README.md"), "utf8")).map((block) =>
    block
      .replaceAll("127.0.0.1:9440", `127.0.0.1:${schedulerPort}`)
      .replaceAll("127.0.0.1:9441", `127.0.0.1:${workerPort}`),
  );
  const home = mkdtempSync(join(tmpdir(), "hpcc-readme-"));
  const runtime = join(home, "run");
  mkdirSync(runtime, { mode: 0o700 });
  // As an interactive shell would go on after a failure and this must not: -e. What it started ends with it.
  const script = [
    "set -e",
    "trap '{ hpcc daemon stop || true; kill $(jobs -p) || true; wait; } >/dev/null 2>&1' EXIT",
    ...blocks.flatMap((block, index) => [`echo '== block ${index} =='`, block]),
  ].join("\n");
  try {
    const result = await runCommand(["bash", "-c", script], {
      cwd: CHECKOUT,
      timeoutMs: START_MS,
      env: {
        PATH: process.env["PATH"],
        HOME: home,
        XDG_RUNTIME_DIR: runtime,
        LANG: "C.UTF-8",
        // What `make setup` needs of the real home: the toolchain and its caches.
        CARGO_HOME: process.env["CARGO_HOME"] ?? join(process.env["HOME"] ?? "/root", ".cargo"),
        RUSTUP_HOME: process.env["RUSTUP_HOME"] ?? join(process.env["HOME"] ?? "/root", ".rustup"),
      },
    });
    const { stdout } = result;
    const said = `${stdout}\n${result.stderr}`;
    assert.equal(result.code, 0, said);
    assert.equal(stdout.match(/^== block \d+ ==$/gm)?.length, blocks.length, said);
    assert.match(stdout, /^ok {6}workers: w1 at 127\.0\.0\.1:\d+ \(qemu-(?:kvm|tcg)\)$/m);
    assert.match(stdout, /^nothing is missing$/m);
    assert.match(stdout, /^hello from a microVM$/m);
    // Three calls: a compile in the microVM, a link, a hit; nothing else was local.
    assert.match(stdout, /^calls +3$/m);
    assert.match(stdout, /^ {2}compiled by a worker +1 /m);
    assert.match(stdout, /^ {2}from a worker's cache +1 /m);
    assert.match(stdout, /^ {2}local, in the image +1 /m);
    assert.match(stdout, /^ {2}called_for_link +1$/m);
    assert.match(stdout, /^set substitute-path \. \S+\/hpcc-start\/hello$/m);
    assert.match(stdout, /^row +\d+, hit$/m);
    assert.match(stdout, /^row +\d+, compile$/m);
    assert.match(stdout, /^command +\/usr\/bin\/gcc -O2 -Wall -c hello\.c /m);
    assert.match(stdout, /^injected .*-ffile-prefix-map=\/hpcc\/project=\. .*-frandom-seed=[0-9a-f]{16}$/m);
    assert.match(stdout, /^principal +spiffe:\/\/hpcc\.local\/tenant\/acme\/user\/ann$/m);
    const rows = stdout.split("\n").filter((line) => line.split("\t").length === 9);
    // The log's key, the worker's host, the VM, the compile, the hit.
    assert.equal(rows.length, 5, said);
    assert.match(stdout, /^daemon stopped$/m);
    assert.doesNotMatch(result.stderr, /hpcc: /);
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
});
