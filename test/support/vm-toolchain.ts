// A toolchain for VM tests: the host's gcc with what it needs to make objects, and the test's own programs, as a squashfs.
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";

const root = join(import.meta.dirname, "../..");

const SQUASHFS_OPTIONS = ["-quiet", "-no-progress", "-all-root", "-comp", "zstd", "-Xcompression-level", "1"];

function run(program: string, ...argv: string[]): string {
  return execFileSync(program, argv, { encoding: "utf8", maxBuffer: 2 ** 26 });
}

/** Where a file is once the links of merged-/usr are followed: /lib/x is /usr/lib/x. */
function merged(path: string): string {
  return /^\/(bin|sbin|lib|lib64)\//.test(path) ? `/usr${path}` : path;
}

/** A path and what it links to, down to the file. */
function chain(path: string): string[] {
  const here = merged(path);
  return lstatSync(here).isSymbolicLink() ? [here, ...chain(resolve(dirname(here), readlinkSync(here)))] : [here];
}

function librariesOf(program: string): string[] {
  return [...run("ldd", program).matchAll(/(\/\S+) \(0x/g)].map(([, path = ""]) => path);
}

/** Compiles a program of test/vm/probe, static. */
export function compileProbe(name: string, output: string): void {
  run("gcc", "-O1", "-Wall", "-static", "-o", output, join(root, "test/vm/probe", `${name}.c`));
}

/** Makes the squashfs in a folder and gives its path. */
export function makeToolchain(folder: string): string {
  const staging = mkdtempSync(join(tmpdir(), "hpcc-toolchain-"));
  try {
    for (const name of ["bin", "sbin", "lib", "lib64"]) {
      mkdirSync(join(staging, "usr", name), { recursive: true });
      symlinkSync(`usr/${name}`, join(staging, name));
    }
    const programs = ["/usr/bin/gcc", ...["cc1", "as"].map((name) => run("gcc", `-print-prog-name=${name}`).trim())];
    const found = programs.map((path) => (path.startsWith("/") ? path : run("which", path).trim()));
    const files = new Set([...found, ...found.flatMap((path) => librariesOf(path))].flatMap(chain));
    for (const path of files) {
      mkdirSync(join(staging, dirname(path)), { recursive: true });
      cpSync(path, join(staging, path), { verbatimSymlinks: true });
    }
    compileProbe("probe", join(staging, "usr/bin/probe"));
    mkdirSync(join(staging, "var/lib"), { recursive: true });
    writeFileSync(join(staging, "var/lib/image.h"), "int of_the_image;\n");
    chmodSync(staging, 0o755);
    const image = join(folder, "toolchain.sqfs");
    run("mksquashfs", staging, image, ...SQUASHFS_OPTIONS);
    return image;
  } finally {
    rmSync(staging, { recursive: true });
  }
}
