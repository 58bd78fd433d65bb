// The page of `hpcc audit report`, for people who do not use hpcc: what was compiled, by whom, where, how isolated, what went wrong, and
// what the logs are worth. UNTRUSTED: all that rows say; `html` escapes it.
import type { Ends, Event, HostState, JobCounts, ReportData } from "../audit/report/report.ts";
import type { Some } from "../audit/report/tally.ts";
import { LIVES } from "../core/life.ts";
import type { LogState, SiteReport } from "./audit-report.ts";
import { type Html, html, page } from "./html.ts";
import { REPORT_STYLE } from "./report-style.ts";

export function reportPage(report: SiteReport): string {
  const { data, logs } = report;
  const title = `Audit report: ${periodOf(report)}`;
  const sections: [string, string, Html][] = [
    ["log", logs.length === 1 ? "The log" : "The logs", logSection(logs)],
    ["isolation", "How compiles were isolated", isolationSection(data)],
    ["who", "Who compiled", whoSection(data)],
    ["where", "Where, and with what", whereSection(data)],
    ["failures", "Denials and fall-backs", failureSection(data)],
    ["trust", "Confirmations and revocations", trustSection(data)],
    ["machines", "Virtual machines and hosts", machineSection(data)],
    ["rules", "Policies, keys and retention", rulesSection(data)],
    ["again", "Rows compiled again", againSection(report)],
  ];
  const body = html`<main>
<header>
<div class="over">hpcc audit report</div>
<h1>${periodOf(report)}</h1>
<p class="soft">${scopeOf(report)}</p>
${verdictOf(logs)}
${cardsOf(report)}
<nav aria-label="Sections"><ul>${sections.map(([id, name]) => html`<li><a href="#${id}">${name}</a></li>`)}</ul></nav>
</header>
${sections.map(
  ([id, name, content]) => html`<section id="${id}"><h2>${name}</h2>
${content}
</section>
`,
)}
<footer><p>Made by hpcc ${report.version} at ${when(report.madeMs)} from the logs alone. Numbers are of rows that ended in the period. A call that
a client answered from its own store, or compiled by itself, leaves no row and is not counted.</p></footer>
</main>`;
  return page({ title, style: REPORT_STYLE, body });
}

function periodOf({ filter, data }: SiteReport): string {
  const day = (ms: number) => new Date(ms).toISOString().slice(0, 10);
  const from = filter.sinceMs ?? data.firstMs;
  const to = filter.untilMs === null ? data.lastMs : filter.untilMs - 1;
  if (from === null || to === null) return "No rows";
  return day(from) === day(to) ? day(from) : `${day(from)} to ${day(to)}`;
}

function scopeOf({ filter, data, logs }: SiteReport): string {
  const tenants = filter.tenant === null ? "all tenants" : `tenant ${filter.tenant}`;
  const of = logs.length === 1 ? "1 log" : `${logs.length} logs`;
  return `${number(data.rows)} rows of ${of}, ${tenants}`;
}

/** Whether all of it can be believed, before any number. */
function verdictOf(logs: readonly LogState[]): Html {
  const bad = logs.filter(({ problems }) => problems.items.length > 0);
  if (bad.length > 0)
    return html`<div class="verdict bad" role="status"><strong>${bad.length} of ${logs.length} logs are not what was signed.</strong>
<span>Nothing from the first bad row on is counted below. The table of logs names it.</span></div>`;
  const unknown = logs.filter(({ keyGiven }) => !keyGiven).length;
  const signed = logs.reduce((sum, { signedRows }) => sum + signedRows, 0);
  if (unknown > 0)
    return html`<div class="verdict warn" role="status"><strong>All ${number(signed)} signed rows are as they were signed, by keys that ${unknown === logs.length ? "the logs name themselves" : `${unknown} of the logs name themselves`}.</strong>
<span>Whoever could replace a whole log could have replaced its key. Make the report with --key to rule that out.</span></div>`;
  return html`<div class="verdict good" role="status"><strong>All ${number(signed)} signed rows are as they were signed.</strong>
<span>Each log was held against a key that was known beforehand.</span></div>`;
}

function cardsOf({ data, reproduced }: SiteReport): Html {
  const { totals, isolation, confirmed, revocations, breaches } = data;
  const results = totals.compiles + totals.hits;
  const sum = (wanted: (one: ReportData["isolation"][number]) => number) =>
    isolation.reduce((all, one) => all + wanted(one), 0);
  const inVms = sum(({ isolation: name, lives }) =>
    ["firecracker", "hyperv", "qemu-kvm"].includes(name) ? lives.clean + lives.session : 0,
  );
  const clean = sum(({ lives }) => lives.clean);
  const different = confirmed.different.items.length + confirmed.different.more;
  const card = (value: string, name: string, tone = "") =>
    html`<li><b class="${tone}">${value}</b><small>${name}</small></li>`;
  const count = (value: number, name: string, tone: string) => card(number(value), name, value > 0 ? tone : "");
  const total = <T>(some: Some<T>) => some.items.length + some.more;
  return html`<ul class="cards">
${card(number(totals.jobs), "jobs")}
${card(share(totals.hits, results), "answered without a compile")}
${card(share(inVms, results), "behind a hardware boundary", inVms < results ? "warn" : "")}
${card(share(clean, results), "in a machine of their own")}
${count(totals.denied, "denied", "warn")}
${count(totals.failed, "without a result", "warn")}
${count(total(breaches), "breaches by guests", "bad")}
${count(different, "second compiles that differed", "bad")}
${count(total(revocations), "revocations", "warn")}
${reproduced === null ? null : card(`${number(reproduced.equal)} of ${number(reproduced.equal + reproduced.different + reproduced.gone)}`, "rows compiled again, equal", reproduced.different > 0 ? "bad" : "")}
</ul>`;
}

interface Column {
  readonly name: string;
  readonly kind?: "num" | "name" | "when";
}

const num = (name: string): Column => ({ name, kind: "num" });
const wide = (name: string): Column => ({ name, kind: "name" });
const at = (name: string): Column => ({ name, kind: "when" });

/** The first cell of a row is its heading. */
function table(
  caption: string,
  columns: readonly Column[],
  rows: Some<readonly (string | Html)[]>,
  none: string,
): Html {
  if (rows.items.length === 0) return html`<p class="none">${none}</p>`;
  const kindOf = (at: number) => columns[at]?.kind ?? "";
  const cell = (value: string | Html, at: number) =>
    at === 0
      ? html`<th scope="row" class="${kindOf(at)}">${value}</th>`
      : html`<td class="${kindOf(at)}">${value}</td>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${caption}"><table><caption>${caption}</caption>
<thead><tr>${columns.map(({ name, kind }) => html`<th scope="col" class="${kind ?? ""}">${name}</th>`)}</tr></thead>
<tbody>
${rows.items.map(
  (row) => html`<tr>${row.map(cell)}</tr>
`,
)}</tbody></table></div>
${rows.more > 0 && html`<p class="more">and ${number(rows.more)} more</p>`}`;
}

function mapped<T>({ items, more }: Some<T>, row: (item: T) => readonly (string | Html)[]) {
  return { items: items.map(row), more };
}

function logSection(logs: readonly LogState[]): Html {
  const rows = logs.map((log) => {
    const { origin, folder, rows, signedRows, checkpoint, key, keyGiven, tornBytes, prunedRows, problems } = log;
    const state =
      problems.items.length > 0
        ? html`<span class="tag bad">not what was signed</span>`
        : html`<span class="tag good">as signed</span>`;
    const after = rows > signedRows ? `; ${number(rows - signedRows)} not signed yet` : "";
    const pruned = prunedRows > 0 ? `; ${number(prunedRows)} of them were removed by retention` : "";
    const torn = tornBytes > 0 ? `; ${number(tornBytes)} bytes at its end are no row` : "";
    const own = keyGiven ? "given" : "the log's own word";
    return [
      html`${origin ?? "a log without a checkpoint"}<br><span class="soft">${folder}</span>`,
      state,
      html`${log.verifiedRows === 0 ? "none" : `rows 1 to ${number(log.verifiedRows)}`}<span class="soft">${pruned}${after}${torn}</span>`,
      checkpoint === null
        ? "none"
        : html`${number(checkpoint.size)} rows, root <code>${checkpoint.root.slice(0, 16)}\u2026</code>`,
      key === null ? "none" : html`<code>${key}</code> <span class="soft">(${own})</span>`,
    ];
  });
  const columns = [wide("log"), { name: "state" }, { name: "verified" }, wide("checkpoint"), wide("key")];
  return html`<p>Each row is a leaf of a signed tree. A row that was altered, dropped, moved or put in is found without the worker.</p>
${table("Logs, and how far each was verified", columns, { items: rows, more: 0 }, "")}
${logs.filter(({ problems }) => problems.items.length > 0).map(problemsOf)}
${witnessTable(logs)}`;
}

/** Which witness has cosigned which checkpoint, the newest one of each. */
function witnessTable(logs: readonly LogState[]): Html {
  const items = logs.flatMap(({ origin, folder, rows, witnessed, witnessedRows }) =>
    witnessed.map(({ witness, rows: seen, when }) => [
      origin ?? folder,
      html`<code>${witness}</code>`,
      html`${number(seen)} of ${number(rows)} rows`,
      when,
      witnessedRows === 0 ? "fewer than were demanded" : `rows 1 to ${number(witnessedRows)}`,
    ]),
  );
  const columns = [
    wide("log"),
    wide("witness"),
    { name: "newest checkpoint that it cosigned" },
    at("when"),
    { name: "cosigned by as many as were demanded" },
  ];
  const none = "No cosignature was looked for or found: witnesses are named with --witness.";
  return table("Witnesses, and the checkpoints that they cosigned", columns, { items, more: 0 }, none);
}

function problemsOf({ origin, folder, problems }: LogState): Html {
  const rows = mapped(problems, ({ row, problem }) => [row === null ? "-" : number(row), problem]);
  return html`<h3 class="bad">What is wrong with ${origin ?? folder}</h3>
${table("What is wrong, by row", [num("row"), wide("problem")], rows, "")}`;
}

/** A bar of SVG, whose width needs no style of its own. */
function bar(part: number, whole: number): Html {
  const width = whole === 0 ? 0 : (100 * part) / whole;
  return html`<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect width="${width.toFixed(2)}" height="10"/></svg>`;
}

function isolationSection({ isolation }: ReportData): Html {
  const all = isolation.reduce((sum, { lives }) => sum + lives.clean + lives.session, 0);
  const rows = isolation.flatMap(({ isolation: name, lives }) => {
    const sum = lives.clean + lives.session;
    if (sum === 0) return [];
    return [
      [name, ...LIVES.toReversed().map((life) => number(lives[life])), number(sum), share(sum, all), bar(sum, all)],
    ];
  });
  const columns = [
    { name: "isolation" },
    num("machine of its own"),
    num("machine of the client's session"),
    num("results"),
    num("share"),
    { name: "" },
  ];
  return html`<p>Of each result, in what it was compiled: strongest first. In a machine of its own nothing else ran, before or after; a session's machine had run other
jobs of the same client. <code>qemu-tcg</code> and <code>namespace</code> are no boundary against a hostile compile.</p>
${table("Results by isolation", columns, { items: rows, more: 0 }, "No job of the period had a result.")}`;
}

const COUNTS = [num("jobs"), num("compiled"), num("hits"), num("denied"), num("no result")];
const countsOf = ({ jobs, compiles, hits, denied, failed }: JobCounts) =>
  [jobs, compiles, hits, denied, failed].map(number);

function whoSection({ days, clients, builds }: ReportData): Html {
  const most = Math.max(...days.items.map(({ jobs }) => jobs));
  const dayRows = mapped(days, (one) => [one.names[0] ?? "", ...countsOf(one), bar(one.jobs, most)]);
  const clientRows = mapped(clients, (one) => [
    one.names[1] ?? "",
    one.names[0] ?? "",
    ...countsOf(one),
    one.images.count,
    when(one.lastMs),
  ]);
  const buildRows = mapped(builds, (one) => [
    one.names[0] ?? "",
    one.names[1] ?? "",
    ...countsOf(one),
    when(one.firstMs),
    when(one.lastMs),
  ]);
  return html`<h3>Days</h3>
${table("Jobs by day, in UTC; newest first", [at("day"), ...COUNTS, { name: "" }], dayRows, "No job ended in the period.")}
<h3>Clients</h3>
${table("Clients, by their certificates; most jobs first", [wide("client"), { name: "tenant" }, ...COUNTS, num("images"), at("last job")], clientRows, "No client had a job in the period.")}
<h3>Builds</h3>
${table("Builds, as clients name them; newest first", [wide("build"), wide("client"), ...COUNTS, at("from"), at("to")], buildRows, "No job of the period names a build.")}`;
}

function whereSection({ workers, compilers }: ReportData): Html {
  const workerRows = mapped(workers, (one) => [
    one.names[0] ?? "",
    ...countsOf(one),
    one.principals.count,
    one.images.count,
    when(one.lastMs),
  ]);
  const compilerRows = mapped(compilers, (one) => [
    one.names[1] === "" ? "(in a blob)" : html`<code>${one.names[1] ?? ""}</code>`,
    digest(one.names[0] ?? null),
    ...countsOf(one),
    one.principals.count,
    one.workers.all.length > 3 ? one.workers.count : one.workers.all.join(", "),
  ]);
  return html`<h3>Workers</h3>
${table("Workers, most jobs first", [wide("worker"), ...COUNTS, num("clients"), num("images"), at("last job")], workerRows, "No worker had a job in the period.")}
<h3>Compilers</h3>
${table("Compilers and their images, most jobs first", [wide("compiler"), { name: "image" }, ...COUNTS, num("clients"), wide("workers")], compilerRows, "No compiler was asked for in the period.")}`;
}

function failureSection({ denials, failures }: ReportData): Html {
  const row = (one: Ends) => [
    html`<code>${one.names[0] ?? ""}</code>`,
    ...one.names.slice(1),
    number(one.jobs),
    when(one.lastMs),
  ];
  return html`<h3>Denied</h3>
<p>Refused before anything ran: by the policy, the image list, a limit, or because the request was none.</p>
${table("Denied jobs, most first", [{ name: "reason" }, { name: "tenant" }, wide("client"), num("jobs"), at("last")], mapped(denials, row), "No job was denied.")}
<h3>Without a result</h3>
<p>Such a call falls back: its client compiles by itself, in the image, on the host or not at all, as its own configuration says. <code>job.cancelled</code> is a client that left.</p>
${table("Jobs without a result, most first", [{ name: "reason" }, { name: "tenant" }, wide("worker"), num("jobs"), at("last")], mapped(failures, row), "Every job that was let in had a result.")}`;
}

const EVENT = [at("time"), wide("worker, row"), { name: "tenant" }];
const eventCells = ({ ms, worker, row, tenant }: Event) => [when(ms), `${worker}, row ${row}`, tenant];

function trustSection({ confirmed, revocations }: ReportData): Html {
  const differing = mapped(confirmed.different, (one) => [
    ...eventCells(one),
    digest(one.image),
    one.vm ?? "-",
    one.note,
  ]);
  const revoked = mapped(revocations, (one) => [...eventCells(one), one.note]);
  return html`<h3>Second compiles</h3>
<p>Before a result of a session's machine serves others, it is compiled again in a clean one. ${number(confirmed.equal)} were equal.</p>
${table("Second compiles that differed, newest first", [...EVENT, { name: "image" }, { name: "machine" }, wide("what")], differing, "None differed.")}
<h3>Revocations</h3>
${table("Results taken out of use, newest first", [...EVENT, wide("what")], revoked, "None.")}`;
}

function machineSection({ machines, breaches, hosts }: ReportData): Html {
  const lives = mapped(machines, (one) => [one.names[0] ?? "", one.names[1] ?? "", number(one.jobs), when(one.lastMs)]);
  const broken = mapped(breaches, (one) => [...eventCells(one), one.vm ?? "-", digest(one.image)]);
  return html`<h3>Breaches</h3>
<p>A guest that broke its contract with the worker. Its machine was destroyed, and what it had made was revoked.</p>
${table("Breaches, newest first", [...EVENT, { name: "machine" }, { name: "image" }], broken, "None.")}
<h3>Lives of machines</h3>
${table("Events of machines, most first", [wide("event"), wide("worker"), num("times"), at("last")], lives, "No machine began or ended in the period.")}
<h3>Hosts</h3>
${table("What each worker's host said of itself at its last start", [wide("worker"), { name: "offers" }, num("starts"), wide("findings"), at("last start")], mapped(hosts, hostCells), "No worker started in the period.")}`;
}

function hostCells({ worker, isolation, starts, findings, ms }: HostState): (string | Html)[] {
  const wrong = findings.filter(({ status }) => status !== "ok");
  const tone = (status: string) => (status === "fail" ? "bad" : "warn");
  const found =
    wrong.length === 0
      ? html`<span class="good">${findings.length} checks, all good</span>`
      : html`${wrong.map(({ name, status, found }) => html`<div><span class="tag ${tone(status)}">${status}</span> ${name}: ${found}</div>`)}`;
  return [worker, isolation, number(starts), found, when(ms)];
}

function rulesSection({ policies, upkeep }: ReportData): Html {
  const row = (one: Event) => [...eventCells(one), one.note];
  return html`<h3>Policies</h3>
${table("Policies that came into force or were refused, newest first", [...EVENT, wide("what")], mapped(policies, row), "No policy changed.")}
<h3>Keys, retention, torn ends</h3>
<p>A torn end is what a crash left of rows that nobody had been answered for.</p>
${table("Changes of the logs themselves, newest first", [...EVENT, wide("what")], mapped(upkeep, row), "None.")}`;
}

function againSection({ reproduced }: SiteReport): Html {
  if (reproduced === null)
    return html`<p class="none">No report of <code>hpcc reproduce --json</code> was given. With <code>--reproduced</code> it is shown here.</p>`;
  const tone = (verdict: string) => (verdict === "equal" ? "good" : verdict === "different" ? "bad" : "warn");
  const rows = mapped(reproduced.rows, (one) => [
    html`<span class="tag ${tone(one.verdict)}">${one.verdict}</span>`,
    digest(one.row),
    html`<code>${one.command}</code>`,
    one.worker,
    one.where ?? "-",
    one.problem ??
      one.differences.map(({ what, expected, found }) => `${what}: ${expected} then, ${found} now`).join("; "),
  ]);
  const columns = [
    { name: "verdict" },
    { name: "row" },
    wide("command"),
    { name: "compiled by" },
    wide("compiled again"),
    wide("found"),
  ];
  const drawn = reproduced.seed === null ? "" : ` Drawn with seed ${reproduced.seed}.`;
  return html`<p>${number(reproduced.equal)} equal, ${number(reproduced.different)} different, ${number(reproduced.gone)} that cannot be made again.${drawn}</p>
${table("Rows compiled again; those that differ first", columns, rows, "No row was compiled again.")}`;
}

function number(value: number): string {
  return value.toLocaleString("en-US").replaceAll(",", "\u2009");
}

function share(part: number, whole: number): string {
  return whole === 0 ? "-" : `${((100 * part) / whole).toFixed(part === whole || part === 0 ? 0 : 1)} %`;
}

function when(ms: number): Html {
  const text = new Date(ms).toISOString();
  return html`<time datetime="${text}"><span class="one">${text.slice(0, 10)}</span> <span class="one">${text.slice(11, 16)}</span></time>`;
}

/** The start of it, by which `hpcc inspect` finds the whole. */
function digest(text: string | null): Html {
  if (text === null || text === "-") return html`-`;
  const digits = text.replace(/^sha256:/, "");
  return digits.length > 16 ? html`<code title="${text}">${digits.slice(0, 16)}</code>` : html`<code>${text}</code>`;
}
