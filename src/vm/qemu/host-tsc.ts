// The rate of the host's time stamp counter, which an emulated guest sees as its own. What a guest's kernel measures instead is
// wrong on a busy host, by a factor of two in one boot of ten, and its time limits with it; so the guest is told.
import { readFile } from "node:fs/promises";
import { HpccError } from "../../base/errors.ts";

const CPU = "/sys/devices/system/cpu/cpu0";

/** In kHz. Exact in a virtual machine; on bare metal the base frequency, from the best source there is. */
export async function hostTscKhz(): Promise<number> {
  const cpuinfo = await readFile("/proc/cpuinfo", "latin1");
  return tscKhzOf({
    cpuinfo,
    baseFrequencyKhz: await readFile(`${CPU}/cpufreq/base_frequency`, "latin1").catch(() => ""),
    nominalFrequencyMhz: await readFile(`${CPU}/acpi_cppc/nominal_freq`, "latin1").catch(() => ""),
  });
}

export interface FrequencySources {
  /** Contents of the files; empty when there is none. */
  readonly cpuinfo: string;
  readonly baseFrequencyKhz: string;
  readonly nominalFrequencyMhz: string;
}

export function tscKhzOf({ cpuinfo, baseFrequencyKhz, nominalFrequencyMhz }: FrequencySources): number {
  // A hypervisor's guest shows the counter's rate here; bare metal shows the present speed of a core.
  const shown = Number(/^cpu MHz\s*: ([\d.]+)$/m.exec(cpuinfo)?.[1] ?? 0) * 1000;
  const named = Number(/^model name\s*:.* @ ([\d.]+)GHz/m.exec(cpuinfo)?.[1] ?? 0) * 1e6;
  const virtual = /^flags\s*:.* hypervisor\b/m.test(cpuinfo);
  const sources = virtual
    ? [shown, named]
    : [Number(baseFrequencyKhz), Number(nominalFrequencyMhz) * 1000, named, shown];
  const khz = sources.find((source) => source > 0);
  if (khz === undefined) throw new HpccError("vm.boot", "the host's processor does not say its frequency");
  return Math.round(khz);
}
