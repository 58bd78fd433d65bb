import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ascii } from "../../base/byte-string.ts";
import { readLoaded, readReport } from "./read-probe.ts";

function said(compiler: string, language: string, words: readonly string[] = []): string {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-probe-"));
  try {
    const argv = [...words, "-v", "-c", "-x", language, "/dev/null", "-o", join(folder, "x.o")];
    return spawnSync(compiler, argv, { encoding: "latin1", env: { PATH: "/usr/bin:/bin", LC_ALL: "C" } }).stderr;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("real compilers say which programs they run and where they look", () => {
  const gcc = readReport(ascii(said("gcc", "c")))!;
  assert.equal(gcc.family, "gcc");
  assert.equal(gcc.calledAs, "gcc");
  assert.match(gcc.programs.join(" "), /^\/\S*\/cc1 as$/);
  assert.ok(gcc.folders.includes(ascii("/usr/include")));
  // Folders that are not there are searched once they are.
  assert.ok(gcc.folders.some((folder) => !existsSync(folder)));
  const cxx = readReport(ascii(said("g++", "c++")))!;
  assert.match(cxx.programs.join(" "), /\/cc1plus as$/);
  const clang = readReport(ascii(said("clang", "c")))!;
  assert.equal(clang.family, "clang");
  assert.equal(clang.calledAs, null);
  assert.match(clang.programs.join(" "), /^\/\S*\/clang(?:-\d+)?$/);
  assert.ok(clang.folders.includes(ascii("/usr/include")));
});

test("a Clang that seeks names as Microsoft's compiler does makes no report", () => {
  for (const target of ["x86_64-pc-windows-msvc", "i686-pc-win32", "aarch64-windows"])
    assert.equal(readReport(ascii(said("clang", "c", [`--target=${target}`]))), null, target);
  for (const words of ["--target=x86_64-w64-windows-gnu", "-fms-extensions", "-fms-compatibility-version=19.1"])
    assert.notEqual(readReport(ascii(said("clang", "c", [words]))), null, words);
});

test("spec and configuration files are named, and quoted programs are read", () => {
  const text = [
    "Configuration file: /etc/clang/x.cfg",
    "Ubuntu clang version 18.1.3 (1ubuntu1)",
    ' "/opt/with space/clang" "-cc1" "-isysroot" "/a b" -resource-dir /r "-fsanitize-system-ignorelist=/r/a b.txt" "x"',
    " (in-process)",
  ].join("\n");
  const report = readReport(ascii(text))!;
  assert.deepEqual(
    [report.family, report.programs, report.setUpBy, report.checkLists, report.sysroot, report.resources],
    ["clang", ["/opt/with space/clang"], ["/etc/clang/x.cfg"], ["/r/a b.txt"], "/a b", "/r"],
  );
});

test("words of another program are no report", () => {
  for (const text of ["", "usage: cc [options]\n", "gcc version 12\n", " /bin/cc1 -quiet\n"])
    assert.equal(readReport(ascii(text)), null);
});

test("libraries are read with and without their short names", () => {
  const text =
    "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibz.so.1 => /lib/libz.so.1 (0x00007f4d)\n\t/lib64/ld.so (0x0f)\n\tlibq.so => not found\n";
  assert.deepEqual(readLoaded(ascii(text)), ["/lib/libz.so.1", "/lib64/ld.so"]);
});
