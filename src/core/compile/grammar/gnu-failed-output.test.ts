import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CompilerFolder, FAMILIES } from "../../../../test/support/real-compiler.ts";
import { ascii, type ByteString } from "../../../base/byte-string.ts";
import { failedOutput } from "./gnu-failed-output.ts";
import { parseGnu } from "./gnu-parse.ts";

const SOURCES = {
  "name.c": "int f(void){ return missing; }\n",
  "late.c": "int f(void){ return 1; }\n#error no\n",
  // Found behind the front end.
  "called.c": '__attribute__((error("no"))) void e(void);\nvoid f(void){ e(); }\n',
  "asm.s": "\tzork\n",
  "asm.c": '__asm__("zork");\n',
  "asm-late.c": 'int f(void){ return 1; }\n__asm__(".if 1");\n',
  "asm-fatal.s": '.data\n.fill 1\n.include "none"\n',
};
const COMMANDS = [
  "-c",
  "-S",
  "-c -pipe",
  "-c -O2 -g",
  "-c -fdiagnostics-color=always",
  "-c -march=no",
  "-S -march=no",
  "-c -fno-such",
  "-S -fno-such",
  "-c -pipe -fno-such",
  "-c -fno-integrated-as",
  "-c -save-temps",
  "-c -flto",
  "-c --target=no",
  "-c -fno-show-column",
  "-c -Wa,-Z",
];

describe("a failing compile does to a file at its output what is said of it", () => {
  for (const family of FAMILIES)
    it(family, () => {
      let told = 0;
      for (const source of Object.keys(SOURCES))
        for (const command of COMMANDS) {
          using folder = new CompilerFolder({ ...SOURCES, out: "old\n" });
          const words = [...command.split(" "), source, "-o", "out"];
          const parsed = parseGnu([family, ...words].map(ascii), { family, readResponseFile: () => null });
          const ran = folder.run(`/usr/bin/${family}`, words);
          if (parsed.kind !== "compile" || ran.status !== 1) continue;
          const { invocation } = parsed;
          const program = ascii(`/usr/bin/${family}`);
          const said = failedOutput({ invocation, program, stderr: ran.stderr as ByteString });
          const what = folder.files().includes("out") ? "stays" : "removed";
          const about = `${command} ${source}: ${ran.stderr}`;
          assert.ok(said === "unknown" || said === what, `${said}, but it ${what}: ${about}`);
          if (said !== "unknown") told++;
          if (/^-[cS](?: -O2 -g| -pipe)?$/.test(command) && source !== "asm.s") assert.equal(said, what, about);
        }
      assert.ok(told > 15, `${told} told`);
    });
});
