// The layer table of layers.ts, held against ARCHITECTURE.md and every import of the tree, type imports included. Written here because the
// import-graph tools at hand either parse no `using` declarations or drop type imports. Biome's format makes imports regular.
import { existsSync, globSync, readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { dirname, join, relative } from "node:path";
import { differencesOfPage, LAYERS, mayImport } from "./layers.ts";

const root = join(import.meta.dirname, "..");

/** Built-in modules that know no disk, network, process or clock: all that the pure layers may use, with the pure `isIP` functions of node:net. */
const PURE_BUILTINS = new Set(["node:crypto", "node:buffer"]);
const IMPORT = /^(?:import|export)\b[^;]*?from "([^"]+)";|^import "([^"]+)";|\bimport\(\s*"([^"]+)"\s*\)/gm;

const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as Record<string, Record<string, string>>;
const packages = new Set([
  ...Object.keys(manifest["dependencies"] ?? {}),
  ...Object.keys(manifest["devDependencies"] ?? {}),
]);
const shipped = new Set(Object.keys(manifest["dependencies"] ?? {}));

interface Import {
  readonly from: string;
  /** A path of the tree, or a package or built-in module. */
  readonly to: string;
  /** The statement. */
  readonly clause: string;
}

const problems: string[] = [];
const graph = new Map<string, string[]>();

function isTest(file: string): boolean {
  return file.endsWith(".test.ts") || /^(?:test|bench|scripts)\//.test(file);
}

function importsOf(file: string): Import[] {
  const text = readFileSync(join(root, file), "utf8");
  return [...text.matchAll(IMPORT)].map((match) => {
    const name = match[1] ?? match[2] ?? match[3] ?? "";
    return {
      from: file,
      clause: match[0],
      to: name.startsWith(".") ? relative(root, join(root, dirname(file), name)) : name,
    };
  });
}

function packageOf(name: string): string {
  return name.split("/", name.startsWith("@") ? 2 : 1).join("/");
}

function checkPackage({ from, to, clause }: Import): void {
  const builtin = to.startsWith("node:");
  if (!builtin && builtinModules.includes(to)) problems.push(`${from}: write node:${to}`);
  if (!builtin && !packages.has(packageOf(to))) problems.push(`${from}: ${to} is not in package.json`);
  if (isTest(from)) return;
  if (!builtin && !shipped.has(packageOf(to)) && from.startsWith("src/"))
    problems.push(`${from}: ${to} does not ship; move it to dependencies`);
  const pure = from.startsWith("src/core/") || from.startsWith("src/audit/verify/");
  if (builtin && pure && !PURE_BUILTINS.has(to) && !/\{ isIP(?:v[46])? \}/.test(clause))
    problems.push(`${from}: ${to} in a pure layer`);
}

function checkFile({ from, to }: Import): void {
  if (!existsSync(join(root, to))) problems.push(`${from}: ${to} does not exist`);
  if (!from.startsWith("src/")) return;
  const [, layer = ""] = from.split("/");
  const [top = ""] = to.split("/");
  if (isTest(from)) {
    // Tests beside their source may use whatever helps them, but no program.
    if (to.startsWith("src/programs/") && layer !== "programs") problems.push(`${from}: imports a program, ${to}`);
    return;
  }
  // A table that a Rust program reads too lies beside that; the bundle holds what it says.
  if (top === "native" && to.endsWith(".json")) return;
  if (top !== "src" || isTest(to)) problems.push(`${from}: imports ${to}, which does not ship`);
  else if (!mayImport(layer, to)) problems.push(`${from}: layer ${layer} must not import ${to}`);
}

function findCycles(): void {
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string) => {
    const at = path.indexOf(file);
    if (at >= 0) return void problems.push(`cycle: ${[...path.slice(at), file].join(" -> ")}`);
    if (done.has(file)) return;
    path.push(file);
    for (const next of graph.get(file) ?? []) visit(next);
    path.pop();
    done.add(file);
  };
  for (const file of graph.keys()) visit(file);
}

const files = globSync("{src,test,bench,scripts}/**/*.ts", { cwd: root }).filter(
  (file) => !file.startsWith("src/gen/"),
);
let imports = 0;
for (const file of files) {
  const found = importsOf(file);
  imports += found.length;
  for (const entry of found) {
    const inTree = !entry.to.startsWith("node:") && existsSync(join(root, entry.to));
    if (inTree || /^(?:src|test|bench|scripts|native)\//.test(entry.to)) checkFile(entry);
    else checkPackage(entry);
  }
  graph.set(
    file,
    found.map(({ to }) => to).filter((to) => to.endsWith(".ts")),
  );
}
findCycles();
for (const layer of new Set(files.filter((file) => file.startsWith("src/")).map((file) => file.split("/")[1] ?? "")))
  if (LAYERS[layer] === undefined) problems.push(`src/${layer}: not in the layer table`);
problems.push(...differencesOfPage(readFileSync(join(root, "ARCHITECTURE.md"), "utf8")));
for (const problem of problems) console.log(problem);
console.log(`${files.length} modules, ${imports} imports, ${problems.length} problems`);
process.exitCode = problems.length === 0 && imports > 0 ? 0 : 1;
