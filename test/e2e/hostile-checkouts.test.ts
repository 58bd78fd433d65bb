// Checkouts that are made to trip whoever gathers their files: loops of links, names of odd bytes, devices, files that may not be read or
// are huge, thousands of includes. The build goes on as without hpcc: no call hangs, and each leaves what the plain compile leaves.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { HPCC, IMAGE_FOLDER, runCommand } from "../support/farm.ts";
import { QuickFarm } from "../support/quick-farm.ts";
import { FIRST_SETTINGS, type Settings } from "../support/random-project.ts";
import { StepRunner } from "../support/step-runner.ts";

/** What a slow machine needs for thousands of files, and a call that hangs does not keep to. */
const ROW_TIMEOUT_MS = 180_000;
const LONG = "n".repeat(253);

interface Row {
  readonly name: string;
  /** Makes the files; in `src/a.c` stands the source. */
  readonly script: string;
  readonly settings?: Partial<Settings>;
  /** Whether to ask GCC alone, where a call takes long. */
  readonly gccAlone?: boolean;
}

const row = (name: string, script: string, settings: Partial<Settings> = {}): Row => ({ name, script, settings });
const source = (text: string) => `printf '${text}' > src/a.c`;
const included = (name: string) => source(`#include "${name}"\\nint a;\\n`);
const asked = (name: string) => source(`#if __has_include("${name}")\\nint yes;\\n#else\\nint no;\\n#endif\\n`);

const ROWS: readonly Row[] = [
  row("a header that links to itself", `ln -s k.h src/k.h; ${included("k.h")}`),
  row("a header that links to itself, asked for", `ln -s k.h src/k.h; ${asked("k.h")}`),
  row("two links in a circle", `ln -s l.h inc1/k.h; ln -s k.h inc1/l.h; ${included("k.h")}`),
  row("a folder in itself", `ln -s . inc1/in; echo '#define K 1' > inc1/k.h; ${included("in/in/in/in/k.h")}`),
  row(
    "a folder in itself, fifty times",
    `ln -s . inc1/in; echo '#define K 1' > inc1/k.h; ${included(`${"in/".repeat(50)}k.h`)}`,
  ),
  row("a circle above the include folder", `ln -s .. inc1/up; ${included("up/inc1/up/inc1/k.h")}; echo > inc1/k.h`),
  row("an include folder that links to itself", `ln -s self self; ${source("int a;\\n")}`, { flags: ["-Iself"] }),
  row("a name of bytes that are no text", `printf x > "inc1/$(printf 'a\\377b').h"; ${included("a\\377b.h")}`),
  row("a name with a tab and quotes", `echo > "inc1/a	b'c.h"; printf '%s\\n' '#include "a	b'"'"'c.h"' > src/a.c`),
  row("a source with a line end in its name", `printf 'int a;\\n' > 'src/a\nb.c'`, { source: "src/a\nb.c" }),
  row("the longest name", `echo > inc1/${LONG}.h; ${included(`${LONG}.h`)}`),
  row("a name that is too long", included(`${LONG}xx.h`)),
  row("a name that is too long, asked for", asked(`${LONG}xx.h`)),
  row("a path that is too long", included(`${"inc1/../".repeat(600)}k.h`)),
  row("a fifo beside the headers", `mkfifo inc1/fifo.h; ${source("int a;\\n")}`),
  row("a fifo in the place of an include folder", `mkfifo pipe; ${source("int a;\\n")}`, { flags: ["-Ipipe"] }),
  row("a device", `mknod inc1/null.h c 1 3; ${included("null.h")}`),
  row("a device, asked for", `mknod inc1/null.h c 1 3; ${asked("null.h")}`),
  row("a link to a device", `ln -s /dev/null inc1/null.h; ${included("null.h")}`),
  row("a link to a file of the machine", `ln -s /etc/hostname inc1/host.h; ${asked("host.h")}`),
  row("a file that may not be read", `echo > inc1/k.h; chmod 000 inc1/k.h; ${included("k.h")}`),
  row("a folder that may not be searched", `echo > inc1/p/k.h; chmod 000 inc1/p; ${included("p/k.h")}`),
  row(
    "a huge header",
    `(printf '/*'; head -c 40000000 /dev/zero | tr '\\0' x; echo '*/') > inc1/k.h; ${included("k.h")}`,
  ),
  row("a huge file with holes", `truncate -s 200M inc1/data; ${asked("data")}`),
  ...["..", ".", "/", "", "inc1/..", "k.h/", "k.h/../k.h", "//k.h"].map((name) =>
    row(`a header named '${name}'`, `echo > inc1/k.h; ${included(name)}`),
  ),
  ...["..", ".", "/", "k.h/", "k.h/../k.h", "nothing/../k.h"].map((name) =>
    row(`'${name}', asked for`, `echo > inc1/k.h; ${asked(name)}`),
  ),
  {
    name: "ten thousand includes",
    script:
      `seq 10000 | sed 's/.*/#include "many\\/h&.h"/' > src/a.c; mkdir inc1/many; cd inc1/many; ` +
      `seq 10000 | while read n; do echo "int v$n;" > h$n.h; done`,
    gccAlone: true,
  },
  row(
    "ten thousand names that are asked for and are not there",
    `seq 10000 | sed 's/.*/#if __has_include(<no&.h>)\\n#error there\\n#endif/' > src/a.c`,
  ),
  ...[150, 250].map((depth) =>
    row(
      `a chain of ${depth} includes`,
      `${included("h1.h")}; for n in $(seq ${depth}); do echo "#include \\"h$((n+1)).h\\"" > inc1/h$n.h; done; ` +
        `echo 'int end;' > inc1/h$((${depth}+1)).h`,
    ),
  ),
  row("a file that includes itself", included("a.c")),
  row("many files in an include folder", `cd inc1; seq 5000 | xargs touch; cd ..; ${included("1")}`),
  row("names that differ in case", `echo '#define K 1' > inc1/K.h; echo '#define K 2' > inc2/k.h; ${included("k.h")}`),
  row("a name in another case", `echo > inc1/K.H; ${included("k.h")}`),
  row("a folder named like a header before it", `mkdir inc1/k.h; echo '#define K 2' > inc2/k.h; ${included("k.h")}`),
  row("an include folder that is a file", `echo > file; ${source("int a;\\n")}`, { flags: ["-Ifile", "-I", "file/x"] }),
  row("an include folder that is a file, alone", `echo > file; ${source("int a;\\n")}`, { flags: ["-Ifile"] }),
  row("an include folder that is a device", `mknod null c 1 3; ${source("int a;\\n")}`, { flags: ["-Inull"] }),
  row("no words at all in the source", ": > src/a.c"),
  row("a source of zero bytes alone", "head -c 5000 /dev/zero > src/a.c"),
  row("a source that is a folder", "rm src/a.c; mkdir src/a.c"),
  row("a source that links to itself", "ln -sf a.c src/a.c"),
  row("no source", "rm src/a.c"),
];

let farm: QuickFarm;
let image: string;

before(async () => {
  const env = { PATH: process.env["PATH"], HOME: IMAGE_FOLDER, HPCC_IMAGE_DIR: IMAGE_FOLDER };
  const compilers = ["--compiler", "gcc", "--compiler", "clang"];
  const argv = [HPCC, "image", "build", "--from-host", "--tag", "e2e-both", "--quiet", ...compilers];
  const built = await runCommand(argv, { env });
  assert.equal(built.code, 0, built.stderr);
  image = built.stdout.trim();
  farm = await QuickFarm.start({ imageFolder: IMAGE_FOLDER, images: [image] });
});

after(async () => {
  await farm?.close();
});

for (const [index, { name, script, settings, gccAlone = false }] of ROWS.entries())
  test(name, { timeout: ROW_TIMEOUT_MS }, async (t) => {
    const runner = new StepRunner(farm, image, { name: `hostile${index}`, paths: index % 2 === 0 ? "own" : "shared" });
    runner.script("mkdir -p src inc1/p inc2; echo 'int a;' > src/a.c");
    runner.script(script);
    for (const compiler of gccAlone ? (["gcc"] as const) : (["gcc", "clang"] as const)) {
      const { outcome, what } = await runner.compare({ ...FIRST_SETTINGS, ...settings, compiler });
      t.diagnostic(`${compiler}: ${outcome}`);
      assert.deepEqual(what, [], compiler);
    }
  });
