// `hpcc policy`: for who writes a site's policy file.
import { type Command, Option } from "commander";
import { ISOLATIONS, type Isolation } from "../core/isolation.ts";
import { json, type Output } from "./output.ts";

interface PolicyCheckFlags {
  for?: string;
  against?: string;
  isolation: Isolation;
  json?: true;
}

export function addPolicy(program: Command, output: Output, setExitCode: (code: number) => void): void {
  program
    .command("policy")
    .description("a site's policy: who may use which images, whom results serve, quotas")
    .command("check")
    .description("check a policy file, and print what holds for whom")
    .argument("<file>", "the policy file")
    .option("--for <spiffe-id>", "only what holds for this user")
    .option("--against <file>", "also what changes against this file, the one in force")
    .addOption(
      new Option("--isolation <name>", "on workers with these machines, where the file leaves it open")
        .choices(ISOLATIONS)
        .default("firecracker"),
    )
    .option("--json", "print JSON")
    .action(async (file: string, options: PolicyCheckFlags) => {
      const { checkPolicy, isPolicyAcceptable, printPolicyCheck } = await import("./policy.ts");
      const check = checkPolicy(file, {
        principal: options.for ?? null,
        against: options.against ?? null,
        isolation: options.isolation,
      });
      output.out(options.json ? json(check) : printPolicyCheck(check));
      setExitCode(isPolicyAcceptable(check) ? 0 : 1);
    });
}
