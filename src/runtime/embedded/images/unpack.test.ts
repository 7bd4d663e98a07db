import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { lstat, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { defaultTarLimits, type TarLimits } from './tar.ts';
import { paxRecords, type TestEntry, tar } from './testing/archives.ts';
import { type Unpacked, unpackLayer } from './unpack.ts';

const program = fileURLToPath(new URL('../../../../build/native/bulkhead-layer', import.meta.url));
const isRoot = process.getuid?.() === 0;

describe('unpacking a layer', () => {
  let base: string;
  let directory: string;
  beforeEach(async () => {
    base = await mkdtemp(join(tmpdir(), 'bulkhead-layer-'));
    directory = join(base, 'layer');
    await mkdir(directory);
    await mkdir(join(base, 'outside'));
    await writeFile(join(base, 'outside/precious'), 'untouched');
  });
  afterEach(async () => {
    assert.deepEqual(await readdir(base), ['archive', 'layer', 'outside']);
    assert.equal(await readFile(join(base, 'outside/precious'), 'utf8'), 'untouched');
    assert.deepEqual(await readdir(join(base, 'outside')), ['precious']);
    await rm(base, { recursive: true });
  });

  async function unpack(archive: Uint8Array, limits?: Partial<TarLimits>): Promise<Unpacked> {
    await writeFile(join(base, 'archive'), archive);
    return unpackLayer({
      program,
      archive: join(base, 'archive'),
      directory,
      ...(limits ? { limits: { ...defaultTarLimits, ...limits } } : {}),
    });
  }
  const refused = (archive: Uint8Array, message: RegExp, limits?: Partial<TarLimits>): Promise<void> =>
    assert.rejects(unpack(archive, limits), { code: 'InvalidArgument', message });

  describe('refuses', () => {
    const cases: Record<string, [TestEntry[], RegExp]> = {
      'a path that climbs out': [[{ path: '../outside/precious', content: 'x' }], /leads out of the layer/],
      'a path that climbs out in its middle': [
        [{ path: 'a/../../outside/precious', content: 'x' }],
        /leads out/,
      ],
      'a hard link to outside': [[{ path: 'x', flag: '1', link: '../outside/precious' }], /leads out/],
      'a hard link to nothing': [[{ path: 'x', flag: '1', link: 'nothing' }], /No such file/],
      'a hard link to a directory': [
        [
          { path: 'd/', flag: '5' },
          { path: 'x', flag: '1', link: 'd' },
        ],
        /directory/,
      ],
      'a replaced root': [[{ path: './', flag: '2', link: '/' }], /replaces the root/],
      'a NUL byte in a name': [[{ path: 'x', pax: { path: 'a\0b' }, content: 'x' }], /NUL byte/],
      'a name that is too long': [
        [{ path: 'x', pax: { path: 'a/'.repeat(3000) }, content: 'x' }],
        /longer than/,
      ],
      'a negative size': [[{ path: 'x', pax: { size: '-5' }, content: 'x' }], /wrong size/],
      'a size in base 256 that is negative': [
        [{ path: 'x', size: '\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff' }],
        /negative size/,
      ],
      'a size beyond all numbers': [
        [{ path: 'x', size: '\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff' }],
        /too large/,
      ],
      'a size that is no number': [[{ path: 'x', size: 'abcdefghijk' }], /no number/],
      'a sparse file': [[{ path: 'x', flag: 'S' }], /sparse/],
      'an unknown type': [[{ path: 'x', flag: 'Q' }], /entry type/],
      'a whiteout of nothing': [[{ path: 'd/.wh.' }], /without a name/],
      'a whiteout of the parent': [[{ path: 'd/.wh...' }], /without a name/],
    };
    for (const [name, [entries, message]] of Object.entries(cases)) {
      it(name, () => refused(tar(entries), message));
    }

    it('an archive that is cut off, empty, or no archive', async () => {
      const whole = tar([{ path: 'x', content: 'x'.repeat(5000) }]);
      await refused(whole.subarray(0, 3000), /cut off/);
      await refused(gzipSync(whole).subarray(0, 60), /compression is damaged|cut off/);
      await refused(Buffer.alloc(0), /empty/);
      await refused(Buffer.from('hello, world '.repeat(100)), /wrong checksum/);
      await refused(tar([{ path: 'x', pax: { path: '' } }]).fill('9', 512, 520), /malformed/);
    });

    it('headers, entries and contents without bound', async () => {
      const records = paxRecords({ comment: 'c'.repeat(2 * 1024 * 1024) });
      await refused(tar([{ path: 'h', flag: 'x', content: records }]), /a header of \d+ bytes/);
      const many = Array.from({ length: 50 }, (_, i) => ({ path: `f${i}` }));
      await refused(tar(many), /more than 20 entries/, { entries: 20 });
      await refused(tar([{ path: 'x', content: 'x'.repeat(5000) }]), /more than 4000 bytes/, { total: 4000 });
      // The header's claim alone is enough: nothing waits for the bytes.
      await refused(tar([{ path: 'x', size: '77777777777' }], { end: false }), /more than/, {
        total: 2 ** 30,
      });
    });

    it('a bomb, long before it is through', async () => {
      const zeros = Buffer.alloc(1 << 20);
      async function* bomb(): AsyncGenerator<Uint8Array> {
        yield tar([{ path: 'bomb', size: 8 * 2 ** 30 - 1 }], { end: false });
        for (let i = 0; i < 8192; i++) yield zeros;
      }
      const { createGzip } = await import('node:zlib');
      const { createWriteStream } = await import('node:fs');
      const { pipeline } = await import('node:stream/promises');
      let written = 0;
      async function* some(): AsyncGenerator<Uint8Array> {
        for await (const chunk of bomb()) {
          written += chunk.length;
          if (written > 1.3 * 2 ** 30) return;
          yield chunk;
        }
      }
      await pipeline(some(), createGzip({ level: 1 }), createWriteStream(join(base, 'archive')));
      await assert.rejects(
        unpackLayer({ program, archive: join(base, 'archive'), directory }),
        /200 times its compressed size/,
      );
    });
  });

  describe('contains', () => {
    it('symbolic links: what is written through them stays inside', async () => {
      await unpack(
        tar([
          { path: 'absolute', flag: '2', link: '/' },
          { path: 'absolute/outside/precious', content: 'hers' },
          { path: 'up', flag: '2', link: '../../../../..' },
          { path: 'up/etc/passwd', content: 'mine' },
          { path: 'loop', flag: '2', link: 'loop2' },
          { path: 'lib', flag: '2', link: 'usr/lib' },
          { path: 'usr/lib/', flag: '5' },
          { path: 'lib/x.so', content: 'so' },
        ]),
      );
      assert.equal(await readFile(join(directory, 'outside/precious'), 'utf8'), 'hers');
      assert.equal(await readFile(join(directory, 'etc/passwd'), 'utf8'), 'mine');
      assert.equal(await readFile(join(directory, 'usr/lib/x.so'), 'utf8'), 'so');
      assert.ok((await lstat(join(directory, 'lib'))).isSymbolicLink());
    });

    it('a file that replaces a symbolic link: the link goes, not what it points to', async () => {
      await unpack(
        tar([
          { path: 'x', flag: '2', link: `${base}/outside/precious` },
          { path: 'x', content: 'new' },
          { path: 'y', flag: '2', link: `${base}/outside` },
          { path: 'y/', flag: '5' },
        ]),
      );
      assert.equal(await readFile(join(directory, 'x'), 'utf8'), 'new');
      assert.ok((await lstat(join(directory, 'y'))).isDirectory());
    });

    it('absolute paths and devices: the first are taken as inside, the second left out and named', async () => {
      const { leftOut } = await unpack(
        tar([
          { path: '/etc/x', content: '1' },
          { path: 'dev/sda', flag: '4' },
        ]),
      );
      assert.deepEqual(leftOut, ['dev/sda']);
      assert.ok(existsSync(join(directory, 'etc/x')));
      assert.ok(!existsSync(join(directory, 'dev/sda')));
    });

    it('links that were already there when the directory was not empty', async () => {
      await symlink(join(base, 'outside'), join(directory, 'trap'));
      await assert.rejects(unpack(tar([{ path: 'trap/precious', content: 'x' }])));
    });
  });

  it('keeps names of any length and language, times before the comma, FIFOs, and the last of two equals', async () => {
    const long = `${'d'.repeat(120)}/${'e'.repeat(200)}/ü`;
    await unpack(
      tar([
        { path: 'short', pax: { path: long, mtime: '1700000000.123456789' }, content: 'long' },
        { path: 'fifo', flag: '6', mode: 0o600 },
        { path: 'twice', content: 'first' },
        { path: 'twice', content: 'second' },
        { path: 'dir/', flag: '5', mtime: 1000 },
        { path: 'dir/late', content: '' },
      ]),
    );
    const file = await stat(join(directory, long), { bigint: true });
    assert.equal(file.mtimeNs / 1000n, 1_700_000_000_123_456n);
    assert.ok((await lstat(join(directory, 'fifo'))).isFIFO());
    assert.equal(await readFile(join(directory, 'twice'), 'utf8'), 'second');
    assert.equal((await stat(join(directory, 'dir'))).mtimeMs, 1_000_000);
  });

  it('hides with whiteouts what lower layers have, not what the layer itself brings', async () => {
    await unpack(
      tar([
        { path: 'kept', content: 'own' },
        { path: '.wh.kept' },
        { path: '.wh.gone' },
        { path: '.wh.again' },
        { path: 'again/', flag: '5' },
        { path: 'again/x', content: '' },
        { path: '.wh..wh.plnk', content: '' },
      ]),
    );
    assert.equal(await readFile(join(directory, 'kept'), 'utf8'), 'own');
    assert.deepEqual(
      (await readdir(directory)).filter((n) => n.startsWith('.wh')),
      [],
    );
    if (!isRoot) return console.log('not root: whiteouts need the right to make device nodes');
    assert.ok((await lstat(join(directory, 'gone'))).isCharacterDevice());
  });
});
