// What a QEMU command line gives a machine.
import assert from "node:assert/strict";
import { it } from "node:test";
import { vcpusMaxOf } from "./command-line.ts";

it("an emulated machine has one processor where QEMU can lose two", () => {
  const old = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)";
  assert.equal(vcpusMaxOf("tcg", old), 1);
  assert.equal(vcpusMaxOf("tcg", "QEMU emulator version 8.0.5"), 1);
  assert.equal(vcpusMaxOf("tcg", "no version"), 1);
  assert.ok(vcpusMaxOf("tcg", "QEMU emulator version 8.1.0") > 1);
  assert.ok(vcpusMaxOf("tcg", "QEMU emulator version 10.0.2 (Debian)") > 1);
  assert.ok(vcpusMaxOf("kvm", old) > 1);
});
