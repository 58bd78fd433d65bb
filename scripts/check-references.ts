// The references of references.ts in every text of the repository, what is not committed yet included.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { deadReferences, repositoryFiles } from "./references.ts";

const root = join(import.meta.dirname, "..");
/** Written by others or by programs. */
const NOT_OURS = /^(?:LICENSE|package-lock\.json|native\/Cargo\.lock|test\/corpus\/sources\/)/;
const TEXT = /(?:\.(?:ts|rs|md|proto|sh|json|toml|yaml|c|h)|^Makefile|\/[\w-]+)$/;

const paths = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
  cwd: root,
  encoding: "utf8",
})
  .split("\n")
  .filter((path) => path !== "" && existsSync(join(root, path)));
const files = repositoryFiles(paths);
const read = paths.filter((path) => TEXT.test(path) && !NOT_OURS.test(path));
const found = read.flatMap((path) => deadReferences(path, readFileSync(join(root, path), "utf8"), files));
for (const reference of found) console.log(reference);
console.log(`${read.length} files, ${found.length} dead references`);
process.exitCode = found.length === 0 && read.length > 0 ? 0 : 1;
