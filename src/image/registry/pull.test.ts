import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import type { ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, test } from "node:test";
import { HostileRegistry, type Trick } from "../../../test/support/hostile-registry.ts";
import { rawTar, writeLayout } from "../../../test/support/oci-layout.ts";
import { type ErrorCode, HpccError } from "../../base/errors.ts";
import { parseImageName } from "../../core/image/image-name.ts";
import { openImage } from "../layout.ts";
import type { Timing } from "./limits.ts";
import { findInRegistry, type PullReport, pullFound } from "./pull.ts";
import { Registries } from "./registries.ts";

const TIMING: Timing = { stallMs: 200, stallBytesMin: 1024, documentMs: 5_000, retryMs: 1, attemptsMax: 3 };
/** Large enough to arrive in several pieces. */
const LAYER = randomBytes(3 * 1024 * 1024);
const layouts: string[] = [];

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "hpcc-pull-"));
  layouts.push(path);
  return path;
}

afterEach(() => {
  for (const path of layouts.splice(0)) rmSync(path, { recursive: true, force: true });
});

interface Served {
  readonly registry: HostileRegistry;
  readonly digest: string;
  readonly layer: string;
  readonly oci: string;
  pull(options?: Pulling): Promise<PullReport>;
}

interface Pulling {
  readonly name?: string;
  readonly env?: Record<string, string>;
  readonly signal?: AbortSignal;
}

async function served(): Promise<Served & AsyncDisposable> {
  const registry = await HostileRegistry.start();
  const layout = folder();
  const digest = await writeLayout(layout, {
    layers: [{ tar: rawTar([{ name: "usr/bin/gcc", content: LAYER, mode: 0o755 }]), compression: "gzip" }],
  });
  registry.serveLayout(layout, "12");
  const { layers } = await openImage(layout, digest);
  const oci = join(folder(), "oci");
  return {
    registry,
    digest,
    layer: layers[0]!.digest,
    oci,
    async pull({ name = `${registry.host}/team/gcc:12`, env = {}, signal } = {}) {
      using registries = new Registries({ env: { HOME: oci, ...env }, timing: TIMING, signal });
      const parsed = parseImageName(name);
      return pullFound(await findInRegistry(await registries.sessions(parsed, "pull"), parsed), oci);
    },
    [Symbol.asyncDispose]: () => registry[Symbol.asyncDispose](),
  };
}

const fails = (code: ErrorCode, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof HpccError, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

/** Answers requests for the layer alone. */
function forLayer(of: Served, answer: (response: ServerResponse, range: string | undefined) => void): Trick {
  return (request, response) => {
    if (request.url?.endsWith(`/blobs/${of.layer}`) !== true) return false;
    answer(response, request.headers.range);
    return true;
  };
}

/** Says that all will be sent, sends some, and breaks off. */
function cut(response: ServerResponse, bytes: Buffer, from: number, sizeBytes: number): void {
  const headers = from > 0 ? { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {};
  response.writeHead(from > 0 ? 206 : 200, { ...headers, "content-length": bytes.length - from });
  response.write(bytes.subarray(from, from + sizeBytes), () => response.destroy());
}

const entriesOf = (path: string) => (existsSync(path) ? readdirSync(path) : []);

describe("a registry that does as it should", () => {
  test("an image is pulled once, and then known by its name and digest", async () => {
    await using at = await served();
    const report = await at.pull();
    assert.equal(report.digest, at.digest);
    assert.equal(report.downloadedBytes, report.sizeBytes);
    assert.deepEqual(readdirSync(at.oci), [at.digest.slice(7)]);
    assert.equal((await openImage(report.layoutFolder)).digest, at.digest);
    assert.equal((await at.pull({ name: `${at.registry.host}/team/gcc@${at.digest}` })).downloadedBytes, 0);
  });

  test("of an index the image for this machine is taken, and none is an error", async () => {
    await using at = await served();
    const type = "application/vnd.oci.image.manifest.v1+json";
    const entry = (architecture: string, digest: string) => ({
      mediaType: type,
      digest,
      size: at.registry.blob(at.digest).length,
      platform: { architecture, os: "linux" },
    });
    const index = (...manifests: object[]) => Buffer.from(JSON.stringify({ schemaVersion: 2, manifests }));
    const mine = process.arch === "x64" ? "amd64" : process.arch;
    const mediaType = "application/vnd.oci.image.index.v1+json";
    const other = `sha256:${"1".repeat(64)}`;
    at.registry.serveManifest("multi", index(entry("s390x", other), entry(mine, at.digest)), mediaType);
    assert.equal((await at.pull({ name: `${at.registry.host}/team/gcc:multi` })).digest, at.digest);
    at.registry.serveManifest("none", index(entry("s390x", other)), mediaType);
    await assert.rejects(
      at.pull({ name: `${at.registry.host}/team/gcc:none` }),
      fails("image.missing", /has no image for linux\//),
    );
  });

  test("layers that another image here has are not asked for again", async () => {
    await using at = await served();
    await at.pull();
    const layout = folder();
    const tar = rawTar([{ name: "usr/bin/gcc", content: LAYER, mode: 0o755 }]);
    const extra = rawTar([{ name: "usr/bin/extra", content: "x" }]);
    await writeLayout(layout, { layers: [{ tar, compression: "gzip" }, { tar: extra }] });
    at.registry.serveLayout(layout, "13");
    at.registry.asked.length = 0;
    const report = await at.pull({ name: `${at.registry.host}/team/gcc:13` });
    assert.ok(report.downloadedBytes < 100_000 && report.sizeBytes > LAYER.length);
    assert.deepEqual(
      at.registry.asked.filter((line) => line.includes(at.layer)),
      [],
    );
  });

  test("a mirror is asked first, and one that fails is passed over", async () => {
    await using at = await served();
    await using mirror = await HostileRegistry.start();
    const home = folder();
    const conf = join(home, "registries.conf");
    writeFileSync(
      conf,
      `[[registry]]\nprefix = "registry.example.com/team"\nlocation = "${at.registry.host}/team"\n` +
        `[[registry.mirror]]\nlocation = "${mirror.host}/cache"\n`,
    );
    const env = { CONTAINERS_REGISTRIES_CONF: conf };
    const report = await at.pull({ name: "registry.example.com/team/gcc:12", env });
    assert.equal(report.digest, at.digest);
    assert.ok(mirror.asked.includes("GET /v2/cache/gcc/manifests/12"), mirror.asked.join("\n"));
    writeFileSync(conf, `[[registry]]\nprefix = "registry.example.com"\nblocked = true\n`);
    await assert.rejects(
      at.pull({ name: "registry.example.com/team/gcc:12", env }),
      fails("registry.denied", /blocks registry\.example\.com/),
    );
  });
});

describe("a registry that breaks off", () => {
  test("a blob goes on where it ended, within a pull and in the next one", async () => {
    await using at = await served();
    const bytes = at.registry.blob(at.layer);
    let cuts = 0;
    at.registry.trick = forLayer(at, (response, range) => {
      cuts += 1;
      cut(response, bytes, Number(range?.slice(6, -1) ?? 0), cuts > 1 ? 0 : 2_000_000);
    });
    await assert.rejects(at.pull(), fails("registry.unavailable", /broke off|sent \d+ of/));
    // One attempt brought bytes and three brought none.
    assert.equal(cuts, 4);
    assert.deepEqual(readdirSync(at.oci), [`.pull-${at.digest.slice(7)}`]);
    at.registry.trick = () => false;
    at.registry.asked.length = 0;
    assert.equal((await at.pull()).digest, at.digest);
    const range = at.registry.asked.find((line) => line.includes(at.layer))?.split(" ")[2];
    assert.match(range ?? "", /^bytes=[1-9][0-9]{5,}-$/);
    assert.deepEqual(readdirSync(at.oci), [at.digest.slice(7)]);
  });

  test("one that knows no ranges is asked from the start", async () => {
    await using at = await served();
    const bytes = at.registry.blob(at.layer);
    let asked = 0;
    at.registry.trick = forLayer(at, (response) => {
      asked += 1;
      if (asked === 1) cut(response, bytes, 0, 1_000_000);
      else response.writeHead(200, { "content-length": bytes.length }).end(bytes);
    });
    assert.equal((await at.pull()).digest, at.digest);
  });

  test("what was left of a pull and then changed is not believed", async () => {
    await using at = await served();
    const partial = join(at.oci, `.pull-${at.digest.slice(7)}`, "blobs/sha256");
    mkdirSync(partial, { recursive: true });
    writeFileSync(join(partial, `${at.layer.slice(7)}.part`), Buffer.alloc(1000, 7));
    await assert.rejects(at.pull(), fails("image.invalid", /sent other content/));
    assert.deepEqual(readdirSync(at.oci), []);
    assert.equal((await at.pull()).digest, at.digest);
  });

  test("what nobody goes on with is removed after a day", async () => {
    await using at = await served();
    const old = join(at.oci, `.pull-${"2".repeat(64)}`, "blobs/sha256");
    mkdirSync(old, { recursive: true });
    utimesSync(old, 1, 1);
    await at.pull();
    assert.deepEqual(readdirSync(at.oci), [at.digest.slice(7)]);
  });

  test("an interrupted pull ends at once, and goes on later", async () => {
    await using at = await served();
    const control = new AbortController();
    at.registry.trick = forLayer(at, (response) => {
      response.writeHead(200, { "content-length": at.registry.blob(at.layer).length });
      response.write(Buffer.alloc(10), () => control.abort());
    });
    await assert.rejects(at.pull({ signal: control.signal }), fails("job.cancelled", /interrupted/));
  });

  test("one that stalls or sends next to nothing is given up", async () => {
    await using at = await served();
    const timers: NodeJS.Timeout[] = [];
    at.registry.trick = forLayer(at, (response) => {
      response.writeHead(200, { "content-length": at.registry.blob(at.layer).length });
      timers.push(setInterval(() => response.write("x"), 20));
    });
    await assert.rejects(
      at.pull(),
      fails("registry.unavailable", /stalled: it sent fewer than 1024 bytes in 1 second/),
    );
    for (const timer of timers) clearInterval(timer);
  });

  test("one that is not there, or fails, is named", async () => {
    await using at = await served();
    let failures = 0;
    at.registry.trick = (_, response) => {
      failures += 1;
      response.writeHead(503).end("<html>");
      return true;
    };
    await assert.rejects(at.pull(), fails("registry.unavailable", /answers the request with 503/));
    assert.ok(failures >= TIMING.attemptsMax);
    await assert.rejects(
      at.pull({ name: "127.0.0.1:1/x:1" }),
      fails("registry.unavailable", /127\.0\.0\.1:1 cannot be reached/),
    );
    assert.deepEqual(entriesOf(at.oci), []);
  });
});

describe("a registry that lies", () => {
  const lies: Record<
    string,
    { readonly trick: (at: Served) => Trick; readonly message: RegExp; readonly code?: ErrorCode }
  > = {
    "other content": {
      trick: (at) =>
        forLayer(at, (response) => {
          const bytes = Buffer.from(at.registry.blob(at.layer));
          bytes[5000]! ^= 1;
          response.writeHead(200, { "content-length": bytes.length }).end(bytes);
        }),
      message: /sent other content for sha256:/,
    },
    "bytes without end": {
      trick: (at) =>
        forLayer(at, (response) => {
          response.writeHead(200);
          const more = () => response.write(Buffer.alloc(65_536), (error) => void (error ?? more()));
          more();
        }),
      message: /sends more than the \d+ bytes/,
    },
    "a short blob that ends well": {
      trick: (at) => forLayer(at, (response) => response.writeHead(200).end("short")),
      message: /sent 5 of the \d+ bytes/,
      code: "registry.unavailable",
    },
    "another part than was asked for": {
      trick: (at) => forLayer(at, (response) => response.writeHead(206, { "content-range": "bytes 7-8/9" }).end("ab")),
      message: /sent another part/,
      code: "registry.protocol",
    },
    "a redirect without end": {
      trick: (at) =>
        forLayer(at, (response) => response.writeHead(307, { location: `/v2/team/gcc/blobs/${at.layer}` }).end()),
      message: /redirects more than 5 times/,
      code: "registry.protocol",
    },
    "a redirect to a file": {
      trick: (at) => forLayer(at, (response) => response.writeHead(307, { location: "file:///etc/passwd" }).end()),
      message: /redirects to an address that is not https/,
      code: "registry.protocol",
    },
  };
  for (const [name, { trick, message, code = "image.invalid" }] of Object.entries(lies))
    test(name, async () => {
      await using at = await served();
      at.registry.trick = trick(at);
      await assert.rejects(at.pull(), fails(code, message));
      // What broke off may go on; what is false leaves nothing.
      if (code !== "registry.unavailable") assert.deepEqual(readdirSync(at.oci), []);
      else assert.deepEqual(readdirSync(at.oci), [`.pull-${at.digest.slice(7)}`]);
    });

  test("documents that are not what they are said to be, or ask for too much", async () => {
    await using at = await served();
    const type = "application/vnd.oci.image.manifest.v1+json";
    const honest = JSON.parse(at.registry.blob(at.digest).toString()) as { config: object; layers: { size: number }[] };
    const serve = (tag: string, value: unknown, mediaType = type) =>
      at.registry.serveManifest(tag, Buffer.from(typeof value === "string" ? value : JSON.stringify(value)), mediaType);
    const huge = { ...honest, layers: [{ ...honest.layers[0], size: 2 ** 50 }] };
    const rows: [string, unknown, string, ErrorCode, RegExp][] = [
      ["json", "{", type, "image.invalid", /is no JSON/],
      [
        "confused",
        { ...honest, mediaType: "application/vnd.oci.image.index.v1+json" },
        type,
        "image.invalid",
        /says that it is something else/,
      ],
      ["both", { ...honest, manifests: [] }, type, "image.invalid", /says that it is something else/],
      ["html", "<html>", "text/html", "image.invalid", /is no JSON/],
      ["artifact", honest, "application/vnd.example", "image.invalid", /is no image/],
      ["huge", huge, type, "limit.exceeded", /more than is pulled/],
      [
        "foreign",
        { ...honest, layers: [{ ...honest.layers[0], mediaType: "x/foreign" }] },
        type,
        "image.invalid",
        /unknown media type/,
      ],
      ["long", `"${"x".repeat(5 * 1024 * 1024)}"`, type, "registry.protocol", /answers with more than/],
    ];
    for (const [tag, value, mediaType, code, message] of rows) {
      serve(tag, value, mediaType);
      await assert.rejects(at.pull({ name: `${at.registry.host}/team/gcc:${tag}` }), fails(code, message), tag);
    }
    assert.deepEqual(entriesOf(at.oci), []);
  });

  test("another manifest for a digest, and a tag that is not there", async () => {
    await using at = await served();
    const other = `sha256:${"3".repeat(64)}`;
    at.registry.trick = ({ url }, response) => {
      if (url?.endsWith(other) !== true) return false;
      response.writeHead(200, { "content-type": "application/vnd.oci.image.manifest.v1+json" });
      response.end(at.registry.blob(at.digest));
      return true;
    };
    await assert.rejects(
      at.pull({ name: `${at.registry.host}/team/gcc@${other}` }),
      fails("image.invalid", /sent another manifest for sha256:33/),
    );
    // What a registry says is shown without its control characters.
    await assert.rejects(
      at.pull({ name: `${at.registry.host}/team/gcc:absent` }),
      fails("image.missing", /answers the manifest absent with 404 \(NOT_FOUND: not \?\[31mhere\)$/),
    );
  });
});

test("what is left of an image that was pulled before is replaced by all of it", async () => {
  await using at = await served();
  const { layoutFolder } = await at.pull();
  const blob = join(layoutFolder, "blobs/sha256", at.layer.slice(7));
  for (const path of [join(layoutFolder, "index.json"), blob]) {
    writeFileSync(path, "");
    await at.pull();
    await openImage(layoutFolder, (await at.pull()).digest);
    assert.equal(readFileSync(blob).length, at.registry.blob(at.layer).length);
  }
  assert.equal((await at.pull()).downloadedBytes, 0);
});

describe("credentials", () => {
  const challenge =
    (at: Served): Trick =>
    (request, response) => {
      const { url = "", headers } = request;
      if (url.startsWith("/token")) {
        const basic = Buffer.from((headers.authorization ?? "").replace("Basic ", ""), "base64").toString();
        if (basic !== "ann:secret") response.writeHead(401).end("{}");
        else response.end(JSON.stringify({ token: "good" }));
        return true;
      }
      if (url === "/v2/" || headers.authorization === "Bearer good") return false;
      const realm = `Bearer realm="http://${at.registry.host}/token",service="test",scope="repository:team/gcc:pull"`;
      response.writeHead(401, { "www-authenticate": realm }).end("{}");
      return true;
    };
  const login = (host: string, password: string) => ({
    auths: { [host]: { auth: Buffer.from(`ann:${password}`).toString("base64") } },
  });

  test("a token is asked for with the password that Docker keeps; none and a wrong one are errors that say so", async () => {
    await using at = await served();
    at.registry.trick = challenge(at);
    const home = folder();
    const env = { DOCKER_CONFIG: home };
    await assert.rejects(at.pull({ env }), fails("registry.denied", /gives no access without credentials/));
    writeFileSync(join(home, "config.json"), JSON.stringify(login(at.registry.host, "old")));
    await assert.rejects(at.pull({ env }), fails("registry.denied", /refuses the credentials; they may have expired/));
    writeFileSync(join(home, "config.json"), JSON.stringify(login(at.registry.host, "secret")));
    assert.equal((await at.pull({ env })).digest, at.digest);
    const asked = at.registry.asked.filter((line) => line.includes("/token"));
    assert.match(asked.at(-1) ?? "", /\?service=test&scope=repository%3Ateam%2Fgcc%3Apull$/);
  });

  test("without TLS they go to no other host that a registry names", async () => {
    await using at = await served();
    at.registry.trick = (request, response) => {
      if (request.url === "/v2/") return false;
      response.writeHead(401, { "www-authenticate": 'Bearer realm="http://192.0.2.1/token",service="x"' }).end("{}");
      return true;
    };
    const home = folder();
    writeFileSync(join(home, "config.json"), JSON.stringify(login(at.registry.host, "secret")));
    const env = { DOCKER_CONFIG: home };
    await assert.rejects(
      at.pull({ env }),
      fails("registry.protocol", /sends credentials to an address that is not https/),
    );
  });

  test("a helper gives the password; one that fails is named", async () => {
    await using at = await served();
    at.registry.trick = challenge(at);
    const home = folder();
    writeFileSync(join(home, "config.json"), JSON.stringify({ credHelpers: { [at.registry.host]: "test" } }));
    const helper = join(home, "docker-credential-test");
    const env = { DOCKER_CONFIG: home, PATH: `${home}:/usr/bin:/bin` };
    await assert.rejects(at.pull({ env }), fails("registry.denied", /docker-credential-test, .* cannot be run/));
    writeFileSync(helper, `#!/bin/sh\nread server\necho '{"Username":"ann","Secret":"secret"}'\n`, { mode: 0o755 });
    assert.equal((await at.pull({ env })).digest, at.digest);
    writeFileSync(helper, "#!/bin/sh\nexit 3\n");
    await assert.rejects(at.pull({ env }), fails("registry.denied", /docker-credential-test, .* failed \(3\)/));
  });

  test("they are not sent to where a registry redirects", async () => {
    await using at = await served();
    await using other = await HostileRegistry.start();
    const sent: (string | undefined)[] = [];
    other.trick = (request, response) => {
      sent.push(request.headers.authorization);
      response.end(at.registry.blob(at.layer));
      return true;
    };
    const authorised = challenge(at);
    at.registry.trick = (request, response) => {
      if (authorised(request, response)) return true;
      if (!request.url!.endsWith(at.layer)) return false;
      response.writeHead(307, { location: `http://${other.host}/blob` }).end();
      return true;
    };
    const home = folder();
    writeFileSync(join(home, "config.json"), JSON.stringify(login(at.registry.host, "secret")));
    assert.equal((await at.pull({ env: { DOCKER_CONFIG: home } })).digest, at.digest);
    assert.deepEqual(sent, [undefined]);
    assert.ok(readFileSync(join(home, "config.json"), "utf8").length > 0);
  });

  test("they are not sent where the host that a registry redirects to asks for them", async () => {
    await using at = await served();
    await using other = await HostileRegistry.start();
    const sent: (string | undefined)[] = [];
    other.trick = (request, response) => {
      sent.push(request.headers.authorization);
      const realm = `Bearer realm="http://${other.host}/token",service="x"`;
      response.writeHead(401, { "www-authenticate": realm }).end();
      return true;
    };
    const authorised = challenge(at);
    at.registry.trick = (request, response) => {
      if (authorised(request, response)) return true;
      if (!request.url!.endsWith(at.layer)) return false;
      response.writeHead(307, { location: `http://${other.host}/blob` }).end();
      return true;
    };
    const home = folder();
    writeFileSync(join(home, "config.json"), JSON.stringify(login(at.registry.host, "secret")));
    await assert.rejects(
      at.pull({ env: { DOCKER_CONFIG: home } }),
      fails("registry.denied", /refuses the credentials/),
    );
    assert.deepEqual(sent, [undefined]);
  });
});
