// Compiles the programs below native/ into build/native: each folder is one program, named bulkhead-<folder>, linked
// statically so that it starts in well under a millisecond and runs in any mount namespace.

import { execFile } from 'node:child_process';
import { existsSync, globSync, mkdirSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));
const output = join(root, 'build/native');
const compiler = process.env['CC'] ?? 'cc';
const run = promisify(execFile);

mkdirSync(output, { recursive: true });
for (const folder of readdirSync(join(root, 'native'))) {
  const sources = globSync(join(root, 'native', folder, '*.c')).sort();
  // A folder with its own build description (node-gyp) is not ours.
  if (sources.length === 0 || existsSync(join(root, 'native', folder, 'binding.gyp'))) continue;
  const program = join(output, `bulkhead-${folder}`);
  const unfinished = `${program}.${process.pid}`;
  try {
    const { stderr } = await run(compiler, [
      ...['-std=gnu11', '-O2', '-g0', '-s', '-static', '-Wall', '-Wextra', '-fstack-protector-strong'],
      ...['-o', unfinished, ...sources],
    ]);
    if (stderr) console.error(stderr.trimEnd());
  } catch (error) {
    const { code, stderr } = error as { readonly code?: unknown; readonly stderr?: string };
    console.error(
      code === 'ENOENT'
        ? `There is no C compiler (${compiler}). On Debian: apt-get install gcc libc6-dev`
        : `${compiler} could not build native/${folder}:\n${stderr ?? String(error)}`,
    );
    process.exit(1);
  }
  // Renamed into place, because a program that runs cannot be written to.
  renameSync(unfinished, program);
}
