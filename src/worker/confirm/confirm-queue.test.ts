import assert from "node:assert/strict";
import { test } from "node:test";
import { sha256 } from "../../core/digest/digest.ts";
import { parseTenantId } from "../../core/identity/spiffe.ts";
import { ConfirmQueue, type Queued } from "./confirm-queue.ts";

const entry = (tenant: string, key: string): Queued => ({
  tenant: parseTenantId(tenant),
  ownKey: sha256(Buffer.from(key)),
});

test("one tenant does not fill the queue of all, and what was taken or removed gives its room back", () => {
  const queue = new ConfirmQueue<Queued>({ entriesMax: 3, perTenantMax: 2 });
  assert.deepEqual(
    ["1", "2", "3"].map((key) => queue.add(entry("a", key))),
    [true, true, false],
  );
  assert.deepEqual([queue.add(entry("b", "4")), queue.add(entry("b", "5"))], [true, false]);
  assert.deepEqual(queue.take(), entry("a", "1"), "the oldest first");
  assert.equal(queue.add(entry("a", "3")), true);
  assert.equal(queue.remove(entry("a", "2").ownKey), true);
  assert.equal(queue.remove(entry("a", "2").ownKey), false);
  assert.equal(queue.size, 2);
});

test("a key that comes again keeps its place, with what is newest", () => {
  const queue = new ConfirmQueue<Queued & { readonly at: number }>({ entriesMax: 2, perTenantMax: 2 });
  queue.add({ ...entry("a", "1"), at: 1 });
  queue.add({ ...entry("a", "2"), at: 2 });
  assert.equal(queue.add({ ...entry("a", "1"), at: 3 }), true);
  assert.deepEqual([queue.take()?.at, queue.take()?.at, queue.take()], [3, 2, null]);
});
