// A worker, its scheduler and its sandboxes in a process of their own, for benches that time calls of it. Tells its parent the image and the
// environment of a user's calls, whose results are kept nowhere but with the worker; ends with its parent's channel.
import assert from "node:assert/strict";
import { HPCC, IMAGE_FOLDER, runCommand } from "../test/support/farm.ts";
import { QuickFarm } from "../test/support/quick-farm.ts";

export interface QuickWorker {
  readonly image: string;
  readonly env: Record<string, string>;
}

const built = await runCommand(
  [HPCC, "image", "build", "--from-host", "--tag", "e2e-both", "--quiet", "--compiler", "gcc", "--compiler", "clang"],
  { env: { PATH: process.env["PATH"], HOME: IMAGE_FOLDER, HPCC_IMAGE_DIR: IMAGE_FOLDER } },
);
assert.equal(built.code, 0, built.stderr);
const image = built.stdout.trim();
const farm = await QuickFarm.start({ imageFolder: IMAGE_FOLDER, images: [image], local: false });
process.on("disconnect", () => void farm.close());
const told: QuickWorker = { image, env: await farm.addAccount("timed") };
process.send!(told);
