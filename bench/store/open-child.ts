// Opens the store in the directory named on its command line, in a process of its own, and says how long it took and
// what it costs.

import { openJournalStore } from '../../src/store/index.ts';

const [directory = ''] = process.argv.slice(2);
const before = process.memoryUsage().rss;
const start = performance.now();
await using store = await openJournalStore({ directory });
const milliseconds = performance.now() - start;
const { count } = await store.list({ start: '/', end: '0' }, { limit: 1 });
const rss = process.memoryUsage().rss - before;
process.stdout.write(JSON.stringify({ milliseconds, count, rss }));
