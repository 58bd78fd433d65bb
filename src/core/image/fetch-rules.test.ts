import assert from "node:assert/strict";
import { test } from "node:test";
import { sha256 } from "../digest/digest.ts";
import { type FetchRules, fetchPlaces, type WantedImage } from "./fetch-rules.ts";
import { repositoryOf } from "./image-name.ts";
import { parseRepositoryPattern } from "./repository-pattern.ts";

const digest = sha256(Buffer.from("image"));
const other = sha256(Buffer.from("other"));
const TEAM = "registry.example.com/team/gcc";
const SIGNED = {
  repository: "registry.example.com/signed/*",
  by: "key",
  path: "/k.pub",
  identities: [],
  issuer: null,
} as const;

const RULES: FetchRules = {
  repositories: [TEAM, "registry.example.com/signed/*"].map(parseRepositoryPattern),
  allowed: [digest],
  trust: [SIGNED],
};

const wanted = (changes: Partial<WantedImage> = {}): WantedImage => ({
  tenant: "acme",
  digest,
  repository: TEAM,
  isListed: false,
  ...changes,
});

test("an image that is allowed by its digest is fetched from a repository that is listed, by that digest", () => {
  const [place, ...more] = fetchPlaces(wanted(), RULES);
  assert.deepEqual([more.length, repositoryOf(place!.name), place!.rule], [0, TEAM, null]);
  assert.deepEqual([place!.name.tag, place!.name.digest], [null, digest]);
});

test("without a hint the repositories that are listed by name are asked", () => {
  assert.deepEqual(
    fetchPlaces(wanted({ repository: "" }), RULES).map(({ name }) => repositoryOf(name)),
    [TEAM],
  );
});

test("one that is listed for the tenant needs no signature, another one does", () => {
  assert.equal(fetchPlaces(wanted({ digest: other, isListed: true }), RULES)[0]!.rule, null);
  const signed = wanted({ digest: other, repository: "registry.example.com/signed/gcc" });
  assert.equal(fetchPlaces(signed, RULES)[0]!.rule, SIGNED);
  assert.throws(() => fetchPlaces(wanted({ digest: other }), RULES), { code: "image.forbidden" });
});

test("a hint leads nowhere that the operator does not list", () => {
  const hostile = [
    "169.254.169.254/latest/meta-data",
    "localhost:8080/team/gcc",
    `${TEAM}:12`,
    `${TEAM}@${digest}`,
    `${TEAM}2`,
    "registry.example.com/signed/../other",
    "registry.example.com/signed",
    "user@registry.example.com/team/gcc",
    `${TEAM}?x=1`,
    "registry.example.com/signed/*",
    "gcc",
    "\u0000",
    "x".repeat(100_000),
  ];
  for (const repository of hostile)
    assert.throws(() => fetchPlaces(wanted({ repository, isListed: true }), RULES), { code: "image.missing" });
  assert.throws(() => fetchPlaces(wanted(), { ...RULES, repositories: [] }), { code: "image.missing" });
});
