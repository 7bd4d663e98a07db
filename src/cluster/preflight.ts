// What must be true of the machine before a cluster is started on it. All that is wrong is told at once, each with
// its remedy, instead of one failure after another.

import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { delimiter, join } from 'node:path';

export interface Problem {
  readonly what: string;
  readonly remedy: string;
}

export class PreflightError extends Error {
  override readonly name = 'PreflightError';
  readonly problems: readonly Problem[];
  constructor(problems: readonly Problem[]) {
    super(
      [
        'this machine cannot run the cluster as it is:',
        ...problems.flatMap((p) => [`  - ${p.what}`, ...p.remedy.split('\n').map((line) => `      ${line}`)]),
      ].join('\n'),
    );
    this.problems = problems;
  }
}

/** Programs that containers need, with the Debian package of each. */
const PROGRAMS: readonly { readonly anyOf: readonly string[]; readonly package: string }[] = [
  { anyOf: ['conmon'], package: 'conmon' },
  { anyOf: ['runc', 'crun'], package: 'runc' },
  { anyOf: ['nft'], package: 'nftables' },
  { anyOf: ['ip'], package: 'iproute2' },
  { anyOf: ['conntrack'], package: 'conntrack' },
  { anyOf: ['tar'], package: 'tar' },
];

/** Where the program is, looking where root's programs are too. */
export function findProgram(name: string): string | undefined {
  const path = [
    ...(process.env['PATH'] ?? '').split(delimiter),
    '/usr/local/sbin',
    '/usr/sbin',
    '/sbin',
    '/usr/bin',
    '/bin',
  ];
  for (const directory of path) {
    if (directory === '') continue;
    const file = join(directory, name);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // not there; the next one may be
    }
  }
  return undefined;
}

function namespaceProblems(): Problem[] {
  const missing = ['net', 'mnt', 'pid', 'ipc', 'uts'].filter((ns) => !existsSync(`/proc/self/ns/${ns}`));
  if (missing.length === 0) return [];
  return [
    {
      what: `the kernel lacks namespaces: ${missing.join(', ')}`,
      remedy: 'Use a kernel with namespaces (every distribution’s has them).',
    },
  ];
}

function filesystemProblems(): Problem[] {
  const filesystems = readFileSync('/proc/filesystems', 'utf8');
  const loadable = existsSync('/sbin/modprobe') || existsSync('/usr/sbin/modprobe');
  if (/\toverlay$/m.test(filesystems) || loadable) return [];
  return [{ what: 'the kernel has no overlay file system', remedy: 'Load it: modprobe overlay' }];
}

function cgroupProblems(): Problem[] {
  if (existsSync('/sys/fs/cgroup/cgroup.controllers')) {
    const controllers = readFileSync('/sys/fs/cgroup/cgroup.controllers', 'utf8').trim().split(/\s+/);
    const missing = ['cpu', 'memory', 'pids'].filter((c) => !controllers.includes(c));
    if (missing.length === 0) return [];
    return [
      {
        what: `cgroup controllers are missing: ${missing.join(', ')}`,
        remedy: 'Enable them on the kernel command line, e.g. cgroup_enable=memory',
      },
    ];
  }
  const missing = ['cpu', 'memory', 'pids'].filter((c) => !existsSync(`/sys/fs/cgroup/${c}`));
  if (missing.length === 0) return [];
  return [
    {
      what: `no cgroup hierarchy with ${missing.join(', ')} is mounted at /sys/fs/cgroup`,
      remedy: 'Mount cgroup v2 there: mount -t cgroup2 none /sys/fs/cgroup',
    },
  ];
}

/** What stands in the way of real containers on this machine. */
export function containerProblems(): Problem[] {
  if (process.platform !== 'linux') {
    return [
      {
        what: `containers need Linux; this is ${process.platform}`,
        remedy: 'Start nodes without containers, which run anywhere: bulkhead up --simulate 3',
      },
    ];
  }
  if (process.getuid?.() !== 0) {
    return [
      {
        what: 'containers need root (namespaces, mounts, cgroups, nftables)',
        remedy: 'sudo bulkhead up\nor, without root and without containers: bulkhead up --simulate 3',
      },
    ];
  }
  const absent = PROGRAMS.filter(({ anyOf }) => !anyOf.some((name) => findProgram(name)));
  const problems: Problem[] = [];
  if (absent.length > 0) {
    problems.push({
      what: `programs are missing: ${absent.map(({ anyOf }) => anyOf[0]).join(', ')}`,
      remedy: `apt-get install --no-install-recommends ${absent.map((p) => p.package).join(' ')}`,
    });
  }
  return [...problems, ...namespaceProblems(), ...filesystemProblems(), ...cgroupProblems()];
}

/** Tries to listen where the cluster will; port 0 is always free. */
export async function portProblem(
  address: string,
  port: number,
  option: string,
  what: string,
): Promise<Problem | undefined> {
  if (port === 0) return undefined;
  const code = await new Promise<string | undefined>((resolve) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    server.listen({ host: address, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });
  if (code === undefined) return undefined;
  if (code === 'EADDRINUSE') {
    return {
      what: `port ${port} for the ${what} is taken by another program`,
      remedy: `See which: ss -ltnp 'sport = :${port}'\nor choose another port: bulkhead up ${option} PORT`,
    };
  }
  if (code === 'EACCES')
    return {
      what: `port ${port} for the ${what} needs root`,
      remedy: `Choose a port above 1023: ${option} PORT`,
    };
  return {
    what: `cannot listen on ${address} port ${port} for the ${what}: ${code}`,
    remedy: 'Give an address of this machine.',
  };
}
