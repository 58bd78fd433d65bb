// The contract of the runtime port on the `qemu` driver: HPCC_TEST_ACCELERATOR says which accelerator.
import { qemuDriver } from "../../support/qemu-driver.ts";
import { runtimeContract } from "./contract.ts";

runtimeContract(qemuDriver());
