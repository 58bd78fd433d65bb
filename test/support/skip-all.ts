// Loaded before test files whose tests are to be counted and not run: every test is registered as skipped, with the reason in
// HPCC_TEST_SKIP_ALL, also those of suites that could not run here, and no hook does anything.
import { createRequire } from "node:module";

type Register = (...args: unknown[]) => unknown;

// Not imported: what importers of a built-in module see is fixed when it is imported first.
const runner = createRequire(import.meta.url)("node:test") as Record<string, Register>;
const { test, describe } = runner;
const reason = process.env["HPCC_TEST_SKIP_ALL"];
if (!reason || test === undefined || describe === undefined)
  throw new Error("HPCC_TEST_SKIP_ALL must say why these tests do not run");

const skipped: Register = (name) => test(nameOf(name), { skip: reason }, () => undefined);
const suite: Register = (name, ...more) =>
  describe(
    nameOf(name),
    [name, ...more].find((each) => typeof each === "function"),
  );
for (const name of ["test", "it"])
  runner[name] = Object.assign(skipped, { skip: skipped, todo: skipped, only: skipped });
for (const name of ["describe", "suite"])
  runner[name] = Object.assign(suite, { skip: suite, todo: suite, only: suite });
for (const name of ["before", "after", "beforeEach", "afterEach"]) runner[name] = () => undefined;

function nameOf(name: unknown): string {
  if (typeof name === "string") return name;
  return typeof name === "function" && name.name !== "" ? name.name : "<anonymous>";
}
