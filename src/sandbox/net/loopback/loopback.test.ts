import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Errno } from '../../abi/errno.ts';
import {
  Family,
  IpOption,
  Level,
  Message,
  SocketOption as Option,
  SocketType,
  TcpOption,
  TcpState,
} from '../../abi/socket.ts';
import { Poll } from '../../kernel/wait-queue.ts';
import { at, inetAddress, NetSandbox, Program } from '../fixture.ts';

const { stream, datagram } = SocketType;
const quiet = Message.noSignal;
const local = '127.0.0.1';

function listening(program: Program, backlog = 5): [fd: number, port: number] {
  const fd = program.socket(Family.inet, stream);
  assert.equal(program.bind(fd, inetAddress(local, 0)), 0);
  assert.equal(program.call('listen', fd, backlog), 0);
  return [fd, program.port(fd)];
}

function connected(program: Program): [client: number, server: number] {
  const [listener, port] = listening(program);
  const client = program.socket(Family.inet, stream);
  assert.equal(program.connect(client, inetAddress(local, port)), 0);
  const server = program.accept(listener) ?? -1;
  program.call('close', listener);
  return [client, server];
}

function bound(program: Program, ip: string, port: number, ...options: number[]): number {
  const fd = program.socket(Family.inet, stream);
  for (const name of options) program.setOption(fd, Level.socket, name, 1);
  const result = program.bind(fd, inetAddress(ip, port)) ?? -1;
  return result < 0 ? result : fd;
}

describe('TCP over loopback', () => {
  test('a fresh socket hangs up and may be written to, as in Linux', () => {
    const program = new NetSandbox().program();
    const fd = program.socket(Family.inet, stream);
    assert.equal(program.poll(fd), Poll.out | Poll.hup);
    assert.equal(program.send(fd, 'x', quiet), -Errno.EPIPE);
    assert.equal(program.receive(fd), -Errno.ENOTCONN);
    assert.equal(program.call('shutdown', fd, 2), -Errno.ENOTCONN);
    assert.equal(program.name(fd, true), -Errno.ENOTCONN);
  });

  test('connecting where nobody listens is refused; without blocking it is told later', () => {
    const program = new NetSandbox().program();
    const [listener, port] = listening(program);
    program.call('close', listener);
    const fd = program.socket(Family.inet, stream);
    assert.equal(program.connect(fd, inetAddress(local, port)), -Errno.ECONNREFUSED);
    const waitless = program.socket(Family.inet, stream | 0o4000);
    assert.equal(program.connect(waitless, inetAddress(local, port)), -Errno.EINPROGRESS);
    assert.equal(program.poll(waitless), Poll.in | Poll.out | Poll.err | Poll.hup | Poll.rdhup);
    assert.equal(program.option(waitless, 1, Option.error), Errno.ECONNREFUSED);
    assert.equal(program.option(waitless, 1, Option.error), 0);
    assert.equal(program.connect(waitless, inetAddress(local, port)), -Errno.ECONNABORTED);
    assert.equal(program.connect(fd, inetAddress('192.0.2.1', 80)), -Errno.ENETUNREACH);
  });

  test('a connection without blocking is there at once, and the second connect says so', () => {
    const program = new NetSandbox().program();
    const [, port] = listening(program);
    const fd = program.socket(Family.inet, stream | 0o4000);
    assert.equal(program.connect(fd, inetAddress(local, port)), -Errno.EINPROGRESS);
    assert.equal(program.poll(fd), Poll.out);
    assert.equal(program.connect(fd, inetAddress(local, port)), 0);
    assert.equal(program.connect(fd, inetAddress(local, port)), -Errno.EISCONN);
  });

  test('beyond the backlog connecting waits, and ends when there is room or patience is over', () => {
    const sandbox = new NetSandbox();
    const program = sandbox.program();
    const [listener, port] = listening(program, 0);
    const [first, second, third] = [0, 1, 2].map(() => program.socket(Family.inet, stream | 0o4000));
    for (const fd of [first, second, third]) program.connect(fd!, inetAddress(local, port));
    assert.deepEqual(
      [first, second, third].map((fd) => program.poll(fd!)),
      [Poll.out, 0, 0],
    );
    program.accept(listener);
    assert.deepEqual(
      [second, third].map((fd) => program.poll(fd!)),
      [Poll.out, 0],
    );
    sandbox.kernel.host.advance(128_000_000_000);
    sandbox.settle();
    assert.equal(program.option(third!, 1, Option.error), Errno.ETIMEDOUT);
  });

  test('closing with unread bytes resets the other side; an orderly end does not', () => {
    const program = new NetSandbox().program();
    let [client, server] = connected(program);
    program.send(client, 'unread');
    program.call('close', server);
    assert.equal(program.receive(client), -Errno.ECONNRESET);
    assert.equal(program.receive(client), '');
    assert.equal(program.send(client, 'x', quiet), -Errno.EPIPE);
    [client, server] = connected(program);
    program.send(server, 'last');
    program.call('close', server);
    assert.equal(program.receive(client, 2), 'la');
    assert.equal(program.send(client, 'x', quiet), 1);
    assert.equal(program.receive(client), 'st');
    assert.equal(program.receive(client), '');
    assert.equal(program.send(client, 'x', quiet), -Errno.EPIPE);
  });

  test('SO_LINGER with no time resets', () => {
    const program = new NetSandbox().program();
    const [client, server] = connected(program);
    program.setOption(server, 1, Option.linger, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
    program.call('close', server);
    assert.equal(program.send(client, 'x', quiet), -Errno.ECONNRESET);
    assert.equal(program.send(client, 'x', quiet), -Errno.EPIPE);
    assert.equal(program.receive(client), '');
  });

  test('half closed, the other direction still works, and the states are those of TCP', () => {
    const program = new NetSandbox().program();
    const [client, server] = connected(program);
    const stateOf = (fd: number): number => program.option(fd, Level.tcp, TcpOption.info) & 0xff;
    assert.equal(program.call('shutdown', client, 1), 0);
    assert.deepEqual([stateOf(client), stateOf(server)], [TcpState.finWait2, TcpState.closeWait]);
    assert.equal(program.poll(server), Poll.in | Poll.out | Poll.rdhup);
    assert.equal(program.receive(server), '');
    assert.equal(program.send(server, 'still'), 5);
    assert.equal(program.receive(client), 'still');
    program.call('close', server);
    assert.equal(stateOf(client), TcpState.close);
    assert.equal(program.poll(client), Poll.in | Poll.out | Poll.hup | Poll.rdhup);
    assert.equal(program.receive(client), '');
  });

  test('an address is in use by its rules: REUSEADDR while nobody listens, REUSEPORT for the same user', () => {
    const program = new NetSandbox().program();
    const { reuseAddress, reusePort } = Option;
    const plain = bound(program, local, 0);
    const port = program.port(plain);
    assert.equal(bound(program, local, port), -Errno.EADDRINUSE);
    assert.equal(bound(program, '0.0.0.0', port), -Errno.EADDRINUSE);
    assert.ok(bound(program, '127.0.0.2', port) >= 0);
    const shared = bound(program, local, 0, reuseAddress);
    const second = bound(program, local, program.port(shared), reuseAddress);
    assert.equal(program.call('listen', shared, 1), 0);
    assert.equal(program.call('listen', second, 1), -Errno.EADDRINUSE);
    assert.equal(bound(program, local, program.port(shared), reuseAddress), -Errno.EADDRINUSE);
    const group = bound(program, local, 0, reusePort);
    assert.equal(program.call('listen', group, 1), 0);
    assert.ok(bound(program, local, program.port(group), reusePort) >= 0);
    assert.equal(bound(program, local, program.port(group), reuseAddress), -Errno.EADDRINUSE);
  });

  test('the side that ended a connection first holds its port for a minute', () => {
    const sandbox = new NetSandbox();
    const program = sandbox.program();
    const [listener, port] = listening(program);
    const client = program.socket(Family.inet, stream);
    program.connect(client, inetAddress(local, port));
    const server = program.accept(listener) ?? -1;
    for (const fd of [server, client, listener]) program.call('close', fd);
    assert.equal(bound(program, local, port), -Errno.EADDRINUSE);
    sandbox.kernel.host.advance(60_000_000_001);
    assert.ok(bound(program, local, port) >= 0);
  });

  test('ports below 1024 need a capability, foreign addresses are not to be had', () => {
    const program = new NetSandbox().program();
    assert.equal(bound(program, '192.0.2.1', 0), -Errno.EADDRNOTAVAIL);
    assert.ok(bound(program, local, 80) >= 0);
    program.call('setresuid', 1000, 1000, 1000);
    assert.equal(bound(program, local, 81), -Errno.EACCES);
  });

  test('a blocked writer goes on when the reader has made room', () => {
    const sandbox = new NetSandbox();
    const program = sandbox.program();
    const [client, server] = connected(program);
    program.setOption(client, 1, Option.sendBuffer, 4096);
    program.setOption(server, 1, Option.receiveBuffer, 4096);
    const other = new Program(sandbox, sandbox.kernel.fork(program.thread));
    const chunk = 'x'.repeat(0x2000);
    assert.equal(other.send(client, chunk), 0x2000);
    assert.equal(other.send(client, chunk), undefined);
    let got = 0;
    while (other.answer === undefined)
      got += program.call('recvfrom', server, at.buffer, 0x1000, 0, 0, 0) ?? 1e9;
    assert.equal(other.answer, 0x2000);
    got += program.call('recvfrom', server, at.buffer, 0x2fff, Message.dontWait, 0, 0) ?? 0;
    got += Math.max(0, program.call('recvfrom', server, at.buffer, 0x2fff, Message.dontWait, 0, 0) ?? 0);
    assert.equal(got, 0x4000);
  });

  test('TCP_DEFER_ACCEPT gives a connection once it has bytes', () => {
    const program = new NetSandbox().program();
    const [listener, port] = listening(program);
    program.setOption(listener, Level.tcp, TcpOption.deferAccept, 5);
    const client = program.socket(Family.inet, stream);
    assert.equal(program.connect(client, inetAddress(local, port)), 0);
    assert.equal(program.poll(listener), 0);
    program.send(client, 'GET');
    assert.equal(program.poll(listener), Poll.in);
    assert.equal(program.receive(program.accept(listener) ?? -1), 'GET');
  });

  test('an urgent byte is beside the stream', () => {
    const program = new NetSandbox().program();
    const [client, server] = connected(program);
    program.send(client, 'ab');
    program.send(client, 'X', Message.outOfBand);
    program.send(client, 'cd');
    assert.equal(program.poll(server), Poll.in | Poll.pri | Poll.out);
    assert.equal(program.receive(server), 'ab');
    assert.equal(program.receive(server, 1, Message.outOfBand), 'X');
    assert.equal(program.receive(server), 'cd');
    assert.equal(program.receive(server, 1, Message.outOfBand), -Errno.EINVAL);
  });
});

describe('UDP over loopback', () => {
  test('datagrams come with their sender; a connected socket hears of a closed port', () => {
    const program = new NetSandbox().program();
    const server = program.socket(Family.inet, datagram);
    program.bind(server, inetAddress(local, 0));
    const port = program.port(server);
    const client = program.socket(Family.inet, datagram);
    assert.equal(program.send(client, 'x'), -Errno.EDESTADDRREQ);
    assert.equal(program.connect(client, inetAddress(local, port)), 0);
    assert.equal(program.send(client, 'hello'), 5);
    program.put(at.length, Uint8Array.of(16, 0, 0, 0));
    assert.equal(program.call('recvfrom', server, at.buffer, 100, 0, at.address, at.length), 5);
    assert.deepEqual(program.get(at.address, 16), program.name(client));
    program.call('close', server);
    assert.equal(program.send(client, 'x'), 1);
    assert.equal(program.poll(client), Poll.out | Poll.err);
    assert.equal(program.send(client, 'x'), -Errno.ECONNREFUSED);
    assert.equal(program.receive(client, 10, Message.dontWait), -Errno.EAGAIN);
  });

  test('broadcast needs its option, too long a datagram is EMSGSIZE, port 0 EINVAL', () => {
    const program = new NetSandbox().program();
    const fd = program.socket(Family.inet, datagram);
    assert.equal(program.sendTo(fd, 'x', inetAddress('255.255.255.255', 9)), -Errno.EACCES);
    assert.equal(program.sendTo(fd, 'x', inetAddress('192.0.2.1', 9)), -Errno.ENETUNREACH);
    assert.equal(program.sendTo(fd, 'x', inetAddress(local, 0)), -Errno.EINVAL);
    program.put(at.address, inetAddress(local, 9));
    assert.equal(program.call('sendto', fd, at.buffer, 65_508, 0, at.address, 16), -Errno.EMSGSIZE);
  });

  test('a datagram says where it was sent to and its hops, if asked', () => {
    const program = new NetSandbox().program();
    const server = program.socket(Family.inet, datagram);
    program.bind(server, inetAddress('0.0.0.0', 0));
    program.setOption(server, Level.ip, IpOption.packetInfo, 1);
    program.setOption(server, Level.ip, IpOption.receiveTimeToLive, 1);
    const client = program.socket(Family.inet, datagram);
    program.setOption(client, Level.ip, IpOption.timeToLive, 33);
    program.sendTo(client, 'x', inetAddress('127.0.0.5', program.port(server)));
    const { control } = program.receiveMessage(server, 10, 200);
    const view = new DataView(control.buffer);
    assert.deepEqual([view.getUint32(8, true), view.getUint32(12, true)], [Level.ip, IpOption.packetInfo]);
    assert.deepEqual([...control.slice(16, 28)], [1, 0, 0, 0, 127, 0, 0, 5, 127, 0, 0, 5]);
    assert.equal(view.getUint32(32 + 16, true), 33);
  });
});
