import assert from "node:assert/strict";
import { test } from "node:test";
import { trySecond } from "./boot.ts";

test("a failure of the kind is tried once more, any other and the second one are thrown", async () => {
  const failing = (errors: (string | null)[]) => {
    let calls = 0;
    const attempt = async () => {
      const error = errors[calls++] ?? null;
      if (error !== null) throw new Error(error);
      return calls;
    };
    return { attempt, calls: () => calls };
  };
  const silent = (error: unknown) => error instanceof Error && error.message === "silent";
  assert.equal(await trySecond(failing([]).attempt, silent), 1);
  assert.equal(await trySecond(failing(["silent"]).attempt, silent), 2);
  const twice = failing(["silent", "silent", null]);
  await assert.rejects(trySecond(twice.attempt, silent), { message: "silent" });
  assert.equal(twice.calls(), 2);
  const other = failing(["lost", null]);
  await assert.rejects(trySecond(other.attempt, silent), { message: "lost" });
  assert.equal(other.calls(), 1);
});
