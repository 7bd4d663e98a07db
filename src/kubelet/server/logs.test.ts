import assert from 'node:assert/strict';
import { appendFile, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { eventually } from '../testing/node.ts';
import { parseLogLine } from './log-line.ts';
import { LogOptionsError, parseLogOptions, parseNanoTime } from './log-options.ts';
import { readLog } from './logs.ts';

const line = (second: number, text: string, stream = 'stdout', tag = 'F'): string =>
  `2026-01-01T00:00:${String(second).padStart(2, '0')}.000000001Z ${stream} ${tag} ${text}\n`;

async function withLog(work: (path: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'kubelet-logs-'));
  try {
    await work(join(directory, '0.log'));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

const NOW = Date.parse('2026-01-01T00:01:00Z');

async function read(path: string, query: string): Promise<string> {
  const chunks: Buffer[] = [];
  const sink = async (chunk: Buffer): Promise<void> => void chunks.push(chunk);
  const options = parseLogOptions(new URLSearchParams(query), NOW);
  await readLog({ path }, options, sink, new AbortController().signal);
  return Buffer.concat(chunks).toString();
}

test('a log is read whole, by its last lines, since a time, and within a number of bytes', async () => {
  await withLog(async (path) => {
    await writeFile(path, [1, 2, 3, 4, 5].map((n) => line(n, `line ${n}`)).join(''));
    assert.equal(await read(path, ''), 'line 1\nline 2\nline 3\nline 4\nline 5\n');
    assert.equal(await read(path, 'tailLines=2'), 'line 4\nline 5\n');
    assert.equal(await read(path, 'tailLines=0'), '');
    assert.equal(await read(path, 'tailLines=100'), await read(path, ''));
    assert.equal(await read(path, 'sinceTime=2026-01-01T00:00:04Z'), 'line 4\nline 5\n');
    assert.equal(await read(path, 'sinceSeconds=57'), 'line 3\nline 4\nline 5\n');
    assert.equal(await read(path, 'limitBytes=10'), 'line 1\nlin');
    assert.equal(await read(path, 'timestamps=true&tailLines=1'), '2026-01-01T00:00:05.000000001Z line 5\n');
  });
});

test('times are in UTC as Kubernetes writes them, whatever the runtime wrote', async () => {
  await withLog(async (path) => {
    await writeFile(path, '2026-01-01T00:00:01.000000001+00:00 stdout F hi\n');
    assert.equal(await read(path, 'timestamps=true'), '2026-01-01T00:00:01.000000001Z hi\n');
  });
});

test('parts of a long line are joined, and each stream can be had alone', async () => {
  await withLog(async (path) => {
    await writeFile(
      path,
      line(1, 'aaa', 'stdout', 'P') +
        line(1, 'bbb', 'stdout', 'P') +
        line(1, 'ccc') +
        line(2, 'oops', 'stderr'),
    );
    assert.equal(
      await read(path, 'timestamps=1'),
      '2026-01-01T00:00:01.000000001Z aaabbbccc\n2026-01-01T00:00:02.000000001Z oops\n',
    );
    assert.equal(await read(path, 'stream=Stderr'), 'oops\n');
    assert.equal(await read(path, 'stream=Stdout'), 'aaabbbccc\n');
  });
});

test('lines that are not in the format are left out, whatever they are', async () => {
  await withLog(async (path) => {
    await writeFile(
      path,
      `garbage\n\n${line(1, 'good')}2026-01-01T00:00:01Z stdout X bad tag\n${'x'.repeat(3 << 20)}\n${line(2, 'also good')}`,
    );
    assert.equal(await read(path, ''), 'good\nalso good\n');
  });
  assert.equal(parseLogLine(Buffer.from('2026-01-01T00:00:01.000000001Z stdout F'))?.text.length, 0);
});

test('the last lines of a log longer than any buffer are found', async () => {
  await withLog(async (path) => {
    const lines = Array.from({ length: 20_000 }, (_, i) => line(i % 60, `line ${i} ${'y'.repeat(i % 50)}`));
    await writeFile(path, lines.join(''));
    const tail = (await read(path, 'tailLines=5000')).trimEnd().split('\n');
    assert.equal(tail.length, 5000);
    assert.match(tail[0]!, /^line 15000 /);
    assert.match(tail.at(-1)!, /^line 19999 /);
  });
});

test('following sees what is appended, survives rotation, and ends with the container', async () => {
  await withLog(async (path) => {
    await writeFile(path, line(1, 'first'));
    let output = '';
    const sink = async (chunk: Buffer): Promise<void> => {
      output += chunk.toString();
    };
    const ended = new AbortController();
    const options = parseLogOptions(new URLSearchParams('follow=true'), NOW);
    const reading = readLog({ path, ended: ended.signal }, options, sink, new AbortController().signal);
    await eventually(() => assert.equal(output, 'first\n'));
    await appendFile(path, line(2, 'second').slice(0, 20));
    await appendFile(path, line(2, 'second').slice(20));
    await eventually(() => assert.equal(output, 'first\nsecond\n'));
    await rename(path, `${path}.20260101-000000`);
    await appendFile(`${path}.20260101-000000`, line(3, 'third, into the old file'));
    await writeFile(path, line(4, 'fourth'));
    await eventually(() => assert.equal(output, 'first\nsecond\nthird, into the old file\nfourth\n'));
    await appendFile(path, line(5, 'last'));
    ended.abort();
    await reading;
    assert.equal(output, 'first\nsecond\nthird, into the old file\nfourth\nlast\n');
  });
});

test('a client that goes away ends the following', async () => {
  await withLog(async (path) => {
    await writeFile(path, line(1, 'first'));
    const client = new AbortController();
    const options = parseLogOptions(new URLSearchParams('follow=1'), NOW);
    const reading = readLog(
      { path, ended: new AbortController().signal },
      options,
      async () => {},
      client.signal,
    );
    client.abort();
    await reading;
  });
});

test('options that cannot be read are refused by name', () => {
  for (const query of [
    'tailLines=-1',
    'tailLines=x',
    'sinceSeconds=0',
    'sinceTime=yesterday',
    'follow=maybe',
    'limitBytes=0',
    'stream=Both',
  ])
    assert.throws(
      () => parseLogOptions(new URLSearchParams(query), NOW),
      (error: unknown) => error instanceof LogOptionsError && error.message.startsWith(query.split('=')[0]!),
      query,
    );
  assert.equal(
    parseNanoTime('2026-01-01T00:00:00.123456789+01:00'),
    BigInt(Date.parse('2025-12-31T23:00:00Z')) * 1_000_000n + 123_456_789n,
  );
});
