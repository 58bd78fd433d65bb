import assert from "node:assert/strict";
import { test } from "node:test";
import { processorDigest, processorKind } from "./processor.ts";

const CPUINFO =
  "processor\t: 0\nvendor_id\t: X\nmodel\t\t: 1\nmodel name\t: Y\ncpu MHz\t\t: 2000.1\nflags\t\t: sse avx\n\nprocessor\t: 1\n";

test("a processor's kind is told from its features, not from its speed of the moment", () => {
  assert.equal(processorKind(CPUINFO), processorKind(CPUINFO.replace("2000.1", "3000")));
  assert.notEqual(processorKind(CPUINFO), processorKind(CPUINFO.replace(" avx", "")));
  assert.equal(processorDigest(), processorDigest());
});
