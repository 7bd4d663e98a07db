// One request and its reply on the Gofer's socket. The buffers are reused: what a reply holds is valid until the next
// request is begun.

import { Errno } from '../abi/errno.ts';
import type { Host, HostFd } from '../host/contract.ts';
import { headerSize, maximumFrame, Operation } from './protocol.ts';

/** Node numbers that are sent in one release; a reply is not waited for. */
const releaseBatch = 256;

export class GoferConnection {
  readonly #host: Host;
  readonly #socket: HostFd;
  readonly #request = new Uint8Array(maximumFrame + headerSize + 4 * releaseBatch);
  readonly #requestView = new DataView(this.#request.buffer);
  readonly #reply = new Uint8Array(maximumFrame);
  readonly #fds: HostFd[] = [];
  readonly #releases: number[] = [];
  #frame = 0;
  #end = 0;
  #broken = false;

  /** The reply's bytes; data begins at headerSize and ends at replyEnd. */
  readonly view: DataView = new DataView(this.#reply.buffer);
  replyEnd = 0;

  /** The socket blocks, and is owned from here on. */
  constructor(host: Host, socket: HostFd) {
    this.#host = host;
    this.#socket = socket;
  }

  /** Whether the Gofer has gone; every request then gives -EIO. */
  get broken(): boolean {
    return this.#broken;
  }

  begin(operation: number): this {
    this.#frame = 0;
    if (this.#releases.length > 0) this.#putReleases();
    this.#end = this.#frame + headerSize;
    const view = this.#requestView;
    view.setUint16(this.#frame + 4, operation, true);
    view.setUint16(this.#frame + 6, this.#host.processor() & 0xffff, true);
    return this;
  }

  u16(value: number): this {
    this.#requestView.setUint16(this.#end, value, true);
    this.#end += 2;
    return this;
  }

  u32(value: number): this {
    this.#requestView.setUint32(this.#end, value, true);
    this.#end += 4;
    return this;
  }

  /** Signed or unsigned, exact within ±2^53. */
  u64(value: number): this {
    this.#requestView.setUint32(this.#end, value % 0x1_0000_0000, true);
    this.#requestView.setInt32(this.#end + 4, Math.floor(value / 0x1_0000_0000), true);
    this.#end += 8;
    return this;
  }

  /** u16 length and the text's chars as bytes. Longer than a frame could hold: the Gofer answers ENAMETOOLONG. */
  text(value: string): this {
    const length = Math.min(value.length, 4096);
    this.u16(length);
    let at = this.#end;
    for (let i = 0; i < length; i++) this.#request[at++] = value.charCodeAt(i);
    this.#end = at;
    return this;
  }

  bytes(value: Uint8Array): this {
    this.#request.set(value, this.#end);
    this.#end += value.length;
    return this;
  }

  /** Sends what was begun and waits for the reply: its result, or -EIO when the Gofer is gone. */
  call(): number {
    if (this.#broken) return -Errno.EIO;
    this.#requestView.setUint32(this.#frame, this.#end - this.#frame, true);
    if (!this.#send(this.#end) || !this.#receive()) {
      this.#broken = true;
      for (const fd of this.#fds.splice(0)) this.#host.close(fd);
      return -Errno.EIO;
    }
    return this.view.getInt32(4, true);
  }

  /** The descriptor that came with the reply, or -EIO. */
  takeFd(): HostFd | number {
    return this.#fds.pop() ?? -Errno.EIO;
  }

  replyText(at: number, length: number): string {
    const bytes = this.#reply;
    let text = '';
    for (let i = 0; i < length; i++) text += String.fromCharCode(bytes[at + i] ?? 0);
    return text;
  }

  replyBytes(at: number, length: number): Uint8Array {
    return this.#reply.slice(at, at + length);
  }

  /** Frees a node's number in the Gofer with the next request, or now if there are many. */
  release(node: number): void {
    this.#releases.push(node);
    if (this.#releases.length >= releaseBatch) this.flush();
  }

  /** Sends releases that wait for a request to travel with. */
  flush(): void {
    if (this.#releases.length === 0) return;
    this.#frame = 0;
    this.#putReleases();
    if (!this.#broken && !this.#send(this.#frame)) this.#broken = true;
  }

  close(): void {
    this.#broken = true;
    this.#host.close(this.#socket);
  }

  #putReleases(): void {
    const view = this.#requestView;
    let at = headerSize;
    for (const node of this.#releases) {
      view.setUint32(at, node, true);
      at += 4;
    }
    view.setUint32(0, at, true);
    view.setUint16(4, Operation.release, true);
    view.setUint16(6, 0xffff, true);
    this.#releases.length = 0;
    this.#frame = at;
  }

  #send(length: number): boolean {
    for (let sent = 0; sent < length; ) {
      const count = this.#host.send(this.#socket, this.#request, sent, length - sent, noFds);
      if (count === -Errno.EINTR) continue;
      if (count <= 0) return false;
      sent += count;
    }
    return true;
  }

  #receive(): boolean {
    let expected = headerSize;
    for (let have = 0; have < expected; ) {
      const count = this.#host.receive(this.#socket, this.#reply, have, maximumFrame - have, this.#fds);
      if (count === -Errno.EINTR) continue;
      if (count <= 0) return false;
      have += count;
      if (have >= headerSize) {
        expected = this.view.getUint32(0, true);
        if (expected < headerSize || expected > maximumFrame || have > expected) return false;
      }
    }
    this.replyEnd = expected;
    return true;
  }
}

const noFds: readonly HostFd[] = [];
