import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readlinkSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { type ByteString, byteStringOf, byteStringOfText, bytesOf } from "../base/byte-string.ts";
import { viewPathMapper } from "../core/compile/path-map.ts";
import { PROJECT_ROOT } from "../core/compile/view.ts";
import { escapingOperand, hasIncludeOperands } from "./has-include.ts";

let base = "";
let inView: (path: ByteString) => boolean;
const bytes = (text: string) => byteStringOfText(text);

before(() => {
  base = realpathSync(mkdtempSync(join(tmpdir(), "hpcc-has-include-")));
  mkdirSync(join(base, "p/inc"), { recursive: true });
  writeFileSync(join(base, "outside.h"), "");
  writeFileSync(join(base, "p/inc/inside.h"), "");
  symlinkSync("../../outside.h", join(base, "p/inc/link.h"));
  const mapper = viewPathMapper({
    view: { roots: [{ host: bytes(join(base, "p")), guest: PROJECT_ROOT }] },
    cwd: bytes(join(base, "p")),
    imageEntries: new Set(["usr"]),
    readlink: (path) => {
      try {
        return byteStringOf(readlinkSync(bytesOf(path), { encoding: "buffer" }));
      } catch {
        return null;
      }
    },
  });
  inView = (path) => mapper.file(path) !== null;
});
after(() => rmSync(base, { recursive: true }));

test("operands are found in every spelling, and a mere test for the operator is none", () => {
  const text = [
    "#ifdef __has_include",
    "#if defined(__has_include) && __has_include(<a/b.h>)",
    '#if __has_include ( "c.h" ) || __has_include_next(<d.h>)',
    "#if __has_include(CONFIG_HEADER)",
  ].join("\n");
  assert.deepEqual(hasIncludeOperands(Buffer.from(text)), ["a/b.h", "c.h", "d.h", null]);
  assert.deepEqual(hasIncludeOperands(Buffer.from("int x;")), []);
});

test("an operand that the host answers through a link out of the view is named", () => {
  const folders = [bytes(join(base, "p/inc"))];
  const check = (operand: string) => escapingOperand(inView, folders, [bytes(operand)]);
  assert.equal(check("inside.h"), null);
  assert.equal(check("missing.h"), null);
  assert.equal(check("link.h"), join(base, "p/inc/link.h"));
  assert.equal(check("../../outside.h"), `${base}/p/inc/../../outside.h`);
  assert.equal(check(join(base, "outside.h")), join(base, "outside.h"));
  assert.equal(check("../../nothing.h"), null);
  assert.notEqual(escapingOperand(inView, folders, [null]), null);
});
