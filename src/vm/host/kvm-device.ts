// The device of KVM, as this process may use it. That it opens does not say that a guest boots.
import { open } from "node:fs/promises";

const KVM_DEVICE = "/dev/kvm";

export type KvmDevice =
  | { readonly t: "opens" }
  | { readonly t: "absent" }
  /** It is there; `denied`: for want of a right. */
  | { readonly t: "closed"; readonly denied: boolean; readonly why: string };

/** Opens the device and closes it again: a control group may forbid what its mode allows. */
export async function readKvmDevice(path = KVM_DEVICE): Promise<KvmDevice> {
  try {
    const device = await open(path, "r+");
    await device.close();
    return { t: "opens" };
  } catch (error) {
    const { code = "", message } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return { t: "absent" };
    return { t: "closed", denied: code === "EACCES" || code === "EPERM", why: message };
  }
}
