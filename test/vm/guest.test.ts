// One real machine, from inside: what a compile can do, what it cannot, and that the next one works whatever the one before did.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { ascii } from "../../src/base/byte-string.ts";
import { HpccError } from "../../src/base/errors.ts";
import type { ExecutionRequest } from "../../src/vm/execution.ts";
import type { Machine } from "../../src/vm/runtime.ts";
import { bootSpec, childrenNamed, openTestRuntime, request, textInput, VmFolders } from "../support/vm.ts";
import { makeToolchain } from "../support/vm-toolchain.ts";

const SOURCE = "/hpcc/project/a.i";
const OBJECT = "/hpcc/out/a.o";
const signal = new AbortController().signal;
const folders = new VmFolders();
let machine: Machine;

before(async () => {
  const runtime = await openTestRuntime(folders);
  machine = await runtime.boot(bootSpec(makeToolchain(folders.root)), signal);
});

after(async () => {
  await machine.destroy();
  assert.deepEqual(folders.leftovers(), [], "machines leave nothing behind");
  assert.deepEqual(childrenNamed("qemu-system-x86_64"), []);
  assert.deepEqual(childrenNamed("vhost-device-vsock"), []);
  folders[Symbol.dispose]();
});

interface TreeFields {
  readonly files: Readonly<Record<string, string>>;
  readonly links?: Readonly<Record<string, string>>;
  readonly folders?: readonly string[];
  readonly output: string;
}

function compile(text: string): ExecutionRequest {
  return request(["/usr/bin/gcc", "-c", "-O2", "-g", "-frandom-seed=1", SOURCE, "-o", OBJECT], {
    inputs: [textInput(SOURCE, text)],
    outputs: [ascii(OBJECT)],
  });
}

/** The machine code in an object. */
function codeOf(object: string): Buffer {
  execFileSync("objcopy", ["-O", "binary", "--only-section=.text", object, `${object}.text`]);
  return readFileSync(`${object}.text`);
}

function compileOnHost(text: string): string {
  const source = join(folders.root, "host.i");
  const object = join(folders.root, "host.o");
  writeFileSync(source, text);
  execFileSync("gcc", ["-c", "-O2", "-g", "-frandom-seed=1", source, "-o", object]);
  return object;
}

async function lines(what: string): Promise<string[]> {
  await using result = await machine.session.execute(request(["/usr/bin/probe", what]), { signal });
  assert.deepEqual(result.exit, { kind: "code", code: 0 }, Buffer.from(await result.stderr.bytes()).toString());
  return Buffer.from(await result.stdout.bytes())
    .toString()
    .split("\n")
    .filter((line) => line !== "");
}

async function assertNextCompileWorks(): Promise<void> {
  await using result = await machine.session.execute(compile("int after(void) { return 1; }\n"), { signal });
  assert.deepEqual(result.exit, { kind: "code", code: 0 });
  assert.ok((result.outputs[0]?.content.sizeBytes ?? 0) > 0);
}

function limit(name: string) {
  return (error: unknown): boolean =>
    error instanceof HpccError && error.code === "limit.exceeded" && error.details["limit"] === name;
}

describe("a compile in the guest", () => {
  it("makes an object with the code that the host's compiler makes", async () => {
    const text = "int twice(int x) { return 2 * x; }\n";
    await using result = await machine.session.execute(compile(text), { signal });
    assert.deepEqual(result.exit, { kind: "code", code: 0 });
    const object = await result.outputs[0]?.content.bytes();
    assert.ok(object);
    const path = join(folders.root, "guest.o");
    writeFileSync(path, object);
    const code = codeOf(path);
    assert.ok(code.length > 0);
    assert.deepEqual(code, codeOf(compileOnHost(text)));
  });

  it("gives back diagnostics, the exit code, and no object when it fails", async () => {
    await using result = await machine.session.execute(compile("int x = ;\n"), { signal });
    assert.deepEqual(result.exit, { kind: "code", code: 1 });
    assert.match(Buffer.from(await result.stderr.bytes()).toString(), /a\.i:1:9: error: expected expression/);
    assert.deepEqual(result.outputs, [null]);
  });
});

describe("a compile of a project at a path of its own", () => {
  /** Runs gcc in a project with the files; gives its one output, or what it says when it fails. */
  async function run(argv: readonly string[], cwd: string, fields: TreeFields): Promise<Uint8Array | string> {
    const { files, links = {}, folders: empty = [], output } = fields;
    await using result = await machine.session.execute(
      request(["/usr/bin/gcc", ...argv, "-I."], {
        cwd: ascii(cwd),
        inputs: Object.entries(files).map(([path, text]) => textInput(path, text)),
        links: Object.entries(links).map(([path, target]) => ({ path: ascii(path), target: ascii(target) })),
        folders: empty.map(ascii),
        outputs: [ascii(output)],
      }),
      { signal },
    );
    const object = await result.outputs[0]?.content.bytes();
    if (result.exit.kind === "code" && result.exit.code === 0 && object) return object;
    return Buffer.from(await result.stderr.bytes()).toString();
  }

  it("reads through links, writes into its own folders, and says where it was compiled", async () => {
    const object = await run(["-g", "-c", "main.c", "-o", "build/main.o"], "/home/x/y", {
      files: {
        "/home/x/y/main.c":
          '#include "include/part.h"\n#include "absolute.h"\nint main(void) { return PART + OTHER; }\n',
        "/srv/lib/v2/part.h": "#define PART 1\n",
        "/srv/lib/v2/other.h": "#define OTHER 2\n",
      },
      links: {
        "/home/x/y/include": "../../../srv//lib/./v2",
        "/home/x/y/absolute.h": "/srv/lib/v2/other.h",
        "/home/x/y/dangling": "nowhere/at/all",
        "/home/x/y/hostile": "../../../../../proc/self/mem",
      },
      folders: ["/home/x/y/empty"],
      output: "/home/x/y/build/main.o",
    });
    assert.ok(typeof object !== "string", String(object));
    const path = join(folders.root, "own.o");
    writeFileSync(path, object);
    const info = execFileSync("readelf", ["--debug-dump=info", path], { encoding: "utf8" });
    assert.match(info, /DW_AT_comp_dir .*: \/home\/x\/y$/m);
    assert.match(info, /DW_AT_name .*: main\.c$/m);
  });

  it("keeps equal files under #pragma once apart", async () => {
    const header = "#pragma once\nint NAME;\n";
    const part = (name: string, folder: string) => `#define NAME ${name}\n#include "${folder}/h.h"\n#undef NAME\n`;
    const object = await run(["-c", "a.c", "-o", "a.o"], "/work", {
      files: {
        "/work/a/h.h": header,
        "/work/b/h.h": header,
        "/work/a.c": `${part("one", "a")}${part("two", "b")}int main(void) { return one + two; }\n`,
      },
      output: "/work/a.o",
    });
    assert.ok(typeof object !== "string", String(object));
  });

  it("hides a top-level folder of the image by its own of that name", async () => {
    const argv = ["-c", "-xc", "/var/lib/image.h", "-o", "/hpcc/out/x.o"];
    const output = "/hpcc/out/x.o";
    assert.ok(typeof (await run(argv, "/hpcc/project", { files: {}, output })) !== "string");
    assert.match(
      String(await run(argv, "/var/project", { files: { "/var/project/a.h": "" }, output })),
      /\/var\/lib\/image\.h: No such file or directory/,
    );
  });
});

describe("a compile is refused", () => {
  it("every socket that could leave the guest", async () => {
    const found = await lines("sockets");
    assert.equal(found.length, 8);
    for (const line of found) assert.match(line, /^\S+ (EAFNOSUPPORT|EPERM|EACCES|ENOENT)$/);
  });

  it("any interface but loopback", async () => {
    for (const line of await lines("interfaces")) assert.match(line, /^(interface lo|\/proc\/net\/dev \w+)$/);
  });

  it("a change of its toolchain or of its rights", async () => {
    const found = await lines("toolchain");
    assert.equal(found.length, 10);
    for (const line of found) assert.match(line, /^\S+ (EROFS|EPERM|EACCES|EINVAL)$/);
  });

  it("what an earlier compile left", async () => {
    const [planted] = await lines("plant");
    assert.match(planted ?? "", /^planted [1-9]/);
    assert.deepEqual(
      (await lines("look")).filter((line) => !/^processes [12]$/.test(line)),
      [],
    );
  });
});

describe("a compile that goes wrong ends in a clear error, and the next one works", () => {
  const probe = (what: string, limits: Partial<ExecutionRequest["limits"]>): Promise<unknown> =>
    machine.session.execute(request(["/usr/bin/probe", what], { outputs: [ascii("/hpcc/out/big")], limits }), {
      signal,
    });

  it("fork bomb", async () => {
    await assert.rejects(
      probe("fork-bomb", { wallMs: 10_000 }),
      // Whichever it meets first: its processes take memory, too.
      (error) => limit("pids")(error) || limit("wall")(error) || limit("memory")(error),
    );
    await assertNextCompileWorks();
  });

  it("writes 3 GB into a file", async () => {
    await assert.rejects(probe("big-output", {}), limit("output"));
    await assertNextCompileWorks();
  });

  it("writes 1 GB to stderr", async () => {
    await assert.rejects(probe("big-stderr", {}), limit("output"));
    await assertNextCompileWorks();
  });

  it("names a program that is not there", async () => {
    await assert.rejects(
      machine.session.execute(request(["/usr/bin/clang"]), { signal }),
      (error) => error instanceof HpccError && error.code === "job.failed" && /program/.test(error.message),
    );
    await assertNextCompileWorks();
  });
});
