// A home folder with images of its own, and `hpcc image` as its owner calls it.
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command } from "commander";
import { addImage } from "../../src/cli/image-commands.ts";
import { exitCodeOf, printError } from "../../src/cli/output.ts";
import { type Digest, digestHex } from "../../src/core/digest/digest.ts";
import { ImageStore } from "../../src/image/image-store.ts";
import { type RawLayout, writeLayout } from "./oci-layout.ts";

interface Said {
  readonly code: number;
  readonly out: string;
  readonly error: string;
}

export class ImageHome implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), "hpcc-home-"));
  readonly images = join(this.folder, "images");
  readonly env = { HOME: this.folder, HPCC_CONFIG: join(this.folder, "config.toml"), HPCC_IMAGE_DIR: this.images };

  constructor() {
    writeFileSync(this.env.HPCC_CONFIG, "");
  }

  get oci(): string {
    return join(this.images, "oci");
  }

  async hpcc(...argv: string[]): Promise<Said> {
    let out = "";
    let error = "";
    const program = new Command("hpcc").exitOverride();
    addImage(program, {
      env: this.env,
      output: { out: (text) => (out += text), error: (text) => (error += text) },
      images: async () => new ImageStore(this.images),
    });
    let code = 0;
    try {
      await program.parseAsync(argv, { from: "user" });
    } catch (failure) {
      error += printError(failure);
      code = exitCodeOf(failure);
    }
    return { code, out, error };
  }

  /** An image of this home, as if it had been made here. */
  async layout(layout: RawLayout): Promise<Digest> {
    const made = join(this.oci, "made");
    mkdirSync(made, { recursive: true });
    const digest = await writeLayout(made, layout);
    renameSync(made, join(this.oci, digestHex(digest)));
    return digest;
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
