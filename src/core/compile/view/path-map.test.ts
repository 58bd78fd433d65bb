import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { array, assert as assertProperty, constantFrom, property } from "fast-check";
import { ascii, type ByteString } from "../../../base/byte-string.ts";
import { parseGnu } from "../grammar/gnu-parse.ts";
import type { GnuInvocation } from "../grammar/invocation.ts";
import { mapInvocation, pathsOf, toSpelledPath, type ViewFiles, viewPathMapper } from "./path-map.ts";

/** A host: the project at /home/u/proj, an extra root at /srv/extra, links all over. */
const LINKS: Readonly<Record<string, string>> = {
  "/home/link": "/home/u/proj",
  "/home/u/alias": "proj",
  "/home/u/proj/in": "src",
  "/home/u/proj/in-abs": "/home/u/proj/src",
  "/home/u/proj/out": "../../other",
  "/home/u/proj/out-abs": "/home/other",
  "/home/u/proj/up-and-back": "../proj/src",
  "/home/u/proj/src/link.c": "real.c",
  "/home/u/proj/src/link-abs.c": "/home/u/proj/lib/real.c",
  "/home/u/proj/src/link-out.c": "/etc/passwd",
  "/home/u/proj/to-extra": "/srv/extra/inc",
  "/home/u/proj/to-usr": "/usr/include",
  "/home/u/proj/loop": "loop2",
  "/home/u/proj/loop2": "loop",
  "/lib": "usr/lib",
  "/usr/include/cur": "/usr/include/v1",
  "/usr/lib/out": "/home/u/secret",
  "/srcs": "/home/u/proj/src",
};

function viewFiles(cwd: string, project = "/home/u/proj"): ViewFiles {
  return {
    view: {
      roots: [
        { host: ascii(project), guest: ascii("/hpcc/project") },
        { host: ascii("/srv/extra"), guest: ascii("/hpcc/roots/extra") },
      ],
    },
    cwd: ascii(cwd),
    imageEntries: new Set(["usr", "lib", "etc", "bin"]),
    readlink: (path) => (LINKS[path] === undefined ? null : ascii(LINKS[path] ?? "")),
  };
}

const ROOT = "/home/u/proj";

/** Working directory, path, its mapping as a folder, and as a file when that differs; null: out of view. */
const ROWS: readonly (readonly [string, string, string | null, (string | null)?])[] = [
  // Relative ones that mean the same stay as spelled.
  [ROOT, "src", "src"],
  [ROOT, ".", "."],
  [ROOT, "./src//a/../b/", "./src//a/../b/"],
  [ROOT, "missing/dir", "missing/dir"],
  [`${ROOT}/build`, "../src/a.c", "../src/a.c"],
  [`${ROOT}/build`, "..", ".."],
  [ROOT, "in/a.c", "in/a.c"],
  [`${ROOT}/src`, "link.c", "link.c"],
  [ROOT, "-dash", "-dash"],
  [ROOT, "with space\n\xff", "with space\n\xff"],
  // Relative ones that leave the root by text or link and come back become absolute.
  [ROOT, "../proj/src", "/hpcc/project/src"],
  [ROOT, "../proj/src/../inc", "/hpcc/project/src/../inc"],
  [ROOT, "../alias/src/x", "/hpcc/project/src/x"],
  [ROOT, "up-and-back/x.h", "/hpcc/project/src/x.h"],
  [ROOT, "in-abs", "/hpcc/project/src", null],
  [ROOT, "in-abs/x.h", "/hpcc/project/src/x.h"],
  [ROOT, "to-extra", "/hpcc/roots/extra/inc", null],
  [ROOT, "../../../srv/extra/inc/", "/hpcc/roots/extra/inc/"],
  [ROOT, "to-usr", "/usr/include", null],
  [ROOT, "../../../usr/include/x", "/usr/include/x"],
  [`${ROOT}/src`, "link-abs.c", "/hpcc/project/lib/real.c", null],
  [`${ROOT}/src`, "link-out.c", "/etc/passwd", null],
  // Out of view.
  [ROOT, "..", null],
  [ROOT, "../other/x", null],
  [ROOT, "../project-two", null],
  [ROOT, "out", null],
  [ROOT, "out/x.h", null],
  [ROOT, "out-abs/x.h", null],
  [ROOT, "loop/x", null],
  [ROOT, "src/../../secret", null],
  // Absolute ones: the part up to the root is replaced.
  [ROOT, ROOT, "/hpcc/project"],
  [ROOT, `${ROOT}/`, "/hpcc/project/"],
  [ROOT, `${ROOT}/src//x/../y.c`, "/hpcc/project/src//x/../y.c"],
  [ROOT, "//home//u/./proj/src", "/hpcc/project/src"],
  [ROOT, "/home/link/src/a.c", "/hpcc/project/src/a.c"],
  [ROOT, "/home/link", "/hpcc/project", null],
  [ROOT, "/home/u/alias/in/a.c", "/hpcc/project/in/a.c"],
  [ROOT, "/home/u/x/../proj/src", "/hpcc/project/src"],
  [ROOT, "/srcs/a.c", "/hpcc/project/src/a.c"],
  [ROOT, "/srcs", "/hpcc/project/src", null],
  [ROOT, `${ROOT}/src/link.c`, "/hpcc/project/src/link.c"],
  [ROOT, `${ROOT}/src/link-abs.c`, "/hpcc/project/lib/real.c", null],
  [ROOT, `${ROOT}-two/x`, null],
  [ROOT, `${ROOT}/../proj/x`, "/hpcc/project/x"],
  [ROOT, `${ROOT}/../other`, null],
  [ROOT, "/srv/extra/x", "/hpcc/roots/extra/x"],
  [ROOT, "/srv/extra2/x", null],
  // The image's.
  [ROOT, "/usr/include", "/usr/include"],
  [ROOT, "/lib/gcc/../x", "/lib/gcc/../x"],
  [ROOT, "/usr/include/cur/x.h", "/usr/include/cur/x.h"],
  [ROOT, "/usr/../etc/x", "/usr/../etc/x"],
  [ROOT, "/usr/lib/out/x", null],
  [ROOT, "/usr/../home/u/secret", null],
  [ROOT, "/usr/../home/u/proj/x", "/hpcc/project/x"],
  [ROOT, "/opt/x", null],
  [ROOT, "/", null],
  [ROOT, "/usr/..", null],
];

describe("viewPathMapper", () => {
  for (const [cwd, path, directory, file] of ROWS) {
    it(`${JSON.stringify(path)} from ${cwd}`, () => {
      const mapper = viewPathMapper(viewFiles(cwd));
      assert.equal(mapper.directory(ascii(path)), directory);
      assert.equal(mapper.file(ascii(path)), file === undefined ? directory : file);
    });
  }

  it("a project below a folder of the image is the project's, its neighbours are the image's", () => {
    const mapper = viewPathMapper(viewFiles("/usr/lib/proj/sub", "/usr/lib/proj"));
    assert.equal(mapper.directory(ascii("/usr/lib/proj/inc")), "/hpcc/project/inc");
    assert.equal(mapper.directory(ascii("../inc")), "../inc");
    assert.equal(mapper.directory(ascii("../../other")), "/usr/lib/other");
    assert.equal(mapper.directory(ascii("/usr/lib/other/../proj/x")), "/hpcc/project/x");
  });

  it("a project below /usr/src has the host's neighbours in one namespace and the image's in the other, so they are out", () => {
    const mapper = viewPathMapper(viewFiles("/usr/src/proj", "/usr/src/proj"));
    assert.equal(mapper.directory(ascii("/usr/src/proj/inc")), "/hpcc/project/inc");
    assert.equal(mapper.directory(ascii("../other")), null);
    assert.equal(mapper.directory(ascii("/usr/include")), "/usr/include");
    assert.equal(viewPathMapper(viewFiles("/home/u/proj")).directory(ascii("/usr/src/other")), "/usr/src/other");
  });

  it("a mapped path leads to the same file as the one that was given (property)", () => {
    const component = constantFrom(
      ".",
      "..",
      "",
      "src",
      "in",
      "in-abs",
      "out",
      "x",
      "to-extra",
      "to-usr",
      "up-and-back",
    );
    const start = constantFrom("", "/home/u/proj/", "/home/link/", "/usr/include/cur/", "/srcs/", "/srv/extra/");
    let mapped = 0;
    assertProperty(
      property(start, array(component, { minLength: 1, maxLength: 8 }), (from, parts) => {
        const files = viewFiles("/home/u/proj/src");
        const path = ascii(from + parts.join("/"));
        const guest = viewPathMapper(files).directory(path);
        const real = resolve(path, "/home/u/proj/src", LINKS);
        const place = ["/home/u/proj", "/srv/extra", "/usr", "/lib", "/etc"].some((root) =>
          `${real}/`.startsWith(`${root}/`),
        );
        if (guest === null) {
          assert.ok(!place || path === "", `${path} is in view: ${real}`);
          return;
        }
        mapped++;
        assert.equal(hostOf(resolve(guest, "/hpcc/project/src", GUEST_LINKS)), real, `${path} -> ${guest}`);
      }),
      { numRuns: 2000 },
    );
    assert.ok(mapped > 500, `only ${mapped}`);
  });
});

/** The project's links as the guest sees them: absolute ones lead where they say, which is not where they led. */
const GUEST_LINKS: Readonly<Record<string, string>> = Object.fromEntries(
  Object.entries(LINKS)
    .filter(([path]) => path.startsWith(`${ROOT}/`) || /^\/(?:usr|lib)/.test(path))
    .map(([path, target]) => [path.replace(ROOT, "/hpcc/project"), target]),
);

function hostOf(guest: string): string {
  return guest.replace(/^\/hpcc\/project(?=\/|$)/, ROOT).replace(/^\/hpcc\/roots\/extra(?=\/|$)/, "/srv/extra");
}

/** The kernel's path walk over a table of links; an independent oracle. */
function resolve(path: string, cwd: string, links: Readonly<Record<string, string>>): string {
  const todo = (path.startsWith("/") ? path : `${cwd}/${path}`).split("/");
  let at: string[] = [];
  for (let count = 0; todo.length > 0 && count < 1000; count++) {
    const part = todo.shift() ?? "";
    if (part === "" || part === ".") continue;
    if (part === "..") {
      at.pop();
      continue;
    }
    const target = links[`/${[...at, part].join("/")}`];
    if (target === undefined) at.push(part);
    else {
      if (target.startsWith("/")) at = [];
      todo.unshift(...target.split("/"));
    }
  }
  return `/${at.join("/")}`;
}

function invocationOf(...words: string[]): GnuInvocation {
  const result = parseGnu(["gcc", ...words].map(ascii), { family: "gcc", readResponseFile: () => null });
  assert.ok(result.kind === "compile", JSON.stringify(result));
  return result.invocation;
}

function mappedWords(words: string[], cwd = ROOT, include: readonly (readonly [string, string])[] = []) {
  const variables = include.map(([name, value]) => [ascii(name), ascii(value)] as const);
  return mapInvocation(invocationOf(...words), variables, viewFiles(cwd));
}

describe("mapInvocation", () => {
  it("maps by grammar: paths of options, the source, no text and no outputs", () => {
    const given = [
      "-I/home/u/proj/inc",
      "-isystem",
      "/home/link/sys/",
      '-DDIR="/home/u/proj"',
      "-include",
      "config.h",
      "-include/home/u/proj/c.h",
      "-fmacro-prefix-map=/home/u/proj/=",
      "-L/home/u/proj/lib",
      "-MD",
      "-MF",
      "/home/u/proj/b/x.d",
      "-o",
      "/home/u/proj/b/x.o",
      "-c",
      "/home/u/proj/src/a.c",
    ];
    const result = mappedWords(given, `${ROOT}/b`);
    assert.ok(result.kind === "mapped");
    assert.deepEqual(
      result.invocation.arguments.flatMap(({ words }) => words),
      [
        "-I/hpcc/project/inc",
        "-isystem",
        "/hpcc/project/sys/",
        '-DDIR="/home/u/proj"',
        "-include",
        "config.h",
        "-include/hpcc/project/c.h",
        "-fmacro-prefix-map=/hpcc/project/=",
        "-L/home/u/proj/lib",
        "-MD",
        "-MF",
        "/home/u/proj/b/x.d",
        "-o",
        "/home/u/proj/b/x.o",
        "-c",
        "/hpcc/project/src/a.c",
      ],
    );
    assert.equal(result.invocation.source, "/hpcc/project/src/a.c");
    assert.equal(result.invocation.output, "/home/u/proj/b/x.o");
    assert.equal(result.invocation.dependencies?.file, "/home/u/proj/b/x.d");
  });

  it("names the first path that is out of view", () => {
    const rows: readonly (readonly [string[], string])[] = [
      [["-I/opt/x", "-c", "a.c"], "/opt/x"],
      [["-I", "../../other", "-c", "a.c"], "../../other"],
      [["-c", "/tmp/a.c"], "/tmp/a.c"],
      [["-include", "/home/u/x.h", "-c", "a.c"], "/home/u/x.h"],
      [["--sysroot=/opt/sysroot", "-c", "a.c"], "/opt/sysroot"],
      [["-fdebug-prefix-map=/home/u=x", "-c", "a.c"], "/home/u=x"],
      [["-fdebug-prefix-map=/home/u/pr=x", "-c", "a.c"], "/home/u/pr=x"],
      [["-fdebug-prefix-map=/home/link=x", "-c", "a.c"], "/home/link=x"],
      [["-fdebug-prefix-map==x", "-c", "a.c"], "=x"],
      [["-fdebug-prefix-map=/=x", "-c", "a.c"], "/=x"],
      [["-c", "src/link-abs.c"], "src/link-abs.c"],
    ];
    for (const [words, detail] of rows)
      assert.deepEqual(mappedWords(words), { kind: "bypass", reason: "outside_view", detail }, words.join(" "));
  });

  it("keeps prefix maps that mean the same in the view", () => {
    for (const map of ["./=", "src=x", "/usr/src/debug=y", "a=/home/u/proj"]) {
      const result = mappedWords([`-ffile-prefix-map=${map}`, "-c", "a.c"]);
      assert.equal(result.kind === "mapped" && result.invocation.arguments[0]?.value, map);
    }
    const result = mappedWords(["-ffile-prefix-map=/home/u/proj/src=/usr/src", "-c", "a.c"]);
    assert.equal(result.kind === "mapped" && result.invocation.arguments[0]?.value, "/hpcc/project/src=/usr/src");
  });

  it("needs a working directory in a root", () => {
    for (const cwd of ["/home/u", "/usr/include", "/", "/home/u/proj2"])
      assert.equal(mappedWords(["-c", "/home/u/proj/a.c"], cwd).kind, "bypass", cwd);
    assert.equal(mappedWords(["-c", "/home/u/proj/a.c"], "/srv/extra").kind, "mapped");
  });

  it("maps include path variables, empty folders kept", () => {
    const result = mappedWords(["-c", "a.c"], ROOT, [["CPATH", ":/home/u/proj/x::/usr/include:inc:"]]);
    assert.ok(result.kind === "mapped");
    assert.deepEqual(result.includePaths, [["CPATH", ":/hpcc/project/x::/usr/include:inc:"]]);
    assert.equal(mappedWords(["-c", "a.c"], ROOT, [["CPATH", "inc:/opt/x"]]).kind, "bypass");
  });

  it("pathsOf lists what must be in view", () => {
    const invocation = invocationOf(
      "-Ia",
      "-DX=/b",
      "-include",
      "c",
      "-fmacro-prefix-map=/d=e",
      "-o",
      "/f",
      "-c",
      "g.c",
    );
    const paths = pathsOf(invocation, [[ascii("CPATH"), ascii("h::i")]]).map(({ path, kind }) => `${kind} ${path}`);
    assert.deepEqual(paths, ["directory a", "include c", "prefix_map /d", "file g.c", "directory h", "directory i"]);
  });
});

describe("toSpelledPath", () => {
  it("gives names back as the user spelled their folders", () => {
    const result = mappedWords([
      "-I/home/link/inc/",
      "-I../proj/two",
      "-I/srcs",
      "-isystem",
      "/home/u/proj/inc/deep",
      "-c",
      "/home/u/proj/src/a.c",
    ]);
    assert.ok(result.kind === "mapped");
    const { view } = viewFiles(ROOT);
    const rows: readonly (readonly [string, string | null])[] = [
      ["/hpcc/project/inc/x.h", "/home/link/inc/x.h"],
      ["/hpcc/project/inc/deep/x.h", "/home/u/proj/inc/deep/x.h"],
      ["/hpcc/project/two/x.h", "../proj/two/x.h"],
      ["/hpcc/project/src/x.h", "/srcs/x.h"],
      ["/hpcc/project/src/a.c", "/home/u/proj/src/a.c"],
      ["/hpcc/project/include/x.h", "/home/u/proj/include/x.h"],
      ["/hpcc/roots/extra/x.h", "/srv/extra/x.h"],
      ["/usr/include/stdio.h", null],
      ["/hpcc/projects/x.h", null],
    ];
    for (const [guest, spelled] of rows)
      assert.equal(toSpelledPath(view, result.spellings, guest as ByteString), spelled, guest);
  });
});
