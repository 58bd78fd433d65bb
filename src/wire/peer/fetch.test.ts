// A question to a peer ends when whoever asked wants it to.
import assert from "node:assert/strict";
import { test } from "node:test";
import { sha256 } from "../../core/digest/digest.ts";
import { parseTenantId } from "../../core/identity/spiffe.ts";
import type { RpcClient } from "../grpc/client.ts";
import { fetchFrom } from "./fetch.ts";

test("closing the frames ends the call, though a chunk is waited for that never comes", async () => {
  async function* serverStream(_method: unknown, _request: unknown, { signal }: { signal: AbortSignal }) {
    yield { message: { case: "found", value: { statement: new Uint8Array(), resultManifest: new Uint8Array() } } };
    await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true }));
  }
  const client = { serverStream } as unknown as RpcClient;
  const wanted = { tenant: parseTenantId("acme"), key: sha256(new Uint8Array()) };
  const answer = await fetchFrom(client, wanted, new AbortController().signal);
  assert.ok(answer.kind === "found");
  const waiting = assert.rejects(answer.frames.next(100), { code: "peer.unavailable" });
  await answer.frames.close();
  await waiting;
});
