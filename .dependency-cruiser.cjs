// The layer table of ARCHITECTURE.md. Each folder of src/ may import itself, the layers listed for it, and packages.
const layers = {
  base: [],
  core: ["base"],
  wire: ["base", "core", "gen"],
  store: ["base", "core"],
  image: ["base", "core", "store"],
  vm: ["base", "core", "wire", "gen"],
  audit: ["base", "core"],
  config: ["base", "core"],
  daemon: ["base", "core", "wire", "gen", "store", "image", "vm", "audit", "config"],
  scheduler: ["base", "core", "wire", "gen", "store", "image", "vm", "audit", "config"],
  worker: ["base", "core", "wire", "gen", "store", "image", "vm", "audit", "config"],
  cli: ["base", "core", "wire", "gen", "config", "audit", "image"],
};

const layerRules = Object.entries(layers).map(([layer, allowed]) => ({
  name: `layer-${layer}`,
  severity: "error",
  comment: `src/${layer} may import: ${allowed.join(", ") || "nothing else of src"}`,
  from: { path: `^src/${layer}/`, pathNot: "\\.test\\.ts$" },
  to: { path: "^src/", pathNot: `^src/(${[layer, ...allowed].join("|")})/` },
}));

module.exports = {
  forbidden: [
    ...layerRules,
    {
      name: "programs-are-imported-by-nothing",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/programs/" },
      to: { path: "^src/programs/" },
    },
    {
      name: "src-imports-no-tests",
      severity: "error",
      from: { path: "^src/", pathNot: "\\.test\\.ts$" },
      to: { path: "^(test|bench|scripts)/|\\.test\\.ts$" },
    },
    {
      name: "core-is-pure",
      severity: "error",
      comment: "core and audit/verify know no disk, network, process or clock; node:crypto's hashes are pure",
      from: { path: "^src/(core|audit/verify)/", pathNot: "\\.test\\.ts$" },
      to: { dependencyTypes: ["core"], pathNot: "^(node:)?(crypto|buffer)$" },
    },
    {
      name: "no-cycles",
      severity: "error",
      from: { path: "^src/" },
      to: { circular: true },
    },
    {
      name: "no-unlisted-package",
      severity: "error",
      from: { path: "^(src|test|bench|scripts)/" },
      // The resolver's list of built-in modules lacks this one.
      to: { couldNotResolve: true, pathNot: "^node:sqlite$" },
    },
  ],
  options: {
    parser: "swc",
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      extensions: [".ts", ".js", ".d.ts"],
      exportsFields: ["exports"],
      conditionNames: ["import", "node", "default", "types"],
    },
    doNotFollow: { path: "node_modules" },
  },
};
