// Compiler calls of a real build, recorded one by one: arguments, folder and stderr of each, by the object that it makes. A build's
// own output mixes what parallel calls say.
import { chmodSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { HPCC } from "./farm.ts";

export interface RecordedCall {
  /** As given to `-o`, or made from the last argument, which is the source then. */
  readonly object: string;
  /** The compiler's name first; bytes as latin1. */
  readonly argv: readonly string[];
  readonly cwd: string;
  readonly stderr: string;
}

const SCRIPT = `#!/bin/sh
compile=no object= before= last=
for word; do
  [ "$before" = -o ] && object=$word
  [ "$word" = -c ] && compile=yes
  before=$word
  last=$(basename "$word")
done
[ -n "$object" ] || object=$(echo "$last" | sed "s,[.][a-z]*$,.o,")
[ $compile = yes ] || exec "@HPCC@" "$@"
record="@FOLDER@/$(printf %s "$object" | tr / _)"
printf '%s\\0' "$object" "$PWD" "$@" >"$record.call"
exec "@HPCC@" "$@" 2>"$record.stderr"
`;

/** A program to be used as `CC="<program> gcc"`: it records each compile and becomes hpcc. */
export class CallRecorder {
  readonly program: string;
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = join(folder, "calls");
    this.program = join(folder, "recorded-hpcc");
    mkdirSync(this.#folder, { recursive: true });
    chmodSync(this.#folder, 0o777);
    writeFileSync(this.program, SCRIPT.replaceAll("@HPCC@", HPCC).replaceAll("@FOLDER@", this.#folder));
    chmodSync(this.program, 0o755);
  }

  /** The calls since the last time, by object's name. */
  take(): Map<string, RecordedCall> {
    const calls = new Map<string, RecordedCall>();
    for (const name of globSync("*.call", { cwd: this.#folder }).sort()) {
      const file = join(this.#folder, name);
      const [object = "", cwd = "", ...argv] = readFileSync(file, "latin1").split("\0").slice(0, -1);
      const stderr = readFileSync(file.replace(/call$/, "stderr"), "latin1");
      calls.set(object, { object, cwd, argv, stderr });
      rmSync(file);
    }
    return calls;
  }
}
