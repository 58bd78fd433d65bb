import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ascii } from "../../../base/byte-string.ts";
import { placeInjected } from "./prefix-maps.ts";

const INJECTED = ["-Werror=date-time", "-ffile-prefix-map=/p=.", "-gno-record-gcc-switches"].map(ascii);
const REST = ["-Werror=date-time", "-gno-record-gcc-switches"];

describe("placeInjected", () => {
  it("keeps all behind the words of a caller who maps nothing", () => {
    assert.deepEqual(placeInjected([ascii("-O2"), ascii("-fno-common")], INJECTED), { before: [], after: INJECTED });
  });
  const rows: readonly [string, string[]][] = [
    ["-fmacro-prefix-map=/p/src=s", ["-fdebug-prefix-map=/p=.", "-fmacro-prefix-map=/p=."]],
    ["-fmacro-prefix-map=/p=s", ["-fdebug-prefix-map=/p=."]],
    ["-fdebug-prefix-map=/p=s", ["-fmacro-prefix-map=/p=."]],
    ["-ffile-prefix-map=/p=s", []],
    ["-ffile-prefix-map=/=s", []],
    ["-fdebug-prefix-map=src=s", ["-fdebug-prefix-map=/p=.", "-fmacro-prefix-map=/p=."]],
  ];
  for (const [own, before] of rows)
    it(own, () => assert.deepEqual(placeInjected([ascii(own)], INJECTED), { before, after: REST }));
});
