// Bundles src/ into dist/: one file for the command and one for tests that embed a cluster, with the data files
// beside them. Node's compile cache then makes the second start skip parsing.

import { spawnSync } from 'node:child_process';
import { copyFile, mkdir, readdir, rm } from 'node:fs/promises';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
process.chdir(root);
await mkdir('dist', { recursive: true });

const { metafile } = await build({
  entryPoints: { bulkhead: 'src/cli/main.ts', testing: 'src/cluster/testing.ts' },
  outdir: 'dist',
  bundle: true,
  splitting: true,
  chunkNames: 'chunks/[name]-[hash]',
  format: 'esm',
  platform: 'node',
  // Packages that come in both forms are taken as ES modules, so that their names can be imported one by one.
  mainFields: ['module', 'main'],
  target: 'node24',
  minifySyntax: true,
  minifyWhitespace: true,
  keepNames: true,
  sourcemap: 'linked',
  metafile: true,
  legalComments: 'none',
  logLevel: 'warning',
  define: { BULKHEAD_SOURCE: JSON.stringify(source()) },
  // Packages in CommonJS call require for Node's own modules.
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
  },
});

// The sandbox's runtime command, and the Sentry, which finds in its jail only the files of its folder. start.cjs loads
// either with the code that V8 made of it when it was built, which saves a third of the time to start.
const sandbox = await build({
  entryPoints: {
    'sentry/program': 'src/sandbox/boot/main.ts',
    'bulkhead-sandbox/program': 'src/sandbox/oci/main.ts',
  },
  outdir: 'dist',
  bundle: true,
  format: 'cjs',
  platform: 'node',
  target: 'node24',
  minifySyntax: true,
  minifyWhitespace: true,
  keepNames: true,
  metafile: true,
  legalComments: 'none',
  logLevel: 'warning',
  // As if it were where its source is, two folders below the project's.
  define: { 'import.meta.url': '__sourceUrl' },
  banner: { js: "const __sourceUrl = 'file://' + __dirname + '/../../src/sandbox/host/';" },
});
for (const name of ['sentry', 'bulkhead-sandbox']) {
  await copyFile('scripts/sandbox-start.cjs', `dist/${name}/start.cjs`);
  run(`dist/${name}/start.cjs`, '--make-code');
}

// The types of `bulkhead/testing`, for those who embed a cluster in their tests.
run('node_modules/typescript-7/bin/tsc', '-p', 'tsconfig.types.json');

// Field descriptions for `kubectl explain`: beside whichever file of the bundle reads them, and for sources in .cache.
for (const place of ['.cache', 'dist', 'dist/chunks']) {
  run('scripts/extract-descriptions.ts', `${place}/descriptions.generated.json`);
}

// What an earlier build left goes last, so that the command works all the while.
const outputs = [...Object.keys(metafile.outputs), ...Object.keys(sandbox.metafile.outputs)];
const current = new Set(outputs.map((path) => resolve(path)));
for (const entry of await readdir('dist', { recursive: true, withFileTypes: true })) {
  const path = resolve(entry.parentPath, entry.name);
  if (/\.js(\.map)?$/.test(entry.name) && !path.includes('.compile-cache') && !current.has(path))
    await rm(path);
}

/** For /version: the commit, and its date rather than today's, so that the same sources give the same bundle. */
function source(): { commit: string; treeState: string; date: string } {
  const [commit = '', seconds = ''] = git('log', '-1', '--format=%H %ct').split(' ');
  if (commit === '') return { commit: '', treeState: 'archive', date: '1970-01-01T00:00:00Z' };
  const treeState = git('status', '--porcelain', '--', 'src') === '' ? 'clean' : 'dirty';
  return { commit, treeState, date: new Date(Number(seconds) * 1000).toISOString().replace('.000Z', 'Z') };
}

/** What git prints; '' where there is no repository, or no git. */
function git(...args: string[]): string {
  const { status, stdout } = spawnSync('git', args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { ...process.env, GIT_OPTIONAL_LOCKS: '0' },
  });
  return status === 0 ? stdout.trim() : '';
}

function run(...args: string[]): void {
  const { status } = spawnSync(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  if (status !== 0) throw new Error(`${args[0]} failed`);
}
