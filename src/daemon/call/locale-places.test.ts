import assert from "node:assert/strict";
import { cpSync, mkdirSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ascii, byteStringOfText } from "../../base/byte-string.ts";
import { localePlaces, localeState } from "./locale-places.ts";

const environmentOf = (variables: Readonly<Record<string, string>>) =>
  new Map(Object.entries(variables).map(([name, value]) => [name, byteStringOfText(value)]));
const CWD = ascii("/w");

test("a locale's places are those where the C library looks", () => {
  const { files, folders } = localePlaces(
    environmentOf({ LOCPATH: "own:/abs", LC_ALL: "de_AT.ISO-8859-1@euro", LANGUAGE: "fr" }),
    CWD,
  );
  for (const name of ["de_AT.ISO-8859-1@euro", "de_AT.iso88591@euro", "de_AT@euro", "de.ISO-8859-1", "de_AT", "de"])
    for (const folder of ["/w/own", "/abs", "/usr/lib/locale"])
      assert.ok(
        files.some((file) => file === `${folder}/${name}/LC_CTYPE`),
        `${folder}/${name}`,
      );
  assert.ok(files.some((file) => file === "/usr/lib/locale/locale-archive"));
  for (const name of ["fr", "de_AT", "de"])
    assert.ok(folders.some((folder) => folder === `/usr/share/locale/${name}/LC_MESSAGES`));
});

test("what every system has is not looked for, nor what is no name", () => {
  for (const variables of [{}, { LANG: "C" }, { LC_ALL: "POSIX", LANGUAGE: "de" }, { LANG: "C.UTF-8" }])
    assert.deepEqual(localePlaces(environmentOf(variables), CWD), { files: [], folders: [] });
  const odd = localePlaces(environmentOf({ LC_ALL: "../../etc/x", LANGUAGE: "../x:\xff:" }), CWD);
  assert.deepEqual(odd, { files: [], folders: [] });
  assert.equal(localeState(environmentOf({ LANG: "C.UTF-8" }), CWD), "");
});

test("a locale that is installed changes the state", () => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-locale-")));
  try {
    const environment = environmentOf({ LOCPATH: folder, LC_ALL: "xx_XX.UTF-8" });
    const before = localeState(environment, CWD);
    mkdirSync(join(folder, "xx_XX.utf8"));
    assert.equal(localeState(environment, CWD), before);
    cpSync("/usr/lib/locale/C.utf8/LC_CTYPE", join(folder, "xx_XX.utf8/LC_CTYPE"));
    assert.notEqual(localeState(environment, CWD), before);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
