// In the KVM lab: the contract of the runtime port on the `qemu` driver under KVM.
import { qemuDriver } from "../../support/qemu-driver.ts";
import { runtimeContract } from "../../vm/contract/contract.ts";

runtimeContract(qemuDriver("kvm"));
