import assert from "node:assert/strict";
import { test } from "node:test";
import { HpccError } from "../../base/errors.ts";
import { formatHostPort, parseHostPort } from "./host-port.ts";
import {
  NAME,
  NAME_RULE,
  parseIdentityName,
  parseSpiffeId,
  parseTenantId,
  parseTrustDomain,
  spiffeId,
} from "./spiffe.ts";

test("identities read back as written", () => {
  for (const uri of [
    "spiffe://build.example/worker/w1",
    "spiffe://build.example/scheduler/a.b-c_d",
    "spiffe://localhost/tenant/acme/user/ann",
    "spiffe://x/tenant/0/user/9",
  ])
    assert.equal(spiffeId(parseSpiffeId(uri)), uri);
});

test("hostile identities are refused", () => {
  const name64 = "a".repeat(64);
  for (const uri of [
    "",
    "spiffe://",
    "spiffe:///worker/w1",
    "spiffe://build.example",
    "spiffe://build.example/",
    "spiffe://build.example/worker",
    "spiffe://build.example/worker/",
    "spiffe://build.example/worker/w1/",
    "spiffe://build.example/worker/../x",
    "spiffe://build.example/worker/..",
    "spiffe://build.example/worker/.w",
    "spiffe://build.example/worker/-w",
    "spiffe://build.example/worker/W1",
    "spiffe://build.example/worker/w%31",
    "spiffe://build.example/worker/w1?x",
    "spiffe://build.example/worker/w1#x",
    "spiffe://build.example/worker/w1\n",
    "spiffe://build.example/worker/w\u0000",
    "spiffe://build.example/worker/\u00fc",
    `spiffe://build.example/worker/${name64}`,
    "spiffe://build.example:443/worker/w1",
    "spiffe://user@build.example/worker/w1",
    "spiffe://Build.example/worker/w1",
    "spiffe://build..example/worker/w1",
    "SPIFFE://build.example/worker/w1",
    "https://build.example/worker/w1",
    "spiffe://build.example/tenant/acme",
    "spiffe://build.example/tenant/acme/group/ann",
    "spiffe://build.example/tenant//user/ann",
    "spiffe://build.example/tenant/acme/user/ann/x",
    "spiffe://build.example/tenant/a/b/user/ann",
  ])
    assert.throws(
      () => parseSpiffeId(uri),
      (error) => error instanceof HpccError && error.code === "identity.invalid",
      uri,
    );
  assert.throws(() => parseTrustDomain("a".repeat(256)));
});

test("what is said of names is what they are held to", () => {
  assert.match(
    NAME_RULE,
    /1 to 63 .* first a letter or digit, and at most three dots, none at the end or beside another$/,
  );
  const asSaid = (name: string) =>
    /^[a-z0-9._-]{1,63}$/.test(name) &&
    /^[a-z0-9]/.test(name) &&
    name.split(".").length <= 4 &&
    !name.endsWith(".") &&
    !name.includes("..");
  let names = [""];
  for (let length = 1; length <= 9; length++) {
    names = names.flatMap((name) => ["a", ".", "-"].map((char) => name + char));
    for (const name of names) assert.equal(NAME.test(name), asSaid(name), name);
  }
  for (const wrong of ["a..b", "a.b.c.d.e", "1."]) {
    assert.throws(() => parseTenantId(wrong), { message: `a tenant must be ${NAME_RULE}` });
    assert.throws(() => parseIdentityName(wrong, "a user's name"), { message: `a user's name must be ${NAME_RULE}` });
  }
});

test("addresses are host and port, never another scheme", () => {
  for (const text of ["127.0.0.1:1", "[::1]:65535", "worker-1.example:9440"])
    assert.equal(formatHostPort(parseHostPort(text)), text);
  for (const text of [
    "",
    "x",
    ":1",
    "x:",
    "x:99999",
    "unix:/run/x",
    "dns:///x:1",
    "::1:1",
    "[x]:1",
    "a b:1",
    "x:1\n",
    "x:1/",
    "a:b:1",
  ])
    assert.throws(() => parseHostPort(text), HpccError, text);
});
