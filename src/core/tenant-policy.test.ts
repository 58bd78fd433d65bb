import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSpiffeId } from "./identity/spiffe.ts";
import { ISOLATIONS } from "./isolation.ts";
import { LIVES } from "./life.ts";
import { fixedPolicies, livesAndSharing, SHARINGS } from "./tenant-policy.ts";

test("the life follows from the sharing, and what is not said never contradicts what is", () => {
  for (const isolation of ISOLATIONS) {
    assert.equal(livesAndSharing({ life: null, sharing: "clean" }, isolation).life, "clean");
    for (const sharing of ["confirm", "private"] as const)
      assert.equal(livesAndSharing({ life: null, sharing }, isolation).life, "session");
    for (const life of [null, ...LIVES])
      for (const sharing of [null, ...SHARINGS]) {
        const filled = livesAndSharing({ life, sharing }, isolation);
        assert.equal(filled.life, life ?? filled.life);
        assert.equal(filled.sharing, sharing ?? filled.sharing);
        if (life === null || sharing === null) assert.ok(filled.sharing !== "clean" || filled.life === "clean");
      }
  }
});

test("fixed policies name their tenants and serve all others", () => {
  const policies = fixedPolicies(new Map([["acme", { sharing: "private" }]]));
  const of = (tenant: string) => {
    const principal = parseSpiffeId(`spiffe://example.org/tenant/${tenant}/user/ann`);
    assert.ok(principal.kind === "user");
    return policies.of(principal);
  };
  assert.equal(of("acme")?.sharing, "private");
  assert.deepEqual([of("other")?.sharing, of("other")?.images, of("other")?.tier], ["confirm", null, null]);
  assert.deepEqual([policies.digest, policies.version], [null, null]);
});

test("where nothing is said, emulated machines share nothing, and others what a clean one confirmed", () => {
  const usual = ISOLATIONS.map((isolation) => [
    isolation,
    livesAndSharing({ life: null, sharing: null }, isolation).sharing,
  ]);
  assert.deepEqual(Object.fromEntries(usual), {
    namespace: "private",
    "qemu-tcg": "private",
    "qemu-kvm": "confirm",
    firecracker: "confirm",
    hyperv: "confirm",
  });
});
