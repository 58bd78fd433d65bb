// `hpcc witness` and `hpcc ca witness-key`: who cosigns the logs of others.
import type { Command } from "commander";
import type { Output } from "./output.ts";

export interface WitnessHost {
  readonly output: Output;
  runWitness(configFile: string): Promise<void>;
}

export function addWitness(program: Command, host: WitnessHost): void {
  program
    .command("witness")
    .description("be a witness: cosign checkpoints of audit logs that only ever grew")
    .requiredOption("--config <file>", "its configuration")
    .action(async (options: { config: string }) => host.runWitness(options.config));
}

export function addWitnessKey(ca: Command, { output }: Pick<WitnessHost, "output">): void {
  ca.command("witness-key")
    .description("print the public key of a witness; with --new make another one")
    .requiredOption("--state <dir>", "the witness's state folder")
    .option("--new <name>", "make a key of this name, such as witness.example.com/w1; its next start uses it")
    .action(async (options: { state: string; new?: string }) => {
      const { witnessKey } = await import("./log-key.ts");
      output.out(`${await witnessKey(options.state, options.new ?? null)}\n`);
    });
}
