// What is wanted of the guest's kernel (docs/guest-kernel.md), and what a compile and root of the guest were found to be able to do.

/** `promised`: hpcc's threat model counts on it, whatever kernel. `wanted`: a kernel of one's own should have it so. */
export type Weight = "promised" | "wanted";

export interface Behaviour {
  /** A fact of test/vm/probe/kernel.c. */
  readonly fact: string;
  readonly good: RegExp;
  readonly weight: Weight;
}

/** What a system call answers that is refused by a filter, or that the kernel does not have. */
const REFUSED = /^(EPERM|EACCES|ENOSYS|EAFNOSUPPORT|ENOSPC|ENOENT|ENXIO|ENODEV)$/;
const promised = (fact: string, good: RegExp = REFUSED): Behaviour => ({ fact, good, weight: "promised" });
const wanted = (fact: string, good: RegExp = REFUSED): Behaviour => ({ fact, good, weight: "wanted" });

/** What a compile, as its own uid under the agent's filter, must find. */
export const FOR_COMPILES: readonly Behaviour[] = [
  ...["bpf", "io_uring_setup", "userfaultfd", "perf_event_open", "kexec_load", "kexec_file_load", "init_module"].map(
    (fact) => promised(fact),
  ),
  ...["iopl", "ioperm", "add_key", "mount", "user_namespace", "dmesg"].map((fact) => promised(fact)),
  ...["AF_INET", "AF_INET6", "AF_PACKET", "AF_NETLINK", "AF_VSOCK", "AF_ALG", "vsock_loopback"].map((fact) =>
    promised(fact),
  ),
  promised("AF_UNIX", /^ALLOWED$/),
  ...["dev_mem", "dev_port", "dev_net_tun", "dev_msr", "proc_kcore"].map((fact) => promised(fact)),
  promised("interfaces", /^(lo,|ENOENT|EACCES)$/),
];

/** What root of the guest, who owns it, must find once the agent has set the kernel up. */
export const FOR_ROOT: readonly Behaviour[] = [
  promised("agent_settings", /^applied$/),
  promised("interfaces", /^lo,$/),
  promised("virtio_net", /^ENOENT$/),
  promised("dev_net_tun"),
  promised("init_module", /^(EPERM|ENOSYS)$/),
  promised("kexec_load", /^(EPERM|ENOSYS)$/),
  promised("kexec_file_load", /^(EPERM|ENOSYS)$/),
  promised("init_on_free", /^on$/),
  promised("modules_disabled", /^(1|ENOENT)$/),
  promised("kexec_load_disabled", /^(1|ENOENT)$/),
  promised("user_namespace"),
  promised("core_pattern", /^(empty|ENOENT)$/),
  promised("panic", /^-1$/),
  promised("panic_on_oops", /^1$/),
  promised("dmesg_restrict", /^1$/),
  promised("kptr_restrict", /^2$/),
  promised("randomize_va_space", /^2$/),
  promised("hw_random", /^virtio_rng/),
  wanted("dev_mem"),
  wanted("dev_port"),
  wanted("dev_msr"),
  wanted("proc_kcore", /^ENOENT$/),
  wanted("bpf", /^ENOSYS$/),
  wanted("io_uring_setup", /^(ENOSYS|EPERM)$/),
  wanted("userfaultfd", /^ENOSYS$/),
  wanted("perf_event_open", /^ENOSYS$/),
  wanted("iopl", /^(ENOSYS|EPERM)$/),
  wanted("AF_INET", /^EAFNOSUPPORT$/),
  wanted("AF_INET6", /^EAFNOSUPPORT$/),
  wanted("AF_PACKET", /^EAFNOSUPPORT$/),
  wanted("AF_ALG", /^EAFNOSUPPORT$/),
  // Without a loopback the host is asked, which does not answer for the guest.
  wanted("vsock_loopback", /^(ENODEV|ETIMEDOUT)$/),
  wanted("vmgenid", /^yes$/),
  wanted("acpi", /^yes$/),
  wanted("landlock", /^ALLOWED$/),
  wanted("lsm", /landlock/),
  wanted("kernel_moved", /^yes$/),
  wanted("config_gz", /^yes$/),
  wanted("unprivileged_bpf_disabled", /^([12]|ENOENT)$/),
  wanted("unprivileged_userfaultfd", /^(0|ENOENT)$/),
  wanted("io_uring_disabled", /^(2|ENOENT)$/),
  wanted("perf_event_paranoid", /^(3|ENOENT)$/),
  wanted("ptrace_scope", /^3$/),
  wanted("sysrq", /^(0|ENOENT)$/),
  wanted("suid_dumpable", /^0$/),
  wanted("max_user_namespaces", /^(0|ENOENT)$/),
];

/** Reads the probe's lines; throws when one is cut or a fact was said twice. UNTRUSTED: guest */
export function parseFacts(text: string): Map<string, string> {
  const facts = new Map<string, string>();
  for (const [, line = ""] of text.matchAll(/^kernel:(.*)$/gm))
    for (const word of line.trim().split(" ")) {
      const at = word.indexOf("=");
      const [name, value] = [word.slice(0, Math.max(at, 0)), word.slice(at + 1)];
      if (name === "" || value === "" || facts.has(name)) throw new Error(`the probe said ${word}`);
      facts.set(name, value);
    }
  return facts;
}

export interface Judged extends Behaviour {
  readonly found: string;
  readonly met: boolean;
}

/** Each behaviour with what was found; one that the probe did not say is not met. */
export function judge(behaviours: readonly Behaviour[], facts: ReadonlyMap<string, string>): Judged[] {
  return behaviours.map((behaviour) => {
    const found = facts.get(behaviour.fact) ?? "not said";
    return { ...behaviour, found, met: behaviour.good.test(found) };
  });
}

export interface WantedOption {
  readonly option: string;
  /** "y", "n", or another value. */
  readonly wanted: string;
  /** Whether hpcc does not work, or not as promised, without it. */
  readonly needed: boolean;
}

/** The options that docs/guest-kernel.md wants: rows of tables with name, value and, for what is needed, a mark. */
export function wantedOptions(page: string): WantedOption[] {
  return [...page.matchAll(/^\| `CONFIG_([A-Z0-9_]+)` \| `([^`]+)`( \(needed\))? \| .+ \|$/gm)].map(
    ([, option = "", wanted = "", needed]) => ({ option, wanted, needed: needed !== undefined }),
  );
}

/** A kernel's options by name, without CONFIG_; what is not set is "n". */
export function parseConfig(text: string): Map<string, string> {
  const options = new Map<string, string>();
  for (const line of text.split("\n")) {
    const set = /^CONFIG_([A-Z0-9_]+)=(.*)$/.exec(line);
    if (set?.[1] !== undefined) options.set(set[1], set[2] ?? "");
    const unset = /^# CONFIG_([A-Z0-9_]+) is not set$/.exec(line);
    if (unset?.[1] !== undefined) options.set(unset[1], "n");
  }
  return options;
}
