// `hpcc init`, `hpcc setup` and `hpcc completions`: what makes a start short.
import { Argument, type Command } from "commander";
import { HpccError } from "../base/errors.ts";
import { resolveDirectories } from "../config/directories.ts";
import type { ImageStore } from "../image/image-store.ts";
import type { HistoryHost } from "./explain-command.ts";
import { json } from "./output.ts";

/** What these commands need of the process. */
export interface EaseHost extends Pick<HistoryHost, "env" | "uid" | "output"> {
  readonly bundle: string;
  images(): Promise<ImageStore>;
}

export function addEase(program: Command, host: EaseHost): void {
  addInit(program, host);
  addSetup(program, host);
  addRun(program);
  program
    .command("completions")
    .description("print a completion script for a shell")
    .addArgument(new Argument("<shell>", "for which shell").choices(["bash", "zsh", "fish"]))
    .action(async (name: string) => {
      const { completionScript, parseShell } = await import("./completions.ts");
      host.output.out(completionScript(parseShell(name), program));
    });
}

/** For help and completions: the launcher runs the command itself, and comes here only when there is none. */
function addRun(program: Command): void {
  program
    .command("run")
    .description("run a command with the files of the project's image around it, its compilers going through hpcc")
    .argument("<command...>", "a program of the image or a path, and its words; -- may stand before it")
    .action(() => {
      throw new HpccError("argument.invalid", "say which command: hpcc run make, hpcc run sh");
    });
}

function addInit(program: Command, host: EaseHost): void {
  program
    .command("init")
    .description("bind the current folder's project to an image, or say that nothing is needed")
    .option("--image <name>", "an image of this machine: its digest, the start of it, or its tag")
    .option("--json", "print JSON")
    .action(async (options: { image?: string; json?: true }) => {
      const { init, printInit } = await import("./init.ts");
      const { workingFolder } = await import("./working-folder.ts");
      const report = await init({
        env: host.env,
        folder: workingFolder(),
        image: options.image ?? null,
        images: () => host.images(),
      });
      const { userConfig } = resolveDirectories(host.env, host.uid);
      host.output.out(options.json ? json(report) : printInit(report, userConfig));
    });
}

function addSetup(program: Command, host: EaseHost): void {
  program
    .command("setup")
    .description("make links named after the compilers, and print the lines for shells and build tools")
    .option("--dir <folder>", "where the links go (default: ~/.local/share/hpcc/bin)")
    .option("--json", "print JSON")
    .action(async (options: { dir?: string; json?: true }) => {
      const { printSetup, setup } = await import("./setup.ts");
      const made = setup({ env: host.env, uid: host.uid, bundle: host.bundle, folder: options.dir ?? null });
      host.output.out(options.json ? json(made) : printSetup(made));
    });
}
