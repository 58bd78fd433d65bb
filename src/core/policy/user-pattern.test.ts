import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { commonUser, coversUsers, matchesUser, parseUserPattern, type UserPattern } from "./user-pattern.ts";

const patterns = fc
  .string({ unit: fc.constantFrom("a", "b", "*"), minLength: 1, maxLength: 8 })
  .map((text) => parseUserPattern(text));
const names = fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 10 });

/** The same, said by the language's own engine. */
const asRegExp = (pattern: UserPattern) => new RegExp(`^${pattern.replaceAll("*", ".*")}$`);

describe("patterns of users", () => {
  test("fit the names that they should", () => {
    for (const [pattern, fits, fitsNot] of [
      ["ann", ["ann"], ["an", "anne", "hann", ""]],
      ["*", ["ann", "x"], []],
      ["ci-*", ["ci-release", "ci-"], ["ci", "xci-1"]],
      ["*-bot", ["a-bot", "-bot"], ["bot", "a-bots"]],
      ["ci-*-main", ["ci-x-main", "ci-x-main-main"], ["ci-main", "ci-x-main-"]],
      ["a.b", ["a.b"], ["axb"]],
    ] as const) {
      const parsed = parseUserPattern(pattern);
      for (const name of fits) assert.ok(matchesUser(parsed, name), `${pattern} ${name}`);
      for (const name of fitsNot) assert.ok(!matchesUser(parsed, name), `${pattern} ${name}`);
    }
  });

  test("that are none are refused", () => {
    for (const text of ["", "Ann", "a b", "a?", "[a]", "a/b", "ä", "a\n", "a".repeat(64)])
      assert.throws(() => parseUserPattern(text), { code: "argument.invalid" }, text);
    assert.equal(parseUserPattern("a***b"), "a*b");
  });

  test("fit as a regular expression would say", () => {
    fc.assert(
      fc.property(patterns, names, (pattern, name) => {
        assert.equal(matchesUser(pattern, name), asRegExp(pattern).test(name));
      }),
    );
  });

  test("that cover others fit all of their names", () => {
    fc.assert(
      fc.property(patterns, patterns, names, (outer, inner, name) => {
        if (coversUsers(outer, inner) && matchesUser(inner, name)) assert.ok(matchesUser(outer, name));
      }),
    );
    assert.ok(coversUsers(parseUserPattern("ci-*"), parseUserPattern("ci-*-main")));
    assert.ok(!coversUsers(parseUserPattern("ci-*-main"), parseUserPattern("ci-*")));
  });

  test("have a name in common exactly when one fits both", () => {
    fc.assert(
      fc.property(patterns, patterns, names, (a, b, name) => {
        const common = commonUser(a, b);
        if (common !== null) assert.ok(matchesUser(a, common) && matchesUser(b, common), `${a} ${b} ${common}`);
        if (matchesUser(a, name) && matchesUser(b, name)) assert.notEqual(common, null);
      }),
    );
    assert.equal(commonUser(parseUserPattern("ci-*"), parseUserPattern("*-pr")), "ci-pr");
  });
});
