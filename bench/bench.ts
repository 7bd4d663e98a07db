// All benchmarks, one after the other, each against its peer in the same run where there is one.
//   npm run bench                 everything
//   npm run bench -- store        only those whose name is given

import { parseArgs } from 'node:util';

const benchmarks: Readonly<Record<string, () => Promise<{ run(): Promise<void> }>>> = {
  store: () => import('./store/bench.ts'),
  apiserver: () => import('./apiserver/bench.ts'),
  runtime: () => import('./runtime/bench.ts'),
  proxy: () => import('./proxy/bench.ts'),
  dns: () => import('./dns/bench.ts'),
  sandbox: () => import('./sandbox/bench.ts'),
  cluster: () => import('./cluster/bench.ts'),
};

const { positionals } = parseArgs({ allowPositionals: true });
const unknown = positionals.filter((name) => !Object.hasOwn(benchmarks, name));
if (unknown.length > 0) {
  console.error(
    `there is no benchmark ${unknown.join(', ')}; there are ${Object.keys(benchmarks).join(', ')}`,
  );
  process.exit(2);
}
for (const [name, load] of Object.entries(benchmarks)) {
  if (positionals.length > 0 && !positionals.includes(name)) continue;
  console.log(`\n== ${name}`);
  const { run } = await load();
  await run();
}
