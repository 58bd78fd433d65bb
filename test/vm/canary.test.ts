// Canaries in machines of the `qemu` driver, whose memory is searched from the host.
import { driverUnderTest } from "../support/qemu-driver.ts";
import { canaryContract } from "./contract/canaries.ts";

canaryContract(driverUnderTest());
