// The command line: one commander program. Commands live in their own modules, loaded when they run; what runs for long
// (daemon, worker, scheduler) comes from the program.

import { isIP } from "node:net";
import { Command, CommanderError, Option } from "commander";
import type { Clock } from "../base/clock.ts";
import { HpccError } from "../base/errors.ts";
import { VERSION } from "../base/version.ts";
import { type Environment, resolveDirectories } from "../config/directories.ts";
import { parseIdentityName, parseTenantId, parseTrustDomain } from "../core/identity/spiffe.ts";
import type { ImageStore } from "../image/image-store.ts";
import { type AttestHost, addAttestKey } from "./audit-attest-command.ts";
import { addAudit } from "./audit-command.ts";
import type { ReplayUpkeep } from "./clean.ts";
import type { DebugMapFormat } from "./debug-map.ts";
import type { DoctorCheck } from "./doctor.ts";
import { addEase } from "./ease-commands.ts";
import { addExplain, type HistoryHost } from "./explain-command.ts";
import { addImage } from "./image-commands.ts";
import type { Inspection } from "./inspect.ts";
import { knownError } from "./known-error.ts";
import { parseCount } from "./numbers.ts";
import { exitCodeOf, json, type Output, printable, printError, table } from "./output.ts";
import { addPolicy } from "./policy-command.ts";
import { addReproduce, type ReproduceHost } from "./reproduce-command.ts";
import type { RetentionHost } from "./retention-commands.ts";
import { addRevoke, type RevokeHost } from "./revoke-command.ts";
import { addStats } from "./stats-command.ts";
import { addWitness, addWitnessKey, type WitnessHost } from "./witness-command.ts";

/** What the command line needs of the process that runs it. */
export interface CliHost extends AttestHost, HistoryHost, ReproduceHost, RevokeHost, RetentionHost, WitnessHost {
  readonly env: Environment;
  readonly uid: number;
  readonly output: Output;
  readonly clock: Clock;
  /** Node and bundle, for starting a daemon. */
  readonly node: string;
  readonly bundle: string;
  runDaemon(): Promise<void>;
  runWorker(configFile: string, flags: Readonly<Record<string, string>>): Promise<void>;
  runScheduler(configFile: string, flags: Readonly<Record<string, string>>): Promise<void>;
  images(): Promise<ImageStore>;
  replayUpkeep(): Promise<ReplayUpkeep>;
  /** Checks of `hpcc doctor` that need other layers. */
  doctorChecks(workerConfigFile: string | null): Promise<readonly DoctorCheck[]>;
  inspectState(stateFolder: string, hash: string): Promise<Inspection>;
}

const HELP_END = `
Where to read on: README.md; for who runs it docs/operations/client.md, worker.md (and the host that it
needs), policy.md, scheduler.md, ca.md and configuration.md.`;
const DEFAULT_TRUST_DOMAIN = "hpcc.local";

/** Runs a command line (without the program's name) to its end; resolves to its exit code. */
export async function runCli(argv: readonly string[], host: CliHost): Promise<number> {
  let exitCode = 0;
  const program = buildProgram(host, (code) => {
    exitCode = code;
  });
  try {
    if (argv.length === 0) program.outputHelp();
    else await program.parseAsync([...wordsOf(program, argv)], { from: "user" });
    return exitCode;
  } catch (thrown) {
    // Commander has printed its own message already.
    if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? 0 : 2;
    const error = knownError(thrown);
    host.output.error(printError(error));
    return exitCodeOf(error);
  }
}

/** A word that is nothing is a variable of a script without a value, and must not mean the current folder. */
const NOTHING = /^(?:--[a-z-]+=)?$/;

/** The words to parse. Throws `argument.invalid` for an empty one. */
function wordsOf(program: Command, argv: readonly string[]): readonly string[] {
  const empty = argv.find((word) => NOTHING.test(word));
  if (empty !== undefined)
    throw new HpccError("argument.invalid", `an argument is empty${empty === "" ? "" : `: ${empty}`}`, {
      hint: "Perhaps a variable has no value; leave the argument out, or give it one.",
    });
  const [first = ""] = argv;
  if (first.startsWith("-") || first === "help" || program.commands.some((command) => command.name() === first))
    return argv;
  // What stands behind it is another program's: `hpcc tcc --version` does not ask for this one's.
  program.showHelpAfterError(
    `(a compiler with a name of its own is called by its path: hpcc /usr/bin/${printable(first)} ...; see \`hpcc help\`)`,
  );
  return [first];
}

function buildProgram(host: CliHost, setExitCode: (code: number) => void): Command {
  const { output } = host;
  const program = new Command("hpcc")
    .description(
      "Compiles C and C++ in microVMs of your tenant, and remembers what it compiled.\n\n  hpcc gcc -c foo.c -o foo.o",
    )
    .version(VERSION, "-V, --version", "print the version")
    .helpCommand("help [command]", "explain a command")
    .addHelpText("after", HELP_END)
    .showHelpAfterError("(see `hpcc help`)")
    .exitOverride()
    .configureOutput({ writeOut: (text) => output.out(text), writeErr: (text) => output.error(text) });
  program
    .command("version")
    .description("print the version")
    .action(() => output.out(`hpcc ${VERSION}\n`));
  addStats(program, host);
  addClean(program, host);
  addExplain(program, host);
  addEase(program, host);
  addDaemon(program, host);
  addDoctor(program, host, setExitCode);
  addInspect(program, host);
  addReproduce(program, host, setExitCode);
  addServers(program, host);
  addImage(program, host);
  addCa(program, host);
  addConfig(program, host);
  addPolicy(program, output, setExitCode);
  addDebugMap(program, host);
  addAudit(program, host, setExitCode);
  addWitness(program, host);
  return program;
}

const directoriesOf = (host: CliHost) => resolveDirectories(host.env, host.uid);

function collect(value: string, previous: string[] = []): string[] {
  return [...previous, value];
}

function addClean(program: Command, host: CliHost): void {
  program
    .command("clean")
    .description("empty the local store, or remove a part of what lies there")
    .option("--older-than <age>", "only what was not used for so long: 90m, 36h, 7d, 4w")
    .option("--project <path>", "only what projects at or below this folder have")
    .option("--json", "print JSON")
    .action(async (options: { olderThan?: string; project?: string; json?: true }) => {
      const { clean, printCleaned } = await import("./clean.ts");
      const replay = await host.replayUpkeep();
      const cleaned = await clean({ directories: directoriesOf(host), replay, clock: host.clock }, options);
      host.output.out(options.json ? json(cleaned) : printCleaned(cleaned));
    });
}

function addDaemon(program: Command, host: CliHost): void {
  const daemon = program
    .command("daemon")
    .description("the user's daemon, which launchers start by themselves")
    .option("--foreground", "be the daemon until a signal ends it")
    .action(async (options: { foreground?: true }) => {
      if (!options.foreground) throw new HpccError("argument.invalid", "say start, stop, status or --foreground");
      await host.runDaemon();
    });
  daemon
    .command("start")
    .description("start it unless it runs")
    .action(async () => {
      const { startDaemonProcess } = await import("./daemon-control.ts");
      const started = await startDaemonProcess(directoriesOf(host), host);
      host.output.out(started ? "daemon started\n" : "a daemon runs already\n");
    });
  daemon
    .command("stop")
    .description("end it; running compiles end with it")
    .action(async () => {
      const { stopDaemon } = await import("./daemon-control.ts");
      const stopped = await stopDaemon(directoriesOf(host));
      host.output.out(stopped ? "daemon stopped\n" : "no daemon runs\n");
    });
  daemon
    .command("status")
    .description("whether it runs")
    .option("--json", "print JSON")
    .action(async (options: { json?: true }) => {
      const { askDaemon, noDaemon } = await import("./daemon-control.ts");
      const reply = await askDaemon(directoriesOf(host), { command: "status" });
      if (reply === null) throw noDaemon("no daemon runs");
      const status = Object.entries(reply);
      host.output.out(
        options.json ? json(reply) : table(status.map(([name, value]) => [name, printable(String(value))])),
      );
    });
}

function addDoctor(program: Command, host: CliHost, setExitCode: (code: number) => void): void {
  program
    .command("doctor")
    .description("tell what this machine lacks, and what to do")
    .option("--worker <config>", "also check what a worker with this configuration needs")
    .option("--json", "print JSON")
    .action(async (options: { worker?: string; json?: true }) => {
      const { doctor, isHealthy, printDoctor } = await import("./doctor.ts");
      const { currentClientConfig } = await import("./current-config.ts");
      const { loadWorkerConfig } = await import("../config/worker.ts");
      const results = await doctor({
        client: attempt(() => currentClientConfig(host.env).config),
        worker: options.worker === undefined ? null : loadWorkerConfig(host.env, options.worker).config,
        nowMs: host.clock.wallMs(),
        more: await host.doctorChecks(options.worker ?? null),
      });
      host.output.out(options.json ? json(results) : printDoctor(results));
      setExitCode(isHealthy(results) ? 0 : 1);
    });
}

function attempt<T>(make: () => T): T | HpccError {
  try {
    return make();
  } catch (error) {
    if (error instanceof HpccError) return error;
    throw error;
  }
}

function addInspect(program: Command, host: CliHost): void {
  program
    .command("inspect")
    .description("show the audit rows, source and result that a hash stands for")
    .argument("<hash>", "at least 8 hex digits of a row's, key's, source's, result's or blob's digest")
    .option("--worker <host:port>", "ask this worker instead of those that the scheduler names")
    .option("--state <dir>", "read a worker's state folder on this machine")
    .option("--json", "print JSON")
    .action(async (hash: string, options: { worker?: string; state?: string; json?: true }) => {
      const { checkHash, printInspection } = await import("./inspect.ts");
      const checked = checkHash(hash);
      const inspection =
        options.state === undefined
          ? await inspectThroughWorkers(host, checked, options.worker ?? null)
          : await host.inspectState(options.state, checked);
      host.output.out(options.json ? json(forJson(inspection)) : printInspection(inspection));
    });
}

async function inspectThroughWorkers(host: CliHost, hash: string, address: string | null): Promise<Inspection> {
  const { inspectRemote } = await import("./inspect.ts");
  const { currentClientConfig, credentialsOf, workersOf } = await import("./current-config.ts");
  const { parseHostPort } = await import("../core/identity/host-port.ts");
  const { config } = currentClientConfig(host.env);
  const credentials = credentialsOf(config, host.clock.wallMs());
  const workers =
    address === null ? await workersOf(config, credentials) : [{ address: parseHostPort(address), identity: null }];
  return inspectRemote(hash, workers, credentials);
}

function forJson({ kind, digest, rows, envelopes, differences }: Inspection): object {
  const parsed = envelopes.map((line) => JSON.parse(line) as unknown);
  return { kind, digest, rows, envelopes: parsed, ...(differences !== undefined && { differences }) };
}

function addServers(program: Command, host: CliHost): void {
  const servers = { worker: host.runWorker.bind(host), scheduler: host.runScheduler.bind(host) } as const;
  for (const name of ["worker", "scheduler"] as const) {
    const server = program
      .command(name)
      .description(`be a ${name} until a signal ends it`)
      .option("--config <file>", "its configuration; it cannot do without")
      .option("--set <key=value>", "set a value, over file and environment; any number of times", collect)
      .action(async (options: { config?: string; set?: string[] }) => {
        if (options.config === undefined) throw new HpccError("argument.invalid", `a ${name} needs --config FILE`);
        await servers[name](options.config, parseSettings(options.set ?? []));
      });
    if (name === "worker") addRevoke(server, host);
  }
}

function parseSettings(settings: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    settings.map((setting) => {
      const at = setting.indexOf("=");
      if (at < 1) throw new HpccError("argument.invalid", `--set wants key=value, not ${JSON.stringify(setting)}`);
      return [setting.slice(0, at), setting.slice(at + 1)];
    }),
  );
}

interface IssueFlags {
  dir: string;
  worker?: string;
  scheduler?: string;
  tenant?: string;
  user?: string;
  days?: number;
  out?: string;
  dns?: string[];
  ip?: string[];
  json?: true;
}

function addCa(program: Command, host: CliHost): void {
  const ca = program.command("ca").description("a small certificate authority");
  ca.command("init")
    .description("make a CA")
    .argument("<dir>", "a folder that must be absent or empty")
    .option("--trust-domain <name>", "the trust domain of all identities", DEFAULT_TRUST_DOMAIN)
    .action(async (directory: string, options: { trustDomain: string }) => {
      const { initAuthority } = await import("./ca.ts");
      const created = await initAuthority(directory, parseTrustDomain(options.trustDomain), host.clock.wallMs());
      host.output.out(`CA of ${created.trustDomain} in ${created.directory}; keep ca.key secret\n`);
    });
  ca.command("log-key")
    .description("print the public key of a worker's audit log; with --new make another one")
    .requiredOption("--state <dir>", "the worker's state folder")
    .option(
      "--new <name>",
      "make a key of this name, such as build.example.com/worker/w1; the worker's next start uses it",
    )
    .action(async (options: { state: string; new?: string }) => {
      const { logKey } = await import("./log-key.ts");
      host.output.out(`${await logKey(options.state, options.new ?? null)}\n`);
    });
  addWitnessKey(ca, host);
  addAttestKey(ca, host.output);
  ca.command("issue")
    .description("issue a certificate for a worker, a scheduler or a tenant's user")
    .requiredOption("--dir <dir>", "the CA's folder")
    .option("--worker <name>", "for a worker")
    .option("--scheduler <name>", "for a scheduler")
    .option("--tenant <name>", "for a user of this tenant")
    .option("--user <name>", "for this user")
    .option("--days <n>", "lifetime (default: 7 for users, 30 for servers)", parseCount)
    .option("--out <dir>", "a folder that must be absent or empty (default: one below the CA's)")
    .option("--dns <name>", "also this DNS name, for other tools; any number of times", collect)
    .option("--ip <address>", "also this IP address, for other tools; any number of times", collect)
    .option("--json", "print JSON")
    .action(async (options: IssueFlags) => {
      const { issueIdentity, readAuthority } = await import("./ca.ts");
      const { trustDomainOf } = await import("./ca-authority.ts");
      const trustDomain = trustDomainOf(await readAuthority(options.dir));
      const { days, out, dns = [], ip = [] } = options;
      for (const address of ip)
        if (!isIP(address)) throw new HpccError("argument.invalid", `${address} is no IP address`);
      const issued = await issueIdentity(
        options.dir,
        { trustDomain, ...subjectOf(options) },
        {
          nowMs: host.clock.wallMs(),
          dnsNames: dns,
          addresses: ip,
          ...(days === undefined ? {} : { days }),
          ...(out === undefined ? {} : { out }),
        },
      );
      const lines = `[identity]  # ${issued.spiffeId}\ncertificate = ${JSON.stringify(issued.certificate)}\nkey = ${JSON.stringify(issued.key)}\nca = ${JSON.stringify(issued.ca)}\n`;
      host.output.out(options.json ? json(issued) : lines);
    });
}

function subjectOf({ worker, scheduler, tenant, user }: IssueFlags) {
  const wrong = new HpccError(
    "argument.invalid",
    "name one: --worker NAME, --scheduler NAME, or --tenant NAME --user NAME",
  );
  if ([worker, scheduler, tenant ?? user].filter((name) => name !== undefined).length !== 1) throw wrong;
  if (worker !== undefined) return { kind: "worker", name: parseIdentityName(worker, "a worker's name") } as const;
  if (scheduler !== undefined)
    return { kind: "scheduler", name: parseIdentityName(scheduler, "a scheduler's name") } as const;
  if (tenant === undefined || user === undefined) throw wrong;
  return { kind: "user", tenant: parseTenantId(tenant), user: parseIdentityName(user, "a user's name") } as const;
}

function addConfig(program: Command, host: CliHost): void {
  program
    .command("config")
    .description("the configuration of the current folder's project")
    .command("show")
    .description("print each value and where it came from")
    .option("--worker <file>", "of a worker's file instead")
    .option("--scheduler <file>", "of a scheduler's file instead")
    .option("--json", "print JSON")
    .action(async (options: { worker?: string; scheduler?: string; json?: true }) => {
      const { printConfig, shownValues } = await import("./config-show.ts");
      const { currentClientConfig } = await import("./current-config.ts");
      const { loadWorkerConfig } = await import("../config/worker.ts");
      const { loadSchedulerConfig } = await import("../config/scheduler.ts");
      const values =
        options.worker !== undefined
          ? shownValues(loadWorkerConfig(host.env, options.worker).loaded)
          : options.scheduler !== undefined
            ? shownValues(loadSchedulerConfig(host.env, options.scheduler).loaded)
            : shownValues(currentClientConfig(host.env).loaded);
      host.output.out(options.json ? json(values) : printConfig(values));
    });
}

function addDebugMap(program: Command, host: CliHost): void {
  program
    .command("debug-map")
    .description("print what tells debuggers where this project's sources are")
    .argument("[folders...]", "where the compiler is started, such as a build folder (default: the current folder)")
    .addOption(
      new Option("--format <name>", "for which program").choices(["gdb", "lldb", "vscode", "json"]).default("gdb"),
    )
    .action(async (folders: string[], { format }: { format: DebugMapFormat }) => {
      const { debugMap, printDebugMap } = await import("./debug-map.ts");
      const { currentClientConfig } = await import("./current-config.ts");
      const { root, config } = currentClientConfig(host.env);
      const map = debugMap({ root, config, folders: folders.length === 0 ? ["."] : folders });
      host.output.out(printDebugMap(map, format));
    });
}
