// docs/images.md's first five minutes, typed as they stand into one shell: from nothing to a team's image in a real registry.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { CHECKOUT, runCommand } from "../support/farm.ts";
import { ImageRegistry } from "../support/image-registry.ts";

const SECTION = "## A team's image in five minutes";
const EXAMPLE = "registry.example.com";
const BLOCKS = 5;
const GUIDE_MS = 240_000;

test("the guide to a team's image works, command by command", { timeout: GUIDE_MS + 30_000 }, async () => {
  const page = readFileSync(join(CHECKOUT, "docs/images.md"), "utf8");
  const from = page.indexOf(`\n${SECTION}\n`);
  assert.notEqual(from, -1);
  const section = page.slice(from, page.indexOf("\n## ", from + SECTION.length));
  const blocks = [...section.matchAll(/^```sh\n(.*?)^```$/gms)].map((match) => match[1]!);
  assert.equal(blocks.length, BLOCKS);
  assert.equal(section.match(/^```/gm)?.length, 2 * BLOCKS, "every fenced block is one of commands");

  await using registry = await ImageRegistry.start({ passwords: true });
  const home = mkdtempSync(join(tmpdir(), "hpcc-images-guide-"));
  const project = join(home, "hello");
  mkdirSync(join(home, "run"), { mode: 0o700 });
  mkdirSync(project);
  writeFileSync(join(project, "hello.c"), "int answer(void) { return 42; }\n");
  registry.trustIn(home);
  registry.logIn(home);
  const script = [
    "set -e",
    "git init --quiet",
    "trap 'hpcc daemon stop >/dev/null 2>&1 || true' EXIT",
    ...blocks.map((block, index) => `echo '== block ${index} =='\n${block.replaceAll(EXAMPLE, registry.host)}`),
    "hpcc image ls",
  ].join("\n");
  try {
    const { code, stdout, stderr } = await runCommand(["bash", "-c", script], {
      cwd: project,
      timeoutMs: GUIDE_MS,
      env: {
        PATH: `${CHECKOUT}/out/bin:${process.env["PATH"]}`,
        HOME: home,
        XDG_RUNTIME_DIR: join(home, "run"),
        LANG: "C.UTF-8",
        GIT_AUTHOR_NAME: "ann",
        GIT_AUTHOR_EMAIL: "ann@example.com",
        GIT_COMMITTER_NAME: "ann",
        GIT_COMMITTER_EMAIL: "ann@example.com",
      },
    });
    const said = `${stdout}\n${stderr}`;
    assert.equal(code, 0, said);
    assert.equal(stdout.match(/^== block \d+ ==$/gm)?.length, BLOCKS, said);
    const [, digest = ""] = /^image {4}(sha256:[0-9a-f]{64})$/m.exec(stdout) ?? [];
    assert.match(stdout, new RegExp(`^name {5}${registry.host}/team/toolchain:12@${digest}$`, "m"));
    assert.match(stdout, /hpcc\.lock says so from now on; commit it$/m);
    assert.match(
      readFileSync(join(project, "hpcc.lock"), "utf8"),
      new RegExp(`^"linux/[a-z0-9]+" = "${digest}"$`, "m"),
    );
    assert.match(stdout, /^calls +1$/m);
    assert.match(stdout, new RegExp(`^${registry.host}/team/toolchain:12 +${digest} `, "m"));
    assert.doesNotMatch(stderr, /hpcc: /);
    await comesByItself({ home, project, registry, digest });
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
});

/** A colleague with a rule and nothing else: the first call in the project brings the image, and is compiled by it. */
async function comesByItself(at: {
  readonly home: string;
  readonly project: string;
  readonly registry: ImageRegistry;
  readonly digest: string;
}): Promise<void> {
  const home = join(at.home, "colleague");
  mkdirSync(join(home, ".config/hpcc"), { recursive: true });
  mkdirSync(join(home, "run"), { mode: 0o700 });
  at.registry.trustIn(home);
  at.registry.logIn(home);
  writeFileSync(
    join(home, ".config/hpcc/config.toml"),
    `images.allowed = ["${at.digest}"]\nimages.repositories = ["${at.registry.host}/team/*"]\n`,
  );
  const script = [
    "set -e",
    "trap 'hpcc daemon stop >/dev/null 2>&1 || true' EXIT",
    "hpcc doctor | grep -i ' image' || true",
    "hpcc gcc -c hello.c -o colleague.o",
    "hpcc stats",
    "hpcc image ls",
  ].join("\n");
  const env = {
    PATH: `${CHECKOUT}/out/bin:${process.env["PATH"]}`,
    HOME: home,
    XDG_RUNTIME_DIR: join(home, "run"),
    LANG: "C.UTF-8",
  };
  const run = (text: string) => runCommand(["bash", "-c", text], { cwd: at.project, timeoutMs: GUIDE_MS, env });
  const { code, stdout, stderr } = await run(script);
  const said = `${stdout}\n${stderr}`;
  assert.equal(code, 0, said);
  assert.match(stdout, /^note +image: sha256:\w+ is not here$/m);
  assert.match(stdout, /^calls +1$/m);
  assert.match(stdout, new RegExp(`^${at.registry.host}/team/toolchain:12 +${at.digest} `, "m"));
  assert.deepEqual(readFileSync(join(at.project, "colleague.o")), readFileSync(join(at.project, "hello.o")));
  assert.doesNotMatch(stderr, /hpcc: /);
  // What was changed below the unpacked image compiles nothing, and has a name.
  const altered = await run(
    [
      "trap 'hpcc daemon stop >/dev/null 2>&1 || true' EXIT",
      "echo '#define EVIL' >>~/.local/share/hpcc/images/rootfs/*/usr/include/stdio.h",
      "echo 'int evil;' >evil.c",
      "hpcc gcc -c evil.c -o evil.o; echo exit $?; test ! -e evil.o; echo absent $?",
      // What the launcher would run by itself.
      "HPCC_DISABLE=1 hpcc gcc -c evil.c -o evil.o; echo alone $?",
      "hpcc doctor",
    ].join("\n"),
  );
  assert.match(altered.stdout, /^exit 1\nabsent 0\nalone 1$/m, altered.stderr);
  assert.match(altered.stderr, /is not what it was: usr\/include\/stdio\.h differs, below /);
  assert.match(
    altered.stdout,
    /^MISSING image: the unpacked image sha256:\w+ is not what it was: usr\/include\/stdio\.h/m,
  );
}
