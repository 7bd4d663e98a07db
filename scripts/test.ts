// The whole test: style, types, arrows between folders, then every test file in one run of Node's test runner,
// whose summary is the last thing printed.
//   npm test                         everything
//   npm test -- src/store            only test files whose path contains one of these words
//   npm test -- --only check         only style, types and arrows

import { spawnSync } from 'node:child_process';
import { globSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));
process.chdir(root);
const { values, positionals } = parseArgs({ options: { only: { type: 'string' } }, allowPositionals: true });

function step(name: string, file: string, args: readonly string[]): void {
  const started = performance.now();
  const { status } = spawnSync(file, args, { stdio: 'inherit' });
  if (status !== 0) {
    console.error(`\n${name}: failed`);
    process.exit(status ?? 1);
  }
  console.log(`${name}: ok (${((performance.now() - started) / 1000).toFixed(1)} s)`);
}

if (positionals.length === 0) {
  step('style', 'node_modules/.bin/biome', ['check', '--error-on-warnings', '--diagnostic-level=warn']);
  step('types', process.execPath, ['node_modules/typescript-7/bin/tsc', '-p', '.']);
  step('arrows', process.execPath, [
    'node_modules/dependency-cruiser/bin/dependency-cruise.mjs',
    'src',
    '--config',
    '.dependency-cruiser.cjs',
    '--output-type',
    'err',
  ]);
}
if (values.only === 'check') process.exit(0);

const files = globSync(['src/**/*.test.ts', 'test/**/*.test.ts'])
  .filter((file) => positionals.length === 0 || positionals.some((word) => file.includes(word)))
  .sort();
if (files.length === 0) {
  console.error(`no test file matches ${positionals.join(' or ')}`);
  process.exit(2);
}
// End-to-end tests share the machine's network and cgroups, so files run one after the other there.
const shared = files.filter((f) => f.startsWith('test/'));
const apart = files.filter((f) => !f.startsWith('test/'));
const { status } = spawnSync(
  process.execPath,
  [
    '--test',
    `--test-concurrency=${shared.length > 0 && apart.length === 0 ? 1 : 2}`,
    '--test-timeout=600000',
    '--test-reporter=spec',
    ...apart,
    ...shared,
  ],
  { stdio: 'inherit', env: { ...process.env, NODE_ENV: 'test' } },
);
process.exit(status ?? 1);
