// The layers of src/: who may import whom. ARCHITECTURE.md shows the same table, and the check of layers holds the two together.

/**
 * Each folder of src/ may import itself, the layers listed for it, and packages. "a/b" is that folder of layer a alone; "*" is
 * everything. Roles meet on the wire, so none stands in another's list; the scheduler cannot reach what holds payloads.
 */
export const LAYERS: Readonly<Record<string, readonly string[]>> = {
  base: [],
  gen: [],
  core: ["base"],
  wire: ["base", "core", "gen"],
  store: ["base", "core"],
  image: ["base", "core", "store"],
  vm: ["base", "core", "wire", "gen"],
  audit: ["base", "core"],
  reproduce: ["base", "core", "wire", "gen", "store", "audit"],
  config: ["base", "core"],
  daemon: ["base", "core", "wire", "gen", "store", "image", "vm/namespace", "config"],
  scheduler: ["base", "core", "wire", "gen", "config"],
  worker: ["base", "core", "wire", "gen", "store", "image", "vm", "audit"],
  cli: ["base", "core", "wire", "gen", "config", "audit", "image", "store/local", "reproduce"],
  programs: ["*"],
};

/** Whether a file of a layer may import another file of src/, by its path such as "src/base/clock.ts". */
export function mayImport(layer: string, path: string): boolean {
  const [top, target = "", ...rest] = path.split("/");
  if (top !== "src") return false;
  const allowed = LAYERS[layer];
  if (allowed === undefined) return false;
  if (target === layer || allowed.includes("*")) return true;
  return allowed.some((entry) => entry === target || [target, ...rest].join("/").startsWith(`${entry}/`));
}

/** The rows of the page's table: `layer` | what lives there | what it may import. */
export function layersOfPage(page: string): Record<string, string[]> {
  const [, table = ""] = /^\| layer \|.*\n\|[-|]+\n((?:\|.*\n)+)/m.exec(page) ?? [];
  const rows = table.split("\n").filter((row) => row !== "");
  return Object.fromEntries(
    rows.map((row) => {
      const [, layer = "", , allowed = ""] = row.split("|").map((cell) => cell.trim());
      return [layer.replaceAll("`", ""), allowed === "anything" ? ["*"] : namesOf(allowed)];
    }),
  );
}

function namesOf(cell: string): string[] {
  return [...cell.matchAll(/`([a-z/]+)`/g)].map((match) => match[1]!);
}

/** What differs between the page's table and this one. */
export function differencesOfPage(page: string): string[] {
  const shown = layersOfPage(page);
  return [...new Set([...Object.keys(LAYERS), ...Object.keys(shown)])].flatMap((layer) => {
    const [ours, theirs] = [LAYERS[layer], shown[layer]].map((list) => list?.toSorted().join(", "));
    return ours === theirs ? [] : [`${layer}: the page says ${theirs ?? "nothing"}, the check ${ours ?? "nothing"}`];
  });
}
