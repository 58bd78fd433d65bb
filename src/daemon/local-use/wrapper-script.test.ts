import assert from "node:assert/strict";
import { test } from "node:test";
import { readWrapper } from "./wrapper-script.ts";

const read = (text: string) => readWrapper(Buffer.from(text, "latin1"));

test("a script that only calls a compiler is followed", () => {
  assert.deepEqual(read('#!/bin/sh\n# our flags\n\n  exec /opt/gcc/bin/gcc -m32 -DX=1 "$@" -fno-common\n'), {
    program: "/opt/gcc/bin/gcc",
    before: ["-m32", "-DX=1"],
    after: ["-fno-common"],
  });
  assert.deepEqual(read('#!/usr/bin/bash\nexec /usr/bin/clang "$@"'), {
    program: "/usr/bin/clang",
    before: [],
    after: [],
  });
});

test("a script that does or may do anything else is not", () => {
  for (const text of [
    "",
    '/usr/bin/gcc "$@"',
    '#!/bin/sh\n/usr/bin/gcc "$@"\n',
    '#!/bin/sh\nexec gcc "$@"\n',
    "#!/bin/sh\nexec /usr/bin/gcc $@\n",
    "#!/bin/sh\nexec /usr/bin/gcc\n",
    '#!/bin/sh\nexec /usr/bin/gcc $FLAGS "$@"\n',
    '#!/bin/sh\nexec /usr/bin/gcc "$@" "$@"\n',
    '#!/bin/sh\nexec /usr/bin/gcc "$@"; rm x\n',
    '#!/bin/sh\nexec /usr/bin/gcc "$@" 2>/dev/null\n',
    '#!/bin/sh\nexec /usr/bin/gcc "$@" &\n',
    '#!/bin/sh\nexec /usr/bin/gcc `date` "$@"\n',
    '#!/bin/sh\nexec /usr/bin/gcc \\\n "$@"\n',
    '#!/bin/sh\nexec -a x /usr/bin/gcc "$@"\n',
    '#!/bin/sh\nexport X=1\nexec /usr/bin/gcc "$@"\n',
    '#!/bin/sh -x\nexec /usr/bin/gcc "$@"\n',
    '#!/usr/bin/python3\nexec /usr/bin/gcc "$@"\n',
    `#!/bin/sh\n${"#".repeat(9000)}\nexec /usr/bin/gcc "$@"\n`,
  ])
    assert.equal(read(text), null, text.slice(0, 80));
});
