// `hpcc stats`: what became of the calls, as the daemon counted them, and what lies in the local store.
import type { Directories } from "../config/directories.ts";
import { isTable } from "../config/value.ts";
import { askDaemon, noDaemon } from "./daemon-control.ts";
import { OUTCOME_TEXTS } from "./explain-print.ts";
import { printable, table } from "./output.ts";

/** The daemon's counts; the keys are those of its snapshot. */
export type Stats = Readonly<Record<string, unknown>>;

/** Asks the daemon for its counts, and zeroes them if asked to. */
export async function stats(directories: Directories, zero: boolean): Promise<Stats> {
  const counts = await askDaemon(directories, { command: "stats", zero });
  if (counts === null) throw noDaemon("no daemon runs, so nothing has been counted");
  return counts;
}

/** What lies in the local store. */
export interface StoreStats {
  readonly bytes: number;
  readonly bytes_max: number;
  readonly results: number;
  readonly files: number;
}

/** Of these calls a result was there already. */
const HITS = ["replayed", "local_hit", "remote_hit"] as const;
/** And of these it was made, to be there the next time. */
const MISSES = ["local_compiled", "remote_compiled", "remote_joined"] as const;

/** The counts for a person. UNTRUSTED: the daemon, which may be of another version. */
export function printStats(counts: Stats, store: StoreStats | null = null): string {
  const rows: string[][] = [];
  if (store !== null) {
    const room = `${size(store.bytes)} of ${size(store.bytes_max)}`;
    rows.push(["local store", room, `${store.results} results in ${store.files} files`]);
  }
  const jobs = number(counts["jobs_sent"]);
  if (jobs > 0) rows.push(["jobs sent to workers", String(jobs)]);
  rows.push(...sourceRows(counts["sources"]));
  rows.push(...wireRow("sources", counts, "source_bytes", "source_wire_bytes"));
  rows.push(...wireRow("results", counts, "result_bytes", "result_wire_bytes"));
  const compileMs = number(counts["compile_us"]) / 1000;
  if (compileMs > 0) rows.push(["time in guests' compilers", `${(compileMs / 1000).toFixed(2)} s`]);
  return [
    outcomeTable(counts["outcomes"], number(counts["calls"])),
    rows.length > 0 ? `\n${table(rows)}` : "",
    reasonTable("not kept, by reason (`hpcc stats --why` tells more)", counts["reasons"]),
    reasonTable("launchers that fell back by themselves, since the last --zero", counts["launcher_fallbacks"]),
    advice(counts),
    headerAdvice(counts["headers_missing"]),
    comingImages(counts["images_coming"]),
  ].join("");
}

/** Calls by what became of them, and how many of those that can be kept were there already. */
export function outcomeTable(found: unknown, calls: number): string {
  const outcomes = isTable(found) ? found : {};
  const rows: [string, string, string][] = [["calls", String(calls), ""]];
  for (const [name, label] of Object.entries(OUTCOME_TEXTS)) {
    const count = number(outcomes[name]);
    if (count > 0) rows.push([`  ${label}`, String(count), percent(count, calls)]);
  }
  const sum = (names: readonly string[]) => names.reduce((total, name) => total + number(outcomes[name]), 0);
  const [hits, misses] = [sum(HITS), sum(MISSES)];
  if (hits + misses > 0) rows.push(["hit rate", `${hits} of ${hits + misses}`, percent(hits, hits + misses)]);
  const width = (column: 1 | 2) => Math.max(...rows.map((row) => row[column].length));
  return table(rows.map(([label, count, share]) => [label, count.padStart(width(1)), share.padStart(width(2))]));
}

/** Reasons that are a fault of hpcc's surroundings, not of the call. */
const FAULTS = [
  "remote_unavailable",
  "remote_failed",
  "internal_error",
  "storage_unavailable",
  "image_unusable",
  "no_image",
] as const;

/** Where to look when something is not as it should be; nothing else is worth a line. */
function advice(counts: Stats): string {
  const has = (reasons: unknown, names: readonly string[]) =>
    isTable(reasons) && names.some((name) => number(reasons[name]) > 0);
  const fallbacks = counts["launcher_fallbacks"];
  const byLaunchers = isTable(fallbacks) && has(fallbacks, Object.keys(fallbacks));
  if (!byLaunchers && !has(counts["reasons"], FAULTS)) return "";
  const more = byLaunchers ? "; HPCC_VERBOSE=1 makes a launcher say why" : "";
  return `-> run \`hpcc doctor\` in the project's folder${more}\n`;
}

/** What the daemon found out about headers that images lack. */
function headerAdvice(found: unknown): string {
  const lines = Array.isArray(found) ? found.filter((line) => typeof line === "string") : [];
  return lines.map((line) => `-> ${printable(line)}\n`).join("");
}

/** Images that the daemon brings. UNTRUSTED: the daemon. */
export function comingImages(found: unknown): string {
  const list = Array.isArray(found) ? found.filter(isTable) : [];
  return list
    .flatMap(({ progress }) => (typeof progress === "string" ? [`image on its way: ${printable(progress)}\n`] : []))
    .join("");
}

function reasonTable(heading: string, reasons: unknown): string {
  const rows = (isTable(reasons) ? Object.entries(reasons) : [])
    .map(([reason, count]) => [number(count), printable(reason)] as const)
    .sort((a, b) => b[0] - a[0])
    .map(([count, reason]) => [`  ${reason}`, String(count)]);
  return rows.length > 0 ? `${heading}\n${table(rows)}` : "";
}

const SOURCES = {
  files: "calls sent as files",
  text: "calls sent as preprocessed text",
  own_paths: "calls at their project's own path",
} as const;

function sourceRows(sources: unknown): string[][] {
  return Object.entries(SOURCES).flatMap(([name, label]) => {
    const count = isTable(sources) ? number(sources[name]) : 0;
    return count === 0 ? [] : [[label, String(count)]];
  });
}

function wireRow(label: string, counts: Stats, plainKey: string, wireKey: string): string[][] {
  const [plain, wire] = [number(counts[plainKey]), number(counts[wireKey])];
  if (plain === 0) return [];
  const ratio = wire > 0 ? `${(plain / wire).toFixed(1)} times smaller` : "";
  return [[`${label} on the wire`, `${size(wire)} of ${size(plain)}`, ratio]];
}

function number(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}

function percent(part: number, whole: number): string {
  return whole === 0 ? "-" : `${((100 * part) / whole).toFixed(1)} %`;
}

/** A size in the unit that keeps it short. */
export function size(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const step = Math.min(units.length - 1, bytes < 1 ? 0 : Math.floor(Math.log2(bytes) / 10));
  return step === 0 ? `${bytes} B` : `${(bytes / 1024 ** step).toFixed(1)} ${units[step]}`;
}
