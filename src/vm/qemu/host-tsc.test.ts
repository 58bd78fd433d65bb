import assert from "node:assert/strict";
import { it } from "node:test";
import { hostTscKhz, tscKhzOf } from "./host-tsc.ts";

const none = { baseFrequencyKhz: "", nominalFrequencyMhz: "" };
const metal = "model name\t: Intel(R) Xeon(R) CPU E5 @ 2.50GHz\ncpu MHz\t\t: 3187.204\nflags\t\t: fpu tsc\n";

it("takes the counter's rate that a virtual machine shows", () => {
  const cpuinfo = "model name\t: AMD EPYC\ncpu MHz\t\t: 2596.098\nflags\t\t: fpu tsc hypervisor lahf_lm\n";
  assert.equal(tscKhzOf({ cpuinfo, ...none }), 2_596_098);
});

it("does not take the present speed of a core of bare metal while there is better", () => {
  assert.equal(tscKhzOf({ cpuinfo: metal, ...none }), 2_500_000);
  assert.equal(tscKhzOf({ cpuinfo: metal, ...none, baseFrequencyKhz: "2400000\n" }), 2_400_000);
  assert.equal(tscKhzOf({ cpuinfo: metal, ...none, nominalFrequencyMhz: "2450\n" }), 2_450_000);
});

it("fails where nothing is said", () => {
  assert.throws(() => tscKhzOf({ cpuinfo: "", ...none }), /frequency/);
});

it("finds this host's", async () => {
  assert.ok((await hostTscKhz()) > 100_000);
});
