// Linux capabilities of containers: what they have by default, what they ask for, and what this host can give.

import { readFile } from 'node:fs/promises';
import { RuntimeError } from '../../cri.ts';

/** capabilities(7), in the order of their numbers in <linux/capability.h>. */
const CAPABILITIES = [
  ...['CHOWN', 'DAC_OVERRIDE', 'DAC_READ_SEARCH', 'FOWNER', 'FSETID', 'KILL', 'SETGID', 'SETUID', 'SETPCAP'],
  ...[
    'LINUX_IMMUTABLE',
    'NET_BIND_SERVICE',
    'NET_BROADCAST',
    'NET_ADMIN',
    'NET_RAW',
    'IPC_LOCK',
    'IPC_OWNER',
  ],
  ...[
    'SYS_MODULE',
    'SYS_RAWIO',
    'SYS_CHROOT',
    'SYS_PTRACE',
    'SYS_PACCT',
    'SYS_ADMIN',
    'SYS_BOOT',
    'SYS_NICE',
  ],
  ...[
    'SYS_RESOURCE',
    'SYS_TIME',
    'SYS_TTY_CONFIG',
    'MKNOD',
    'LEASE',
    'AUDIT_WRITE',
    'AUDIT_CONTROL',
    'SETFCAP',
  ],
  ...['MAC_OVERRIDE', 'MAC_ADMIN', 'SYSLOG', 'WAKE_ALARM', 'BLOCK_SUSPEND', 'AUDIT_READ', 'PERFMON', 'BPF'],
  'CHECKPOINT_RESTORE',
] as const;

/** What containerd and Docker give to a container that asks for nothing. */
const DEFAULT_CAPABILITIES = [
  ...[
    'CHOWN',
    'DAC_OVERRIDE',
    'FSETID',
    'FOWNER',
    'MKNOD',
    'NET_RAW',
    'SETGID',
    'SETUID',
    'SETFCAP',
    'SETPCAP',
  ],
  ...['NET_BIND_SERVICE', 'SYS_CHROOT', 'KILL', 'AUDIT_WRITE'],
];

export function defaultCapabilities(): string[] {
  return DEFAULT_CAPABILITIES.map((name) => `CAP_${name}`);
}

/** The capabilities of a bounding set as /proc/<pid>/status writes it. */
export function capabilitiesOfMask(hex: string): Set<string> {
  const mask = BigInt(`0x${hex.trim()}`);
  return new Set(CAPABILITIES.filter((_, i) => (mask >> BigInt(i)) & 1n).map((name) => `CAP_${name}`));
}

/** What we can give: the bounding set of this process. */
export async function availableCapabilities(): Promise<ReadonlySet<string>> {
  const status = await readFile('/proc/self/status', 'utf8');
  return capabilitiesOfMask(status.match(/^CapBnd:\s*([0-9a-f]+)$/m)?.[1] ?? '0');
}

function qualified(name: string): string {
  const upper = name.toUpperCase();
  const full = upper.startsWith('CAP_') ? upper : `CAP_${upper}`;
  if (!CAPABILITIES.some((known) => full === `CAP_${known}`))
    throw new RuntimeError('InvalidArgument', `unknown capability "${name}"`);
  return full;
}

/**
 * The capabilities of a container, as upstream's runtimes work them out: ALL is applied before single names, and what
 * is both added and dropped by name is dropped.
 */
export function containerCapabilities(
  wanted: { readonly add: readonly string[]; readonly drop: readonly string[] },
  privileged: boolean,
  available: ReadonlySet<string>,
): string[] {
  if (privileged) return [...available];
  const isAll = (name: string): boolean => name.toUpperCase() === 'ALL';
  const set = new Set(defaultCapabilities());
  if (wanted.add.some(isAll)) for (const name of available) set.add(name);
  if (wanted.drop.some(isAll)) set.clear();
  for (const name of wanted.add) if (!isAll(name)) set.add(qualified(name));
  for (const name of wanted.drop) if (!isAll(name)) set.delete(qualified(name));
  const asked = new Set(wanted.add.filter((name) => !isAll(name)).map(qualified));
  // A default that the host lacks is left out quietly, as its absence grants nothing; one asked for is an error.
  for (const name of set) {
    if (available.has(name)) continue;
    if (asked.has(name))
      throw new RuntimeError(
        'FailedPrecondition',
        `this host cannot give the capability ${name} to a container`,
      );
    set.delete(name);
  }
  return [...set];
}
