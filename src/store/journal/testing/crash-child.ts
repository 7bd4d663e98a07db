// The process that the crash test kills: opens the store in the directory named on its command line, writes to it
// without end and tells on standard output, line by line, everything that the store tells it.

import { writeSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { basename } from 'node:path';
import { seededRandom } from '../../conformance/model.ts';
import { diskFiles, type StoreFiles } from '../files.ts';
import { openJournalStore } from '../journal-store.ts';
import { Witness } from './witness.ts';

const [directory = '', seed = '', firstId = ''] = process.argv.slice(2);
const random = seededRandom(Number(seed));

// Usually written at exit, which never comes here.
flushCompileCache();

/** Synchronously, so that it is said before anything else happens; waits while the pipe is full. */
function say(what: unknown): void {
  let rest = Buffer.from(`${JSON.stringify(what)}\n`);
  while (rest.length > 0)
    try {
      rest = rest.subarray(writeSync(1, rest));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
}

/** Says up to where a segment is on disk for sure, as soon as it is. */
const files: StoreFiles = {
  ...diskFiles,
  async open(path, mode) {
    const file = await diskFiles.open(path, mode);
    if (mode !== 'create durable') return file;
    const segment = basename(path).replace(/\.tmp$/, '');
    const sayOnDisk = (buffers: readonly Uint8Array[], position: number): void =>
      say({ type: 'on disk', segment, end: position + (buffers[0]?.length ?? 0) });
    return {
      write: async (buffers, position) => {
        await file.write(buffers, position);
        sayOnDisk(buffers, position);
      },
      writeNow: (buffers, position) => {
        file.writeNow(buffers, position);
        sayOnDisk(buffers, position);
      },
      read: (buffer, position) => file.read(buffer, position),
      truncate: (length) => file.truncate(length),
      sync: () => file.sync(),
      close: () => file.close(),
    };
  },
};

const store = await openJournalStore({ directory, files, segmentBytes: 20_000, snapshotSlackBytes: 30_000 });
const witness = new Witness({ random, tell: say, firstId: Number(firstId) });
say({ type: 'ready' });
await witness.write(store, { writers: 1 + Math.floor(random() * 8), signal: new AbortController().signal });
