// In the KVM lab: the contract of the runtime port on the `qemu` driver under KVM. One processor: the lab's are emulated.
import { qemuDriver } from "../../support/qemu-driver.ts";
import { runtimeContract } from "../../vm/contract/contract.ts";

runtimeContract({ ...qemuDriver("kvm"), vcpus: 1 });
