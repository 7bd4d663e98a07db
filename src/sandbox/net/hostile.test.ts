import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Errno } from '../abi/errno.ts';
import { NetlinkFlag, NetlinkType, RouteMessage } from '../abi/netlink.ts';
import { Family } from '../abi/socket.ts';
import { at, NetSandbox } from './fixture.ts';
import { parseEndpoint } from './loopback/addresses.ts';
import { parseSendControl } from './loopback/ip-options.ts';
import { parseControl } from './messages.ts';
import { parseAttributes } from './netlink/attributes.ts';
import { parseName } from './unix/names.ts';

/** The same numbers in every run. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
}

function bytesOf(random: (below: number) => number, length: number): Uint8Array {
  return Uint8Array.from({ length }, () =>
    random(3) === 0 ? random(256) : random(4) === 0 ? 255 : random(20),
  );
}

test('addresses and control messages of random bytes are taken apart or refused, never beyond their end', () => {
  const random = generator(7);
  for (let i = 0; i < 20_000; i++) {
    const bytes = bytesOf(random, random(140));
    const name = parseName(bytes);
    assert.ok(typeof name === 'number' ? name === -Errno.EINVAL : name.length <= 108);
    for (const family of [Family.inet, Family.inet6]) {
      const endpoint = parseEndpoint(family, bytes);
      if (typeof endpoint === 'object') assert.ok(/^([0-9a-f]{8}|[0-9a-f]{32})$/.test(endpoint.ip));
    }
    const control = parseControl(bytes);
    if (typeof control === 'number') continue;
    let total = 0;
    for (const { data } of control) total += 16 + data.length;
    assert.ok(total <= bytes.length);
    parseSendControl(Family.inet, control);
    parseSendControl(Family.inet6, control);
    parseAttributes(bytes);
  }
});

test('a control message longer than its buffer, or shorter than its header, is EINVAL', () => {
  for (const length of [0, 15, 33, 2 ** 31, 2 ** 32 - 1]) {
    const bytes = new Uint8Array(32);
    new DataView(bytes.buffer).setUint32(0, length, true);
    assert.equal(parseControl(bytes), -Errno.EINVAL);
  }
});

test('random requests to netlink are answered or ignored, and a dump ends with NLMSG_DONE', () => {
  const random = generator(3);
  const program = new NetSandbox().program();
  const fd = program.socket(Family.netlink, 3, 0);
  for (let i = 0; i < 3000; i++) {
    const bytes = bytesOf(random, 16 + random(80));
    if (random(2)) new DataView(bytes.buffer).setUint32(0, random(bytes.length + 4), true);
    if (random(2)) new DataView(bytes.buffer).setUint16(4, 16 + random(110), true);
    const length = program.put(at.buffer, bytes);
    assert.equal(program.call('sendto', fd, at.buffer, length, 0, 0, 0), length);
    while (Number(program.call('recvfrom', fd, at.buffer, 0x3000, 0x40, 0, 0)) > 0);
  }
  const request = new Uint8Array(32);
  const view = new DataView(request.buffer);
  view.setUint32(0, 32, true);
  view.setUint16(4, RouteMessage.getLink, true);
  view.setUint16(6, NetlinkFlag.request | NetlinkFlag.dump, true);
  program.call('sendto', fd, at.buffer, program.put(at.buffer, request), 0, 0, 0);
  const first = program.call('recvfrom', fd, at.buffer, 0x3000, 0, 0, 0) ?? -1;
  assert.ok(first > 100);
  assert.ok(Buffer.from(program.get(at.buffer, first)).includes('lo\0'));
  assert.equal(program.call('recvfrom', fd, at.buffer, 0x3000, 0, 0, 0), 20);
  assert.equal(program.get(at.buffer, 6)[4], NetlinkType.done);
});

const calls = [
  ...([
    'socket',
    'socketpair',
    'bind',
    'listen',
    'accept4',
    'connect',
    'getsockname',
    'getpeername',
  ] as const),
  ...(['sendto', 'recvfrom', 'sendmsg', 'recvmsg', 'sendmmsg', 'recvmmsg', 'shutdown'] as const),
  ...(['getsockopt', 'setsockopt', 'read', 'write', 'close', 'ioctl', 'dup'] as const),
];

test('random calls with random arguments on all kinds of sockets harm nothing', () => {
  for (let seed = 1; seed <= 4; seed++) {
    const random = generator(seed);
    const sandbox = new NetSandbox();
    let program = sandbox.program();
    const small = (): number =>
      [0, 1, 2, 3, 4, 5, 6, 8, 10, 16, 17, 41, 128, 0x40, 0x4040, 0xffff_ffff][random(16)] ?? 0;
    for (let i = 0; i < 6000; i++) {
      if (program.answer === undefined && i > 0) program = sandbox.program();
      program.put(at.address + random(0x900), bytesOf(random, 40));
      const address = (): number =>
        random(8) === 0 ? random(2) * 0xdead_0000 : at.address + 8 * random(0x120);
      if (random(4) === 0) {
        const families = [1, 2, 10, 16];
        program.call(
          'socket',
          families[random(4)] ?? 1,
          1 + random(5) + 0o4000,
          random(4) === 0 ? small() : 0,
        );
        continue;
      }
      if (random(3) === 0)
        program.put(at.address, Uint8Array.of([1, 2, 10, 16, 0][random(5)] ?? 0, 0, 0x90, random(4)));
      const name = calls[random(calls.length)] ?? 'socket';
      const argument = (): number => [small(), random(40), address(), at.address, at.buffer][random(5)] ?? 0;
      const first = name.startsWith('socket') ? small() : random(30);
      const flags = name === 'socket' || name === 'socketpair' ? [1 + random(3) + 0o4000] : [];
      const result = program.call(
        name,
        first,
        ...flags,
        argument(),
        argument(),
        argument(),
        argument(),
        argument(),
      );
      if (result !== undefined) assert.ok(result >= -4095, `${name}: ${result}`);
    }
  }
});
