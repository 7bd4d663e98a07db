// The protocol of bulkhead-host (native/host/host.h): a request and its reply are a length and fields, a field is a
// length, its bytes and a NUL; streaming requests go on with frames.

export type Field = string | number | bigint | Uint8Array;

export const channels = { stdin: 0, stdout: 1, stderr: 2, exit: 3, resize: 4 } as const;

/** The longest frame that is sent in one piece; bulkhead-host refuses more than 1 MiB. */
export const MAX_FRAME = 256 * 1024;

/** A list of strings as its number and its members. */
export function counted(strings: readonly string[]): Field[] {
  return [strings.length, ...strings];
}

export function encodeRequest(operation: string, fields: readonly Field[]): Buffer {
  const encoded = [operation, ...fields].map((field) =>
    typeof field === 'object' ? field : Buffer.from(String(field)),
  );
  const length = encoded.reduce((sum, field) => sum + field.length + 5, 0);
  const request = Buffer.alloc(4 + length);
  request.writeUInt32LE(length, 0);
  let at = 4;
  for (const field of encoded) {
    request.writeUInt32LE(field.length, at);
    request.set(field, at + 4);
    at += 5 + field.length;
  }
  return request;
}

/** The fields of a whole reply, and what came after it; undefined as long as the reply is not whole. */
export function decodeReply(bytes: Buffer): { readonly fields: Buffer[]; readonly rest: Buffer } | undefined {
  if (bytes.length < 4) return undefined;
  const end = 4 + bytes.readUInt32LE(0);
  if (bytes.length < end) return undefined;
  const fields: Buffer[] = [];
  for (let at = 4; at < end; ) {
    const length = bytes.readUInt32LE(at);
    fields.push(bytes.subarray(at + 4, at + 4 + length));
    at += 5 + length;
  }
  return { fields, rest: bytes.subarray(end) };
}

export function encodeFrame(channel: number, payload: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(5 + payload.length);
  frame[0] = channel;
  frame.writeUInt32LE(payload.length, 1);
  frame.set(payload, 5);
  return frame;
}

/** Cuts a stream of bytes into frames. */
export class FrameDecoder {
  #held: Buffer = Buffer.alloc(0);

  *push(chunk: Buffer): Generator<{ readonly channel: number; readonly payload: Buffer }> {
    let bytes = this.#held.length > 0 ? Buffer.concat([this.#held, chunk]) : chunk;
    while (bytes.length >= 5) {
      const end = 5 + bytes.readUInt32LE(1);
      if (bytes.length < end) break;
      yield { channel: bytes[0]!, payload: bytes.subarray(5, end) };
      bytes = bytes.subarray(end);
    }
    this.#held = bytes;
  }
}
