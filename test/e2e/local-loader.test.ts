// What the caller's loader is told to load into compilers, without an image: a library that was not there before makes another compiler of it.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFileSync, copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { LocalUser } from "../support/local-user.ts";

let user: LocalUser;

before(async () => {
  user = await LocalUser.start();
});
after(async () => {
  await user.close();
});

/** A library that the compiler proper loads: its short name, and where it lies. */
function libraryOf(program: string): [name: string, path: string] {
  const text = execFileSync("ldd", [program], { encoding: "utf8" });
  const [, name, path] = /^\s+(lib(?:gmp|mpfr|z|zstd)\.so\.\d+) => (\/\S+)/m.exec(text) ?? [];
  assert.ok(name !== undefined && path !== undefined, text);
  return [name, path];
}

for (const place of ["", "glibc-hwcaps/x86-64-v2"])
  test(`a library that comes to stand where the loader seeks is seen: ${place || "the folder itself"}`, async () => {
    const folder = join(user.folder, `libraries-${place.length}`);
    mkdirSync(folder);
    const scenario = {
      name: `loader ${place}`,
      argv: ["gcc", "-c", "a.c"],
      files: { "a.c": "int a;\n" },
      env: { LD_LIBRARY_PATH: folder },
    };
    const plain = await user.plain(scenario);
    const step = async (name: string) => {
      const { outcome, what } = await user.step(name, scenario, plain);
      assert.deepEqual(what, []);
      return outcome;
    };
    assert.deepEqual([await step("miss"), await step("hit")], ["local_compiled", "local_hit"]);
    const [name, path] = libraryOf(execFileSync("gcc", ["-print-prog-name=cc1"], { encoding: "utf8" }).trim());
    mkdirSync(join(folder, place), { recursive: true });
    copyFileSync(path, join(folder, place, name));
    // The loader does not read so far.
    appendFileSync(join(folder, place, name), "another build of it");
    assert.equal(await step("appeared"), "local_compiled");
  });
