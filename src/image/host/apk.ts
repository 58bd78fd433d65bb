// What Alpine's apk says. UNTRUSTED: nobody else; it is the machine's own database, read through its own program.
import { HpccError } from "../../base/errors.ts";
import { runTool } from "../tool-process.ts";
import type { HostPackage, HostPackages, RunTool } from "./host-packages.ts";

const PACKAGE = "apk-tools";
/** "gcc-13.2.1_git20240309-r0": a version begins with a digit and ends with Alpine's revision. */
const NAMED = /^(.+)-([0-9][^-]*-r[0-9]+)$/;

/** Lines of `apk list --installed`: "gcc-13.2.1_git20240309-r0 x86_64 {gcc} (GPL-2.0-or-later) [installed]". */
export function parseApkList(text: string): Pick<HostPackage, "name" | "version" | "architecture">[] {
  return text.split("\n").flatMap((line) => {
    const [named = "", architecture = ""] = line.split(" ", 2);
    const [, name, version] = NAMED.exec(named) ?? [];
    return name === undefined || !line.includes("[installed]") ? [] : [{ name, version: version!, architecture }];
  });
}

/** Blocks of `apk info --depends` and its like: "gcc-13.2.1-r0 depends on:", then words by line; by the package with its version. */
export function parseApkBlocks(text: string): Map<string, string[]> {
  const blocks = new Map<string, string[]>();
  let words: string[] = [];
  for (const line of text.split("\n")) {
    const named = /^(\S+) (?:depends on|provides|contains):$/.exec(line)?.[1];
    if (named !== undefined) blocks.set(named, (words = []));
    else if (line !== "") words.push(line);
  }
  return blocks;
}

/** "so:libc.musl-x86_64.so.1=1" without what it asks of the version; null for a package that must not be there. */
function capability(word: string): string | null {
  return word.startsWith("!") ? null : word.split(/[<>=~]/, 1)[0]!;
}

export function apkPackages(run: RunTool = runTool): HostPackages {
  const ask = async (...args: string[]): Promise<string> => {
    const { stdout, exitCode, stderr } = await run("apk", args, PACKAGE);
    if (exitCode !== 0) throw new HpccError("tool.missing", `apk failed: ${stderr}`);
    return stdout.toString("latin1");
  };
  const words = async (what: "--depends" | "--provides", names: readonly string[]) =>
    parseApkBlocks(await ask("info", what, ...names));
  return {
    async installed() {
      const list = parseApkList(await ask("list", "--installed"));
      const names = list.map(({ name }) => name);
      const [depends, provides] = [await words("--depends", names), await words("--provides", names)];
      return list.map((found) => {
        const key = `${found.name}-${found.version}`;
        const of = (blocks: Map<string, string[]>) =>
          (blocks.get(key) ?? []).map(capability).filter((word) => word !== null);
        return { ...found, depends: of(depends).map((word) => [word]), provides: of(provides) };
      });
    },
    native: async () => (await ask("--print-arch")).trim(),
    async files({ name, version }) {
      const listed = parseApkBlocks(await ask("info", "--contents", name)).get(`${name}-${version}`) ?? [];
      return listed.map((path) => `/${path}`);
    },
    digests: async () => new Map(),
    async ownerOf(path) {
      const { stdout, exitCode } = await run("apk", ["info", "--who-owns", path], PACKAGE);
      const named = / is owned by (\S+)$/m.exec(stdout.toString("latin1"))?.[1] ?? "";
      return exitCode === 0 ? (NAMED.exec(named)?.[1] ?? null) : null;
    },
    base: ["musl-dev", "linux-headers", "busybox", "busybox-binsh"],
    partners: (compiler) => (/^gcc(?=[0-9]|$)/.test(compiler) ? [compiler.replace(/^gcc/, "g++")] : []),
    skipped: new Set(["apk-tools", "alpine-baselayout", "alpine-keys", "ca-certificates", "scanelf", "ssl_client"]),
    // BusyBox makes its links when it is installed.
    unlisted: ["/bin/sh", "/usr/bin/env"],
    install: "apk add",
  };
}
