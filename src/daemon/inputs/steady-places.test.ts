import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, realpathSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { ascii, byteStringOfText } from "../../base/byte-string.ts";
import { SYSTEM_CLOCK } from "../../base/system/clock.ts";
import { FolderNamesCache } from "./folder-names.ts";
import { FolderIdentities, SteadyPlaces } from "./steady-places.ts";

/** Longer than a tick of the file system's clock. */
const TICKS_MS = 30;

function pause(): void {
  const until = Date.now() + TICKS_MS;
  while (Date.now() < until);
}

/** Whether a name that a compile sought in vain may have been there, of a folder that other files come into meanwhile. */
function moved(name: string, before: (folder: string) => void, meanwhile: (folder: string) => void): boolean {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-steady-")));
  try {
    before(folder);
    pause();
    const steady = new SteadyPlaces(new FolderIdentities(SYSTEM_CLOCK), new FolderNamesCache(SYSTEM_CLOCK));
    const place = byteStringOfText(folder);
    steady.note([place]);
    pause();
    const startedMs = Date.now();
    pause();
    writeFileSync(join(folder, "other.o"), "");
    meanwhile(folder);
    return (
      steady.moved({ folders: [place], links: [], absent: [{ folder: place, names: [ascii(name)] }] }, startedMs) !==
      null
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const nothing = () => undefined;

describe("a name that was sought in vain in a folder into which objects are written", () => {
  it("was absent before and is absent", () => assert.equal(moved("a.h", nothing, nothing), false));

  it("may have been a file that went", () => {
    const there = (folder: string) => writeFileSync(join(folder, "a.h"), "");
    const gone = (folder: string) => rmSync(join(folder, "a.h"));
    assert.equal(moved("a.h", there, gone), true);
  });

  it("was a folder, over which compilers pass", () => {
    const there = (folder: string) => mkdirSync(join(folder, "sha256"));
    assert.equal(moved("sha256", there, nothing), false);
    const gone = (folder: string) => renameSync(join(folder, "sha256"), join(folder, "sha1"));
    assert.equal(moved("sha256", there, gone), false);
  });

  it("may have been in a folder that was another one", () => {
    const there = (folder: string) => mkdirSync(join(folder, "sha256"));
    const swapped = (folder: string) => {
      renameSync(join(folder, "sha256"), join(folder, "sha1"));
      mkdirSync(join(folder, "sha256"));
    };
    assert.equal(moved("sha256/a.h", there, swapped), true);
  });

  it("may have been in a folder below, whose names are known from the second call on", () => {
    const folder = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-steady-")));
    try {
      mkdirSync(join(folder, "refs"));
      const identities = new FolderIdentities(SYSTEM_CLOCK);
      let made = 0;
      const place = byteStringOfText(folder);
      const isMoved = (name: string) => {
        pause();
        const steady = new SteadyPlaces(identities, new FolderNamesCache(SYSTEM_CLOCK));
        steady.note([place]);
        pause();
        const startedMs = Date.now();
        writeFileSync(join(folder, `refs/${(made += 1)}.o`), "");
        rmSync(join(folder, "refs/tags"), { force: true });
        return (
          steady.moved(
            { folders: [place], links: [], absent: [{ folder: place, names: [ascii(name)] }] },
            startedMs,
          ) !== null
        );
      };
      assert.deepEqual([isMoved("refs/tags"), isMoved("refs/tags"), isMoved("refs/others")], [true, false, false]);
      writeFileSync(join(folder, "refs/tags"), "");
      assert.equal(isMoved("refs/tags"), true);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("may have been a folder of precompiled headers", () => {
    const there = (folder: string) => mkdirSync(join(folder, "a.h.gch"));
    assert.equal(
      moved("a.h.gch", there, (folder) => rmSync(join(folder, "a.h.gch"), { recursive: true })),
      true,
    );
  });
});

it("a folder in one that is searched is known before anything is written into it", () => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-steady-")));
  try {
    const below = byteStringOfText(join(folder, "refs"));
    mkdirSync(join(folder, "refs"));
    mkdirSync(join(folder, "other"));
    pause();
    const steady = new SteadyPlaces(new FolderIdentities(SYSTEM_CLOCK), new FolderNamesCache(SYSTEM_CLOCK));
    steady.note([byteStringOfText(folder)]);
    pause();
    const startedMs = Date.now();
    pause();
    writeFileSync(join(folder, "refs/made.o"), "");
    assert.equal(steady.moved({ folders: [below], links: [], absent: [] }, startedMs), null);
    renameSync(join(folder, "refs"), join(folder, "old"));
    renameSync(join(folder, "other"), join(folder, "refs"));
    writeFileSync(join(folder, "refs/made.o"), "");
    assert.equal(steady.moved({ folders: [below], links: [], absent: [] }, startedMs), below);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
