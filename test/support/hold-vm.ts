// A process that boots a machine in the folders of its first argument from the toolchain of its second, parks it if the third says
// "parked", says so, and waits to be killed.
import { bootSpec, openTestRuntime, VmFolders } from "./vm.ts";

const [root, rootfs, state] = process.argv.slice(2);
if (!root || !rootfs) throw new Error("usage: hold-vm.ts <folders> <toolchain> [parked]");
const { signal } = new AbortController();
const runtime = await openTestRuntime(new VmFolders(root));
const machine = await runtime.boot(bootSpec(rootfs), signal);
const held = state === "parked" ? await machine.park(signal) : machine;
console.log(`holding ${held.id}`);
await held.ended;
