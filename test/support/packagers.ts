// Hosts with databases of rpm's and pacman's, made by these programs themselves of small packages, and their programs to ask.
import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { RunTool } from "../../src/image/host/host-packages.ts";
import { baseRoot } from "./distributions.ts";

export interface SmallPackage {
  readonly name: string;
  readonly version: string;
  readonly depends: readonly string[];
  readonly provides?: readonly string[];
  /** Contents by path without the first slash; a link is "-> TARGET". */
  readonly files: Readonly<Record<string, string>>;
}

export class PackagedHost implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), "hpcc-packaged-"));
  readonly root = join(this.folder, "host");
  readonly #tools = baseRoot("packagers");

  constructor() {
    mkdirSync(this.root);
  }

  /** Runs a program of the packagers' root, with the folder of all of it at /home. */
  #run(argv: readonly string[]) {
    const mounts = [
      "--ro-bind",
      this.#tools,
      "/",
      "--bind",
      this.folder,
      "/home",
      "--tmpfs",
      "/tmp",
      "--dev",
      "/dev",
      "--tmpfs",
      "/var/tmp",
    ];
    const env = ["--proc", "/proc", "--clearenv", "--setenv", "PATH", "/usr/bin:/bin", "--setenv", "LC_ALL", "C"];
    return spawnSync("bwrap", [...mounts, ...env, "--chdir", "/home", "--", ...argv], { maxBuffer: 1 << 26 });
  }

  #must(argv: readonly string[]): void {
    const { status, stderr, stdout } = this.#run(argv);
    if (status !== 0) throw new Error(`${argv.join(" ")}: ${stderr.toString()}${stdout.toString()}`);
  }

  #stage(files: SmallPackage["files"], name: string): string {
    const stage = join(this.folder, "stage", name);
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(dirname(join(stage, path)), { recursive: true });
      if (content.startsWith("-> ")) symlinkSync(content.slice(3), join(stage, path));
      else writeFileSync(join(stage, path), content);
    }
    return stage;
  }

  /** Packages with rpmbuild, and installs with rpm. */
  installRpms(packages: readonly SmallPackage[]): void {
    for (const { name, version, depends, provides = [], files } of packages) {
      this.#stage(files, name);
      const [number, release] = version.split("-");
      const lines = [
        `Name: ${name}\nVersion: ${number}\nRelease: ${release}\nSummary: x\nLicense: x\nAutoReqProv: no`,
        ...depends.map((word) => `Requires: ${word}`),
        ...provides.map((word) => `Provides: ${word}`),
        `%description\nx\n%install\nmkdir -p %{buildroot}\ncp -a /home/stage/${name}/. %{buildroot}/\n%files`,
        ...Object.keys(files).map((path) => `/${path}`),
      ];
      writeFileSync(join(this.folder, `${name}.spec`), `${lines.join("\n")}\n`);
      const own = [
        "--define",
        "_topdir /home/build",
        "--define",
        "_build_id_links none",
        "--define",
        "__os_install_post %{nil}",
      ];
      this.#must(["rpmbuild", "-bb", "--quiet", ...own, "--define", "debug_package %{nil}", `/home/${name}.spec`]);
    }
    const built = readdirSync(join(this.folder, "build/RPMS"), { recursive: true, encoding: "utf8" });
    const rpms = built.filter((path) => path.endsWith(".rpm")).map((path) => `/home/build/RPMS/${path}`);
    this.#must(["rpm", "--root", "/home/host", "--dbpath", "/var/lib/rpm", "-i", "--nodeps", "--noscripts", ...rpms]);
  }

  /** Makes packages as Arch does, and installs with pacman. */
  installPacmans(packages: readonly SmallPackage[]): void {
    mkdirSync(join(this.root, "var/lib/pacman"), { recursive: true });
    for (const { name, version, depends, provides = [], files } of packages) {
      const stage = this.#stage(files, name);
      const lines = [
        `pkgname = ${name}\npkgver = ${version}\npkgdesc = x\narch = x86_64\nsize = 1`,
        ...depends.map((word) => `depend = ${word}`),
        ...provides.map((word) => `provides = ${word}`),
      ];
      writeFileSync(join(stage, ".PKGINFO"), `${lines.join("\n")}\n`);
      const file = `${name}-${version}-x86_64.pkg.tar`;
      execFileSync("tar", [
        "-C",
        stage,
        "-cf",
        join(this.folder, file),
        ".PKGINFO",
        ...readdirSync(stage).filter((entry) => entry !== ".PKGINFO"),
      ]);
      this.#must([...this.#pacman(), "-Udd", "--noconfirm", "--noscriptlet", `/home/${file}`]);
    }
  }

  #pacman(): string[] {
    writeFileSync(
      join(this.folder, "pacman.conf"),
      "[options]\nArchitecture = x86_64\nSigLevel = Never\nLocalFileSigLevel = Never\n",
    );
    return ["pacman", "--root", "/home/host", "--dbpath", "/home/host/var/lib/pacman", "--config", "/home/pacman.conf"];
  }

  /** How a package manager of this host is asked. */
  readonly ask: RunTool = async (program, args) => {
    const [own, words] =
      program === "rpm"
        ? [["rpm", "--dbpath", "/home/host/var/lib/rpm"], args]
        : // Paths are told as they are on the host.
          [this.#pacman(), args.map((word) => (word.startsWith("/") ? `/home/host${word}` : word))];
    const { status, stdout, stderr } = this.#run([...own, ...words]);
    const said =
      program === "rpm" ? stdout : Buffer.from(stdout.toString("latin1").replaceAll(" /home/host/", " /"), "latin1");
    return { exitCode: status ?? -1, stdout: said, stderr: stderr.toString() };
  };

  [Symbol.dispose](): void {
    chmodSync(this.folder, 0o755);
    rmSync(this.folder, { recursive: true, force: true });
  }
}
