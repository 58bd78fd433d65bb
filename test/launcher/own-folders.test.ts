// Whose folders the launcher uses: those that HOME and XDG variables name when they are the user's own. It runs as nobody here, whose listed home
// is not there, beside folders of root's in which everybody may write.
import assert from "node:assert/strict";
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { IS_ROOT, LauncherFolder, PLAIN_UID } from "./launcher-folder.ts";

const skip = IS_ROOT ? false : "only root can make folders of two users";

async function fallBack(folder: LauncherFolder, names: Readonly<Record<string, string>>) {
  const variables = Object.entries(names).map(([name, value]) => `${name}='${value}'`);
  const words = ["env", "-u", "HPCC_RUNTIME_DIR", "-u", "HPCC_STATE_DIR", ...variables, '"$HPCC"', "gcc", "-c", "a.c"];
  const end = await folder.run(`exec ${words.join(" ")}`, { plain: true });
  assert.equal(end.code, 0, end.stderr);
}

function makeFolder(path: string, owner: number): string {
  mkdirSync(path);
  chmodSync(path, owner === 0 ? 0o777 : 0o700);
  chownSync(path, owner, owner);
  return path;
}

test("folders of another user are left alone, whatever they let one do", { skip }, async () => {
  await using folder = new LauncherFolder();
  folder.givePlain();
  const make = (name: string, owner: number) => makeFolder(join(folder.path, name), owner);
  const [home, state, runtime] = [make("home", 0), make("foreign-state", 0), make("own-runtime", PLAIN_UID)];
  await fallBack(folder, { HOME: home, XDG_STATE_HOME: state, XDG_RUNTIME_DIR: runtime });
  assert.deepEqual([readdirSync(home), readdirSync(state)], [[], []]);
  assert.ok(existsSync(join(runtime, "hpcc/state/fallbacks.log")));
});

test("a runtime folder of another user is left alone", { skip }, async () => {
  await using folder = new LauncherFolder();
  folder.givePlain();
  const make = (name: string, owner: number) => makeFolder(join(folder.path, name), owner);
  const [home, runtime] = [make("home", PLAIN_UID), make("foreign-runtime", 0)];
  await fallBack(folder, { HOME: home, XDG_RUNTIME_DIR: runtime });
  assert.deepEqual(readdirSync(runtime), []);
  assert.ok(existsSync(join(home, ".local/state/hpcc/fallbacks.log")));
});

test("a folder that is not there yet belongs to whom the one above it belongs", { skip }, async () => {
  await using folder = new LauncherFolder();
  folder.givePlain();
  const make = (name: string, owner: number) => makeFolder(join(folder.path, name), owner);
  const [own, foreign] = [make("own", PLAIN_UID), make("foreign", 0)];
  await fallBack(folder, { HOME: foreign, XDG_RUNTIME_DIR: own, XDG_STATE_HOME: join(own, "new/state") });
  assert.ok(existsSync(join(own, "new/state/hpcc/fallbacks.log")));
  await fallBack(folder, { HOME: own, XDG_RUNTIME_DIR: own, XDG_STATE_HOME: join(foreign, "new/state") });
  assert.deepEqual(readdirSync(foreign), []);
});
