import assert from 'node:assert/strict';
import { duplexPair } from 'node:stream';
import { test } from 'node:test';
import { deflateSync } from 'node:zlib';
import { eventually } from '../../testing/node.ts';
import { SpdyTestClient } from '../../testing/spdy-client.ts';
import { SpdyConnection, type SpdyStream } from './connection.ts';
import { spdyDictionary } from './dictionary.ts';
import { controlFrame, dataFrameHeader, frameTypes, goawayCodes, resetCodes, wordsFrame } from './frames.ts';

interface Session extends AsyncDisposable {
  readonly client: SpdyTestClient;
  readonly connection: SpdyConnection;
  readonly accepted: SpdyStream[];
}

function session(onStream: (stream: SpdyStream) => void = (stream) => void stream.reply()): Session {
  const [near, far] = duplexPair();
  const accepted: SpdyStream[] = [];
  const connection = new SpdyConnection(far, {
    onStream(stream) {
      accepted.push(stream);
      onStream(stream);
    },
  });
  const client = new SpdyTestClient(near);
  return {
    client,
    connection,
    accepted,
    async [Symbol.asyncDispose]() {
      client.close();
      connection.destroy();
      await connection.closed;
    },
  };
}

test('the compression dictionary is the one that the protocol names by its checksum', () => {
  assert.equal(
    deflateSync(Buffer.from('x'), { dictionary: spdyDictionary() }).subarray(2, 6).toString('hex'),
    'e3c6a7c2',
  );
});

test('streams carry bytes both ways, their headers, and their ends', async () => {
  await using s = session((stream) => {
    void stream.reply();
    stream.pipe(stream);
  });
  const stream = await s.client.open({ streamType: 'data', port: '80' });
  await eventually(() => assert.equal(stream.replied, true));
  assert.equal(s.accepted[0]!.header('streamtype'), 'data');
  assert.equal(s.accepted[0]!.header('port'), '80');
  const big = Buffer.alloc(300_000, 'x');
  s.client.send(stream, 'hello ');
  s.client.send(stream, big, true);
  await eventually(() => assert.equal(stream.ended, true));
  assert.equal(stream.data.length, 6 + big.length);
  await eventually(() => assert.equal(s.connection.size, 0));
});

test('what is written before the reply is held back until the reply', async () => {
  await using s = session((stream) => {
    stream.end('early');
    setImmediate(() => void stream.reply());
  });
  const stream = await s.client.open({ streamType: 'error' });
  await eventually(() => assert.equal(stream.ended, true));
  assert.equal(stream.early, 0);
  assert.equal(stream.data.toString(), 'early');
});

test('pings are answered, goodbyes end the session', async () => {
  await using s = session();
  s.client.ping(1);
  s.client.ping(2);
  s.client.ping(3);
  await eventually(() => assert.deepEqual(s.client.pings, [1, 3]));
  await s.connection.close();
  await eventually(() => assert.equal(s.client.goAway, goawayCodes.OK));
});

test('a stream that is reset ends on our side, and one that we give up is reset', async () => {
  await using s = session();
  const one = await s.client.open({ streamType: 'data' });
  const two = await s.client.open({ streamType: 'data' });
  await eventually(() => assert.equal(s.accepted.length, 2));
  s.client.raw(wordsFrame(frameTypes.RST_STREAM, one.id, resetCodes.CANCEL));
  await eventually(() => assert.equal(s.accepted[0]!.destroyed, true));
  s.accepted[1]!.destroy();
  await eventually(() => assert.equal(two.resetCode, resetCodes.CANCEL));
});

test('data for a stream that was never opened is refused, not kept', async () => {
  await using s = session();
  s.client.streams.set(9, {
    id: 9,
    replied: false,
    data: Buffer.alloc(0),
    early: 0,
    ended: false,
    resetCode: undefined,
  });
  s.client.raw(Buffer.concat([dataFrameHeader(9, 3, false), Buffer.from('abc')]));
  await eventually(() => assert.equal(s.client.streams.get(9)?.resetCode, resetCodes.INVALID_STREAM));
});

const hostile: readonly (readonly [name: string, bytes: Uint8Array])[] = [
  ['a frame of another version', Buffer.from('8002000100000000', 'hex')],
  ['a control frame that is too long', Buffer.from('8003000100ffffff', 'hex')],
  ['a header block that is no zlib stream', controlFrame(frameTypes.SYN_STREAM, 0, Buffer.alloc(40, 0xff))],
  ['a SYN_STREAM that is cut short', controlFrame(frameTypes.SYN_STREAM, 0, Buffer.alloc(3))],
  ['a reply to nothing', controlFrame(frameTypes.SYN_REPLY, 0, Buffer.alloc(4))],
  ['a PING without an id', controlFrame(frameTypes.PING, 0, Buffer.alloc(0))],
  [
    'a header block that unfolds to more than is allowed',
    controlFrame(
      frameTypes.SYN_STREAM,
      0,
      Buffer.concat([
        Buffer.from('00000001000000000000', 'hex'),
        deflateSync(Buffer.alloc(4 << 20), { dictionary: spdyDictionary() }),
      ]),
    ),
  ],
  [
    'headers whose lengths lie',
    controlFrame(
      frameTypes.SYN_STREAM,
      0,
      Buffer.concat([
        Buffer.from('00000001000000000000', 'hex'),
        deflateSync(Buffer.from('00000001ffffffff', 'hex'), { dictionary: spdyDictionary() }),
      ]),
    ),
  ],
];

for (const [name, bytes] of hostile)
  test(`${name} ends the session with PROTOCOL_ERROR`, async () => {
    await using s = session();
    s.client.raw(bytes);
    await eventually(() => assert.equal(s.client.goAway, goawayCodes.PROTOCOL_ERROR));
    await s.connection.closed;
    assert.equal(s.accepted.length, 0);
  });

test('stream ids must be odd and grow', async () => {
  for (const ids of [[2], [5, 3], [1, 1]]) {
    await using s = session();
    for (const id of ids) await s.client.open({ streamType: 'data' }, id);
    await eventually(() => assert.equal(s.client.goAway, goawayCodes.PROTOCOL_ERROR));
  }
});

test('a consumer that does not read stops the peer instead of filling memory', async () => {
  await using s = session();
  const stream = await s.client.open({ streamType: 'data' });
  await eventually(() => assert.equal(s.accepted.length, 1));
  const chunk = Buffer.alloc(64 * 1024);
  for (let i = 0; i < 100; i++) s.client.send(stream, chunk);
  await eventually(() => assert.ok(s.accepted[0]!.readableLength > 1 << 20));
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(s.accepted[0]!.readableLength <= (1 << 20) + chunk.length);
  // Once it reads, all of it comes.
  let total = 0;
  s.accepted[0]!.on('data', (piece: Buffer) => {
    total += piece.length;
  });
  await eventually(() => assert.equal(total, 100 * chunk.length));
});

test('random bytes never crash the session or leave it open', async () => {
  let seed = 1;
  const random = (): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return seed / 2 ** 32;
  };
  for (let round = 0; round < 200; round++) {
    await using s = session();
    const bytes = Buffer.from(
      Array.from({ length: 8 + Math.floor(random() * 200) }, () => Math.floor(random() * 256)),
    );
    // Half of the rounds begin like a control frame of our version.
    if (round % 2 === 0) bytes.set([0x80, 0x03, 0, 1 + (round % 10)], 0);
    s.client.raw(bytes);
    s.client.close();
    await s.connection.closed;
  }
});
