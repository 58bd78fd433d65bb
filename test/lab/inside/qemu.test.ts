// In the KVM lab: the contract of the runtime port on the `qemu` driver under KVM. Its machines are small, and may take long to start:
// with `init_on_free=1` each page that they have costs at their boot, and the lab's processors are emulated.
import { driverUnderTest } from "../../support/qemu-driver.ts";
import { runtimeContract } from "../../vm/contract/contract.ts";

const BOOT_DEADLINE_MS = 180_000;

runtimeContract({ ...driverUnderTest("kvm", BOOT_DEADLINE_MS), vcpus: 1, memoryBytes: 384 * 2 ** 20 });
