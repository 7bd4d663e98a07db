import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mutated, randomBytes, randomMessage, sequence } from '../testing/random-messages.ts';
import {
  addressBytes,
  addressText,
  canonicalAddress,
  parseRange,
  rangeContains,
  reverseName,
  reversePrefix,
} from './address.ts';
import { CLASS, DO_BIT, FLAG, TYPE } from './constants.ts';
import { decodeMessage, decodeQuery, type Query } from './decode.ts';
import { encodeMessage, encodeQuery } from './encode.ts';
import { FormatError, type Message } from './message.ts';
import { formatName, isWithin, labelsOf, lowerCase, NameError, nameOf, parseName } from './name.ts';
import { addressRecord, cnameRecord, formatRecord, soaRecord, srvRecord, txtRecord } from './record.ts';

/** With bytes as plain arrays, so that views and buffers compare. */
function plain(message: Message): unknown {
  return JSON.parse(
    JSON.stringify(message, (_key, value: unknown) => {
      const bytes =
        value instanceof Uint8Array ? value : isBufferJson(value) ? Buffer.from(value.data) : undefined;
      return bytes === undefined ? value : { hex: Buffer.from(bytes).toString('hex') };
    }),
  );
}

function isBufferJson(value: unknown): value is { readonly data: readonly number[] } {
  return typeof value === 'object' && value !== null && 'type' in value && value.type === 'Buffer';
}

test('what is encoded is decoded to the same message', () => {
  const random = sequence(1);
  for (let i = 0; i < 3000; i++) {
    const message = randomMessage(random);
    assert.deepEqual(plain(decodeMessage(encodeMessage(message))), plain(message));
  }
});

test('encoding what was decoded makes no message longer', () => {
  const random = sequence(2);
  for (let i = 0; i < 500; i++) {
    const bytes = encodeMessage(randomMessage(random));
    assert.equal(encodeMessage(decodeMessage(bytes)).length, bytes.length);
  }
});

test('any bytes are a message or a FormatError, and soon', () => {
  const random = sequence(3);
  const started = performance.now();
  for (let i = 0; i < 20_000; i++) {
    const bytes =
      i % 2 === 0 ? randomBytes(random, random(80)) : mutated(random, encodeMessage(randomMessage(random)));
    for (const decode of [decodeMessage, decodeQuery])
      try {
        decode(bytes);
      } catch (error) {
        if (!(error instanceof FormatError)) assert.fail(`${bytes.toString('hex')}: ${String(error)}`);
      }
  }
  assert.ok(performance.now() - started < 20_000);
});

test('compression pointers that do not lead backwards are refused', () => {
  const header = Buffer.from('000001000001000000000000', 'hex');
  for (const name of ['c00c', 'c00e0000', '0161c00c', 'c0ff', 'c000', 'c00b', 'c0'])
    assert.throws(
      () => decodeMessage(Buffer.concat([header, Buffer.from(`${name}00010001`, 'hex')])),
      FormatError,
    );
  // Each pointer leads to the one before it: a chain as long as the message, but it ends.
  const chain = Buffer.alloc(4000);
  header.copy(chain);
  chain.writeUInt16BE(0xffff, 4);
  chain[12] = 0;
  chain.writeUInt32BE(0x00010001, 13);
  for (let at = 17; at + 6 < chain.length; at += 6) {
    chain.writeUInt16BE(0xc000 | (at === 17 ? 12 : at - 6), at);
    chain.writeUInt32BE(0x00010001, at + 2);
  }
  assert.throws(() => decodeMessage(chain), FormatError);
});

test('a name of more than 255 bytes is refused, whether written out or made of pointers', () => {
  const label = Buffer.concat([Buffer.of(63), Buffer.alloc(63, 'a')]);
  const header = Buffer.from('000001000001000000000000', 'hex');
  const long = Buffer.concat([header, label, label, label, label, Buffer.from('0000010001', 'hex')]);
  assert.throws(() => decodeMessage(long), FormatError);
  assert.equal(decodeQuery(long), 'format');
  const longest = Buffer.concat([
    header,
    label,
    label,
    label,
    Buffer.of(61),
    Buffer.alloc(61, 'b'),
    Buffer.from('0000010001', 'hex'),
  ]);
  assert.equal(decodeMessage(longest).questions[0]!.name.length, 255);
  assert.equal(typeof decodeQuery(longest), 'object');
});

test('names go between text and wire form', () => {
  for (const text of ['.', 'a.', 'www.example.com.', 'a\\.b.c.', '\\000\\255.x.', 'A\\\\b.', '\\032.'])
    assert.equal(formatName(parseName(text)), text);
  assert.equal(parseName('www.example.com'), parseName('www.example.com.'));
  for (const text of [
    'a..b',
    '.a',
    'a\\',
    'a\\25',
    '\\999',
    'é\u0100',
    'x'.repeat(64),
    `${'x'.repeat(60)}.`.repeat(5),
  ])
    assert.throws(() => parseName(text), NameError, text);
  assert.equal(lowerCase(parseName('WWW.Example.COM')), parseName('www.example.com'));
  assert.equal(lowerCase(parseName('\\193')), parseName('\\193'));
  assert.deepEqual(labelsOf(parseName('a.b')), ['a', 'b']);
});

test('a name lies in a zone only where labels meet', () => {
  const zone = parseName('cluster.local');
  assert.ok(isWithin(parseName('x.cluster.local'), zone));
  assert.ok(isWithin(zone, zone));
  assert.ok(!isWithin(parseName('local'), zone));
  assert.ok(!isWithin(parseName('xcluster.local'), zone));
  // A label that contains the zone's own bytes.
  assert.ok(!isWithin(nameOf([`x${String.fromCharCode(7)}cluster`, 'local']), zone));
});

test('records are printed as dig prints them', () => {
  const name = parseName('a.b');
  assert.equal(formatRecord(addressRecord(name, 5, '10.0.0.1')), 'a.b. 5 IN A 10.0.0.1');
  assert.equal(formatRecord(addressRecord(name, 5, 'fd00::1')), 'a.b. 5 IN AAAA fd00::1');
  assert.equal(formatRecord(cnameRecord(name, 5, parseName('c'))), 'a.b. 5 IN CNAME c.');
  assert.equal(formatRecord(txtRecord(name, 5, ['1.1.0'])), 'a.b. 5 IN TXT "1.1.0"');
  const srv = srvRecord(name, 5, { priority: 0, weight: 100, port: 80, target: parseName('t') });
  assert.equal(formatRecord(srv), 'a.b. 5 IN SRV 0 100 80 t.');
  const soa = {
    primary: parseName('ns'),
    mailbox: parseName('h'),
    serial: 4e9,
    refresh: 2,
    retry: 3,
    expire: 4,
    minimum: 5,
  };
  assert.equal(formatRecord(soaRecord(name, 5, soa)), 'a.b. 5 IN SOA ns. h. 4000000000 2 3 4 5');
  assert.equal(
    formatRecord({ name, type: 65280, class: 1, ttl: 0, data: [Buffer.from('beef', 'hex')] }),
    'a.b. 0 IN TYPE65280 \\# 2 beef',
  );
});

test('a message that is too long loses whole records and says so where they matter', () => {
  const name = parseName('headless.default.svc.cluster.local');
  const answers = Array.from({ length: 60 }, (_, i) => addressRecord(name, 5, `10.0.0.${i}`));
  const message: Message = {
    id: 1,
    flags: FLAG.QR,
    opcode: 0,
    rcode: 0,
    questions: [{ name, type: TYPE.A, class: CLASS.IN }],
    answers,
    authority: [],
    additional: [],
    edns: { udpBytes: 1232, version: 0, flags: 0, options: new Uint8Array(0) },
  };
  const bytes = encodeMessage(message, 512);
  assert.ok(bytes.length <= 512 && bytes.length > 480);
  const short = decodeMessage(bytes);
  assert.notEqual(short.flags & FLAG.TC, 0);
  assert.equal(short.edns?.udpBytes, 1232);
  const more = encodeMessage({ ...message, answers: answers.slice(0, 1), additional: answers }, 512);
  assert.equal(decodeMessage(more).flags & FLAG.TC, 0);
});

test('a query is read without making a message of it', () => {
  const packet = encodeQuery(77, parseName('WWW.Example.com'), TYPE.AAAA, {
    edns: { udpBytes: 4096, dnssecOk: true },
  });
  const query = decodeQuery(packet) as Query;
  assert.deepEqual(
    { ...query, packet: undefined },
    {
      packet: undefined,
      questionEnd: 12 + 17 + 4,
      key: `${parseName('www.example.com')}\0\x1c\0\x01`,
      type: TYPE.AAAA,
      class: 1,
      flags: FLAG.RD,
      edns: true,
      version: 0,
      dnssecOk: true,
      udpBytes: 4096,
    },
  );
  // The bytes of type and class are letters here and keep their case.
  const letters = decodeQuery(encodeQuery(1, parseName('A'), 0x4142)) as Query;
  assert.equal(letters.key, '\x01a\0AB\0\x01');
});

test('what is no query is told apart: silence, FORMERR, NOTIMP', () => {
  const query = encodeQuery(1, parseName('a'), TYPE.A, { edns: { udpBytes: 1232 } });
  const changed = (at: number, ...bytes: number[]): Buffer => {
    const copy = Buffer.from(query);
    copy.set(bytes, at);
    return copy;
  };
  assert.equal(decodeQuery(Buffer.alloc(0)), 'silence');
  assert.equal(decodeQuery(query.subarray(0, 11)), 'silence');
  assert.equal(decodeQuery(changed(2, 0x80)), 'silence');
  assert.equal(decodeQuery(changed(2, 0x28)), 'opcode');
  for (const packet of [
    query.subarray(0, 12),
    query.subarray(0, 16),
    changed(4, 0, 0),
    changed(4, 0, 2),
    changed(4, 0xff, 0xff),
    changed(6, 0xff, 0xff),
    changed(10, 0, 2),
    changed(10, 0xff, 0xff),
    changed(12, 0xc0, 0x0c),
    changed(12, 0x40),
    query.subarray(0, query.length - 1),
    changed(query.length - 2, 0, 4),
    Buffer.concat([changed(query.length - 2, 0, 3), Buffer.alloc(3)]),
    Buffer.concat([changed(10, 0, 2), query.subarray(-11)]),
    Buffer.concat([changed(19, 1), Buffer.alloc(1)]),
  ])
    assert.equal(decodeQuery(packet), 'format', packet.toString('hex'));
  assert.equal(typeof decodeQuery(Buffer.concat([query, Buffer.alloc(5)])), 'object');
  const signed = decodeQuery(changed(query.length - 4, DO_BIT >> 8)) as Query;
  assert.equal(signed.dnssecOk, true);
});

test('addresses go between text, bytes and reverse names', () => {
  const random = sequence(4);
  for (let i = 0; i < 2000; i++) {
    const bytes = randomBytes(random, i % 2 === 0 ? 4 : 16);
    for (let j = random(bytes.length); j > 0; j--) bytes[random(bytes.length)] = 0;
    const text = addressText(bytes)!;
    assert.deepEqual(Buffer.from(addressBytes(text)!), bytes);
    const prefix = reversePrefix(labelsOf(reverseName(bytes)))!;
    assert.deepEqual([Buffer.from(prefix.bytes), prefix.bits], [bytes, 8 * bytes.length]);
  }
  assert.equal(canonicalAddress('FD00:0:0::01'), 'fd00::1');
  assert.equal(canonicalAddress('::ffff:10.0.0.1'), '::ffff:a00:1');
  assert.equal(canonicalAddress('fe80::1%eth0'), undefined);
  assert.equal(formatName(reverseName(addressBytes('10.1.2.3')!)), '3.2.1.10.in-addr.arpa.');
  for (const name of [
    'x.10.in-addr.arpa',
    '256.in-addr.arpa',
    '01.in-addr.arpa',
    '1.2.3.4.5.in-addr.arpa',
    'g.ip6.arpa',
    'arpa',
  ])
    assert.equal(reversePrefix(labelsOf(parseName(name))), undefined, name);
});

test('ranges hold addresses and the names above them', () => {
  const within = (range: string, name: string): boolean =>
    rangeContains(parseRange(range), reversePrefix(labelsOf(parseName(name)))!);
  assert.ok(within('10.96.0.0/12', '7.0.96.10.in-addr.arpa'));
  assert.ok(within('10.96.0.0/12', '111.10.in-addr.arpa'));
  assert.ok(!within('10.96.0.0/12', '112.10.in-addr.arpa'));
  assert.ok(!within('10.96.0.0/12', '10.in-addr.arpa'));
  assert.ok(!within('fd00::/8', '10.in-addr.arpa'));
  assert.ok(within('fd00::/8', '1.d.f.ip6.arpa'));
  for (const text of ['10.0.0.0', '10.0.0.0/33', 'x/8', '10.0.0.0/', '10.0.0.0/-1'])
    assert.throws(() => parseRange(text), RangeError, text);
});
