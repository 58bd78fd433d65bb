// The contract of the runtime port on the `firecracker` driver, in the KVM lab or on a machine like it.
import { it } from "node:test";
import { withoutFirecracker } from "../../support/firecracker.ts";
import { driverUnderTest } from "../../support/firecracker-driver.ts";
import { runtimeContract } from "./contract.ts";

const skip = withoutFirecracker();

if (skip) it("the runtime contract on firecracker", { skip }, () => undefined);
else runtimeContract(driverUnderTest());
