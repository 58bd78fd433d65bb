// The program that a keeper starts in tests: it joins the keeper's connection with the socket that it is told, so that the test
// itself, which is root and looks at the host, is the keeper's worker.
import { connect, Socket } from "node:net";

const keeper = new Socket({ fd: Number(process.env["HPCC_KEEPER_FD"]), readable: true, writable: true });
const test = connect(process.argv[2] ?? "");
keeper.pipe(test).pipe(keeper);
for (const socket of [keeper, test]) {
  socket.on("error", () => process.exit(1));
  socket.on("close", () => process.exit(0));
}
