// An image's locales are judged by its own files: links of the image never lead to the host's.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { ByteString } from "../base/byte-string.ts";
import { ImageLocaleFiles } from "./locales.ts";

/** An image's root with these links and files below /usr/lib/locale. */
function withImage(make: (locales: string) => void, look: (image: ImageLocaleFiles) => void): void {
  const rootfs = mkdtempSync(join(tmpdir(), "hpcc-locales-"));
  try {
    const locales = join(rootfs, "usr/lib/locale");
    mkdirSync(locales, { recursive: true });
    make(locales);
    look(new ImageLocaleFiles(rootfs as ByteString));
  } finally {
    rmSync(rootfs, { recursive: true });
  }
}

test("an archive is searched, and folders count", () =>
  withImage(
    (locales) => {
      mkdirSync(join(locales, "C.utf8"));
      symlinkSync("C.utf8", join(locales, "it_IT.utf8"));
      writeFileSync(join(locales, "locale-archive"), "de_DE.utf8\0fr_FR.utf8\0");
    },
    (image) => {
      const names = ["C.UTF-8", "it_IT.UTF-8", "de_DE.UTF-8", "fr_FR.utf8", "es_ES.UTF-8"];
      assert.deepEqual(
        names.map((name) => image.hasLocale(name)),
        [true, true, true, true, false],
      );
    },
  ));

test("links that lead out of the image, to a device or to themselves find nothing", () =>
  withImage(
    (locales) => {
      symlinkSync("/dev/zero", join(locales, "locale-archive"));
      symlinkSync("/etc", join(locales, "fr_FR.utf8"));
      symlinkSync("es_ES.utf8", join(locales, "es_ES.utf8"));
    },
    (image) => {
      for (const name of ["de_DE.UTF-8", "fr_FR.UTF-8", "es_ES.UTF-8"])
        assert.equal(image.hasLocale(name), false, name);
    },
  ));

test("an archive that is a folder, or a link to one, finds nothing", () =>
  withImage(
    (locales) => symlinkSync(".", join(locales, "locale-archive")),
    (image) => assert.equal(image.hasLocale("de_DE.UTF-8"), false),
  ));
