// The whole test: style, types, arrows between folders, then every test file with Node's test runner, whose summary
// is the last thing printed.
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
// Some tests look at the whole machine (what a cluster leaves behind, what it does under full load), so nothing else
// may run beside them.
const WHOLE_MACHINE = ['application', 'node', 'start'].map((name) => `test/e2e/${name}.test.ts`);

function runTests(some: readonly string[], concurrency: number): boolean {
  if (some.length === 0) return true;
  const options = [`--test-concurrency=${concurrency}`, '--test-timeout=600000', '--test-reporter=spec'];
  const env = { ...process.env, NODE_ENV: 'test' };
  return spawnSync(process.execPath, ['--test', ...options, ...some], { stdio: 'inherit', env }).status === 0;
}

const alone = runTests(
  files.filter((file) => WHOLE_MACHINE.includes(file)),
  1,
);
const together = runTests(
  files.filter((file) => !WHOLE_MACHINE.includes(file)),
  2,
);
if (!alone) console.error(`one of ${WHOLE_MACHINE.join(', ')} failed; its summary stands above`);
process.exit(alone && together ? 0 : 1);
