// Users of one tenant who have one image and a checkout each, at paths of their own: what the first one's build made is all that the
// others need where the policy lets clean VMs share, and nothing of it where it lets nobody. Guests are sandboxes, all else is real.
import assert from "node:assert/strict";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { before, type TestContext, test } from "node:test";
import { fixedPolicies, type Sharing } from "../../src/core/tenant-policy.ts";
import { CHECKOUT, Farm, HPCC, IMAGE_FOLDER, runCommand, until } from "../support/farm.ts";
import { QuickFarm } from "../support/quick-farm.ts";

const PACKAGE = "libyaml";
const SOURCES = join(CHECKOUT, ".cache/sources");
const FILES = ["api", "dumper", "emitter", "loader", "parser", "reader", "scanner", "writer"];
const OBJECTS = FILES.map((name) => `${name}.o`);
const VERSION = ["STRING='\"0.2.5\"'", "MAJOR=0", "MINOR=2", "PATCH=5"].map((each) => `-DYAML_VERSION_${each}`);
const FLAGS = ["-O1", "-g", "-Wall", "-Iinclude", ...VERSION].join(" ");
const USERS = 50;

let image: string;

before(async () => {
  const fetched = await runCommand([join(CHECKOUT, "scripts/fetch-debian-source.sh"), PACKAGE, SOURCES]);
  assert.equal(fetched.code, 0, fetched.stderr);
  const maker = new Farm();
  await maker.init();
  image = (await maker.image("e2e")).digest;
  await maker.close();
});

async function start(t: TestContext, sharing: Sharing, confirmationsMax = 0): Promise<QuickFarm> {
  const farm = await QuickFarm.start({
    imageFolder: IMAGE_FOLDER,
    images: [image],
    fallback: "none",
    confirmationsMax,
    policies: fixedPolicies(new Map([["acme", { sharing, life: sharing === "confirm" ? "session" : "clean" }]])),
  });
  t.after(() => farm.close());
  return farm;
}

interface Checkout {
  readonly root: string;
  readonly env: Readonly<Record<string, string>>;
}

/** A user's own checkout, each at another depth and under another name. */
function checkout(farm: QuickFarm, user: string, env: Checkout["env"]): Checkout {
  const root = join(farm.folder, `of ${user}`, ...Array<string>(user.length % 3).fill("work"), `yaml-${user}`);
  mkdirSync(dirname(root), { recursive: true });
  cpSync(join(SOURCES, PACKAGE), root, { recursive: true });
  writeFileSync(join(root, "hpcc.toml"), `image = "${image}"\n`);
  const rule = `%.o: src/%.c\n\t${HPCC} gcc ${FLAGS} -c $< -o $@\n`;
  writeFileSync(join(root, "all.mk"), `all: ${OBJECTS.join(" ")}\n${rule}`);
  return { root, env };
}

async function build({ root, env }: Checkout): Promise<readonly Buffer[]> {
  const made = await runCommand(["make", "-C", root, "-f", "all.mk", "-j4", "all"], { env });
  assert.equal(made.code, 0, made.stderr + made.stdout);
  return OBJECTS.map((name) => readFileSync(join(root, name)));
}

/** Each user's jobs by how they ended and under whose key, in the order of the log. */
async function endsByUser(farm: QuickFarm): Promise<Map<string, Set<string>>> {
  const ends = new Map<string, Set<string>>();
  const counts = new Map<string, number>();
  for (const { envelope } of await farm.rows()) {
    if (!("principal" in envelope) || envelope.principal === null || envelope.kind === "confirm") continue;
    const user = envelope.principal.split("/").at(-1)!;
    const how =
      envelope.kind === "hit" || envelope.kind === "compile" ? `${envelope.kind} ${envelope.scope}` : envelope.kind;
    ends.set(user, (ends.get(user) ?? new Set()).add(how));
    counts.set(user, (counts.get(user) ?? 0) + 1);
  }
  for (const [user, count] of counts) assert.equal(count, FILES.length, `${user}: one row for each file`);
  return ends;
}

/** Users two to `last`. */
function othersUpTo(last: number): string[] {
  return Array.from({ length: last - 1 }, (_, at) => `user${"x".repeat(at % 3)}${at + 2}`);
}

/** Users two and following are given all that the first one's build made, and nothing runs in a VM for them. */
async function assertAllAreGiven(farm: QuickFarm, first: readonly Buffer[]): Promise<void> {
  const executed = farm.pool?.executed.length;
  const others = othersUpTo(USERS);
  for (const user of others) {
    const objects = await build(checkout(farm, user, await farm.addUser(user)));
    for (const [at, object] of objects.entries()) assert.ok(object.equals(first[at]!), `${user}: ${OBJECTS[at]}`);
  }
  assert.equal(farm.pool?.executed.length, executed, "nothing was compiled for anybody else");
  const ends = await endsByUser(farm);
  for (const user of others) assert.deepEqual([...ends.get(user)!], ["hit tenant"], user);
  assert.equal(ends.size, USERS);
}

test(`with clean VMs, users 2 to ${USERS} are given every object of the first one's build, byte for byte`, async (t) => {
  const farm = await start(t, "clean");
  const first = await build(checkout(farm, "ann", farm.env));
  assert.equal(farm.pool?.executed.length, FILES.length);
  assert.deepEqual([...(await endsByUser(farm)).get("ann")!], ["compile tenant"]);
  await assertAllAreGiven(farm, first);
});

test(`with confirm, users 2 to ${USERS} are, once the idle worker has compiled all a second time`, async (t) => {
  const farm = await start(t, "confirm", 2);
  const first = await build(checkout(farm, "ann", farm.env));
  assert.deepEqual([...(await endsByUser(farm)).get("ann")!], ["compile principal"]);
  await until("all are compiled a second time", () => farm.stats.confirmed.equal === FILES.length);
  await assertAllAreGiven(farm, first);
});

test("two users who build at the same time have each file compiled once", async (t) => {
  const farm = await start(t, "clean");
  const [ann, bob] = [checkout(farm, "ann", farm.env), checkout(farm, "bob", await farm.addUser("bob"))];
  const [one, other] = await Promise.all([build(ann), build(bob)]);
  for (const [at, object] of one.entries()) assert.ok(object.equals(other[at]!), OBJECTS[at]);
  assert.equal(farm.pool?.executed.length, FILES.length);
});

for (const [how, sharing, last] of [
  ["private", "private", USERS],
  ["confirm and no second compile", "confirm", 4],
] as const)
  test(`with ${how}, none of ${last} users is given anything of another's`, async (t) => {
    const farm = await start(t, sharing);
    const users = ["ann", ...othersUpTo(last)];
    for (const [at, user] of users.entries()) {
      const env = at === 0 ? farm.env : await farm.addUser(user);
      await build(checkout(farm, user, env));
      assert.equal(farm.pool?.executed.length, (at + 1) * FILES.length, user);
    }
    for (const [user, ends] of await endsByUser(farm)) assert.deepEqual([...ends], ["compile principal"], user);
    await build(checkout(farm, "ann-again", farm.env));
    assert.equal(farm.pool?.executed.length, users.length * FILES.length, "the own results are found");
  });
