// The guest is built of one kernel package, which is pinned: what happens when the mirror has another one, and that two builds give
// the same bytes.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, describe, it } from "node:test";
import { sha256 } from "../../src/core/digest/digest.ts";

const repository = join(import.meta.dirname, "../..");
const node = join(repository, "node_modules/.bin/node");
const root = mkdtempSync(join(tmpdir(), "hpcc-guest-build-"));
after(() => rmSync(root, { recursive: true }));

/** What answers for apt: packages of a folder, in the order in which they came. */
const APT_CACHE = `#!/bin/sh
cd "$MIRROR" || exit 100
case "$1" in
  show) for f in */; do r="$f/record"; n=\${2%%=*}; v=\${2#*=}
    grep -qx "Package: $n" "$r" || continue
    [ "$v" = "$2" ] || grep -qx "Version: $v" "$r" || continue
    cat "$r"; echo; found=1; done; [ "$found" ] || exit 100 ;;
  depends) [ -e newest ] && echo linux-image-cloud-amd64 && echo "  Depends: $(cat newest)" ;;
esac
`;
const APT_GET = `#!/bin/sh
for last; do :; done
case "$last" in update) exit 0 ;; esac
for f in "$MIRROR"/*/; do
  grep -qx "Package: \${last%%=*}" "$f/record" && grep -qx "Version: \${last#*=}" "$f/record" && cp "$f/file" "$(basename "$f").deb" && exit 0
done
exit 100
`;

class Mirror {
  readonly folder = mkdtempSync(join(root, "mirror-"));
  readonly #programs = mkdtempSync(join(root, "programs-"));
  readonly kept = join(this.folder, "../", `kept-${readdirSync(root).length}`);
  readonly lock = join(this.folder, "kernel.lock");

  constructor() {
    for (const [name, content] of Object.entries({ "apt-cache": APT_CACHE, "apt-get": APT_GET })) {
      writeFileSync(join(this.#programs, name), content);
      chmodSync(join(this.#programs, name), 0o755);
    }
  }

  /** Puts a package on the mirror and gives its lines of a lock file. */
  add(abi: string, version: string, content = "kernel"): string {
    const name = `linux-image-6.1.0-${abi}-cloud-amd64`;
    const tree = mkdtempSync(join(root, "tree-"));
    mkdirSync(join(tree, "DEBIAN"));
    mkdirSync(join(tree, "lib/modules", `6.1.0-${abi}-cloud-amd64`), { recursive: true });
    mkdirSync(join(tree, "boot"));
    writeFileSync(join(tree, "boot/content"), content);
    writeFileSync(
      join(tree, "DEBIAN/control"),
      `Package: ${name}\nVersion: ${version}\nArchitecture: amd64\nMaintainer: t <t@example.org>\nDescription: t\n`,
    );
    const place = join(this.folder, `${name}_${version}`);
    mkdirSync(place);
    execFileSync("dpkg-deb", ["--root-owner-group", "-Znone", "-b", tree, join(place, "file")], { stdio: "ignore" });
    const digest = sha256(readFileSync(join(place, "file"))).replace("sha256:", "");
    const record = `Package: ${name}\nVersion: ${version}\nSHA256: ${digest}\n`;
    writeFileSync(join(place, "record"), record);
    writeFileSync(join(this.folder, "newest"), name);
    return record;
  }

  remove(abi: string): void {
    for (const name of readdirSync(this.folder).filter((entry) => entry.includes(`6.1.0-${abi}-`)))
      rmSync(join(this.folder, name), { recursive: true });
  }

  fetch(...options: string[]): { code: number | null; error: string } {
    const script = join(repository, "scripts/guest/fetch-kernel.ts");
    const { status, stderr } = spawnSync(node, [script, this.lock, this.kept, ...options], {
      encoding: "utf8",
      env: { ...process.env, MIRROR: this.folder, PATH: `${this.#programs}:${process.env["PATH"]}` },
    });
    return { code: status, error: stderr.replace(/^depmod:.*\n/gm, "") };
  }

  control(): string {
    return readFileSync(join(this.kept, "control"), "utf8");
  }
}

describe("the pin of the kernel package", () => {
  let mirror: Mirror;
  let pinned: string;
  beforeEach(() => {
    mirror = new Mirror();
    pinned = mirror.add("1", "6.1.1-1");
    writeFileSync(mirror.lock, `# why\n${pinned}`);
  });

  it("is taken while the mirror has it, whatever is newer", () => {
    mirror.add("2", "6.1.2-1");
    assert.deepEqual(mirror.fetch(), { code: 0, error: "" });
    assert.equal(mirror.control(), `${pinned}Locked: yes\n`);
    assert.equal(readFileSync(join(mirror.kept, "package/boot/content"), "utf8"), "kernel");
    assert.ok(existsSync(join(mirror.kept, "package/lib/modules/6.1.0-1-cloud-amd64/modules.dep")));
  });

  it("gives way to a newer one when the mirror has it no more, loudly; --locked does not", () => {
    const newer = mirror.add("2", "6.1.2-1");
    mirror.remove("1");
    const locked = mirror.fetch("--locked");
    assert.equal(locked.code, 1);
    assert.match(
      locked.error,
      /apt has linux-image-6\.1\.0-1-cloud-amd64 6\.1\.1-1 of kernel\.lock no more; .*--update/,
    );
    assert.equal(existsSync(mirror.kept), false);
    const { code, error } = mirror.fetch();
    assert.equal(code, 0);
    assert.match(
      error,
      /^guest: warning: .*no more: this guest is built of linux-image-6\.1\.0-2-cloud-amd64 6\.1\.2-1.*--update\n$/,
    );
    assert.equal(mirror.control(), `${newer}Locked: no\n`);
    assert.equal(mirror.fetch("--locked").code, 1, "what is kept is not the pinned one");
  });

  it("moves with --update, comments stay, and what is kept is then pinned", () => {
    const newer = mirror.add("2", "6.1.2-1");
    assert.deepEqual(mirror.fetch("--update"), { code: 0, error: "" });
    assert.equal(readFileSync(mirror.lock, "utf8"), `# why\n${newer}`);
    assert.equal(mirror.control(), `${newer}Locked: yes\n`);
    mirror.remove("2");
    assert.deepEqual(mirror.fetch("--locked"), { code: 0, error: "" }, "nothing is asked of the mirror");
  });

  it("brings another package when somebody else has moved it", () => {
    mirror.fetch();
    const newer = mirror.add("2", "6.1.2-1");
    writeFileSync(mirror.lock, newer);
    assert.equal(mirror.fetch().code, 0);
    assert.equal(mirror.control(), `${newer}Locked: yes\n`);
  });

  it("refuses other bytes under its name: another record, or a file that is not the record's", () => {
    writeFileSync(
      mirror.lock,
      pinned.replace(/SHA256: ./, (found) => (found.endsWith("0") ? "SHA256: 1" : "SHA256: 0")),
    );
    const other = mirror.fetch();
    assert.equal(other.code, 1);
    assert.match(other.error, /another file than kernel\.lock pins/);
    writeFileSync(mirror.lock, pinned);
    const file = join(mirror.folder, "linux-image-6.1.0-1-cloud-amd64_6.1.1-1/file");
    writeFileSync(file, Buffer.concat([readFileSync(file), Buffer.from("x")]));
    const swapped = mirror.fetch();
    assert.equal(swapped.code, 1);
    assert.match(swapped.error, /has sha256 [0-9a-f]{64}, but must have [0-9a-f]{64}/);
    assert.equal(existsSync(mirror.kept), false);
  });

  it("leaves what is kept alone when it fails", () => {
    mirror.fetch();
    const before = mirror.control();
    mirror.remove("1");
    rmSync(join(mirror.folder, "newest"));
    writeFileSync(mirror.lock, pinned.replace("6.1.1-1", "6.1.1-2"));
    const { code, error } = mirror.fetch();
    assert.deepEqual([code, /run apt-get update/.test(error)], [1, true], error);
    assert.equal(mirror.control(), before);
  });

  it("must be a proper one", () => {
    for (const [bad, what] of [
      [pinned.replace("Version: 6.1.1-1\n", ""), "Version"],
      [pinned.replace("linux-image-", "../linux-image-"), "Package"],
      [pinned.replace("6.1.1-1", "6.1.1-1; id"), "Version"],
      [`${pinned}SHA256: ${"0".repeat(64)}\n`, "SHA256"],
      ["", "Package"],
    ] as const) {
      writeFileSync(mirror.lock, bad);
      const { code, error } = mirror.fetch();
      assert.equal(code, 1);
      assert.match(error, new RegExp(`kernel\\.lock has no single, proper ${what}`));
    }
  });
});

describe("two builds of the guest", () => {
  it("give the same bytes, and say what they were built of", () => {
    const kept = join(repository, ".cache/guest");
    const copy = join(root, "kept");
    for (const part of ["package/boot", "package/lib/modules", "package/usr/lib/modules"])
      if (existsSync(join(kept, part))) cpSync(join(kept, part), join(copy, part), { recursive: true });
    cpSync(join(kept, "control"), join(copy, "control"));
    for (const path of readdirSync(copy, { recursive: true })) utimesSync(join(copy, String(path)), 1, 1);
    const agent = join(repository, "out/lib/hpcc/agent");
    const built = [kept, copy].map((from, index) => {
      const out = join(root, `out-${index}`);
      execFileSync(node, ["scripts/guest/pack.ts", from, agent, out], { cwd: repository });
      return out;
    });
    const [first = "", second = ""] = built;
    assert.deepEqual(readdirSync(first).sort(), ["guest.json", "initramfs.img", "vmlinux"]);
    for (const name of readdirSync(first))
      assert.equal(sha256(readFileSync(join(first, name))), sha256(readFileSync(join(second, name))), name);
    const { kernel, agent: packed } = JSON.parse(readFileSync(join(first, "guest.json"), "utf8"));
    assert.equal(packed.digest, sha256(readFileSync(agent)));
    const control = readFileSync(join(kept, "control"), "utf8");
    assert.ok(control.includes(`\nSHA256: ${kernel.packageDigest.replace("sha256:", "")}\n`));
    assert.equal(kernel.locked, control.includes("\nLocked: yes\n"));
  });
});
