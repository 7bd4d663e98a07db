import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import { Message, SocketOption as Option, SocketType } from '../../abi/socket.ts';
import { Poll } from '../../kernel/wait-queue.ts';
import { BufferIo } from '../../vfs/io.ts';
import { at, controlMessage, fdsMessage, NetSandbox, Program, unixAddress } from '../fixture.ts';
import { Outgoing, Socket } from '../socket.ts';

const { stream, datagram, seqPacket } = SocketType;
const quiet = Message.noSignal;
const dontWait = Message.dontWait | quiet;

function connected(program: Program, type: number, name = '/tmp.sock'): [number, number, number] {
  const listener = program.socket(1, type);
  assert.equal(program.bind(listener, unixAddress(name)), 0);
  assert.equal(program.call('listen', listener, 5), 0);
  const client = program.socket(1, type);
  assert.equal(program.connect(client, unixAddress(name)), 0);
  const server = program.accept(listener) ?? -1;
  assert.ok(server >= 0);
  return [listener, client, server];
}

/** Its child, which signals can kill. */
function forked(program: Program): Program {
  return new Program(program.sandbox, program.sandbox.kernel.fork(program.thread));
}

/** Sends until there is no room: bytes. */
function fill(program: Program, fd: number, size: number): number {
  const file = program.thread.files.get(fd);
  assert.ok(file instanceof Socket);
  for (let total = 0; ; ) {
    const io = new BufferIo(program.sandbox.kernel.host, new Uint8Array(size));
    const sent = file.send(program.thread, io, new Outgoing(0, undefined, []));
    if (sent === -Errno.EAGAIN) return total;
    total += sent;
  }
}

describe('Unix stream sockets', () => {
  test('a reader waits until bytes come, and an end of file after shutdown', () => {
    const sandbox = new NetSandbox();
    const program = sandbox.program();
    const [one, other] = program.pair(stream);
    const child = forked(program);
    assert.equal(child.receive(other, 5), undefined);
    assert.equal(program.send(one, 'hello'), 5);
    assert.equal(child.answer, 5);
    assert.equal(child.text(5), 'hello');
    assert.equal(child.receive(other, 5), undefined);
    assert.equal(program.call('shutdown', one, 1), 0);
    assert.equal(child.answer, 0);
  });

  test('buffers hold what those of Linux hold: 278 writes of a byte, 233152 bytes in large ones', () => {
    const program = new NetSandbox().program();
    const [one] = program.pair(stream);
    assert.equal(fill(program, one, 1), 278);
    const [large, other] = program.pair(stream);
    assert.equal(fill(program, large, 65536), 233_152);
    assert.equal(program.poll(large), 0);
    assert.equal(program.poll(other), Poll.in | Poll.out);
    assert.equal(program.send(large, 'x', dontWait), -Errno.EAGAIN);
  });

  test('the other end closed with unread bytes gives ECONNRESET once, then the end of file', () => {
    const program = new NetSandbox().program();
    const [one, other] = program.pair(stream);
    program.send(one, 'lost');
    program.call('close', other);
    assert.equal(program.poll(one), Poll.in | Poll.out | Poll.err | Poll.hup | Poll.rdhup);
    assert.equal(program.receive(one), -Errno.ECONNRESET);
    assert.equal(program.receive(one), '');
    assert.equal(program.send(one, 'x', quiet), -Errno.EPIPE);
  });

  test('a write to a closed end raises SIGPIPE unless MSG_NOSIGNAL forbids it', () => {
    const sandbox = new NetSandbox();
    const program = forked(sandbox.program());
    const [one, other] = program.pair(stream);
    program.call('close', other);
    assert.equal(program.send(one, 'x', quiet), -Errno.EPIPE);
    assert.equal(program.send(one, 'x'), undefined);
    assert.equal(program.thread.dead, true);
  });

  test('MSG_WAITALL waits for everything, MSG_PEEK leaves it there', () => {
    const sandbox = new NetSandbox();
    const program = sandbox.program();
    const [one, other] = program.pair(stream);
    program.send(one, 'abc');
    assert.equal(program.receive(other, 2, Message.peek), 'ab');
    assert.equal(program.receive(other, 5, Message.waitAll | Message.dontWait), 'abc');
    assert.equal(program.receive(other, 5, Message.waitAll | Message.dontWait), -Errno.EAGAIN);
  });

  test('SO_RCVTIMEO ends the wait of recv and of read with EAGAIN', () => {
    const sandbox = new NetSandbox();
    const program = sandbox.program();
    const [one] = program.pair(stream);
    const time = new Uint8Array(16);
    new DataView(time.buffer).setUint32(8, 50_000, true);
    assert.equal(program.setOption(one, 1, Option.receiveTimeoutOld, time), 0);
    for (const read of [() => program.receive(one), () => program.call('read', one, at.buffer, 1)]) {
      assert.equal(read(), undefined);
      sandbox.kernel.host.advance(49_000_000);
      sandbox.settle();
      assert.equal(program.answer, undefined);
      sandbox.kernel.host.advance(2_000_000);
      sandbox.settle();
      assert.equal(program.answer, -Errno.EAGAIN);
    }
  });
});

describe('names of Unix sockets', () => {
  test('a path is in use until it is unlinked, and a socket without a listener refuses', () => {
    const program = new NetSandbox().program();
    const client = program.socket(1, stream);
    assert.equal(program.connect(client, unixAddress('/s')), -Errno.ENOENT);
    const listener = program.socket(1, stream);
    assert.equal(program.call('listen', listener, 1), -Errno.EINVAL);
    assert.equal(program.bind(listener, unixAddress('/s')), 0);
    assert.equal(program.bind(program.socket(1, stream), unixAddress('/s')), -Errno.EADDRINUSE);
    assert.equal(program.connect(client, unixAddress('/s')), -Errno.ECONNREFUSED);
    assert.equal(program.connect(program.socket(1, datagram), unixAddress('/s')), -Errno.EPROTOTYPE);
    assert.equal(program.call('listen', listener, 1), 0);
    assert.equal(program.connect(client, unixAddress('/s')), 0);
    assert.equal(program.connect(client, unixAddress('/s')), -Errno.EISCONN);
    program.call('close', listener);
    assert.equal(program.connect(program.socket(1, stream), unixAddress('/s')), -Errno.ECONNREFUSED);
    assert.equal(program.bind(program.socket(1, stream), unixAddress('/s')), -Errno.EADDRINUSE);
  });

  test('connecting needs permission to write, as the mode of the socket says', () => {
    const sandbox = new NetSandbox();
    const root = sandbox.program();
    const listener = root.socket(1, stream);
    root.bind(listener, unixAddress('/s'));
    root.call('listen', listener, 1);
    const client = root.socket(1, stream);
    assert.equal(root.call('setresuid', 1000, 1000, 1000), 0);
    assert.equal(root.connect(client, unixAddress('/s')), -Errno.EACCES);
  });

  test('abstract names are found only in their network namespace and with their type', () => {
    const sandbox = new NetSandbox();
    const program = sandbox.program();
    const listener = program.socket(1, stream);
    assert.equal(program.bind(listener, unixAddress('\0name')), 0);
    program.call('listen', listener, 1);
    assert.equal(program.bind(program.socket(1, stream), unixAddress('\0name')), -Errno.EADDRINUSE);
    assert.equal(program.bind(program.socket(1, datagram), unixAddress('\0name')), 0);
    assert.equal(program.connect(program.socket(1, stream), unixAddress('\0name')), 0);
    const stranger = new NetSandbox().program();
    assert.equal(stranger.connect(stranger.socket(1, stream), unixAddress('\0name')), -Errno.ECONNREFUSED);
    program.call('close', listener);
    assert.equal(program.connect(program.socket(1, stream), unixAddress('\0name')), -Errno.ECONNREFUSED);
  });

  test('bind with only a family chooses a name; addresses that are no addresses are EINVAL', () => {
    const program = new NetSandbox().program();
    const socket = program.socket(1, stream);
    assert.equal(program.bind(socket, Uint8Array.of(1, 0)), 0);
    const name = program.name(socket) as Uint8Array;
    assert.deepEqual([...name.subarray(0, 3)], [1, 0, 0]);
    assert.match(Buffer.from(name.subarray(3)).toString('latin1'), /^[0-9a-f]{5}$/);
    assert.equal(program.bind(program.socket(1, stream), Uint8Array.of(1)), -Errno.EINVAL);
    assert.equal(program.bind(program.socket(1, stream), Uint8Array.of(2, 0, 65)), -Errno.EINVAL);
    assert.equal(program.bind(program.socket(1, stream), unixAddress('x'.repeat(109))), -Errno.EINVAL);
    assert.equal(program.call('bind', socket, at.address, 200), -Errno.EINVAL);
    assert.equal(program.call('bind', socket, 8, 10), -Errno.EFAULT);
  });

  test('a full backlog makes connect wait, or fail with EAGAIN if it must not', () => {
    const sandbox = new NetSandbox();
    const program = sandbox.program();
    const listener = program.socket(1, stream);
    program.bind(listener, unixAddress('/s'));
    program.call('listen', listener, 0);
    assert.equal(program.connect(program.socket(1, stream), unixAddress('/s')), 0);
    assert.equal(program.connect(program.socket(1, stream | 0o4000), unixAddress('/s')), -Errno.EAGAIN);
    const other = sandbox.program();
    const waiting = other.socket(1, stream);
    assert.equal(other.connect(waiting, unixAddress('/s')), undefined);
    assert.ok((program.accept(listener) ?? -1) >= 0);
    assert.equal(other.answer, 0);
    const late = other.socket(1, stream);
    assert.equal(other.connect(late, unixAddress('/s')), undefined);
    program.call('close', listener);
    assert.equal(other.answer, -Errno.ECONNREFUSED);
  });
});

describe('messages', () => {
  test('datagrams and packets keep their boundaries; what does not fit is lost and said', () => {
    for (const type of [datagram, seqPacket]) {
      const program = new NetSandbox().program();
      const [one, other] = program.pair(type);
      program.send(one, '12345');
      program.send(one, '');
      program.send(one, 'abc');
      const { result, flags } = program.receiveMessage(other, 2, 0);
      assert.deepEqual([result, flags], [2, Message.truncated]);
      assert.equal(program.receive(other), '');
      assert.equal(program.receive(other, 1, Message.truncated | Message.peek)?.toString().length, 3);
      assert.equal(program.receive(other), 'abc');
    }
  });

  test('a connected datagram socket takes messages from its peer only, and its queue of 11 is full', () => {
    const program = new NetSandbox().program();
    const server = program.socket(1, datagram);
    program.bind(server, unixAddress('/d'));
    const client = program.socket(1, datagram);
    for (let i = 0; i < 11; i++) assert.equal(program.sendTo(client, 'x', unixAddress('/d'), dontWait), 1);
    assert.equal(program.sendTo(client, 'x', unixAddress('/d'), dontWait), -Errno.EAGAIN);
    program.bind(client, unixAddress('/c'));
    assert.equal(program.connect(server, unixAddress('/c')), 0);
    const stranger = program.socket(1, datagram);
    assert.equal(program.connect(stranger, unixAddress('/d')), -Errno.EPERM);
    assert.equal(program.sendTo(stranger, 'x', unixAddress('/d'), dontWait), -Errno.EPERM);
    program.call('close', client);
    assert.equal(program.send(server, 'x'), -Errno.ECONNREFUSED);
    assert.equal(program.send(server, 'x'), -Errno.ENOTCONN);
  });

  test('a sender that waits for the queue goes on when one was read', () => {
    const sandbox = new NetSandbox();
    const program = sandbox.program();
    const server = program.socket(1, datagram);
    program.bind(server, unixAddress('/d'));
    const other = sandbox.program();
    const client = other.socket(1, datagram);
    other.connect(client, unixAddress('/d'));
    for (let i = 0; i < 11; i++) other.send(client, 'x');
    assert.equal(other.poll(client) & Poll.out, 0);
    assert.equal(other.send(client, 'last'), undefined);
    assert.equal(program.receive(server), 'x');
    assert.equal(other.answer, 4);
  });
});

describe('open files and credentials in messages', () => {
  test('a descriptor arrives as a new one for the same file, with the bytes it was sent with', () => {
    const program = new NetSandbox().program();
    const [one, other] = program.pair(stream);
    const [left, right] = program.pair(stream);
    program.send(one, 'ab');
    assert.equal(program.sendMessage(one, 'cd', fdsMessage(right)), 2);
    program.send(one, 'ef');
    program.call('close', right);
    const { result, control } = program.receiveMessage(other, 100, 100);
    assert.equal(result, 4);
    const fd = new DataView(control.buffer).getInt32(16, true);
    assert.equal(program.send(fd, 'through'), 7);
    assert.equal(program.receive(left), 'through');
    assert.equal(program.receive(other), 'ef');
  });

  test('without room for them files are closed and MSG_CTRUNC is set; MSG_CMSG_CLOEXEC marks them', () => {
    const program = new NetSandbox().program();
    const [one, other] = program.pair(stream);
    const [left, right] = program.pair(stream);
    program.sendMessage(one, 'x', fdsMessage(right));
    program.call('close', right);
    assert.equal(program.receiveMessage(other, 10, 0).flags, Message.controlTruncated);
    assert.equal(program.receive(left), '');
    program.sendMessage(one, 'x', fdsMessage(one, one, one));
    const { flags, control } = program.receiveMessage(other, 10, 24, Message.controlCloseOnExec);
    assert.equal(flags, Message.controlTruncated | Message.controlCloseOnExec);
    assert.equal(control.length, 24);
    const fd = new DataView(control.buffer).getInt32(16, true);
    assert.equal(program.call('fcntl', fd, 1, 0), 1);
  });

  test('a bad descriptor, too many of them and unknown messages are refused', () => {
    const program = new NetSandbox().program();
    const [one] = program.pair(stream);
    assert.equal(program.sendMessage(one, 'x', fdsMessage(999)), -Errno.EBADF);
    assert.equal(program.sendMessage(one, 'x', controlMessage(1, 1, new Uint8Array(254 * 4))), -Errno.EINVAL);
    assert.equal(program.sendMessage(one, 'x', controlMessage(1, 55, new Uint8Array(4))), -Errno.EINVAL);
    assert.equal(program.sendMessage(one, 'x', controlMessage(0, 8, new Uint8Array(4))), 1);
  });

  test('sockets that lie only in each other are collected', () => {
    const sandbox = new NetSandbox();
    const program = sandbox.program();
    for (let i = 0; i < 10; i++) {
      const [one, other] = program.pair(stream);
      program.sendMessage(one, 'x', fdsMessage(other));
      program.sendMessage(other, 'x', fdsMessage(one));
      program.call('close', one);
      program.call('close', other);
    }
    sandbox.settle();
    assert.equal(sandbox.network.unixSockets.size, 0);
  });

  test('a socket in flight that can still be reached is kept', () => {
    const sandbox = new NetSandbox();
    const program = sandbox.program();
    const [one, other] = program.pair(stream);
    const [left, right] = program.pair(stream);
    program.sendMessage(one, 'x', fdsMessage(right));
    program.sendMessage(left, 'y', fdsMessage(left));
    program.call('close', right);
    program.call('close', left);
    sandbox.settle();
    const { control } = program.receiveMessage(other, 10, 100);
    const found = new DataView(control.buffer).getInt32(16, true);
    assert.equal(program.receiveMessage(found, 10, 100).result, 1);
  });

  test('a long chain of sockets within sockets is released without running out of stack', () => {
    const sandbox = new NetSandbox();
    const program = sandbox.program();
    let [holder, end] = program.pair(stream);
    for (let i = 0; i < 20_000; i++) {
      const [one, other] = program.pair(stream);
      program.sendMessage(one, 'x', fdsMessage(end));
      program.call('close', holder);
      program.call('close', end);
      [holder, end] = [one, other];
    }
    program.call('close', holder);
    program.call('close', end);
    sandbox.settle();
    assert.equal(sandbox.network.unixSockets.size, 0);
  });

  test('SO_PASSCRED tells who wrote, SO_PEERCRED who listens; nobody says he is another', () => {
    const sandbox = new NetSandbox();
    const program = sandbox.program();
    const [listener, client, server] = connected(program, stream);
    assert.ok(listener >= 0);
    assert.equal(program.option(client, 1, Option.peerCredentials), 1);
    assert.equal(program.setOption(server, 1, Option.passCredentials, 1), 0);
    program.send(client, 'x');
    const { control } = program.receiveMessage(server, 10, 100);
    assert.deepEqual([...new Int32Array(control.slice(16, 28).buffer)], [1, 0, 0]);
    program.call('setresgid', 1000, 1000, 1000);
    program.call('setresuid', 1000, 1000, 1000);
    const lie = new Uint8Array(Int32Array.of(1, 0, 0).buffer);
    assert.equal(program.sendMessage(client, 'x', controlMessage(1, 2, lie)), -Errno.EPERM);
    const truth = new Uint8Array(Int32Array.of(1, 1000, 1000).buffer);
    assert.equal(program.sendMessage(client, 'x', controlMessage(1, 2, truth)), 1);
  });
});

test('a readiness that comes and goes is told edge by edge', () => {
  const program = new NetSandbox().program();
  const [one, other] = program.pair(stream);
  const epoll = program.call('epoll_create1', 0) ?? -1;
  const event = new Uint8Array(12);
  new DataView(event.buffer).setUint32(0, 0x8000_0005, true);
  program.put(at.option, event);
  assert.equal(program.call('epoll_ctl', epoll, 1, one, at.option), 0);
  const wait = (): number => {
    const count = program.call('epoll_wait', epoll, at.poll, 1, 0) ?? -1;
    return count === 1 ? program.word(at.poll) : count;
  };
  assert.equal(wait(), Poll.out);
  assert.equal(wait(), 0);
  program.send(other, 'x');
  assert.equal(wait(), Poll.in | Poll.out);
  assert.equal(wait(), 0);
  program.send(other, 'y');
  assert.equal(wait(), Poll.in | Poll.out);
  fill(program, one, 65536);
  assert.equal(wait(), 0);
  for (let got = 0; got < 233_152; ) got += program.call('recvfrom', other, at.buffer, 8192, 0, 0, 0) ?? 1e9;
  assert.equal(wait(), Poll.in | Poll.out);
});
