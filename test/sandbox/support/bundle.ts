// OCI bundles for the program tests: a Debian root below an overlay of the run's own, and running them under any OCI
// runtime of the `runc run` kind.

import { execFile, spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface BundleOptions {
  /** A root file system; it is not written to. */
  readonly root: string;
  readonly args: readonly string[];
  readonly user?: number;
  readonly env?: readonly string[];
  /** Changes the config before it is written. */
  readonly change?: (config: OciConfig) => void;
}

export interface OciConfig {
  ociVersion: string;
  hostname: string;
  root: { path: string; readonly: boolean };
  process: {
    terminal: boolean;
    user: { uid: number; gid: number };
    args: readonly string[];
    env: string[];
    cwd: string;
    capabilities: Record<string, readonly string[]>;
    rlimits: { type: string; hard: number; soft: number }[];
    noNewPrivileges: boolean;
  };
  mounts: { destination: string; type: string; source: string; options?: string[] }[];
  linux: {
    namespaces: { type: string; path?: string }[];
    resources: Record<string, unknown>;
    cgroupsPath?: string;
    maskedPaths?: string[];
    readonlyPaths?: string[];
  };
  annotations?: Record<string, string>;
}

const capabilities =
  'CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE SYS_PTRACE'
    .split(' ')
    .map((name) => `CAP_${name}`);

export interface Bundle extends AsyncDisposable {
  readonly id: string;
  readonly path: string;
  /** The directory seen as /work. */
  readonly work: string;
}

export async function makeBundle({ root, args, user = 0, env = [], change }: BundleOptions): Promise<Bundle> {
  const path = await mkdtemp(join(tmpdir(), 'bulkhead-bundle-'));
  const id = path.slice(path.lastIndexOf('-') + 1).toLowerCase();
  for (const name of ['rootfs', 'upper', 'overlay', 'work']) await mkdir(join(path, name), { mode: 0o755 });
  const work = join(path, 'work');
  await run('chmod', ['777', work]);
  await run('mount', [
    '-t',
    'overlay',
    'overlay',
    '-o',
    `lowerdir=${root},upperdir=${join(path, 'upper')},workdir=${join(path, 'overlay')}`,
    join(path, 'rootfs'),
  ]);
  const config: OciConfig = {
    ociVersion: '1.0.2',
    hostname: 'box',
    root: { path: 'rootfs', readonly: false },
    process: {
      terminal: false,
      user: { uid: user, gid: user },
      args,
      env: [
        'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        'HOME=/tmp',
        'LC_ALL=C.UTF-8',
        ...env,
      ],
      cwd: '/',
      capabilities:
        user === 0
          ? { bounding: capabilities, effective: capabilities, permitted: capabilities }
          : { bounding: capabilities },
      rlimits: [{ type: 'RLIMIT_NOFILE', hard: 4096, soft: 1024 }],
      noNewPrivileges: user !== 0,
    },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      {
        destination: '/dev',
        type: 'tmpfs',
        source: 'tmpfs',
        options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
      },
      {
        destination: '/dev/pts',
        type: 'devpts',
        source: 'devpts',
        options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
      },
      {
        destination: '/dev/shm',
        type: 'tmpfs',
        source: 'shm',
        options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'],
      },
      {
        destination: '/dev/mqueue',
        type: 'mqueue',
        source: 'mqueue',
        options: ['nosuid', 'noexec', 'nodev'],
      },
      { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
      { destination: '/tmp', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'nodev', 'mode=1777'] },
      { destination: '/work', type: 'bind', source: work, options: ['bind', 'rw'] },
    ],
    linux: {
      namespaces: ['pid', 'network', 'ipc', 'uts', 'mount'].map((type) => ({ type })),
      resources: {},
      maskedPaths: ['/proc/kcore', '/proc/keys', '/sys/firmware'],
      readonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
    },
  };
  change?.(config);
  await writeFile(join(path, 'config.json'), JSON.stringify(config, undefined, 2));
  return {
    id,
    path,
    work,
    async [Symbol.asyncDispose]() {
      await run('umount', [join(path, 'rootfs')]);
      await rm(path, { recursive: true, force: true });
    },
  };
}

export interface RunResult {
  readonly status: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly timedOut: boolean;
  readonly milliseconds: number;
}

/** Runs `<runtime> … run <id>` in the bundle to its end; at the time limit the container is killed and deleted. */
export async function runBundle(
  runtime: readonly [program: string, ...args: string[]],
  bundle: Bundle,
  seconds: number,
): Promise<RunResult> {
  const [program, ...args] = runtime;
  const started = performance.now();
  const child = spawn(program, [...args, 'run', '--bundle', bundle.path, bundle.id], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  let timedOut = false;
  const timer = setTimeout(async () => {
    timedOut = true;
    await run(program, [...args, 'kill', bundle.id, 'KILL']).catch(() => undefined);
    await run(program, [...args, 'delete', '--force', bundle.id]).catch(() => undefined);
    child.kill('SIGKILL');
  }, seconds * 1000);
  const [status, signal] = await new Promise<[number | null, string | null]>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, ended) => resolve([code, ended]));
  });
  clearTimeout(timer);
  return {
    status,
    signal,
    stdout: Buffer.concat(stdout).toString('latin1'),
    stderr: Buffer.concat(stderr).toString('latin1'),
    timedOut,
    milliseconds: performance.now() - started,
  };
}
