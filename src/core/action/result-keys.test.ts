// Whose results a job may be given, and whom its own result may serve.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ACTION, user } from "../../../test/support/layer-jobs.ts";
import { sha256 } from "../digest/digest.ts";
import { spiffeId } from "../identity/spiffe.ts";
import { SHARINGS, type Sharing } from "../tenant-policy.ts";
import { deriveActionKey } from "./action-key.ts";
import { keyToPut, resultKeys } from "./result-keys.ts";

const DIGEST = sha256(Buffer.from("source"));
const TIERS = ["laptop", "pull-request", "protected", "release"];

function keysOf(sharing: Sharing, name = "ann", tier: string | null = null) {
  const readableTiers = tier === null ? [null] : TIERS.slice(TIERS.indexOf(tier));
  const policy = { sharing, tier, readableTiers };
  return resultKeys({ action: ACTION, sourceDigest: DIGEST, principal: user(name), policy });
}

const names = (keys: ReturnType<typeof keysOf>) => keys.candidates.map(({ scope, tier }) => `${scope} ${tier}`);

describe("the keys of a result", () => {
  test("are the tenant's, then the principal's; who shares nothing has only the own one", () => {
    for (const sharing of ["clean", "confirm"] as const)
      assert.deepEqual(names(keysOf(sharing)), ["tenant null", "principal null"]);
    assert.deepEqual(names(keysOf("private")), ["principal null"]);
    assert.equal(keysOf("private").shared, null);
  });

  test("of two users: what is shared is one key, what is not are two", () => {
    const [ann, bob] = [keysOf("clean"), keysOf("clean", "bob")];
    assert.equal(ann.shared?.key, bob.shared?.key);
    assert.notEqual(ann.own.key, bob.own.key);
    const common = ann.candidates.filter(({ key }) => bob.candidates.some((other) => other.key === key));
    assert.deepEqual(common, [ann.shared]);
    const eve = keysOf("private", "eve");
    assert.ok(!eve.candidates.some(({ key }) => key === ann.shared?.key));
  });

  test("of a tenant without tiers are those that the specification's vectors have", () => {
    const scope = { tenant: user("ann").tenant, tier: null, principal: null };
    const { shared, own } = keysOf("clean");
    assert.equal(shared?.key, deriveActionKey({ action: ACTION, sourceDigest: DIGEST, scope }));
    const principal = spiffeId(user("ann"));
    assert.equal(own.key, deriveActionKey({ action: ACTION, sourceDigest: DIGEST, scope: { ...scope, principal } }));
  });

  test("read the own tier first, then those above it, never one below", () => {
    assert.deepEqual(names(keysOf("clean", "ann", "pull-request")), [
      "tenant pull-request",
      "tenant protected",
      "tenant release",
      "principal pull-request",
    ]);
    const release = keysOf("clean", "ann", "release");
    assert.deepEqual(names(release), ["tenant release", "principal release"]);
    for (const tier of TIERS.slice(0, -1)) {
      const below = keysOf("clean", "bob", tier);
      assert.ok(!release.candidates.some(({ key }) => key === below.shared?.key));
      assert.ok(below.candidates.some(({ key }) => key === release.shared?.key));
      assert.equal(below.shared?.tier, tier, "what it makes is put no higher");
    }
  });

  test("of a user whose tier rises are others: what a laptop made is no release", () => {
    assert.notEqual(keysOf("clean", "ann", "laptop").own.key, keysOf("clean", "ann", "release").own.key);
  });
});

test("only what a clean VM made is put under the tenant's key, and never for who shares nothing", () => {
  for (const sharing of SHARINGS) {
    const keys = keysOf(sharing);
    assert.equal(keyToPut(keys, "session"), keys.own);
    assert.equal(keyToPut(keys, "clean"), sharing === "private" ? keys.own : keys.shared);
  }
});
