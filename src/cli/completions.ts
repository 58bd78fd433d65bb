// Completion scripts for bash, zsh and fish, made of the commands as the program itself knows them. Pure.
import type { Command } from "commander";
import { HpccError } from "../base/errors.ts";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

interface CompletedOption {
  /** `--json`, and a short form if there is one. */
  readonly flags: readonly string[];
  readonly description: string;
  readonly takesValue: boolean;
  readonly choices: readonly string[];
}

interface CompletedCommand {
  /** Names from the program on, without the program's: `image build`. */
  readonly path: string;
  readonly description: string;
  readonly options: readonly CompletedOption[];
  readonly arguments: readonly string[];
  readonly commands: readonly CompletedCommand[];
}

export function completionScript(shell: Shell, program: Command): string {
  const root = completed(program, "");
  switch (shell) {
    case "bash":
      return bashScript(root);
    case "zsh":
      return zshScript(root);
    case "fish":
      return fishScript(root);
  }
}

function completed(command: Command, path: string): CompletedCommand {
  const help = command.createHelp();
  return {
    path,
    description: firstLine(command.description()),
    options: help.visibleOptions(command).map((option) => ({
      flags: [option.short, option.long].filter((flag) => flag !== undefined && flag !== null),
      description: firstLine(option.description),
      takesValue: option.required || option.optional,
      choices: option.argChoices ?? [],
    })),
    arguments: command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []),
    commands: help
      .visibleCommands(command)
      .filter((inner) => inner.name() !== "help")
      .map((inner) => completed(inner, path === "" ? inner.name() : `${path} ${inner.name()}`)),
  };
}

/** What stands in a script must need no escapes but for quotes. */
function firstLine(text: string): string {
  const [line = ""] = text.split("\n");
  return line.replace(/[^\u0020-\u007e]/g, " ");
}

function everyCommand(command: CompletedCommand): CompletedCommand[] {
  return [command, ...command.commands.flatMap(everyCommand)];
}

const nameOf = ({ path }: CompletedCommand) => path.slice(path.lastIndexOf(" ") + 1);

/** Patterns of programs that are called through hpcc. */
const COMPILERS = "(^|-)(gcc|g\\+\\+|cc|c\\+\\+|clang|clang\\+\\+)(-[0-9.]+)?$";

function bashScript(root: CompletedCommand): string {
  const commands = everyCommand(root);
  const steps = commands.filter(({ path }) => path !== "").map(({ path }) => `"${path}") at="${path}" ;;`);
  const words = commands.map((command) => `"${command.path}") words="${candidatesOf(command).join(" ")}" ;;`);
  const values = commands.flatMap(({ path, options }) =>
    options
      .filter(({ takesValue }) => takesValue)
      .map(({ flags, choices }) => {
        const patterns = flags.map((flag) => `"${path} ${flag}"`).join("|");
        return `${patterns}) words="${choices.join(" ")}" ;;`;
      }),
  );
  return `# bash completion of hpcc: \`hpcc completions bash\`
_hpcc() {
  local current=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD - 1]} at="" words="" index
  COMPREPLY=()
  for ((index = 1; index < COMP_CWORD; index++)); do
    case "\${at:+$at }\${COMP_WORDS[index]}" in
${indented(steps, 6)}
      *) if [[ -z $at ]]; then return; fi ;;
    esac
  done
  case "$at" in
${indented(words, 4)}
  esac
  case "$at $before" in
${indented(values, 4)}
  esac
  if [[ -z $at && -n $current ]]; then words+=" $(compgen -c -- "$current" | grep -E '${COMPILERS}')"; fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current" | sort -u)
}
complete -o default -F _hpcc hpcc
`;
}

function candidatesOf(command: CompletedCommand): string[] {
  return [
    ...command.commands.map(nameOf),
    ...command.arguments,
    ...command.options.flatMap(({ flags }) => flags.filter((flag) => flag.startsWith("--"))),
  ];
}

function zshScript(root: CompletedCommand): string {
  const commands = everyCommand(root);
  const steps = commands.filter(({ path }) => path !== "").map(({ path }) => `"${path}") at="${path}" ;;`);
  const described = (command: CompletedCommand) => [
    ...command.commands.map((inner) => [nameOf(inner), inner.description]),
    ...command.arguments.map((choice) => [choice, ""]),
    ...command.options.flatMap(({ flags, description }) =>
      flags.filter((flag) => flag.startsWith("--")).map((flag) => [flag, description]),
    ),
  ];
  const words = commands.map((command) => {
    const list = described(command).map(([name = "", text = ""]) => quoted(`${name}:${text.replaceAll(":", "\\:")}`));
    return `"${command.path}") candidates=(${list.join(" ")}) ;;`;
  });
  const values = commands.flatMap(({ path, options }) =>
    options
      .filter(({ takesValue }) => takesValue)
      .map(({ flags, choices }) => {
        const patterns = flags.map((flag) => `"${path} ${flag}"`).join("|");
        return `${patterns}) candidates=(${choices.join(" ")}) ;;`;
      }),
  );
  return `#compdef hpcc
# zsh completion of hpcc: \`hpcc completions zsh\`
_hpcc() {
  setopt localoptions extendedglob
  local at="" index
  local -a candidates
  for ((index = 2; index < CURRENT; index++)); do
    case "\${at:+$at }\${words[index]}" in
${indented(steps, 6)}
      *) if [[ -z $at ]]; then _files; return; fi ;;
    esac
  done
  case "$at" in
${indented(words, 4)}
  esac
  case "$at \${words[CURRENT - 1]}" in
${indented(values, 4)}
  esac
  if [[ -z $at ]]; then candidates+=(\${(M)\${(k)commands}:#*(gcc|g++|cc|c++|clang|clang++)(|-[0-9.]##)}); fi
  if (( $#candidates )); then _describe hpcc candidates || _files; else _files; fi
}
if [[ $funcstack[1] = _hpcc ]]; then _hpcc "$@"; else compdef _hpcc hpcc; fi
`;
}

function fishScript(root: CompletedCommand): string {
  const lines = everyCommand(root).flatMap((command) => {
    const condition = quoted(`__hpcc_at ${command.path === "" ? "''" : `'${command.path}'`}`);
    return [
      ...command.commands.map(
        (inner) => `complete -c hpcc -n ${condition} -f -a ${nameOf(inner)} -d ${quoted(inner.description)}`,
      ),
      ...command.arguments.map((choice) => `complete -c hpcc -n ${condition} -f -a ${choice}`),
      ...command.options.map(({ flags, description, takesValue, choices }) => {
        const names = flags.map((flag) => (flag.startsWith("--") ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`));
        const value = choices.length > 0 ? ` -x -a ${quoted(choices.join(" "))}` : takesValue ? " -r" : "";
        return `complete -c hpcc -n ${condition} ${names.join(" ")}${value} -d ${quoted(description)}`;
      }),
    ];
  });
  const known = everyCommand(root)
    .filter(({ path }) => path !== "")
    .map(({ path }) => quoted(path));
  return `# fish completion of hpcc: \`hpcc completions fish\`
function __hpcc_at --description 'whether the command so far is this one'
    set -l known ${known.join(" ")}
    set -l at ''
    for word in (commandline -opc)[2..]
        set -l next (string trim "$at $word")
        if contains -- $next $known
            set at $next
        else if test -z "$at"
            # A compiler's own words.
            return 1
        end
    end
    test "$at" = "$argv[1]"
end
${lines.join("\n")}
complete -c hpcc -n ${quoted("__hpcc_at ''")} -a ${quoted("(complete -C '' | string match -r '^(?:.*-)?(?:gcc|g\\+\\+|cc|c\\+\\+|clang|clang\\+\\+)(?:-[0-9.]+)?(?=\\t|$)')")}
`;
}

/** For a shell, in single quotes. */
function quoted(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "'\\''")}'`;
}

function indented(lines: readonly string[], columns: number): string {
  return lines.map((line) => " ".repeat(columns) + line).join("\n");
}

export function parseShell(name: string): Shell {
  const shell = SHELLS.find((known) => known === name);
  if (shell === undefined) throw new HpccError("argument.invalid", `say one of ${SHELLS.join(", ")}`);
  return shell;
}
