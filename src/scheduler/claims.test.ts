// The scheduler's contract has no room for source, objects, keys, command lines or credentials.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { file_hpcc_scheduler_v1_scheduler as file } from "../gen/hpcc/scheduler/v1/scheduler_pb.js";

function typeName(field: DescMessage["fields"][number]): string {
  const element = field.fieldKind === "list" ? field.listKind : field.fieldKind;
  const name =
    element === "message"
      ? field.message!.name
      : element === "enum"
        ? field.enum!.name
        : ScalarType[field.scalar as ScalarType];
  return field.fieldKind === "list" ? `repeated ${name}` : name;
}

test("every field of the contract is one of this closed list", () => {
  const fields = file.messages.flatMap((message) =>
    message.fields.map((field) => `${message.name}.${field.name} ${typeName(field)}`),
  );
  assert.deepEqual(fields, [
    "RegisterRequest.registration Registration",
    "RegisterRequest.heartbeat Heartbeat",
    "Registration.address STRING",
    "Registration.tls_trust TlsTrust",
    "Registration.image_digests repeated STRING",
    "Registration.isolation Isolation",
    "Registration.slots UINT32",
    "Registration.version STRING",
    "Registration.image_repositories repeated STRING",
    "Heartbeat.free_slots UINT32",
    "Heartbeat.queued UINT32",
    "Heartbeat.draining BOOL",
    "RegisterResponse.heartbeat_interval_ms UINT32",
    "RegisterResponse.expiry_ms UINT32",
    "WatchRequest.image_digest STRING",
    "WatchRequest.isolation_min Isolation",
    "WatchRequest.image_repository STRING",
    "WatchResponse.revision UINT64",
    "WatchResponse.assignments repeated Assignment",
    "Assignment.address STRING",
    "Assignment.tls_trust TlsTrust",
    "Assignment.isolation Isolation",
    "WatchPeersRequest.image_digests repeated STRING",
    "WatchPeersResponse.revision UINT64",
    "WatchPeersResponse.peers repeated Peer",
    "Peer.address STRING",
    "Peer.tls_trust TlsTrust",
    "Peer.isolation Isolation",
    "Peer.slots UINT32",
    "Peer.shared_images repeated UINT32",
    "TlsTrust.spiffe_id STRING",
    "TlsTrust.ca_digest STRING",
  ]);
});

test("no bytes, no map, no name of what a scheduler must not see, no import and no extension", () => {
  const secret =
    /source|object|argv|arg|env|cwd|key|command|blob|file|path|token|secret|password|user|tenant|manifest|result|action/;
  let seen = 0;
  for (const message of file.messages) {
    assert.equal(message.nestedMessages.length + message.nestedExtensions.length, 0);
    for (const field of message.fields) {
      seen += 1;
      assert.notEqual(field.scalar, ScalarType.BYTES, field.name);
      assert.notEqual(field.fieldKind, "map", field.name);
      assert.doesNotMatch(field.name, secret);
    }
  }
  assert.ok(seen > 20);
  assert.deepEqual([file.dependencies.length, file.extensions.length], [0, 0]);
  assert.deepEqual(
    file.services.flatMap((service) => service.methods.map(({ name }) => name)),
    ["Register", "Watch", "WatchPeers"],
  );
});
