// The guest's kernel, observed: what a compile can do and what root of the guest still can, against what docs/guest-kernel.md wants.
// What hpcc promises must hold; what a kernel of one's own would add is listed.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { packCpio } from "../../scripts/guest/newc.ts";
import { HpccError } from "../../src/base/errors.ts";
import { type Logger, SILENT_LOGGER } from "../../src/base/log.ts";
import { sha256 } from "../../src/core/digest/digest.ts";
import {
  FOR_COMPILES,
  FOR_ROOT,
  type Judged,
  judge,
  parseConfig,
  parseFacts,
  wantedOptions,
} from "../support/guest-kernel.ts";
import { bootSpec, GUEST_FOLDER, openTestRuntime, request, VmFolders } from "../support/vm.ts";
import { compileProbe } from "../support/vm-toolchain.ts";

const repository = join(import.meta.dirname, "../..");
const signal = new AbortController().signal;
const folders = new VmFolders();
const probe = join(folders.root, "kernel");
let rootfs: string;

before(() => {
  compileProbe("kernel", probe);
  const tree = join(folders.root, "tree");
  mkdirSync(join(tree, "usr/bin"), { recursive: true });
  copyFileSync(probe, join(tree, "usr/bin/kernel"));
  chmodSync(tree, 0o755);
  rootfs = join(folders.root, "rootfs.sqfs");
  execFileSync("mksquashfs", [tree, rootfs, "-quiet", "-no-progress", "-all-root", "-comp", "zstd"]);
});

after(() => folders[Symbol.dispose]());

/** Prints what was wanted and found, and gives what is not as promised. */
function report(who: string, judged: readonly Judged[]): string[] {
  const unmet = judged.filter(({ met }) => !met);
  console.log(`${who}: ${judged.length - unmet.length} of ${judged.length} as wanted`);
  for (const { fact, found, good, weight } of unmet)
    console.log(`  ${weight}: ${fact} is ${found}, not ${good.source}`);
  return unmet.filter(({ weight }) => weight === "promised").map(({ fact, found }) => `${fact}=${found}`);
}

/** The guest with the probe in the agent's place, which the probe then starts. */
function probedGuest(): string {
  const folder = join(folders.root, "guest");
  mkdirSync(folder);
  copyFileSync(join(GUEST_FOLDER, "vmlinux"), join(folder, "vmlinux"));
  // The kernel unpacks one archive after the other; a later file takes an earlier one's place.
  const added = packCpio([
    { kind: "file", path: "agent", mode: 0o755, content: readFileSync(join(repository, "out/lib/hpcc/agent")) },
    { kind: "file", path: "init", mode: 0o755, content: readFileSync(probe) },
  ]);
  const initramfs = Buffer.concat([readFileSync(join(GUEST_FOLDER, "initramfs.img")), added]);
  writeFileSync(join(folder, "initramfs.img"), initramfs);
  const description = JSON.parse(readFileSync(join(GUEST_FOLDER, "guest.json"), "utf8"));
  description.initramfs.digest = sha256(initramfs);
  writeFileSync(join(folder, "guest.json"), JSON.stringify(description));
  return folder;
}

/** The last words of a machine that turns itself off, before or after its agent answered. */
async function lastWords(guestFolder: string): Promise<string> {
  let tail = "";
  const logger: Logger = {
    ...SILENT_LOGGER,
    warn: (event, fields) => {
      if (event === "vm.ended") tail = String(fields?.["tail"]);
    },
    with: () => logger,
  };
  const runtime = await openTestRuntime(folders, { guestFolder, logger });
  try {
    // One processor: while the probe looks, nothing else runs.
    const machine = await runtime.boot({ ...bootSpec(rootfs), vcpus: 1 }, signal);
    assert.equal((await machine.ended).t, "lost");
    return tail;
  } catch (error) {
    assert.ok(error instanceof HpccError && error.code === "vm.boot", String(error));
    return error.message;
  }
}

describe("the guest's kernel", () => {
  it("refuses a compile what no compile needs", async () => {
    const runtime = await openTestRuntime(folders);
    const machine = await runtime.boot(bootSpec(rootfs), signal);
    try {
      await using result = await machine.session.execute(request(["/usr/bin/kernel"]), { signal });
      assert.deepEqual(result.exit, { kind: "code", code: 0 });
      const facts = parseFacts(Buffer.from(await result.stdout.bytes()).toString("latin1"));
      assert.deepEqual(report("a compile", judge(FOR_COMPILES, facts)), []);
    } finally {
      await machine.destroy();
    }
  });

  it("gives root of the guest no network, no module and no other kernel, and clears what is freed", async () => {
    const facts = parseFacts(await lastWords(probedGuest()));
    assert.deepEqual(report("root of the guest", judge(FOR_ROOT, facts)), []);
  });

  it("is built with the options that the document marks as needed", () => {
    const page = readFileSync(join(repository, "docs/guest-kernel.md"), "utf8");
    const options = wantedOptions(page);
    assert.ok(options.length >= 40, `${options.length} options in the document`);
    assert.equal(options.length, page.match(/^\| `CONFIG_/gm)?.length, "each row has a value and a reason");
    assert.equal(new Set(options.map(({ option }) => option)).size, options.length, "each option once");
    const { kernel } = JSON.parse(readFileSync(join(GUEST_FOLDER, "guest.json"), "utf8"));
    const built = parseConfig(
      readFileSync(join(repository, ".cache/guest/package/boot", `config-${kernel.release}`), "utf8"),
    );
    assert.ok(built.size > 2_000, "the package's configuration");
    const judged = options.map(({ option, wanted, needed }): Judged => {
      // An option that does not exist is not set; a module is as good as built in where it is loaded.
      const found = built.get(option) ?? "n";
      const met = found === wanted || (wanted === "y" && found === "m");
      return { fact: `CONFIG_${option}`, good: new RegExp(wanted), weight: needed ? "promised" : "wanted", found, met };
    });
    assert.ok(judged.some(({ weight }) => weight === "promised"));
    assert.deepEqual(report(`Debian's ${kernel.release}`, judged), []);
  });
});
