// A process that boots a machine in the folders of its first argument from the toolchain of its second, says so, and waits to be killed.
import { bootSpec, openTestRuntime, VmFolders } from "./vm.ts";

const [root, rootfs] = process.argv.slice(2);
if (!root || !rootfs) throw new Error("usage: hold-vm.ts <folders> <toolchain>");
const runtime = await openTestRuntime(new VmFolders(root));
const machine = await runtime.boot(bootSpec(rootfs), new AbortController().signal);
console.log(`booted ${machine.id}`);
await machine.ended;
