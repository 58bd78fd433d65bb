import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, describe, it } from "node:test";
import { HpccError } from "../base/errors.ts";
import { sha256 } from "../core/digest/digest.ts";
import { loadGuestFiles } from "./guest-files.ts";

const folder = mkdtempSync(join(tmpdir(), "hpcc-guest-files-"));
after(() => rmSync(folder, { recursive: true }));

const KERNEL = Buffer.from("the kernel");
const INITRAMFS = Buffer.from("the initramfs");
const DIGEST = sha256(Buffer.from("the agent"));

function description(kernel: object = {}, rest: object = {}): object {
  return {
    format: 1,
    kernel: {
      file: "vmlinux",
      digest: sha256(KERNEL),
      package: "linux-image 6.1",
      packageDigest: DIGEST,
      locked: true,
      ...kernel,
    },
    agent: { digest: DIGEST },
    initramfs: { file: "initramfs.img", digest: sha256(INITRAMFS) },
    ...rest,
  };
}

beforeEach(() => {
  writeFileSync(join(folder, "vmlinux"), KERNEL);
  writeFileSync(join(folder, "initramfs.img"), INITRAMFS);
  writeFileSync(join(folder, "guest.json"), JSON.stringify(description()));
});

describe("the guest's files", () => {
  it("are what their description says, digests checked", async () => {
    const files = await loadGuestFiles(folder);
    assert.deepEqual(files, {
      kernel: join(folder, "vmlinux"),
      initramfs: join(folder, "initramfs.img"),
      kernelDigest: sha256(KERNEL),
      initramfsDigest: sha256(INITRAMFS),
      agentDigest: DIGEST,
      kernelPackage: `linux-image 6.1 ${DIGEST}`,
      locked: true,
    });
  });

  it("of a builder that names no package are not taken for pinned", async () => {
    for (const kernel of [{ package: undefined }, { packageDigest: 5 }, { locked: "yes" }]) {
      writeFileSync(join(folder, "guest.json"), JSON.stringify(description(kernel)));
      assert.equal((await loadGuestFiles(folder)).locked, false);
    }
  });

  const rows: readonly (readonly [string, () => void, RegExp])[] = [
    [
      "a kernel with one byte changed",
      () => writeFileSync(join(folder, "vmlinux"), "the kerneL"),
      /vmlinux is not what guest\.json says/,
    ],
    [
      "an initramfs that was cut off",
      () => writeFileSync(join(folder, "initramfs.img"), ""),
      /initramfs\.img is not what/,
    ],
    ["a kernel that is not there", () => rmSync(join(folder, "vmlinux")), /vmlinux cannot be read/],
    ["no description", () => rmSync(join(folder, "guest.json")), /no guest in/],
    ["half a description", () => writeFileSync(join(folder, "guest.json"), '{"format": 1,'), /is no JSON/],
    ["another format", () => writeFileSync(join(folder, "guest.json"), '{"format": 2}'), /another format/],
    ["a list", () => writeFileSync(join(folder, "guest.json"), "[1]"), /another format/],
    [
      "no digest",
      () => writeFileSync(join(folder, "guest.json"), JSON.stringify(description({ digest: undefined }))),
      /nothing of its kernel/,
    ],
    [
      "a file elsewhere",
      () => writeFileSync(join(folder, "guest.json"), JSON.stringify(description({ file: "../vmlinux" }))),
      /no file of its folder/,
    ],
    [
      "no file",
      () => writeFileSync(join(folder, "guest.json"), JSON.stringify(description({ file: undefined }))),
      /no file of its folder/,
    ],
    [
      "no agent",
      () => writeFileSync(join(folder, "guest.json"), JSON.stringify(description({}, { agent: null }))),
      /nothing of its agent/,
    ],
  ];
  for (const [what, change, pattern] of rows)
    it(`are refused: ${what}`, async () => {
      change();
      await assert.rejects(loadGuestFiles(folder), (error) => {
        assert.ok(error instanceof HpccError && error.code === "vm.boot", String(error));
        assert.match(error.message, pattern);
        return true;
      });
    });
});
