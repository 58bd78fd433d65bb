// Bundles the TypeScript programs into out/lib/hpcc/hpcc.mjs. Each sub-command's own code is a chunk that is loaded when it
// runs, so that `hpcc version` does not pay for gRPC. Files are replaced atomically: a launcher may start one meanwhile.
import { mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { build } from "esbuild";
import { sourceFiles, sourcesDigest, writeStamp } from "./build-stamps.ts";

const root = join(import.meta.dirname, "..");
const outdir = join(root, "out/lib/hpcc");
const CHUNKS = "chunks";
/** A daemon that runs from an older bundle may still load its chunks. */
const OLD_CHUNK_MS = 24 * 3_600_000;

const sources = sourcesDigest(root, "bundle");
const result = await build({
  absWorkingDir: root,
  entryPoints: {
    hpcc: "src/programs/main.ts",
    "inspect-thread": "src/worker/inspect/inspect-thread.ts",
    "signature-formats": "src/core/image/signatures/formats.ts",
  },
  outdir,
  outExtension: { ".js": ".mjs" },
  chunkNames: `${CHUNKS}/[name]-[hash]`,
  bundle: true,
  splitting: true,
  format: "esm",
  platform: "node",
  target: "node24",
  keepNames: true,
  legalComments: "none",
  sourcemap: false,
  metafile: true,
  write: false,
  logLevel: "warning",
  // Packages that are CommonJS want require and __dirname.
  banner: {
    js: 'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url); const __dirname = import.meta.dirname; const __filename = import.meta.filename;',
  },
});

// The entry goes last: until then the old one finds its own chunks.
const files = result.outputFiles.toSorted(
  (a, b) => Number(a.path.endsWith("hpcc.mjs")) - Number(b.path.endsWith("hpcc.mjs")),
);
for (const { path, contents } of files) {
  mkdirSync(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}.tmp`;
  writeFileSync(temporary, contents);
  renameSync(temporary, path);
}
const written = new Set(files.map(({ path }) => path));
for (const name of readdirSync(join(outdir, CHUNKS))) {
  const path = join(outdir, CHUNKS, name);
  if (!written.has(path) && statSync(path).mtimeMs < Date.now() - OLD_CHUNK_MS) rmSync(path);
}
const bytes = files.reduce((sum, { contents }) => sum + contents.length, 0);
const stamped = new Set(sourceFiles(root, "bundle"));
const missed = Object.keys(result.metafile.inputs).filter(
  (path) => !path.startsWith("node_modules/") && !stamped.has(path),
);
if (missed.length > 0) throw new Error(`build-stamps.ts does not count these as the bundle's: ${missed.join(", ")}`);
if (files.length < 2) throw new Error("the bundle has no chunks");
writeStamp(root, "bundle", sources);
console.log(`bundle: ${files.length} files, ${(bytes / 1024).toFixed(0)} KiB in out/lib/hpcc`);
