// What a site's policy refuses never breaks a build: the client compiles the call itself, in its image, and the worker's row says why. A new
// policy holds from the next call on.
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { parsePolicy } from "../../src/config/policy-file.ts";
import { Farm, HPCC, IMAGE_FOLDER, runCommand, until } from "../support/farm.ts";
import { jobRows } from "../support/job-rows.ts";
import { QuickFarm } from "../support/quick-farm.ts";

let image: string;
let farm: QuickFarm;
let policyFile: string;
let project: string;
let version = 0;

/** Puts the next version in place, as an operator does. */
function writePolicy(tenants: string): void {
  version += 1;
  writeFileSync(`${policyFile}.new`, `schema = 1\nversion = ${version}\nunlisted = "refuse"\n${tenants}\n`);
  renameSync(`${policyFile}.new`, policyFile);
}

const worker = () => ({ state: join(farm.folder, "worker") });

before(async () => {
  const maker = new Farm();
  await maker.init();
  image = (await maker.image("e2e")).digest;
  policyFile = join(maker.folder, "hpcc-policy.toml");
  writePolicy("[tenants.acme]");
  farm = await QuickFarm.start({
    imageFolder: IMAGE_FOLDER,
    images: [image],
    fallback: "image",
    local: false,
    policies: { path: policyFile, parse: parsePolicy },
  });
  project = join(farm.folder, "project");
  mkdirSync(project);
  writeFileSync(join(project, "hpcc.toml"), `image = "${image}"\n`);
});

after(() => farm?.close());

/** Compiles a source of its own; gives what the worker's row says of it. */
async function compile(name: string): Promise<string> {
  const before = (await jobRows(worker())).length;
  writeFileSync(join(project, `${name}.c`), `int ${name}(void) { return 1; }\n`);
  const made = await runCommand([HPCC, "gcc", "-c", `${name}.c`, "-o", `${name}.o`], { env: farm.env, cwd: project });
  assert.deepEqual([made.code, made.stderr], [0, ""]);
  assert.ok(readFileSync(join(project, `${name}.o`)).includes(name));
  const rows = (await jobRows(worker())).slice(before);
  return rows.map(({ kind, note }) => `${kind} ${note}`.trim()).join(", ");
}

/** Until the worker has it in force. */
async function policyInForce(): Promise<void> {
  await until("the policy is in force", async () => {
    const rows = await runCommand([HPCC, "audit", "rows", "--state", worker().state, "--json"]);
    return rows.stdout.includes(`version ${version} in force`);
  });
}

test("a call that the policy refuses is compiled by its client", async () => {
  assert.equal(await compile("allowed"), "compile");
  writePolicy("[tenants.acme]\nuser_quotas = { source_bytes_per_day = 1 }");
  await policyInForce();
  assert.equal(await compile("counted"), "compile", "what was under way, or the first of the day, goes on");
  assert.equal(await compile("over"), "denied limit.exceeded");
  writePolicy("[tenants.acme]");
  await policyInForce();
  assert.equal(await compile("again"), "compile");
  writePolicy(`[tenants.acme]\nimages = ["sha256:${"0".repeat(64)}"]`);
  await policyInForce();
  assert.equal(await compile("forbidden"), "denied image.forbidden");
});
