// Typed methods: protobuf-es service descriptors as grpc-js wants them.

import type { DescMethod } from "@bufbuild/protobuf";
import { type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";

type Kind = DescMethod["methodKind"];

/** A method of a generated service, such as `SchedulerService.method.watch`. */
export type Method<K extends Kind = Kind> = DescMethod & { readonly methodKind: K };
/** The message that a caller sends. */
export type Input<M extends DescMethod> = MessageShape<M["input"]>;
/** The message that a caller receives. */
export type Output<M extends DescMethod> = MessageShape<M["output"]>;

/** The method's path on the wire. */
export function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** Serialises messages of a descriptor. */
export function serializer<D extends DescMessage>(schema: D): (message: MessageShape<D>) => Buffer {
  return (message) => {
    const bytes = toBinary(schema, message);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
}

/** Parses messages of a descriptor. UNTRUSTED: the peer's bytes; fields are checked by whoever uses them. */
export function deserializer<D extends DescMessage>(schema: D): (bytes: Buffer) => MessageShape<D> {
  return (bytes) => fromBinary(schema, bytes, { readUnknownFields: false });
}
