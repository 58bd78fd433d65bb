// Completions in the shells themselves: what each offers after some words. A shell that is not installed is skipped by its name.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { SYSTEM_CLOCK } from "../base/system/clock.ts";
import { SHELLS, type Shell } from "./completions.ts";
import { type CliHost, runCli } from "./program.ts";

const never = async () => {
  throw new Error("not asked for");
};

/** Prints what the shell offers for the last of the words `$@`, one a line. */
const ASKED: Readonly<Record<Shell, string>> = {
  bash: 'source "$SCRIPT"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hpcc; printf "%s\\n" "${COMPREPLY[@]}"',
  // What zsh's own functions would show is printed instead.
  zsh: `compdef() { }; _files() { print FILES }; _describe() { print -l -- "\${(@P)2}" }
    source "$SCRIPT"; words=("$@"); CURRENT=$#; _hpcc | sed 's/:.*//' | grep -e "^\${words[-1]}"`,
  fish: 'source $SCRIPT; complete -C "$argv" | string replace -r "\\t.*" ""',
};

describe("completions", () => {
  const folder = mkdtempSync(join(tmpdir(), "hpcc-completions-"));
  const scripts = new Map<Shell, string>();
  before(async () => {
    for (const shell of SHELLS) {
      let script = "";
      const host: CliHost = {
        env: {},
        uid: 1,
        clock: SYSTEM_CLOCK,
        node: "",
        bundle: "",
        output: { out: (text) => (script += text), error: (text) => assert.fail(text) },
        runDaemon: never,
        runWorker: never,
        runScheduler: never,
        runWitness: never,
        images: never,
        replayUpkeep: never,
        doctorChecks: never,
        history: never,
        inspectState: never,
        askRetention: never,
        revokeResults: async () => Promise.reject(new Error("no worker")),
        reproducing: never,
        keptBlobs: never,
      };
      assert.equal(await runCli(["completions", shell], host), 0);
      scripts.set(shell, join(folder, shell));
      writeFileSync(join(folder, shell), script);
    }
  });
  after(() => rmSync(folder, { recursive: true }));

  function offered(shell: Shell, ...words: string[]): string[] {
    const script = ASKED[shell];
    const argv = { bash: ["-c", script, "bash"], zsh: ["-fc", script, "zsh"], fish: ["-c", script] }[shell];
    const { stdout, stderr, error } = spawnSync(shell, [...argv, ...words], {
      cwd: folder,
      encoding: "utf8",
      env: { PATH: process.env["PATH"], HOME: folder, LANG: "C.UTF-8", SCRIPT: scripts.get(shell) },
    });
    assert.equal(error, undefined);
    assert.equal(stderr, "", `${shell} ${words.join(" ")}`);
    return stdout.split("\n").filter((line) => line !== "");
  }

  for (const shell of SHELLS) {
    const skip = spawnSync(shell, ["--version"]).status === 0 ? false : `${shell} is not installed`;
    test(`${shell} offers commands, their options and their choices`, { skip }, () => {
      for (const [words, expected] of [
        [["hpcc", "st"], ["stats"]],
        [
          ["hpcc", "image", ""],
          ["build", "import", "ls", "pin", "prune", "pull", "push", "show", "unpin", "update"],
        ],
        [["hpcc", "image", "show", "--j"], ["--json"]],
        [
          ["hpcc", "daemon", "sta"],
          ["start", "status"],
        ],
        [["hpcc", "explain", "--last"], ["--last-build"]],
        [["hpcc", "stats", "--w"], ["--why"]],
        [["hpcc", "completions", "z"], ["zsh"]],
        [["hpcc", "debug-map", "--format", "ll"], ["lldb"]],
      ] as const) {
        const found = offered(shell, ...words).filter((line) => !line.startsWith("-") || words.at(-1)?.startsWith("-"));
        assert.deepEqual(found.toSorted(), [...expected], words.join(" "));
      }
      const commands = offered(shell, "hpcc", "");
      for (const command of ["stats", "explain", "init", "setup", "clean", "doctor"])
        assert.ok(commands.includes(command), `${command} of ${commands.join()}`);
      assert.ok(offered(shell, "hpcc", "gc").includes("gcc"));
      // After a compiler the words are the compiler's.
      assert.ok(!offered(shell, "hpcc", "gcc", "").some((word) => commands.includes(word)));
    });
  }

  test("zsh takes the script as one of its own", { skip: spawnSync("zsh", ["--version"]).status !== 0 }, () => {
    writeFileSync(join(folder, "_hpcc"), "");
    const loaded = spawnSync(
      "zsh",
      ["-fc", 'autoload -U compinit; compinit -u -D; source "$SCRIPT"; print $_comps[hpcc]'],
      {
        encoding: "utf8",
        env: { PATH: process.env["PATH"], HOME: folder, SCRIPT: scripts.get("zsh") },
      },
    );
    assert.deepEqual([loaded.stdout, loaded.stderr], ["_hpcc\n", ""]);
  });
});
