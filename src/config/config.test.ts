import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { ascii, byteStringOf, byteStringOfText, bytesOf } from "../base/byte-string.ts";
import { HpccError } from "../base/errors.ts";
import { sha256 } from "../core/digest/digest.ts";
import { noteSigner } from "../core/note/signed-note.ts";
import { CLIENT_SCHEMA, loadClientConfig } from "./client.ts";
import { resolveDirectories } from "./directories.ts";
import type { Schema } from "./load.ts";
import { nearest } from "./nearest.ts";
import { loadSchedulerConfig, SCHEDULER_SCHEMA } from "./scheduler.ts";
import { displayValue } from "./value.ts";
import { WITNESS_SCHEMA } from "./witness.ts";
import { loadWorkerConfig, WORKER_SCHEMA } from "./worker.ts";

const GIB = 2 ** 30;
const EIGHT = { processors: 8, memoryBytes: 16 * GIB };
const IMAGE = sha256(Buffer.from("image"));
const OTHER = sha256(Buffer.from("other"));

function invalid(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof HpccError, String(error));
    assert.equal(error.code, "config.invalid");
    assert.match(error.message, pattern);
    return true;
  };
}

describe("configuration", () => {
  let folder = "";
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "hpcc-config-"));
    mkdirSync(join(folder, "project"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const write = (name: string, content: string) => writeFileSync(join(folder, name), content);
  const load = (env: Record<string, string> = {}, flags: Record<string, string> = {}) =>
    loadClientConfig({
      env,
      flags,
      projectRoot: byteStringOfText(join(folder, "project")),
      directories: {
        runtime: "/r",
        state: "/s",
        cache: "/c",
        images: "/i",
        userConfig: join(folder, "user.toml"),
        systemConfig: join(folder, "system.toml"),
      },
    });

  test("a rule of images.trust names one kind of signer, and of a Sigstore who signs", () => {
    const rule = (text: string) => {
      write("user.toml", `[[images.trust]]\nrepository = "r.example.com/team/*"\n${text}\n`);
      return load().config.trust[0]!;
    };
    const repository = "r.example.com/team/*";
    const [path, name] = [join(folder, "f"), "x509.subject: CN=ann"];
    assert.deepEqual(rule('key = "f"'), { repository, by: "key", path, identities: [], issuer: null });
    assert.deepEqual(rule('notation = "f"'), { repository, by: "notation", path, identities: [], issuer: null });
    assert.deepEqual(rule(`notation = "f"\nidentities = ["${name}"]`).identities, [name]);
    const sigstore = rule('sigstore = "f"\nidentities = ["a"]\nissuer = "https://i"');
    assert.deepEqual(sigstore, { repository, by: "sigstore", path, identities: ["a"], issuer: "https://i" });
    const wrong = [
      "",
      "key = 1",
      'key = "f"\nnotation = "f"',
      'key = "f"\nidentities = ["a"]',
      'keys = "f"',
      'notation = "f"\nidentities = []',
      'notation = "f"\nidentities = "a"',
      'notation = "f"\nissuer = "https://i"',
      'sigstore = "f"',
      'sigstore = "f"\nidentities = ["a"]',
      'sigstore = "f"\nissuer = "https://i"',
      'sigstore = "f"\nidentities = ["a"]\nissuer = 1',
    ];
    for (const text of wrong)
      assert.throws(() => rule(text), invalid(/images\.trust .*one of key = "PATH of a public key"/));
  });

  test("without any file there are defaults, and nothing is remote for want of an identity", () => {
    const { config, loaded } = load();
    assert.equal(config.identity, null);
    assert.deepEqual([config.image, config.fallback, config.determinism], [{ kind: "none" }, "image", "default"]);
    for (const origin of Object.values(loaded.origins)) assert.deepEqual(origin, { source: "default", where: "" });
  });

  test("flag > variable > project > user > system, each with its origin", () => {
    const key = "limits.deadline_ms";
    const steps: [() => void, number, string, string][] = [
      [() => write("system.toml", "[limits]\ndeadline_ms = 2000"), 2000, "system", join(folder, "system.toml")],
      [() => write("user.toml", "limits.deadline_ms = 3000"), 3000, "user", join(folder, "user.toml")],
      [
        () => write("project/hpcc.toml", "limits = {deadline_ms = 4000}"),
        4000,
        "project",
        join(folder, "project/hpcc.toml"),
      ],
    ];
    for (const [step, value, source, where] of steps) {
      step();
      const { config, loaded } = load();
      assert.equal(config.deadlineMs, value);
      assert.deepEqual(loaded.origins[key], { source, where });
    }
    const env = { HPCC_DEADLINE_MS: "5000" };
    assert.equal(load(env).config.deadlineMs, 5000);
    assert.deepEqual(load(env).loaded.origins[key], { source: "environment", where: "HPCC_DEADLINE_MS" });
    assert.equal(load(env, { [key]: "6000" }).config.deadlineMs, 6000);
    assert.equal(load({ HPCC_DEADLINE_MS: "" }).config.deadlineMs, 4000);
  });

  test("a whole user file is read", () => {
    write(
      "user.toml",
      `
      remote = true
      schedulers = ["localhost:9440", "[::1]:9440"]
      fallback = "none"
      determinism = "pin"
      isolation_min = "qemu-tcg"
      image = "${IMAGE}"
      images.allowed = ["${OTHER}"]
      [identity]
      certificate = "me/cert.pem"
      key = "/keys/key.pem"
      ca = "me/ca.pem"
      [extra_roots]
      sdk = "/opt/sdk"
      `,
    );
    const { config } = load();
    assert.deepEqual(config.schedulers, [
      { host: "localhost", port: 9440 },
      { host: "::1", port: 9440 },
    ]);
    assert.deepEqual(config.identity, {
      certificate: join(folder, "me/cert.pem"),
      key: "/keys/key.pem",
      ca: join(folder, "me/ca.pem"),
    });
    assert.deepEqual(config.image, { kind: "allowed", digest: IMAGE, name: null });
    assert.deepEqual(config.extraRoots, [{ name: "sdk", host: ascii("/opt/sdk") }]);
    assert.deepEqual([config.fallback, config.determinism, config.isolationMin], ["none", "pin", "qemu-tcg"]);
  });

  test("variables give lists, tables and booleans", () => {
    const { config } = load({
      HPCC_SCHEDULERS: "a:1, b:2",
      HPCC_REMOTE: "0",
      HPCC_EXTRA_ROOTS: "sdk=/opt/sdk,qt=/opt/qt",
      HPCC_IMAGES_ALLOWED: "",
    });
    assert.equal(config.schedulers.length, 2);
    assert.equal(config.remote, false);
    assert.deepEqual(
      config.extraRoots.map(({ name }) => name),
      ["sdk", "qt"],
    );
  });

  test("an unknown key is an error that names file and nearest key", () => {
    write("user.toml", "limit.deadline_ms = 1");
    assert.throws(load, invalid(/user\.toml: unknown key limit\.deadline_ms; did you mean limits\.deadline_ms\?/));
    write("user.toml", "[limits]\ndeadline = 1");
    assert.throws(load, invalid(/unknown key limits\.deadline; did you mean limits\.deadline_ms\?/));
    write("user.toml", "schedulres = []");
    assert.throws(load, invalid(/did you mean schedulers\?/));
    write("user.toml", "zzzzzzzzzzzzzzzzzzzzzzz = 1");
    assert.throws(load, invalid(/unknown key z+$/));
    write("user.toml", "");
    assert.throws(() => load({}, { nothing: "1" }), invalid(/--set: unknown key nothing/));
  });

  test("a wrong value is an error wherever it stands, also where a stronger one wins", () => {
    write("user.toml", 'limits.deadline_ms = "soon"');
    assert.throws(
      () => load({ HPCC_DEADLINE_MS: "5000" }),
      invalid(/user\.toml: limits\.deadline_ms must be a whole number from 1000 to 3600000/),
    );
    const rows = [
      ["limits.deadline_ms = 999", /whole number/],
      ["limits.deadline_ms = 1000.5", /whole number/],
      ["remote = 1", /true or false/],
      ['fallback = "maybe"', /"image", "host", "none"/],
      ['schedulers = ["unix:/x"]', /host:port/],
      ['schedulers = "a:1"', /a list/],
      ['image = "latest"', /digest/],
      ["extra_roots = {Bad = '/x'}", /extra_roots\.Bad is no name \(1 to 32 of a-z, 0-9, '_' and '-', first a letter/],
      ["extra_roots = {x = 1}", /table/],
      ['identity.key = ""', /path/],
      ["limits = 1", /unknown key limits/],
      ["limits.deadline_ms = 1\nlimits.deadline_ms = 2", /user\.toml:2:/],
      ["= 1", /user\.toml:1:/],
    ] as const;
    for (const [content, pattern] of rows) {
      write("user.toml", content);
      assert.throws(load, invalid(pattern), content);
    }
    write("user.toml", "");
    assert.throws(() => load({ HPCC_REMOTE: "maybe" }), invalid(/HPCC_REMOTE: remote must be true or false/));
    const roots =
      /HPCC_EXTRA_ROOTS: extra_roots must be a table from names \(1 to 32 of [^^\\]*"name=value,name=value"$/;
    assert.throws(() => load({ HPCC_EXTRA_ROOTS: "zz" }), invalid(roots));
    assert.throws(() => load({ HPCC_IDENTITY_KEY: "relative" }), invalid(/HPCC_IDENTITY_KEY/));
    write("user.toml", 'identity.key = "k"');
    assert.throws(load, invalid(/set together/));
    writeFileSync(join(folder, "user.toml"), Buffer.from([0xff, 0xfe]));
    assert.throws(load, invalid(/cannot read/));
    write("user.toml", `# ${"x".repeat(1024 * 1024)}`);
    assert.throws(load, invalid(/larger than/));
  });

  test("a project's file may tune and name an allowed image; nothing else", () => {
    const allowed = ["image", "nested_projects", "determinism", "paths", "limits.deadline_ms", "limits.jobs_max"];
    const project = Object.entries(CLIENT_SCHEMA).filter(([, key]) => "project" in key);
    assert.deepEqual(project.map(([name]) => name).sort(), allowed.sort());
    const refused = Object.keys(CLIENT_SCHEMA).filter((name) => !allowed.includes(name));
    assert.ok(refused.length >= 10);
    for (const name of refused) {
      write("project/hpcc.toml", `${name} = "x"`);
      assert.throws(load, invalid(/a project's file may not set/), name);
    }
    write("project/hpcc.toml", `image = "${IMAGE}"`);
    assert.deepEqual(load().config.image, { kind: "forbidden", digest: IMAGE, name: null, why: null });
    write("user.toml", `images.allowed = ["${IMAGE}"]`);
    assert.deepEqual(load().config.image, { kind: "allowed", digest: IMAGE, name: null });
    write("project/hpcc.toml", 'determinism = "strict"');
    assert.equal(load().config.determinism, "strict");
    write("user.toml", 'policies_allowed = ["default"]');
    assert.throws(load, invalid(/hpcc\.toml: determinism strict is not in the user's policies_allowed/));
  });

  test("a size is bytes, or a number and a unit", () => {
    const sizeOf = (env: string) => load({ HPCC_LOCAL_SIZE_MAX: env }).config.local.sizeBytesMax;
    assert.equal(load().config.local.sizeBytesMax, 5 * 1024 ** 3);
    const sizes: Record<string, number> = {
      "1048576": 1024 ** 2,
      "10MiB": 10 * 1024 ** 2,
      "10 mib": 10 * 1024 ** 2,
      "2M": 2 * 1024 ** 2,
      "1.5GB": 1_500_000_000,
      "1TiB": 1024 ** 4,
    };
    for (const [text, bytes] of Object.entries(sizes)) assert.equal(sizeOf(text), bytes, text);
    for (const wrong of ["1023KiB", "5 GiB of it", "GiB", "-5GiB", "1e9", "5PiB", "2000000 GiB"])
      assert.throws(() => sizeOf(wrong), invalid(/local\.size_max must be a size from 1048576/), wrong);
    write("user.toml", 'local = {enabled = false, size_max = "20GiB"}');
    assert.equal(load().config.local.enabled, false);
    assert.equal(load().config.local.sizeBytesMax, 20 * 1024 ** 3);
    write("user.toml", "local.size_max = 2000000");
    assert.equal(load().config.local.sizeBytesMax, 2_000_000);
    write("project/hpcc.toml", "local.enabled = true");
    assert.throws(() => load(), invalid(/a project's file may not set local\.enabled/));
  });

  test("a project's root need not be UTF-8", () => {
    const root = Buffer.concat([Buffer.from(join(folder, "project-")), Buffer.from([0xff])]);
    mkdirSync(root);
    writeFileSync(Buffer.concat([root, Buffer.from("/hpcc.toml")]), "limits.jobs_max = 3");
    const { config } = loadClientConfig({
      env: {},
      projectRoot: byteStringOf(root),
      directories: {
        runtime: "",
        state: "",
        cache: "",
        images: "",
        userConfig: join(folder, "none"),
        systemConfig: join(folder, "none"),
      },
    });
    assert.equal(config.jobsMax, 3);
    assert.equal(bytesOf(byteStringOf(root)).at(-1), 0xff);
  });

  test("a file named by HPCC_CONFIG must be there", () => {
    const env = { HOME: "/nonexistent", HPCC_CONFIG: join(folder, "missing.toml") };
    assert.throws(() => loadClientConfig({ env, projectRoot: null }), invalid(/cannot read .*missing\.toml/));
    assert.ok(loadClientConfig({ env: { HOME: "/nonexistent" }, projectRoot: null }));
  });

  test("a worker's file", () => {
    const identity = '[identity]\ncertificate = "c"\nkey = "k"\nca = "a"\n';
    const file = join(folder, "worker.toml");
    const read = (content: string) => {
      writeFileSync(file, content);
      return loadWorkerConfig({}, file, {}, { machine: EIGHT }).config;
    };
    const config = read(`state_dir = "state"\nimages.layouts = ["oci"]\n${identity}`);
    assert.deepEqual([config.stateDir, config.imageDir], [join(folder, "state"), join(folder, "state/images")]);
    assert.deepEqual(config.imageLayouts, [join(folder, "oci")]);
    assert.deepEqual(config.isolation.allowed, ["qemu-kvm", "firecracker"]);
    const { verifier } = noteSigner("witness.example/w", Buffer.alloc(32, 1), "cosignature");
    const witness = `https://witness.example/ ${verifier.text}`;
    const audit = `[audit]\nwitnesses = ["${witness}"]\n`;
    const { witnesses } = read(`state_dir = "state"\n${identity}\n${audit}`);
    assert.equal(displayValue(witnesses), JSON.stringify([witness]));
    const plain = audit.replace("https", "http");
    assert.throws(() => read(`state_dir = "state"\n${identity}\n${plain}`), invalid(/audit\.witnesses/));
    assert.throws(() => read(identity), invalid(/state_dir is required/));
    assert.throws(() => read('state_dir = "s"'), invalid(/identity.* required/));
    assert.throws(() => read(`state_dir = "s"\nlisten = "0.0.0.0:1"\n${identity}`), invalid(/advertise is required/));
    assert.throws(
      () => read(`state_dir = "s"\nvms = { memory_mib_max = 4096, vm_memory_mib = 8192 }\n${identity}`),
      invalid(/memory_mib_max/),
    );
    assert.throws(() => read(`state_dir = "s"\nexecution.memory_mib = 2048\n${identity}`), invalid(/vm_memory_mib/));
    for (const line of ['runtime = "hyperv"', 'isolation.allowed = ["firecracker", "hyperv"]'])
      assert.throws(() => read(`state_dir = "s"\n${line}\n${identity}`), invalid(/no driver for hyperv yet/));
    assert.throws(() => read(`state_dir = "s"\nvms.vcpus_max = 1\n${identity}`), invalid(/vm_vcpus .*vcpus_max/));
    assert.throws(() => loadWorkerConfig({}, join(folder, "none.toml")), invalid(/cannot read/));
  });

  test("a worker's places and room follow from its machine, where the file does not say", () => {
    const file = join(folder, "worker.toml");
    const sizes = (content: string, machine = EIGHT) => {
      writeFileSync(file, `state_dir = "s"\n${content}\n[identity]\ncertificate = "c"\nkey = "k"\nca = "a"\n`);
      const { vms } = loadWorkerConfig({}, file, {}, { machine }).config;
      return [vms.placesMax, vms.executionsPerVmMax, vms.vmsMax, vms.vcpusMax, vms.memoryBytesMax / GIB];
    };
    assert.deepEqual(sizes(""), [8, 2, 8, 16, 12]);
    assert.deepEqual(sizes("", { processors: 2, memoryBytes: 4 * GIB }), [2, 2, 4, 8, 3]);
    assert.deepEqual(sizes("", { processors: 1, memoryBytes: 2 ** 29 }), [1, 2, 4, 8, 1], "one VM, at the least");
    assert.deepEqual(sizes("", { processors: 64, memoryBytes: 128 * GIB }), [64, 2, 64, 128, 96]);
    const little = { processors: 64, memoryBytes: 16 * GIB };
    assert.deepEqual(sizes("", little), [24, 2, 64, 128, 12], "no more than the memory's VMs can run");
    assert.deepEqual(sizes("slots = 32"), [32, 2, 32, 64, 12]);
    assert.deepEqual(sizes("vms.vm_vcpus = 4"), [8, 4, 4, 16, 12]);
    assert.deepEqual(sizes("vms.executions_per_vm_max = 1\nvms.max = 3"), [3, 1, 3, 6, 12]);
    assert.deepEqual(sizes("vms.vcpus_max = 4"), [4, 2, 8, 4, 12]);
    writeFileSync(file, 'state_dir = "s"\n[identity]\ncertificate = "c"\nkey = "k"\nca = "a"\n');
    assert.ok(loadWorkerConfig({}, file).config.vms.placesMax >= 1, "this machine's");
  });

  test("a worker's peers", () => {
    const file = join(folder, "peers.toml");
    const read = (text: string) => {
      writeFileSync(file, `state_dir = "s"\n[identity]\ncertificate = "c"\nkey = "k"\nca = "a"\n[peers]\n${text}`);
      return loadWorkerConfig({}, file).config.peers;
    };
    assert.deepEqual(read(""), { enabled: true, trust: "site", answerMs: 300, fetchMs: 5000 });
    assert.deepEqual(read('trust = "none"').trust, "none");
    assert.deepEqual(read('trust = ["w1", "w2"]').trust, new Set(["w1", "w2"]));
    assert.deepEqual(read("trust = []").trust, new Set());
    for (const trust of ['"all"', '["W 1"]', "[1]", "true"])
      assert.throws(() => read(`trust = ${trust}`), invalid(/peers\.trust must be "site", "none", or a list/));
  });

  test("a worker's policy is a file of its own", () => {
    const file = join(folder, "policy.toml");
    const read = (content: string) => {
      writeFileSync(file, `state_dir = "s"\n${content}\n[identity]\ncertificate = "c"\nkey = "k"\nca = "a"\n`);
      return loadWorkerConfig({}, file).config.policy;
    };
    assert.equal(read(""), null);
    assert.equal(read('policy = "hpcc-policy.toml"'), join(folder, "hpcc-policy.toml"));
    assert.throws(() => read('[tenants.acme]\nlife = "clean"'), invalid(/unknown key tenants\.acme\.life$/));
  });

  test("a scheduler's file", () => {
    const file = join(folder, "scheduler.toml");
    writeFileSync(file, '[identity]\ncertificate = "c"\nkey = "k"\nca = "a"\n');
    assert.deepEqual(loadSchedulerConfig({}, file).config.listen, { host: "127.0.0.1", port: 9440 });
    assert.equal(loadSchedulerConfig({}, file, { listen: "0.0.0.0:1" }).config.listen.port, 1);
    const flags = { "heartbeat.interval_ms": "5000", "heartbeat.expiry_ms": "6000" };
    assert.throws(() => loadSchedulerConfig({}, file, flags), invalid(/at least twice/));
  });

  test("every key that is a quantity has its unit in its name, and every default fits its kind", () => {
    for (const schema of [CLIENT_SCHEMA, WORKER_SCHEMA, SCHEDULER_SCHEMA, WITNESS_SCHEMA])
      for (const [name, key] of Object.entries(schema)) {
        if (typeof key.fallback !== "number") continue;
        assert.match(name, /(_ms|_mib|_kib|_max|_vcpus|_pids|\.pids|slots|\.max)$/, name);
        assert.equal(key.kind.parse(key.fallback, null), key.fallback, name);
      }
  });
});

test("directories follow HPCC_*, then XDG, then the home folder", () => {
  const owners = { folderOwner: () => 7, listedHome: () => null };
  const resolve = (env: Record<string, string>) => resolveDirectories(env, 7, owners);
  assert.deepEqual(resolve({ HOME: "/home/ann" }), {
    runtime: "/tmp/hpcc-7",
    state: "/home/ann/.local/state/hpcc",
    cache: "/home/ann/.cache/hpcc",
    images: "/home/ann/.local/share/hpcc/images",
    userConfig: "/home/ann/.config/hpcc/config.toml",
    systemConfig: "/etc/hpcc/config.toml",
  });
  assert.equal(resolve({ HOME: "/h", XDG_CACHE_HOME: "/x/cache" }).cache, "/x/cache/hpcc");
  assert.equal(resolve({ HOME: "/h", HPCC_CACHE_DIR: "/big" }).cache, "/big");
  const noHome = { HPCC_STATE_DIR: "/s", HPCC_IMAGE_DIR: "/i", HPCC_CONFIG: "/c.toml" };
  assert.equal(resolve(noHome).cache, "/s/cache");
  const xdg = { XDG_RUNTIME_DIR: "/run/u", XDG_STATE_HOME: "/xs", XDG_DATA_HOME: "/xd/", XDG_CONFIG_HOME: "/xc" };
  const fromXdg = resolve(xdg);
  assert.deepEqual(
    [fromXdg.runtime, fromXdg.state, fromXdg.images, fromXdg.userConfig],
    ["/run/u/hpcc", "/xs/hpcc", "/xd/hpcc/images", "/xc/hpcc/config.toml"],
  );
  const own = { ...xdg, HPCC_RUNTIME_DIR: "/r", HPCC_STATE_DIR: "/s", HPCC_IMAGE_DIR: "/i", HPCC_CONFIG: "/c.toml" };
  const fromOwn = resolve(own);
  assert.deepEqual([fromOwn.runtime, fromOwn.state, fromOwn.images, fromOwn.userConfig], ["/r", "/s", "/i", "/c.toml"]);
  assert.throws(() => resolve({ HOME: "relative" }), invalid(/HOME/));
  // Node goes on for ever where it is to make folders below /proc.
  for (const path of ["/proc", "/proc/x", "//proc/self/fd"])
    assert.throws(() => resolve({ HOME: "/h", HPCC_CACHE_DIR: path }), invalid(/HPCC_CACHE_DIR.* below \/proc/));
  assert.equal(resolve({ HOME: "/h", HPCC_CONFIG: "/proc/self/fd/3" }).userConfig, "/proc/self/fd/3");
});

test("folders of other users are not used, but their configuration is read", () => {
  const folders: Record<string, number> = { "/": 0, "/home": 0, "/home/ann": 7, "/run/user/7": 7, "/root": 0, "/x": 0 };
  const owners = {
    folderOwner: (path: string) => folders[path] ?? null,
    listedHome: (uid: number) => (uid === 0 ? "/root" : null),
  };
  const ann = { HOME: "/home/ann", XDG_RUNTIME_DIR: "/run/user/7", XDG_CACHE_HOME: "/home/ann/cache" };
  assert.equal(resolveDirectories(ann, 7, owners).cache, "/home/ann/cache/hpcc");
  const asRoot = resolveDirectories(ann, 0, owners);
  assert.deepEqual(asRoot, {
    runtime: "/tmp/hpcc-0",
    state: "/root/.local/state/hpcc",
    cache: "/root/.cache/hpcc",
    images: "/root/.local/share/hpcc/images",
    userConfig: "/home/ann/.config/hpcc/config.toml",
    systemConfig: "/etc/hpcc/config.toml",
  });
  // A folder that is not there yet belongs to whom the one above it belongs.
  assert.equal(resolveDirectories({ ...ann, XDG_CACHE_HOME: "/x/new/cache" }, 0, owners).cache, "/x/new/cache/hpcc");
  // Builders of packages say with a home that is not there that nothing may be kept in one.
  assert.equal(resolveDirectories({ HOME: "/nonexistent" }, 0, owners).state, "/root/.local/state/hpcc");
  const nowhere = resolveDirectories({ HOME: "/nonexistent" }, 9, owners);
  assert.deepEqual(
    [nowhere.state, nowhere.cache, nowhere.images],
    ["/tmp/hpcc-9/state", "/tmp/hpcc-9/state/cache", "/tmp/hpcc-9/state/images"],
  );
});

test("the nearest name", () => {
  assert.equal(nearest("schedulres", ["schedulers", "fallback"]), "schedulers");
  assert.equal(nearest("x", ["schedulers", "fallback"]), null);
});

test("values are shown as TOML would write them", () => {
  const shown = [null, true, 5, "a", ["x"], { host: "::1", port: 2 }, new Map([["n", "/p"]]), new Map()].map(
    displayValue,
  );
  assert.deepEqual(shown, ["(not set)", "true", "5", '"a"', '["x"]', '"[::1]:2"', '{ n = "/p" }', "{}"]);
});

test("the operator's page lists every key with its default and variable, and no other", () => {
  const page = readFileSync(new URL("../../docs/operations/configuration.md", import.meta.url), "utf8");
  const sections = page.split(/^## /m).slice(1);
  for (const [index, schema] of ([CLIENT_SCHEMA, WORKER_SCHEMA, SCHEDULER_SCHEMA] as Schema[]).entries()) {
    const rows = [...sections[index]!.matchAll(/^\| `([^`]+)`( \(p\))? \| (.*?) \| (.*?) \|/gm)];
    assert.deepEqual(
      rows.map(([, key, project, value, variable]) => [key, project !== undefined, value, variable]),
      Object.entries(schema).map(([key, { fallback, project, variable }]) => [
        key,
        project === true,
        fallback === null ? "" : `\`${displayValue(fallback)}\``,
        variable === undefined ? "" : `\`${variable}\``,
      ]),
    );
  }
});
