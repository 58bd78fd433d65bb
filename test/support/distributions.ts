// Images that hpcc did not build: releases of Debian's, bare as unpacked packages are, and the same files laid out as other
// distributions and published images do. They are made once and kept beside the other images of the tests.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  createReadStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { sha256 } from "../../src/core/digest/digest.ts";
import { contentsDigest, readRootContents } from "../../src/image/root-contents.ts";
import { SQUASHFS_FORMAT } from "../../src/image/squashfs.ts";
import { CHECKOUT, IMAGE_FOLDER } from "./farm.ts";

export type DebianRoot = "bullseye" | "sid" | "trixie" | "cross" | "packagers" | "host";

export interface Distribution {
  readonly name: string;
  /** Of scripts/debian-roots.txt. */
  readonly base: DebianRoot;
  /** PATH of the image's configuration; null for none, as many images have. */
  readonly path: string | null;
  /** Least number of C compilers that are found in it. */
  readonly compilersMin: number;
  /** Whether it is tried where nobody asks for all. What moves by itself is not. */
  readonly byDefault: boolean;
  /** What its compilers have headers of; without a C library they are called as for a machine that has none. */
  readonly headers: "c++" | "c" | "none";
  /** The C compilers to try, by their names. */
  readonly tried: RegExp;
  /** Lays the base's files out in another way; they are links to the base's, so none is written to. */
  readonly arrange?: (root: string) => void;
}

/** Where Red Hat's newer compilers for older releases are. */
const TOOLSET = "/opt/rh/gcc-toolset-16/root/usr";
const DOCKER_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** Not opened by a compile that makes objects. */
const LEFT_OUT = ["*.a", "*/lto-dump*", "*/libcc1*", "./usr/share/gdb", "./var", "./boot", "./usr/lib/*/gconv"];

const NATIVE = /^(?:gcc|clang)(?:-\d+)?$/;

/** Releases of Debian: no link of a merged /usr in the oldest, no shell, no ld.so.cache, no /etc/passwd. */
const DEBIAN: readonly Distribution[] = [
  {
    name: "debian-11",
    base: "bullseye",
    path: DOCKER_PATH,
    compilersMin: 3,
    byDefault: true,
    headers: "c++",
    tried: NATIVE,
  },
  {
    name: "debian-13",
    base: "trixie",
    path: DOCKER_PATH,
    compilersMin: 3,
    byDefault: false,
    headers: "c++",
    tried: NATIVE,
  },
  { name: "debian-sid", base: "sid", path: null, compilersMin: 2, byDefault: false, headers: "c++", tried: NATIVE },
];

/** The same files where others have them. Their compilers are still Debian's. */
const FORMS: readonly Distribution[] = [
  {
    name: "form-of-alpine",
    base: "bullseye",
    path: DOCKER_PATH,
    compilersMin: 3,
    byDefault: true,
    headers: "c",
    tried: NATIVE,
    arrange: arrangeAsAlpine,
  },
  {
    name: "form-of-arch",
    base: "sid",
    path: "/usr/local/bin:/usr/bin",
    compilersMin: 2,
    byDefault: false,
    headers: "c++",
    tried: NATIVE,
    arrange: arrangeAsArch,
  },
  {
    name: "form-of-gcc-image",
    base: "sid",
    path: DOCKER_PATH,
    compilersMin: 1,
    byDefault: false,
    headers: "c++",
    tried: NATIVE,
    arrange: arrangeAsGccImage,
  },
  {
    name: "form-of-fedora-with-toolset",
    base: "sid",
    path: `${TOOLSET}/bin:/usr/local/bin:/usr/bin`,
    compilersMin: 1,
    byDefault: false,
    headers: "c++",
    tried: NATIVE,
    arrange: arrangeAsFedora,
  },
];

/** Compilers for other machines, of which only some have a C library. */
const CROSS: Distribution = {
  name: "cross-compilers",
  base: "cross",
  path: DOCKER_PATH,
  compilersMin: 3,
  byDefault: true,
  headers: "none",
  tried: /^(?:aarch64-linux-gnu|arm-none-eabi|x86_64-w64-mingw32)-gcc(?:-win32)?$/,
};

export const DISTRIBUTIONS: readonly Distribution[] = [...DEBIAN, ...FORMS, CROSS];

function sh(script: string, cwd: string): void {
  execFileSync("bash", ["-euc", script], { cwd, stdio: ["ignore", "ignore", "inherit"] });
}

function osRelease(root: string, id: string): void {
  sh("rm -f etc/os-release usr/lib/os-release && mkdir -p etc", root);
  writeFileSync(join(root, "etc/os-release"), `ID=${id}\nPRETTY_NAME="The form of ${id}"\n`);
}

/**
 * The C library's headers are musl's, its loader is the only one in /lib, BusyBox is the shell, /lib64 is absent. The compilers
 * themselves are glibc's, which no Alpine has: they find its loader in a folder of their own.
 */
function arrangeAsAlpine(root: string): void {
  const own = "/opt/g";
  sh(
    `mkdir -p .${own}
    cp -L lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 .${own}/
    cp -al lib/x86_64-linux-gnu/. usr/lib/x86_64-linux-gnu/
    rm -rf lib64 lib/x86_64-linux-gnu
    mv usr/include usr/glibc && mv usr/glibc/x86_64-linux-musl usr/include
    cp -al usr/glibc/linux usr/glibc/asm-generic usr/glibc/x86_64-linux-gnu/asm usr/include/
    rm -rf usr/glibc usr/lib/x86_64-linux-musl/include
    ln -s busybox bin/sh
    ln -s ../../bin/busybox usr/bin/env`,
    root,
  );
  const loader = Buffer.from("/lib64/ld-linux-x86-64.so.2\0");
  const programs = execFileSync("find", [root, "-type", "f", "-perm", "/111"], { encoding: "utf8" }).trim().split("\n");
  for (const program of programs) {
    const bytes = readFileSync(program);
    const at = bytes.subarray(0, 4096).indexOf(loader);
    if (at === -1) continue;
    bytes.write(own, at, "latin1");
    const { mode } = statSync(program);
    rmSync(program);
    writeFileSync(program, bytes, { mode });
  }
  osRelease(root, "alpine");
}

/** One folder for all programs, one for all libraries. */
function arrangeAsArch(root: string): void {
  sh(
    `cp -al usr/lib64/. usr/lib/ && rm -rf usr/lib64 lib64 sbin && ln -s lib usr/lib64 && ln -s usr/lib lib64
    mkdir -p usr/sbin && cp -al usr/sbin/. usr/bin/ && rm -rf usr/sbin && ln -s bin usr/sbin && ln -s usr/bin sbin
    for name in gcc g++ clang clang++; do ln -s "$(cd usr/bin && ls | grep -xE "\${name//+/\\\\+}-[0-9]+" | tail -n 1)" "usr/bin/$name"; done
    rm -f etc/passwd etc/group`,
    root,
  );
  osRelease(root, "arch");
}

/** Moves what belongs to GCC to another folder than /usr; Clang would not find its headers there. */
const GCC_PARTS = `move() { mkdir -p "$to/$(dirname "$1")" && mv "usr/$1" "$to/$1"; }
    (cd usr/bin && ls) | grep -E '(^|-)(gcc|g[+][+]|cpp)-[0-9]+$' | grep -v clang | while read -r name; do move "bin/$name"; done
    rm -f usr/bin/clang*
    # Where Debian's own GCC looks before it looks on PATH.
    mv usr/bin/x86_64-linux-gnu-as usr/bin/as
    for part in lib/gcc libexec/gcc include/c++ include/x86_64-linux-gnu/c++; do move "$part"; done
    for name in gcc g++; do ln -s "$(cd "$to/bin" && ls | grep -xE "\${name//+/[+]}-[0-9]+" | tail -n 1)" "$to/bin/$name"; done`;

/** GCC of its own build in /usr/local, the distribution's binutils in /usr. */
function arrangeAsGccImage(root: string): void {
  sh(`to=usr/local\n${GCC_PARTS}`, root);
}

/** A newer compiler in a folder of /opt, with an assembler beside it that is another one than the system's. */
function arrangeAsFedora(root: string): void {
  sh(
    `to=.${TOOLSET}\n${GCC_PARTS}
    printf '#!/bin/sh\\nexec /usr/bin/as -mx86-used-note=yes "$@"\\n' >"$to/bin/as" && chmod 755 "$to/bin/as"`,
    root,
  );
  osRelease(root, "fedora");
}

/** The folder with a base's root file system, fetched when it is not there. */
export function baseRoot(name: DebianRoot): string {
  const folder = join(CHECKOUT, ".cache/roots", name);
  execFileSync(join(CHECKOUT, "scripts/fetch-debian-root.sh"), [name, folder], { stdio: "inherit" });
  return join(folder, "root");
}

/**
 * Makes an image of the store from it, gives its digest. `packed` is false for one whose layer is not made: its unpacked root is there
 * at once, as links to the base's files.
 */
export async function distributionImage(distribution: Distribution, packed: boolean): Promise<string> {
  const base = baseRoot(distribution.base);
  const { arrange } = distribution;
  const work = mkdtempSync(join(CHECKOUT, ".cache/roots/.form-"));
  try {
    const root = packed && arrange === undefined ? base : join(work, "root");
    if (root !== base) execFileSync("cp", ["-al", base, root]);
    arrange?.(root);
    mkdirSync(join(work, "layout/blobs/sha256"), { recursive: true });
    const layer = packed ? await packedLayer(root, work) : unpackedLayer(root);
    const digest = writeDocuments(distribution.path, layer, work);
    const hex = digest.slice("sha256:".length);
    place(join(work, "layout"), join(IMAGE_FOLDER, "oci", hex));
    if (!packed) {
      chmodSync(root, 0o755);
      place(root, join(IMAGE_FOLDER, "rootfs", hex));
      await standInSquashfs(digest, hex);
    }
    return digest;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** What says that an unpacked root is what was packed; nobody here reads the packed one, so it is none. */
async function standInSquashfs(image: string, hex: string): Promise<void> {
  const path = join(IMAGE_FOLDER, "squashfs", `${hex}.sqfs`);
  mkdirSync(dirname(path), { recursive: true });
  const bytes = Buffer.from("no file system\n");
  const contents = await readRootContents(join(IMAGE_FOLDER, "rootfs", hex));
  writeFileSync(path, bytes);
  writeFileSync(`${path}.contents`, contents, "latin1");
  const stamp = { format: SQUASHFS_FORMAT, image, sizeBytes: bytes.length, digest: sha256(bytes) };
  writeFileSync(`${path}.json`, JSON.stringify({ ...stamp, contents: contentsDigest(contents) }));
}

function place(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  if (!existsSync(to)) renameSync(from, to);
}

interface LayerFile {
  readonly hex: string;
  readonly size: number;
}

async function packedLayer(root: string, work: string): Promise<LayerFile> {
  const tar = join(work, "layer.tar");
  const same = ["--sort=name", "--mtime=@1", "--owner=0", "--group=0", "--numeric-owner", "--hard-dereference"];
  const out = LEFT_OUT.map((pattern) => `--exclude=${pattern}`);
  execFileSync("tar", [...same, ...out, "-C", root, "-cf", tar, "."]);
  const hash = createHash("sha256");
  let size = 0;
  for await (const chunk of createReadStream(tar, { highWaterMark: 1 << 20 })) {
    hash.update(chunk as Buffer);
    size += (chunk as Buffer).length;
  }
  const hex = hash.digest("hex");
  renameSync(tar, join(work, "layout/blobs/sha256", hex));
  return { hex, size };
}

/** Named by a list of what would be in it. */
function unpackedLayer(root: string): LayerFile {
  const format = "%P %y %m %s %l\\n";
  const list = execFileSync("find", [root, "-printf", format], { maxBuffer: 1 << 28 })
    .toString("latin1")
    .split("\n");
  return { hex: sha256(Buffer.from(list.sort().join("\n"))).slice("sha256:".length), size: 0 };
}

function writeDocuments(path: string | null, { hex, size }: LayerFile, work: string): string {
  const blobs = join(work, "layout/blobs/sha256");
  const put = (value: unknown, mediaType: string) => {
    const bytes = Buffer.from(JSON.stringify(value));
    const digest = sha256(bytes);
    writeFileSync(join(blobs, digest.slice("sha256:".length)), bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const type = "application/vnd.oci.image";
  const config = put(
    {
      architecture: process.arch === "x64" ? "amd64" : process.arch,
      os: "linux",
      config: path === null ? {} : { Env: [`PATH=${path}`] },
      rootfs: { type: "layers", diff_ids: [`sha256:${hex}`] },
    },
    `${type}.config.v1+json`,
  );
  const layers = [{ mediaType: `${type}.layer.v1.tar`, digest: `sha256:${hex}`, size }];
  const manifest = put({ schemaVersion: 2, config, layers }, `${type}.manifest.v1+json`);
  writeFileSync(join(work, "layout/index.json"), JSON.stringify({ schemaVersion: 2, manifests: [manifest] }));
  writeFileSync(join(work, "layout/oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  return manifest.digest;
}
