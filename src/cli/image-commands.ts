// `hpcc image ...`: toolchain images of this machine, and their ways to registries and back.
import type { Command } from "commander";
import type { Environment } from "../config/directories.ts";
import type { ImageStore } from "../image/image-store.ts";
import { json, type Output } from "./output.ts";

/** What these commands need of the process. */
export interface ImageHost {
  readonly env: Environment;
  readonly output: Output;
  images(): Promise<ImageStore>;
}

export function addImage(program: Command, host: ImageHost): void {
  const image = program.command("image").description("toolchain images of this machine");
  addBuild(image, host);
  addLists(image, host);
  addPull(image, host);
  addPush(image, host);
  addUpdate(image, host);
  addImport(image, host);
  addRoom(image, host);
}

function collect(value: string, previous: string[] = []): string[] {
  return [...previous, value];
}

interface ImageBuildFlags {
  fromHost?: true;
  compiler?: string[];
  with?: string[];
  buildTools?: true;
  tag?: string;
  quiet?: true;
  json?: true;
}

function addBuild(image: Command, host: ImageHost): void {
  image
    .command("build")
    .description("pack this machine's compilers into an image; two runs make the same bytes")
    .option("--from-host", "from the package manager's files of this machine")
    .option("--compiler <name>", "gcc or clang, as on this machine; any number of times (default: gcc)", collect)
    .option("--with <package>", "also this package, with what it depends on; any number of times", collect)
    .option("--build-tools", "also make, a shell, coreutils and what else whole builds call (`hpcc run`)")
    .option("--tag <name>", "a name for it on this machine")
    .option("-q, --quiet", "print its digest alone")
    .option("--json", "print JSON")
    .action(async (options: ImageBuildFlags) => {
      const { imageBuild, printImageBuild } = await import("./image.ts");
      const report = await imageBuild(await host.images(), {
        fromHost: options.fromHost === true,
        compilers: options.compiler ?? [],
        with: options.with ?? [],
        buildTools: options.buildTools === true,
        tag: options.tag ?? null,
      });
      if (options.quiet) host.output.out(`${report.digest}\n`);
      else host.output.out(options.json ? json(report) : printImageBuild(report));
    });
}

function addLists(image: Command, host: ImageHost): void {
  image
    .command("ls")
    .alias("list")
    .description("list the images here, with what they take and when they were used last")
    .option("--json", "print JSON")
    .action(async (options: { json?: true }) => {
      const { imageLs, printImageList } = await import("./image.ts");
      const images = await imageLs(await host.images());
      host.output.out(options.json ? json(images) : printImageList(images));
    });
  image
    .command("show")
    .description("show an image")
    .argument("<name>", "its digest, the start of it, or its tag")
    .option("--json", "print JSON")
    .action(async (name: string, options: { json?: true }) => {
      const { imageShow, printImageDetails } = await import("./image.ts");
      const details = await imageShow(await host.images(), name);
      host.output.out(options.json ? json(details) : printImageDetails(details));
    });
}

interface TransferFlags {
  image?: string;
  quiet?: true;
  json?: true;
}

function addPull(image: Command, host: ImageHost): void {
  image
    .command("pull")
    .description("bring an image from a registry; an interrupted pull goes on where it ended")
    .argument(
      "[name]",
      "such as registry.example.com/team/toolchain:12, or ...@sha256:<digest> (default: the project's)",
    )
    .option("-q, --quiet", "print its digest alone")
    .option("--json", "print JSON")
    .action(async (name: string | undefined, options: TransferFlags) => {
      const { imagePull, printPull, ProgressLine } = await import("./image-transfer.ts");
      using line = new ProgressLine(host.output, options.quiet === true || options.json === true);
      const report = await imagePull(await host.images(), name ?? null, { env: host.env, onProgress: line.show });
      line.end();
      if (options.quiet) host.output.out(`${report.digest}\n`);
      else host.output.out(options.json ? json(report) : printPull(report));
    });
}

function addPush(image: Command, host: ImageHost): void {
  image
    .command("push")
    .description("send an image of this machine to a registry")
    .argument("<name>", "where to: registry.example.com/team/toolchain:12, with @sha256:<digest> of one that is here")
    .option("--image <image>", "the image: its digest, the start of it, or its tag (default: the one tagged <name>)")
    .option("-q, --quiet", "print its digest alone")
    .option("--json", "print JSON")
    .action(async (name: string, options: TransferFlags) => {
      const { imagePush, printPush, ProgressLine } = await import("./image-transfer.ts");
      using line = new ProgressLine(host.output, options.quiet === true || options.json === true);
      const transfer = { env: host.env, onProgress: line.show };
      const report = await imagePush(await host.images(), name, { ...transfer, image: options.image ?? null });
      line.end();
      if (options.quiet) host.output.out(`${report.digest}\n`);
      else host.output.out(options.json ? json(report) : printPush(report));
    });
}

function addUpdate(image: Command, host: ImageHost): void {
  image
    .command("update")
    .description("pin what the project's name for its image means now in hpcc.lock, and show what changes")
    .option("--json", "print JSON")
    .action(async (options: { json?: true }) => {
      const { imageUpdate, printUpdate, ProgressLine } = await import("./image-transfer.ts");
      using line = new ProgressLine(host.output, options.json === true);
      const updated = await imageUpdate(await host.images(), { env: host.env, onProgress: line.show });
      line.end();
      host.output.out(options.json ? json(updated) : printUpdate(updated));
    });
}

function addImport(image: Command, host: ImageHost): void {
  image
    .command("import")
    .description("take the image of an archive: an OCI layout as tar, or what docker save writes")
    .argument("<file>", "the archive; it may be compressed with gzip or zstd")
    .option("--tag <name>", "a name for it on this machine (default: the one in the archive)")
    .option("-q, --quiet", "print its digest alone")
    .option("--json", "print JSON")
    .action(async (file: string, options: TransferFlags & { tag?: string }) => {
      const { checkedTag } = await import("./image.ts");
      const tag = options.tag === undefined ? null : checkedTag(options.tag);
      const report = await (await host.images()).import(file, tag);
      if (options.quiet) host.output.out(`${report.digest}\n`);
      else if (options.json) host.output.out(json(report));
      else host.output.out(`image    ${report.digest}\nlayout   ${report.layoutFolder}\n`);
    });
}

function addRoom(image: Command, host: ImageHost): void {
  image
    .command("prune")
    .description(
      "take away images that were pulled and that nobody uses, the longest unused first, until the others fit",
    )
    .option("--size <size>", "what all images here may take then (default: images.size_max)")
    .option("--unused <days>", "only those that were not used for so many days (default: 1)")
    .option("--dry-run", "say what would go, and leave it")
    .option("--json", "print JSON")
    .action(async (options: { size?: string; unused?: string; dryRun?: true; json?: true }) => {
      const { imagePrune, printPrune } = await import("./image-room.ts");
      const report = await imagePrune(await host.images(), host.env, options);
      host.output.out(options.json ? json(report) : printPrune(report, options.dryRun === true));
    });
  for (const [command, pinned, what] of [
    ["pin", true, "keep an image here, whatever room others need"],
    ["unpin", false, "keep an image no longer than others"],
  ] as const)
    image
      .command(command)
      .description(what)
      .argument("<name>", "its digest, the start of it, or its tag")
      .action(async (name: string) => {
        host.output.out(`${await (await host.images()).pin(name, pinned)}\n`);
      });
}
