// Loaded before the tests of `make test`: gives the property tests one seed, so that a run passes or fails by the change under
// test and not by luck. HPCC_TEST_SEED gives another one, `random` a new one; a test file run by itself always draws its own.
import { configureGlobal } from "fast-check";

/** Any number does; changing it looks at other cases. */
const SEED = 20261125;

const given = process.env["HPCC_TEST_SEED"] ?? String(SEED);
if (given !== "random") {
  if (!/^-?\d{1,9}$/.test(given))
    throw new Error(`HPCC_TEST_SEED must be "random" or a whole number of at most nine digits, not "${given}"`);
  configureGlobal({ seed: Number(given) });
}
