import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ascii, byteStringOf } from "../../src/base/byte-string.ts";
import type { OutputFile, OutputManner } from "../../src/wire/launcher/messages.ts";
import { IS_ROOT, inlineFile, LauncherFolder, outputsOf, PLAIN_UID } from "./launcher-folder.ts";

/** Calls with OUTPUTS of these files; the compiler behind writes `real.out`. */
async function write(folder: LauncherFolder, files: readonly OutputFile[], before = "", plain = false) {
  let said: readonly OutputFile[] = files;
  await folder.serve(async (peer) => {
    await peer.call();
    peer.send(outputsOf(said));
    said = [];
  });
  return await folder.run('exec "$HPCC" gcc -c a.c', { before, plain });
}

test("OUTPUTS of a failing compile removes what is named, if it is a plain file", async () => {
  await using folder = new LauncherFolder();
  const work = (name: string) => join(folder.work, name);
  let removals = [ascii("a.o"), ascii("gone.o"), ascii(work("b.o"))];
  await folder.serve(async (peer) => {
    await peer.call();
    peer.send(outputsOf([inlineFile("a.d", "a.o: a.c\n")], { exitCode: 1, removals }));
  });
  for (const name of ["a.o", "b.o", "c.o"]) writeFileSync(work(name), "old");
  const end = await folder.run('exec "$HPCC" gcc -c a.c');
  assert.deepEqual([end.code, readdirSync(folder.work).sort()], [1, ["a.d", "c.o"]], end.stderr);
  mkdirSync(work("folder"));
  removals = [ascii("folder")];
  const fell = await folder.run('exec "$HPCC" gcc -c a.c');
  assert.deepEqual([fell.stderr, existsSync(work("folder"))], ["real\n", true]);
  assert.deepEqual(folder.fallbacks(), ["write"]);
});

test("a file that may not grow is the compiler's business, and leaves nothing of ours", async () => {
  await using folder = new LauncherFolder();
  folder.compiler("gcc", "grep ^SigIgn /proc/self/status > signals");
  const files = [inlineFile("a.d", "a.o: a.c\n"), inlineFile("a.o", "x".repeat(200_000))];
  const end = await write(folder, files, "ulimit -f 64");
  assert.deepEqual([end.code, leftovers(folder.work)], [0, []], end.stderr);
  assert.deepEqual(folder.fallbacks(), ["write"]);
  // SIGXFSZ is the 25th: the compiler is not to find it ignored.
  const ignored = BigInt(`0x${readFileSync(join(folder.work, "signals"), "latin1").trim().split("\t")[1]}`);
  assert.equal(ignored & (1n << 24n), 0n);
});

test("a full disk is the compiler's business, and leaves nothing of ours", { skip: !IS_ROOT }, async () => {
  await using folder = new LauncherFolder();
  const mount = `mount -t tmpfs -o size=64k none '${folder.work}' && cd '${folder.work}'`;
  await folder.serve(async (peer) => {
    await peer.call();
    peer.send(outputsOf([inlineFile("a.d", "a.o: a.c\n"), inlineFile("a.o", "x".repeat(200_000))]));
  });
  const end = await folder.run(`exec unshare -m sh -c "${mount} && $HPCC gcc -c a.c; ls -A"`);
  assert.equal(end.stdout, "real.out\n", end.stderr);
  assert.deepEqual(folder.fallbacks(), ["write"]);
});

test("words on both streams keep their order where these are one", async () => {
  await using folder = new LauncherFolder();
  folder.compiler("gcc", "echo one; echo two >&2; echo three");
  const bytes = (text: string) => ({ kind: "inline", bytes: Buffer.from(text) }) as const;
  await folder.serve(async (peer) => {
    await peer.call();
    peer.send(outputsOf([], { stdout: bytes("one\nthree\n"), stderr: bytes("two\n") }));
  });
  const apart = await folder.run('exec "$HPCC" gcc -c a.c');
  assert.deepEqual([apart.stdout, apart.stderr], ["one\nthree\n", "two\n"]);
  assert.deepEqual(folder.fallbacks(), []);
  const joined = await folder.run('exec "$HPCC" gcc -c a.c 2>&1');
  assert.equal(joined.stdout, "one\ntwo\nthree\n");
  assert.deepEqual(folder.fallbacks(), ["one-stream"]);
});

test("where words cannot be written, the compiler itself says so in its way", async () => {
  await using folder = new LauncherFolder();
  folder.compiler("gcc", "echo told >&2 || exit 9");
  await folder.serve(async (peer) => {
    await peer.call();
    peer.send(outputsOf([], { stderr: { kind: "inline", bytes: Buffer.from("told\n") } }));
  });
  const codes = [];
  for (const end of ["2> said", "2> /dev/full", "2>&-", "> /dev/full", ">&-"])
    codes.push((await folder.run(`exec "$HPCC" gcc -c a.c ${end}`)).code);
  assert.deepEqual(
    [codes, folder.fallbacks()],
    [
      [0, 9, 9, 0, 0],
      ["words", "closed-stream", "closed-stream"],
    ],
  );
});

const leftovers = (folder: string) => readdirSync(folder).filter((name) => name.startsWith(".hpcc-"));

/** Linux's, which Node does not name. */
const O_PATH = 0o10_000_000;

/** What a destination looks like from outside; inodes are compared as "kept" or "new". */
function look(path: string, old: Map<string, bigint>): unknown {
  const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  if (stat === undefined) return "absent";
  const kept = old.get(path) === stat.ino;
  if (stat.isSymbolicLink()) return { link: readlinkSync(path), kept };
  if (!stat.isFile()) return { special: true, kept };
  return {
    mode: (stat.mode & 0o777n).toString(8),
    kept,
    links: stat.nlink.toString(),
    text: readFileSync(path, "latin1"),
  };
}

/** The states in which a compiler may find `out`. `victim` is what links lead to. */
const STATES: Readonly<Record<string, string>> = {
  absent: ":",
  "non-empty": "echo old > out",
  "non-empty 0600": "echo old > out; chmod 600 out",
  "read-only": "echo old > out; chmod 444 out",
  empty: ": > out",
  "empty 0600": ": > out; chmod 600 out",
  "empty read-only": ": > out; chmod 400 out",
  "hard link": "echo old > victim; ln victim out",
  "link to a file": "echo old > victim; ln -s victim out",
  "link to a read-only file": "echo old > victim; chmod 400 victim; ln -s victim out",
  "link to an empty file": ": > victim; ln -s victim out",
  "dangling link": "ln -s victim out",
  "link into a missing folder": "ln -s none/victim out",
  "link loop": "ln -s out out",
  "link to a device": "ln -s /dev/null out",
  folder: "mkdir out",
  "link to a folder": "mkdir victim; ln -s victim out",
  "file in a folder without write permission":
    "mkdir locked; echo old > locked/out; chmod 666 locked/out; chmod 555 locked; ln -s locked victim",
};

const COMPILES: readonly (readonly [string, OutputManner, string])[] = [
  ["GNU as", "assembler", "/usr/bin/gcc -c ../a.c -o OUT"],
  ["cc1 -S", "text", "/usr/bin/gcc -S ../a.c -o OUT"],
  ["cc1 -MF", "text", "/usr/bin/gcc -E -M ../a.c -MF OUT"],
  ["clang", "clang", "/usr/bin/clang -c ../a.c -o OUT"],
];

for (const [compiler, manner, command] of COMPILES)
  test(`destinations are met as ${compiler} meets them`, {
    skip: IS_ROOT ? false : "needs root to be a plain user",
  }, async () => {
    let written = 0;
    for (const [state, script] of Object.entries(STATES)) {
      await using folder = new LauncherFolder();
      folder.givePlain();
      for (const path of [folder.path, folder.work]) writeFileSync(join(path, "a.c"), "int a;\n");
      // Held open, so that no new file gets an old one's number.
      const held: number[] = [];
      const out = state.includes("locked") || state.includes("without write") ? "locked/out" : "out";
      const compile = command.replace("OUT", out);
      const looks: unknown[] = [];
      const content = join(folder.path, "content");
      const oracle = command.replace("OUT", content);
      assert.equal(spawnSync("/bin/sh", ["-c", oracle], { cwd: folder.work }).status, 0);
      let fellBack = false;
      folder.compiler("gcc", `echo fell > ../../state/fell; umask 022; exec ${compile}`);
      await folder.serve(
        async (peer) => {
          await peer.call();
          peer.send(outputsOf([inlineFile(out, readFileSync(content, "latin1"), { manner })]));
        },
        { plain: true },
      );
      let codes: (number | null)[] = [];
      for (const run of [compile, '"$HPCC" gcc -c a.c']) {
        const place = join(folder.work, `place-${looks.length}`);
        mkdirSync(place);
        chownSync(place, PLAIN_UID, PLAIN_UID);
        await folder.run(`umask 022; ${script}`, { cwd: place, plain: true });
        const paths = ["out", "victim", "locked/out"].map((name) => join(place, name));
        const inodes = new Map<string, bigint>();
        for (const path of paths) {
          const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
          if (stat === undefined) continue;
          inodes.set(path, stat.ino);
          held.push(openSync(path, O_PATH | constants.O_NOFOLLOW));
        }
        const end = await folder.run(`umask 022; ${run}`, {
          cwd: place,
          plain: true,
        });
        codes = [...codes, end.code];
        looks.push(paths.map((path) => look(path, inodes)));
        assert.deepEqual(leftovers(place), [], state);
      }
      for (const fd of held) closeSync(fd);
      fellBack = existsSync(join(folder.state, "fell"));
      assert.deepEqual(looks[1], looks[0], `${compiler}: ${state}`);
      assert.equal(codes[1], codes[0], `${compiler}: ${state}`);
      // Only where the compiler itself fails may the launcher leave the work to it.
      assert.equal(fellBack, codes[0] !== 0, `${compiler}: ${state}: fell back`);
      if (!fellBack) written++;
    }
    assert.ok(written >= 8, `${written} states were written by the launcher itself`);
  });

test("modes are 0666 and 0777 less the caller's umask", async () => {
  for (const [umask, file, program] of [
    ["022", 0o644, 0o755],
    ["077", 0o600, 0o700],
    ["002", 0o664, 0o775],
    ["000", 0o666, 0o777],
  ] as const) {
    await using folder = new LauncherFolder();
    const end = await write(
      folder,
      [inlineFile("a.o", "object"), inlineFile("a.out", "program", { executable: true })],
      `umask ${umask}`,
    );
    assert.equal(end.code, 0);
    assert.equal(statSync(join(folder.work, "a.o")).mode & 0o777, file);
    assert.equal(statSync(join(folder.work, "a.out")).mode & 0o777, program);
  }
});

test("files come from frames and from files, to relative, absolute and non-UTF-8 names", async () => {
  await using folder = new LauncherFolder();
  const big = Buffer.alloc(5_000_000, "0123456789");
  const source = join(folder.path, "source");
  writeFileSync(source, big, { mode: 0o400 });
  writeFileSync(join(folder.path, "nothing"), "");
  mkdirSync(join(folder.work, "sub"));
  const odd = byteStringOf(Buffer.concat([Buffer.from("sub/"), Buffer.from([0xff, 0x0a, 0x20])]));
  const fromFile = (path: string) => ({ kind: "file", path: ascii(path) }) as const;
  const end = await write(folder, [
    inlineFile("big.o", "", { content: fromFile(source) }),
    inlineFile(join(folder.path, "absolute.o"), "absolute"),
    { ...inlineFile("", "odd"), destination: odd },
    inlineFile("empty.o", "", { content: fromFile(join(folder.path, "nothing")) }),
  ]);
  assert.deepEqual([end.code, end.stderr], [0, ""]);
  assert.ok(readFileSync(join(folder.work, "big.o")).equals(big));
  assert.notEqual(statSync(join(folder.work, "big.o")).ino, statSync(source).ino);
  assert.equal(statSync(join(folder.work, "big.o")).mode & 0o777, 0o644);
  assert.equal(readFileSync(join(folder.path, "absolute.o"), "latin1"), "absolute");
  assert.equal(readFileSync(Buffer.from(`${folder.work}/${odd}`, "latin1"), "latin1"), "odd");
  assert.equal(statSync(join(folder.work, "empty.o")).size, 0);
});

test("one file that cannot be written means none, and the real compiler runs", async () => {
  await using folder = new LauncherFolder();
  const bad: readonly (readonly [string, OutputFile])[] = [
    ["missing folder", inlineFile("none/b.o", "b")],
    ["source missing", inlineFile("b.o", "", { content: { kind: "file", path: ascii("/no/such/source") } })],
    ["source a folder", inlineFile("b.o", "", { content: { kind: "file", path: ascii("/") } })],
    ["name too long", inlineFile("x".repeat(300), "b")],
    ["under a file", inlineFile("a.c/b.o", "b")],
  ];
  writeFileSync(join(folder.work, "a.c"), "");
  let file = bad[0]![1];
  await folder.serve(async (peer) => {
    await peer.call();
    peer.send(
      outputsOf([inlineFile("first.o", "new"), file, inlineFile("last.o", "new")], {
        stderr: { kind: "inline", bytes: Buffer.from("warning\n") },
      }),
    );
  });
  for (const [what, one] of bad) {
    file = one;
    writeFileSync(join(folder.work, "first.o"), "old");
    const end = await folder.run('exec "$HPCC" gcc -c a.c', { environment: { HPCC_VERBOSE: "1" } });
    assert.equal(end.code, 0, what);
    assert.match(end.stderr, /^hpcc: (write|source): .*; running the real compiler\nreal\n$/, what);
    assert.equal(readFileSync(join(folder.work, "first.o"), "latin1"), "old", what);
    assert.deepEqual(readdirSync(folder.work).sort(), ["a.c", "first.o", "real.out"], what);
  }
  assert.equal(folder.fallbacks().length, bad.length);
});

test("a full disk leaves nothing of ours, and the compiler tells of it", {
  skip: IS_ROOT ? false : "needs root to mount",
}, async () => {
  await using folder = new LauncherFolder();
  const inner = join(folder.path, "inner.sh");
  writeFileSync(
    inner,
    'mount -t tmpfs -o size=64k none "$PWD" && cd "$PWD" && "$HPCC" gcc -c a.c; echo $?; ls -A; df --output=used . | tail -1\n',
  );
  folder.compiler("gcc", "echo the compiler was here >&2; exit 4");
  await folder.serve(async (peer) => {
    await peer.call();
    peer.send(outputsOf([inlineFile("small.o", "small"), inlineFile("large.o", "x".repeat(200_000))]));
  });
  const end = await folder.run(`exec unshare -m /bin/sh ${inner}`);
  assert.deepEqual(end.stdout.split(/\s+/), ["4", "0", ""]);
  assert.equal(end.stderr, "the compiler was here\n");
  assert.deepEqual(folder.fallbacks(), ["write"]);
});

test("a device is written into and stays a device", { skip: IS_ROOT ? false : "needs root for mknod" }, async () => {
  await using folder = new LauncherFolder();
  spawnSync("mknod", [join(folder.work, "null"), "c", "1", "3"]);
  const end = await write(folder, [inlineFile("null", "object"), inlineFile("a.o", "object")]);
  assert.deepEqual([end.code, folder.fallbacks()], [0, []]);
  assert.ok(statSync(join(folder.work, "null")).isCharacterDevice());
});

test("a fifo gets the bytes and stays a fifo", async () => {
  await using folder = new LauncherFolder();
  await folder.serve(async (peer) => {
    await peer.call();
    peer.send(outputsOf([inlineFile("pipe", "through the pipe")]));
  });
  const end = await folder.run('mkfifo pipe; "$HPCC" gcc -c a.c & cat pipe; wait $!; echo $?');
  assert.equal(end.stdout, "through the pipe0\n");
  assert.ok(statSync(join(folder.work, "pipe")).isFIFO());
});

test("access lists of the destination's folder count as for any new file", async () => {
  await using folder = new LauncherFolder();
  mkdirSync(join(folder.work, "group"));
  chmodSync(join(folder.work, "group"), 0o2777);
  const end = await write(folder, [inlineFile("group/a.o", "object")]);
  assert.equal(end.code, 0);
  assert.equal(statSync(join(folder.work, "group/a.o")).gid, statSync(join(folder.work, "group")).gid);
  rmSync(join(folder.work, "group"), { recursive: true });
});

test("of two files the later is never the older, whatever was there", async () => {
  const text = (destination: string, manner: OutputManner) => inlineFile(destination, "new", { manner });
  for (const before of [":", "echo old > a.d", "echo old > a.d; echo old > a.o", "echo old > a.o"]) {
    await using folder = new LauncherFolder();
    const files = [text("a.d", "text"), text("a.o", "assembler")];
    assert.equal((await write(folder, files, before)).code, 0);
    const [dependencies, object] = files.map(
      ({ destination }) => statSync(join(folder.work, destination), { bigint: true }).mtimeNs,
    );
    assert.ok(object! >= dependencies!, before);
  }
});
