// Compiles the programs below native/ into build/native: each folder is one program, named bulkhead-<folder>, linked
// statically so that it starts in well under a millisecond and runs in any mount namespace. A folder that needs
// something else says so in its build.json (BuildDescription).

import { execFile } from 'node:child_process';
import { existsSync, globSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** native/<folder>/build.json: how a folder's sources (*.c, *.S) become one file. Every field may be left out. */
interface BuildDescription {
  /** Node's names of the architectures it is built for; it is left out on others. Otherwise: all. */
  readonly architectures?: readonly string[];
  /** Name of the result in build/native. Otherwise: bulkhead-<folder>. */
  readonly output?: string;
  /** Replace the usual flags but for the language and warnings. The compiler runs in the folder. */
  readonly flags?: readonly string[];
  /** After the sources. */
  readonly libraries?: readonly string[];
  /** Whether Node-API's headers are needed. */
  readonly nodeHeaders?: boolean;
}

const root = fileURLToPath(new URL('..', import.meta.url));
const output = join(root, 'build/native');
const compiler = process.env['CC'] ?? 'cc';
const run = promisify(execFile);
const usual = ['-O2', '-g0', '-s', '-static', '-fstack-protector-strong'];

// Beside the pinned Node's program, which need not be the one that runs this script.
function nodeHeaders(): string {
  const pinned = join(root, `node_modules/node-linux-${process.arch}/include/node`);
  return existsSync(pinned) ? pinned : join(dirname(process.execPath), '../include/node');
}

mkdirSync(output, { recursive: true });
for (const folder of readdirSync(join(root, 'native'))) {
  const directory = join(root, 'native', folder);
  const sources = globSync('*.{c,S}', { cwd: directory }).sort();
  // A folder with its own build description (node-gyp) is not ours.
  if (sources.length === 0 || existsSync(join(directory, 'binding.gyp'))) continue;
  const description = join(directory, 'build.json');
  const build: BuildDescription = existsSync(description)
    ? (JSON.parse(readFileSync(description, 'utf8')) as BuildDescription)
    : {};
  if (build.architectures && !build.architectures.includes(process.arch)) continue;
  const program = join(output, build.output ?? `bulkhead-${folder}`);
  const unfinished = `${program}.${process.pid}`;
  try {
    const { stderr } = await run(
      compiler,
      [
        ...['-std=gnu11', '-Wall', '-Wextra', ...(build.flags ?? usual)],
        ...(build.nodeHeaders ? ['-isystem', nodeHeaders()] : []),
        ...['-o', unfinished, ...sources, ...(build.libraries ?? [])],
      ],
      { cwd: directory },
    );
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
