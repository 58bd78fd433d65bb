// What a person sees who has made a mistake: the build says why it does not go on, the mistake is counted, and doctor and messages
// name the way out. No worker is needed for that.
import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ociPlatform } from "../../src/core/image/platform.ts";
import { Farm, type User } from "../support/farm.ts";

const ABSENT = `sha256:${"0".repeat(64)}`;
const FOREIGN = `sha256:${"1".repeat(64)}`;

describe("a mistake", () => {
  let farm: Farm;
  before(async () => {
    farm = new Farm();
    await farm.init();
    // Nobody listens there.
    farm.schedulerAddress = "127.0.0.1:1";
  });
  after(async () => farm.close());

  async function project(name: string, toml: string, extraConfig = ""): Promise<{ user: User; cwd: string }> {
    const user = await farm.addUser(name, { images: [ABSENT], extraConfig });
    const cwd = join(user.folder, "project");
    mkdirSync(cwd);
    writeFileSync(join(cwd, "hpcc.toml"), toml);
    writeFileSync(join(cwd, "a.c"), "int a;\n");
    return { user, cwd };
  }

  test("in the user's configuration: the key is named, and no compiler of the host runs unasked", async () => {
    const { user, cwd } = await project("ann", `image = "${ABSENT}"\n`, 'isolaton_min = "qemu-tcg"');
    const named = /config\.toml: unknown key isolaton_min; did you mean isolation_min\?/;
    const refused = await user.hpcc(["gcc", "-c", "a.c"], { cwd });
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, named);
    const compiled = await user.hpcc(["gcc", "-c", "a.c"], { cwd, env: { HPCC_FALLBACK: "host" } });
    assert.equal(compiled.code, 0, compiled.stderr);
    assert.match(readFileSync(join(user.folder, "state/daemon.log"), "utf8"), named);
    assert.ok(!existsSync(join(user.folder, "state/fallbacks.log")), "the daemon itself says so");
    assert.ok(existsSync(join(cwd, "a.o")));
    const doctor = await user.hpcc(["doctor"], { cwd });
    assert.equal(doctor.code, 1);
    assert.match(doctor.stdout, /^MISSING configuration: .*isolaton_min/m);
    assert.match(doctor.stdout, /^1 of \d+ checks/m, "said once");
    const shown = await user.hpcc(["config", "show"], { cwd });
    assert.equal(shown.code, 2);
    assert.match(shown.stderr, named);
  });

  test("in the project's: the same, and a correction counts for the next call", async () => {
    const { user, cwd } = await project("bob", 'image = "sha256:abc"\n');
    const refused = await user.hpcc(["gcc", "-c", "a.c"], { cwd });
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /^hpcc: .*hpcc\.toml: image must be a digest/);
    assert.match((await user.hpcc(["stats"])).stdout, /^ {2}image_unusable +1$[^]*^-> run `hpcc doctor`/m);
    rmSync(join(cwd, "hpcc.toml"));
    assert.equal((await user.hpcc(["gcc", "-c", "a.c"], { cwd })).code, 0);
    assert.equal((await user.stats()).outcomes["refused"], 1);
  });

  test("an image that is not here, or not allowed: nothing of it runs, and the way out is named", async () => {
    const { user, cwd } = await project("cay", `image = "${ABSENT}"\n`);
    const absent = await user.hpcc(["gcc", "-c", "a.c"], { cwd });
    assert.equal(absent.code, 1);
    assert.match(absent.stderr, /is not on this machine: there is no .*oci\/0{64}\. Make it with `hpcc image build/);
    writeFileSync(join(cwd, "hpcc.toml"), `image = "${FOREIGN}"\n`);
    const foreign = await user.hpcc(["gcc", "-c", "a.c"], { cwd });
    assert.equal(foreign.code, 1);
    assert.match(foreign.stderr, /you have not allowed; add it to images\.allowed in .*config\.toml/);
    // A name of a registry runs nothing before a lock says which image it is, and then what is allowed.
    writeFileSync(join(cwd, "hpcc.toml"), 'image = "registry.example.com/team/toolchain:12"\n');
    const unlocked = await user.hpcc(["gcc", "-c", "a.c"], { cwd });
    assert.equal(unlocked.code, 1);
    assert.match(
      unlocked.stderr,
      /names registry\.example\.com\/team\/toolchain:12, and .*hpcc\.lock does not say which image/,
    );
    const lock = (digest: string) =>
      writeFileSync(
        join(cwd, "hpcc.lock"),
        `version = 1\n[[image]]\nname = "registry.example.com/team/toolchain:12"\n[image.platforms]\n"${ociPlatform()}" = "${digest}"\n`,
      );
    for (const [digest, message] of [
      [FOREIGN, /you have not allowed/],
      [ABSENT, /is not on this machine/],
    ] as const) {
      lock(digest);
      const locked = await user.hpcc(["gcc", "-c", "a.c"], { cwd });
      assert.equal(locked.code, 1);
      assert.match(locked.stderr, message);
    }
    assert.ok(!existsSync(join(cwd, "a.o")));
    assert.match((await user.hpcc(["stats"])).stdout, /^ {2}image_unusable +5$[^]*^-> run `hpcc doctor`/m);
  });

  test("a key that others can read: one fault, one way out", async () => {
    const { user, cwd } = await project("eve", `image = "${ABSENT}"\n`);
    chmodSync(join(user.folder, "identity/key.pem"), 0o644);
    const { stdout } = await user.hpcc(["doctor"], { cwd });
    assert.match(stdout, /^MISSING certificate: .*key\.pem can be read by others\n {8}-> chmod 600 .*key\.pem$/m);
    assert.match(stdout, /^MISSING scheduler 127\.0\.0\.1:1: not asked, as the certificate cannot be used$/m);
    assert.equal(stdout.match(/can be read by others/g)?.length, 1);
  });

  test("no scheduler there: the doctor says it once, without the library's words", async () => {
    const { user, cwd } = await project("dee", `image = "${ABSENT}"\n`);
    const { stdout, code } = await user.hpcc(["doctor"], { cwd });
    assert.equal(code, 1);
    assert.match(stdout, /^MISSING scheduler 127\.0\.0\.1:1: connect ECONNREFUSED\n {8}-> start it with/m);
    assert.match(stdout, /^MISSING workers: not known, as no scheduler answers$/m);
  });
});
