// What pacman says. UNTRUSTED: nobody else; it is the machine's own database, read through its own program.
import { HpccError } from "../../base/errors.ts";
import { runTool } from "../tool-process.ts";
import type { HostPackage, HostPackages, RunTool } from "./host-packages.ts";

const PACKAGE = "pacman";

/** Blocks of `pacman -Qi`: "Depends On : glibc>=2.39  libmpc". */
export function parsePacmanPackages(text: string): HostPackage[] {
  const packages: HostPackage[] = [];
  for (const block of text.split(/\n\n+/)) {
    const fields = new Map<string, string>();
    for (const line of block.split("\n")) {
      const [, name = "", value = ""] = /^([A-Z][A-Za-z ]*): (.*)$/.exec(line) ?? [];
      const key = name.trimEnd();
      if (key !== "" && !fields.has(key)) fields.set(key, value);
    }
    const words = (key: string) =>
      (fields.get(key) ?? "None")
        .split(/ +/)
        .filter((word) => word !== "" && word !== "None")
        .map((word) => word.split(/[<>=]/, 1)[0]!);
    const name = fields.get("Name");
    if (name === undefined) continue;
    packages.push({
      name,
      architecture: fields.get("Architecture") ?? "",
      version: fields.get("Version") ?? "",
      depends: words("Depends On").map((word) => [word]),
      provides: words("Provides"),
    });
  }
  return packages;
}

/** Lines of `pacman -Ql`: "gcc /usr/bin/gcc"; folders end in a slash. */
export function parsePacmanFiles(text: string, name: string): string[] {
  return text
    .split("\n")
    .filter((line) => line.startsWith(`${name} /`))
    .map((line) => line.slice(name.length + 1).replace(/(?<=.)\/$/, ""));
}

export function pacmanPackages(run: RunTool = runTool): HostPackages {
  const ask = async (...args: string[]): Promise<string> => {
    const { stdout, exitCode, stderr } = await run("pacman", args, PACKAGE);
    if (exitCode !== 0) throw new HpccError("tool.missing", `pacman failed: ${stderr}`);
    return stdout.toString("latin1");
  };
  return {
    installed: async () => parsePacmanPackages(await ask("-Qi")),
    native: async () => (process.arch === "x64" ? "x86_64" : "aarch64"),
    files: async ({ name }) => parsePacmanFiles(await ask("-Ql", "--", name), name),
    digests: async () => new Map(),
    async ownerOf(path) {
      const { stdout, exitCode } = await run("pacman", ["-Qqo", "--", path], PACKAGE);
      return exitCode === 0 ? (stdout.toString("latin1").split("\n")[0] ?? null) : null;
    },
    base: ["glibc", "linux-api-headers", "bash"],
    // The package of GCC has its C++ compiler.
    partners: () => [],
    skipped: new Set(["pacman", "systemd", "python", "perl", "tzdata", "filesystem", "iana-etc"]),
    unlisted: ["/bin", "/sbin", "/lib", "/lib64", "/usr/sbin", "/usr/lib64"],
    install: "pacman -S",
  };
}
