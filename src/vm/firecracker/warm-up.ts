// A compile of ours in a machine that becomes a golden snapshot: it leaves the compiler's pages in the guest's memory, so that the
// first compile of a clone reads none of them from disk. An image without a compiler at these places is not warmed.
import { zstdCompressSync } from "node:zlib";
import { ascii } from "../../base/byte-string.ts";
import type { ExecutionRequest } from "../execution.ts";
import type { AgentSession } from "../runtime.ts";

const FOLDERS = ["/usr/bin", "/usr/local/bin"];
const OUTPUT = "/hpcc/project/warm.o";
const WALL_MS = 60_000;

interface Language {
  readonly compilers: readonly string[];
  readonly input: string;
  readonly source: string;
}

/** Already preprocessed, as sources come; enough for parser, optimisers, debug information and assembler. */
const C_SOURCE = `struct node { struct node *next; int value; };
static int sum(const struct node *at) { int all = 0; for (; at; at = at->next) all += at->value; return all; }
int compare(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
double mean(const double *values, unsigned long count) {
  double all = 0; for (unsigned long i = 0; i < count; i++) all += values[i]; return count ? all / (double)count : 0;
}
int f(struct node *head, int kind) { switch (kind) { case 0: return sum(head); case 1: return 7; default: return -kind; } }
`;

const CXX_SOURCE = `namespace hpcc { template <class T> struct box { T value; box(const T &v) : value(v) {} virtual ~box() {}
  template <class U> auto plus(const U &u) const { return value + u; } };
template <class T, class F> void each(T *from, T *to, F f) { for (; from != to; ++from) f(*from); } }
int f(int *from, int *to) { int all = 0; hpcc::each(from, to, [&](int v) { all += hpcc::box<int>(v).plus(1L); });
  try { if (all < 0) throw all; } catch (int e) { all = -e; } return all; }
`;

const LANGUAGES: readonly Language[] = [
  { compilers: ["gcc", "cc", "clang"], input: "/hpcc/project/warm.i", source: C_SOURCE },
  { compilers: ["g++", "c++", "clang++"], input: "/hpcc/project/warm.ii", source: CXX_SOURCE },
];

/** Compiles one file of each language with the first compiler that is there. Gives the compilers that did. */
export async function warmUp(session: AgentSession, memoryBytes: number, signal: AbortSignal): Promise<string[]> {
  const warmed: string[] = [];
  for (const language of LANGUAGES) {
    const paths = language.compilers.flatMap((name) => FOLDERS.map((folder) => `${folder}/${name}`));
    for (const path of paths) {
      if (!(await compiles(session, requestFor(path, language, memoryBytes), signal))) continue;
      warmed.push(path);
      break;
    }
  }
  return warmed;
}

/** False when the compiler is not there or does not compile it. */
async function compiles(session: AgentSession, request: ExecutionRequest, signal: AbortSignal): Promise<boolean> {
  try {
    await using result = await session.execute(request, { signal });
    return result.exit.kind === "code" && result.exit.code === 0;
  } catch {
    signal.throwIfAborted();
    return false;
  }
}

function requestFor(compiler: string, { input, source }: Language, memoryBytes: number): ExecutionRequest {
  const bytes = Buffer.from(source);
  const frame = zstdCompressSync(bytes);
  return {
    argv: [compiler, "-O2", "-g", "-c", input, "-o", OUTPUT].map(ascii),
    environment: ["PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"].map(ascii),
    cwd: ascii("/hpcc/project"),
    inputs: [
      {
        path: ascii(input),
        executable: false,
        sizeBytes: bytes.length,
        frameSizeBytes: frame.length,
        openFrame: () => [frame],
      },
    ],
    links: [],
    folders: [],
    outputs: [ascii(OUTPUT)],
    limits: {
      wallMs: WALL_MS,
      memoryBytes: Math.floor(memoryBytes / 2),
      pids: 32,
      outputBytes: 16 * 1024 * 1024,
      stdioBytes: 64 * 1024,
    },
    terminalColumns: 0,
  };
}
