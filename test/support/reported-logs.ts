// Logs of two workers with rows of every kind for a report, some of which say what a hostile client would have them say.
import { join } from "node:path";
import { AuditLog } from "../../src/audit/audit-log.ts";
import { encodeFlags } from "../../src/audit/flags.ts";
import { readOrMakeLogSigner } from "../../src/audit/log-key-file.ts";
import { type AuditRow, emptyRow } from "../../src/audit/row.ts";
import type { EnvelopeBody } from "../../src/audit/rows/bodies.ts";
import type { ByteString } from "../../src/base/byte-string.ts";
import { ManualClock } from "../../src/base/clock.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { sha256 } from "../../src/core/digest/digest.ts";
import type { BuildId } from "../../src/core/identity/build-id.ts";

const digestOf = (text: string) => sha256(Buffer.from(text));
const START = Date.UTC(2027, 2, 1, 8);
const HOUR = 3_600_000;

/** Would load a picture, run a script, end an attribute, leave the page, or hide what it is. */
export const HOSTILE = [
  '<img src="http://hostile.example/img" onerror="document.title=`taken`">',
  "<script>document.title='taken';fetch('http://hostile.example/script')</script>",
  '"><link rel=stylesheet href=http://hostile.example/css><style>body{background:url(http://hostile.example/bg)}</style>',
  "</table></main><iframe src=http://hostile.example/frame></iframe><meta http-equiv=refresh content=0;url=http://hostile.example/meta>",
  "javascript:document.title='taken'",
];

type Row = [Partial<AuditRow>, EnvelopeBody];

function times(hours: number) {
  return { startMs: START + hours * HOUR, endMs: START + hours * HOUR + 900 };
}

interface Job {
  readonly hours: number;
  readonly user: string;
  readonly tenant?: string;
  readonly program?: string;
  readonly build?: string | null;
  readonly isolation?: "firecracker" | "qemu-kvm" | "qemu-tcg";
  readonly life?: "clean" | "session";
}

function columnsOf({ tenant = "acme", program = "/usr/bin/g++-12" }: Job): Partial<AuditRow> {
  const argv = [program, "-O2", "-c", "/hpcc/project/src/main.cc"] as ByteString[];
  return {
    tenant,
    imageDigest: digestOf(`image of ${program}`),
    sourceDigest: digestOf("source"),
    flags: encodeFlags({ cwd: "/hpcc/project" as ByteString, environment: ["LC_ALL=C" as ByteString], argv }),
    vm: "vm-7",
  };
}

function jobBody({ hours, user, tenant = "acme", build = null }: Job) {
  const principal = `spiffe://build.example.com/tenant/${tenant}/user/${user}`;
  return { ...times(hours), principal, policy: digestOf("policy"), tier: null, build: build as BuildId | null };
}

function resultOf({ isolation = "firecracker", life = "session" }: Job) {
  const action = { outputs: [], terminalColumns: null, determinism: "default" as const };
  return {
    isolation,
    life,
    actionKey: digestOf("key"),
    resultDigest: digestOf("result"),
    compileUs: 3,
    scope: null,
    ...action,
  };
}

const done = { outputDigest: digestOf("object"), exit: 0 };

export function compile(job: Job): Row {
  return [
    { ...columnsOf(job), ...done },
    { kind: "compile", ...jobBody(job), ...resultOf(job), versions: {} },
  ];
}

function hit(job: Job): Row {
  const own = {
    kind: "hit",
    outcome: "hit",
    keyTier: null,
    from: null,
    compiledRow: null,
    confirmedBy: null,
    madeFor: null,
  } as const;
  return [
    { ...columnsOf(job), ...done },
    { ...jobBody(job), ...resultOf(job), ...own },
  ];
}

function undone(kind: "denied" | "failed", code: string, job: Job): Row {
  return [columnsOf(job), { kind, ...jobBody(job), code, actionKey: null }];
}

function confirm(outcome: "equal" | "different", job: Job): Row {
  const { scope: _, ...result } = resultOf(job);
  const first = { firstVm: "vm-3", firstResultDigest: digestOf("first"), firstRow: null };
  return [
    { ...columnsOf(job), ...done },
    { kind: "confirm", ...jobBody(job), ...result, outcome, versions: {}, ...first },
  ];
}

function machine(hours: number, event: "booted" | "breach" | "idle"): Row {
  const vm = { ...times(hours), isolation: "firecracker", life: "session", user: null, versions: {} } as const;
  const columns = { tenant: "acme", imageDigest: digestOf("image of /usr/bin/g++-12"), vm: "vm-7" };
  if (event === "booted") return [columns, { kind: "vm", event, origin: "golden", ...vm }];
  return [columns, { kind: "vm", event: "destroyed", reason: event, executions: 12, ...vm }];
}

function siteRows(hostile: readonly string[]): Row[] {
  const finding = (name: string, status: "ok" | "warn" | "fail", found: string) => ({ name, status, found });
  const findings = [
    finding("KVM", "ok", "usable"),
    finding("SMT", "warn", "on"),
    finding("swap", "fail", `2 GiB on /dev/sda2 ${hostile[0] ?? ""}`),
  ];
  return [
    [{}, { kind: "host", ...times(0), isolation: "firecracker", parts: {}, findings }],
    [{}, { kind: "policy", event: "in-force", ...times(0), digest: digestOf("policy"), version: 7 }],
    [
      {},
      {
        kind: "policy",
        event: "refused",
        ...times(9),
        digest: digestOf("old"),
        version: 6,
        problem: `older ${hostile[1] ?? ""}`,
      },
    ],
    [
      { tenant: "acme", vm: "vm-7" },
      {
        kind: "revoke",
        ...times(30),
        what: "vm",
        value: `vm-7 ${hostile[2] ?? ""}`,
        upToMs: null,
        cause: "breach",
        askedBy: null,
        entries: 41,
        served: 3,
        servedRows: [],
      },
    ],
    machine(1, "booted"),
    machine(20, "booted"),
    machine(26, "idle"),
    machine(29, "breach"),
  ];
}

/** Rows of a few busy days. */
function busyRows(hostile: readonly string[]): Row[] {
  const users = ["ann", "bob", "ci-main", "ci-pull-requests"];
  const rows: Row[] = [];
  for (let at = 0; at < 240; at++) {
    const user = users[at % 7 === 0 ? 1 : at % 3]!;
    const hours = at / 8;
    const job: Job = {
      hours,
      user,
      program: at % 5 === 0 ? "/usr/bin/clang-17" : "/usr/bin/g++-12",
      build: user.startsWith("ci")
        ? `app #${1200 + Math.floor(at / 40)}`
        : at % 4 === 0
          ? "make-5f0c11a2b3c4d5e6f7081920"
          : null,
      life: at % 3 === 2 ? "clean" : "session",
      isolation: at % 11 === 3 ? "qemu-kvm" : at % 50 === 4 ? "qemu-tcg" : "firecracker",
    };
    rows.push(at % 4 === 1 ? compile(job) : hit(job));
    if (at % 60 === 7) rows.push(undone("failed", at > 100 ? "job.cancelled" : "vm.unavailable", job));
    if (at % 70 === 9) rows.push(undone("denied", "image.forbidden", { ...job, user: "ci-pull-requests" }));
    if (at % 30 === 11) rows.push(confirm("equal", job));
  }
  rows.push(confirm("different", { hours: 28, user: "ann" }));
  for (const text of hostile) {
    const job: Job = {
      hours: 31,
      user: text,
      build: text.replaceAll(/[^ -~]/g, "").slice(0, 128),
      program: `/${text}`,
    };
    rows.push(compile(job), undone("denied", text, job), undone("failed", text, job));
  }
  return rows;
}

/** Folders of workers' state with a signed log each. */
export async function reportedLogs(folder: string, hostile: readonly string[] = []): Promise<string[]> {
  const rows = [...busyRows(hostile), ...siteRows(hostile)].toSorted(([, a], [, b]) => a.endMs - b.endMs);
  const states: string[] = [];
  for (const [at, worker] of ["build-1", "build-2"].entries()) {
    const state = join(folder, worker);
    const signer = await readOrMakeLogSigner(state, `build.example.com/worker/${worker}`);
    const parts = { worker, clock: new ManualClock(START), logger: SILENT_LOGGER, signer };
    const log = await AuditLog.open({ folder: join(state, "audit"), ...parts });
    const own = rows.filter((_, nth) => at === 0 || nth % 3 === 0);
    await Promise.all(own.map(async ([columns, body]) => log.append({ ...emptyRow(worker), ...columns }, body)));
    await log.close();
    states.push(state);
  }
  return states;
}
