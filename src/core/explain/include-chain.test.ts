import assert from "node:assert/strict";
import { test } from "node:test";
import { ascii, type ByteString } from "../../base/byte-string.ts";
import { includeChain, normalPath } from "./include-chain.ts";

function chain(
  files: Readonly<Record<string, string>>,
  target: string,
  words: readonly string[] = [],
  read = new Set(),
) {
  return includeChain(
    {
      source: ascii("/p/src/a.c"),
      cwd: ascii("/p/build"),
      words: words.map(ascii),
      inputs: Object.keys(files).map(ascii),
      read: (path: ByteString) => {
        read.add(path);
        return Object.hasOwn(files, path) ? Buffer.from(files[path]!) : null;
      },
    },
    ascii(target),
  );
}

test("the shortest way by includes is found, by the names that the call gave the files", () => {
  const files = {
    "/p/src/a.c": '#include "long.h"\n#include <app.h>\n#include "long/way.h"\n',
    "/p/src/long.h": '#include "middle.h"\n',
    "/p/src/middle.h": "#include <app.h>\n",
    "/p/src/../include/app.h": '# /* odd */ include "sub/config.h"\n',
    "/p/src/../include/sub/config.h": "int x;\n",
  };
  assert.deepEqual(chain(files, "/p/include/sub/config.h", ["-I../include"]), [
    "/p/src/a.c",
    "/p/src/../include/app.h",
    "/p/src/../include/sub/config.h",
  ]);
  assert.deepEqual(chain(files, "/p/src/a.c"), ["/p/src/a.c"]);
});

test("a name that several folders have is the first folder's of the search path, and beside the includer when quoted", () => {
  const files = {
    "/p/src/a.c": '#include <one.h>\n#include "two.h"\n',
    "/p/i/one.h": "#include <x.h>\n",
    "/p/j/one.h": "#include <config.h>\n",
    "/p/src/two.h": "#include <three.h>\n",
    "/p/i/two.h": "#include <config.h>\n",
    "/p/k/three.h": "#include <config.h>\n",
    "/p/config.h": "",
  };
  assert.deepEqual(chain(files, "/p/config.h", ["-I", "../i", "-I../j", "-isystem/p/k"]), [
    "/p/src/a.c",
    "/p/src/two.h",
    "/p/k/three.h",
    "/p/config.h",
  ]);
});

test("headers that options include, and names that macros make", () => {
  const files = {
    "/p/src/a.c": '#define H "made.h"\n#include H\n',
    "/p/src/made.h": "",
    "/p/build/forced.h": '#include "deep.h"\n',
    "/p/build/deep.h": "",
  };
  assert.deepEqual(chain(files, "/p/build/deep.h", ["-include", "forced.h"]), [
    "/p/src/a.c",
    "/p/build/forced.h",
    "/p/build/deep.h",
  ]);
  assert.deepEqual(chain(files, "/p/src/made.h"), ["/p/src/a.c", "/p/src/made.h"]);
});

test("there is none where files do not lead there, cannot be read, or run in a circle", () => {
  const files = { "/p/src/a.c": '#include "b.h"\n', "/p/src/b.h": '#include "a.c"\n', "/p/x.h": "" };
  assert.equal(chain(files, "/p/x.h"), null);
  const read = new Set();
  const many = Object.fromEntries(
    Array.from({ length: 7_000 }, (_, index) => [`/p/src/${index}.h`, `#include "${index + 1}.h"\n`]),
  );
  assert.equal(chain({ "/p/src/a.c": '#include "0.h"\n', ...many }, "/p/src/6999.h", [], read), null);
  assert.equal(read.size, 5_000);
});

test("paths without their dots", () => {
  for (const [path, normal] of [
    ["/a/./b//c/../d", "/a/b/d"],
    ["/../a/", "/a"],
    ["/", "/"],
  ])
    assert.equal(normalPath(path!), normal);
});
