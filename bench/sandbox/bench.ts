// The sandbox against runsc (systrap) in the same run, and runc for orientation: what single system calls cost, the
// start of /bin/true, and the memory of twenty sleeping sandboxes. Needs root, a C compiler and the peers.

import { execFile, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const execute = promisify(execFile);
const project = join(import.meta.dirname, '../..');
const STARTS = 15;
const SLEEPERS = 20;

interface Runtime {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

function runtimes(directory: string): Runtime[] {
  const candidates: (Runtime & { readonly file: string })[] = [
    {
      name: 'bulkhead',
      file: join(project, 'bin/bulkhead-sandbox'),
      command: [join(project, 'bin/bulkhead-sandbox'), '--root', join(directory, 'bulkhead')],
    },
    {
      name: 'runsc',
      file: runsc(),
      command: [
        runsc(),
        '--root',
        join(directory, 'runsc'),
        '--platform=systrap',
        '--network=none',
        '--ignore-cgroups',
      ],
    },
    { name: 'runc', file: '/usr/sbin/runc', command: ['/usr/sbin/runc', '--root', join(directory, 'runc')] },
  ];
  return candidates.filter(({ file }) => existsSync(file));
}

function runsc(): string {
  const cache = join(project, '.cache/peers');
  const found = existsSync(cache)
    ? readdirSync(cache)
        .map((name) => join(cache, name, 'usr/bin/runsc'))
        .find(existsSync)
    : undefined;
  return found ?? '/opt/peers/usr/bin/runsc';
}

async function bundle(
  directory: string,
  name: string,
  program: string,
  args: readonly string[],
): Promise<string> {
  const path = join(directory, name);
  for (const folder of ['rootfs/bin', 'rootfs/proc', 'rootfs/dev', 'rootfs/tmp', 'rootfs/etc', 'work'])
    await mkdir(join(path, folder), { recursive: true });
  execFileSync('cp', [program, join(path, 'rootfs/bin/calls')]);
  execFileSync('cp', ['/bin/busybox', join(path, 'rootfs/bin/busybox')]);
  for (const applet of ['true', 'sleep'])
    execFileSync('ln', ['-sf', 'busybox', join(path, 'rootfs/bin', applet)]);
  await writeFile(join(path, 'rootfs/etc/passwd'), 'root:x:0:0:root:/:/bin/sh\n');
  const config = {
    ociVersion: '1.0.2',
    hostname: 'bench',
    root: { path: 'rootfs', readonly: false },
    process: {
      terminal: false,
      user: { uid: 0, gid: 0 },
      args,
      env: ['PATH=/bin'],
      cwd: '/',
      capabilities: {},
      noNewPrivileges: true,
    },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['mode=755'] },
      { destination: '/tmp', type: 'tmpfs', source: 'tmpfs', options: ['mode=1777'] },
      { destination: '/work', type: 'bind', source: join(path, 'work'), options: ['bind', 'rw'] },
    ],
    linux: {
      namespaces: ['pid', 'network', 'ipc', 'uts', 'mount'].map((type) => ({ type })),
      resources: {},
    },
  };
  await writeFile(join(path, 'config.json'), JSON.stringify(config));
  return path;
}

let containers = 0;
const nextId = (): string => `bench-${process.pid}-${containers++}`;

async function output({ command: [program, ...args] }: Runtime, path: string): Promise<string> {
  const { stdout } = await execute(program, [...args, 'run', '--bundle', path, nextId()], {
    timeout: 300_000,
  });
  return stdout;
}

async function calls(all: readonly Runtime[], directory: string): Promise<void> {
  const program = join(directory, 'calls');
  execFileSync('cc', ['-O2', '-static', '-o', program, join(import.meta.dirname, 'calls.c'), '-lpthread']);
  const path = await bundle(directory, 'calls-bundle', program, ['/bin/calls', '/work']);
  const results = new Map<string, Map<string, number>>();
  for (const runtime of all) {
    for (const line of (await output(runtime, path)).trim().split('\n')) {
      const [name = '', value] = line.split('\t');
      const row = results.get(name) ?? new Map<string, number>();
      results.set(name, row.set(runtime.name, Number(value)));
    }
  }
  console.log(`${'ns'.padEnd(38)}${all.map(({ name }) => name.padStart(12)).join('')}   of runsc's`);
  for (const [name, row] of results) {
    const ratio = (row.get('bulkhead') ?? Number.NaN) / (row.get('runsc') ?? Number.NaN);
    const cells = all.map((runtime) => String(row.get(runtime.name) ?? '-').padStart(12)).join('');
    console.log(`${name.padEnd(38)}${cells}   ${ratio.toFixed(2)}${ratio < 1 ? '' : '   slower'}`);
  }
}

async function starts(all: readonly Runtime[], directory: string): Promise<void> {
  const path = await bundle(directory, 'true-bundle', join(directory, 'calls'), ['/bin/true']);
  const times = new Map(all.map(({ name }) => [name, [] as number[]]));
  for (let round = 0; round < STARTS; round++) {
    for (const runtime of all) {
      const began = performance.now();
      await output(runtime, path);
      times.get(runtime.name)?.push(performance.now() - began);
    }
  }
  for (const [name, values] of times)
    console.log(`start of /bin/true, cold: ${name.padEnd(10)} ${median(values).toFixed(0)} ms`);
}

/** PSS in KiB of all processes whose command line or ancestry belongs to this run: found by a marker in their cgroup. */
function pssOfTree(roots: ReadonlySet<number>): number {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(')') + 4).split(' ')[0]));
    } catch {
      // It has ended meanwhile.
    }
  }
  const belongs = (pid: number): boolean => {
    for (let at: number | undefined = pid; at !== undefined && at > 1; at = parents.get(at))
      if (roots.has(at)) return true;
    return false;
  };
  let total = 0;
  for (const pid of parents.keys()) {
    if (!belongs(pid)) continue;
    try {
      total += Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1'))?.[1] ?? 0);
    } catch {
      // As above.
    }
  }
  return total;
}

async function memory(all: readonly Runtime[], directory: string): Promise<void> {
  const path = await bundle(directory, 'sleep-bundle', join(directory, 'calls'), ['/bin/sleep', '1000']);
  for (const runtime of all) {
    const [program, ...args] = runtime.command;
    const ids = Array.from({ length: SLEEPERS }, nextId);
    const before = new Set(
      readdirSync('/proc')
        .filter((name) => /^\d+$/.test(name))
        .map(Number),
    );
    for (const id of ids)
      await new Promise<void>((resolve, reject) => {
        const child = spawn(program, [...args, 'run', '--detach', '--bundle', path, id], {
          stdio: ['ignore', 'ignore', 'inherit'],
        });
        child.once('error', reject);
        child.once('exit', (code) =>
          code === 0 ? resolve() : reject(new Error(`${runtime.name} run: ${code}`)),
        );
      });
    const made = new Set(
      readdirSync('/proc')
        .filter((name) => /^\d+$/.test(name))
        .map(Number)
        .filter((pid) => !before.has(pid)),
    );
    const total = pssOfTree(made);
    console.log(
      `${SLEEPERS} sleeping sandboxes: ${runtime.name.padEnd(10)} ${(total / 1024).toFixed(1)} MiB PSS, ${(total / 1024 / SLEEPERS).toFixed(1)} each`,
    );
    for (const id of ids) {
      await execute(program, [...args, 'kill', id, 'KILL']).catch(() => undefined);
      await execute(program, [...args, 'delete', '--force', id]).catch(() => undefined);
    }
  }
}

export async function run(): Promise<void> {
  if (process.getuid?.() !== 0) {
    console.log('the sandbox benchmark was not run: it needs root');
    return;
  }
  const directory = mkdtempSync(join(tmpdir(), 'bh-bench-sandbox-'));
  try {
    const all = runtimes(directory);
    console.log(`load ${readFileSync('/proc/loadavg', 'latin1').split(' ')[0]}`);
    await calls(all, directory);
    await starts(all, directory);
    await memory(all, directory);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
