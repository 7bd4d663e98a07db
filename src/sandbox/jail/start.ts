// Starts Gofers and blank Sentries in their jails, by native/launcher. This runs outside of any jail, in the runtime's
// command; it decides who maps to whom, what is mounted and what is kept, and the launcher does it.
//
// Both processes outlive the launcher and are adopted by the nearest subreaper; whoever keeps their pid should hold a
// descriptor, too, whose end tells that they are gone.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { RootFlags } from '../gofer/protocol.ts';
import { SentryFd } from './descriptors.ts';
import type { JailFile } from './shared-libraries.ts';

/** One range of a user namespace: `count` ids from `inside` there are those from `outside` here. */
export interface IdMap {
  readonly inside: number;
  readonly outside: number;
  readonly count: number;
}

/** Without it a process stays in the caller's user namespace. */
export interface UserNamespace {
  readonly uids: readonly IdMap[];
  readonly gids: readonly IdMap[];
  /** newuidmap(1) and newgidmap(1), for callers without privilege that map more than themselves. */
  readonly mappers?: { readonly uid: string; readonly gid: string };
}

interface JailOptions {
  /** build/native/bulkhead-launcher. */
  readonly launcher: string;
  readonly userNamespace: UserNamespace | undefined;
  /** cgroup.procs files (one for each hierarchy) that the process belongs in from its first moment on. */
  readonly cgroups?: readonly string[];
  /** oom_score_adj, as far as the caller may set it. */
  readonly oomScore?: number;
  /** Where its standard error goes: a descriptor, or the caller's own. */
  readonly log?: number | 'inherit' | 'ignore';
}

export interface GoferRoot {
  /** A directory, or a single file, with all mounts in it. */
  readonly path: string;
  readonly readOnly?: boolean;
  /** Character and block devices may be made; needs a Gofer without a user namespace of its own, started by root. */
  readonly devices?: boolean;
  /** The Unix sockets of host programs in it may be connected to. */
  readonly sockets?: boolean;
  readonly privilegedXattrs?: boolean;
}

export interface GoferOptions extends JailOptions {
  /** build/native/bulkhead-gofer. */
  readonly gofer: string;
  /** Served by their index here. */
  readonly roots: readonly GoferRoot[];
  /** The Gofer's end of a stream socket pair; the caller closes its copy. */
  readonly socket: number;
}

export interface SentryOptions extends JailOptions {
  /** build/native/bulkhead-stub, or bulkhead-tracee for the ptrace platform; undefined: nothing will be run. */
  readonly zygote: string | undefined;
  /** Everything that is to be seen until the seal: Node, its shared libraries, the Sentry's script and addon. */
  readonly files: readonly JailFile[];
  /** Program (a path in the jail) and arguments. */
  readonly command: readonly [string, ...string[]];
  readonly environment: Readonly<Record<string, string>>;
  /** Standard input, output and error. */
  readonly stdio: readonly [number | 'ignore', number | 'ignore', number | 'ignore' | 'inherit'];
  /** Descriptors for the Sentry: SentryFd.first and following. The caller closes its copies. */
  readonly descriptors: readonly number[];
  /** The Sentry stays in the caller's network namespace (--network=host). */
  readonly hostNetwork?: boolean;
}

export interface Started {
  /** As the caller's pid namespace sees it; it is 1 in its own. */
  readonly pid: number;
}

const Capability = { chown: 0, dacOverride: 1, fowner: 3, fsetid: 4, mknod: 27, setfcap: 31 } as const;

/**
 * Starts a Gofer; when it is there it answers on the other end of `socket`, and ends when that is closed.
 * Rejects with the launcher's reason.
 */
export function startGofer(options: GoferOptions): Promise<Started> {
  const { roots } = options;
  const flags = roots.map(
    (root) =>
      (root.readOnly ? RootFlags.readOnly : 0) |
      (root.devices ? RootFlags.devices : 0) |
      (root.sockets ? RootFlags.sockets : 0) |
      (root.privilegedXattrs ? RootFlags.privilegedXattrs : 0),
  );
  // Files of any owner are read and written for the Sentry, which has checked the permissions (DAC_OVERRIDE), made for
  // any owner (CHOWN), changed as their owner could (FOWNER), and keep set-ID bits that the Sentry says they have
  // (FSETID). The rest only where a root asks for it.
  const capabilities: number[] = [
    ...[Capability.chown, Capability.dacOverride, Capability.fowner, Capability.fsetid],
    ...(roots.some((root) => root.devices) ? [Capability.mknod] : []),
    ...(roots.some((root) => root.privilegedXattrs) ? [Capability.setfcap] : []),
  ];
  const mask = capabilities.reduce((sum, capability) => sum + 2 ** capability, 0);
  return launch(
    options,
    ['ignore', 'ignore', options.log ?? 'inherit', 'pipe', options.socket],
    [
      ...roots.flatMap(({ path, readOnly }, index) => [readOnly ? '--bind-ro' : '--bind', path, `/${index}`]),
      ...[
        '--executable',
        options.gofer,
        '--fd',
        '4',
        '--self-fd',
        '200',
        '--capabilities',
        mask.toString(16),
      ],
      ...['--', 'bulkhead-gofer', '4', '200', ...flags.map(String)],
    ],
    {},
  );
}

/**
 * Starts a Sentry that knows no sandbox yet, and waits until it has sealed itself: it has loaded all its files, its
 * root is empty and read-only. Rejects with the launcher's reason.
 */
export function startBlankSentry(options: SentryOptions): Promise<Started> {
  const { descriptors, zygote } = options;
  const [input, output, error] = options.stdio;
  return launch(
    options,
    [input, output, error, 'pipe', ...descriptors],
    [
      ...options.files.flatMap(({ source, target }) => ['--bind-ro', source, target]),
      ...descriptors.flatMap((_, index) => ['--fd', String(SentryFd.first + index)]),
      ...(zygote === undefined ? [] : ['--zygote', zygote, '--zygote-fds', String(SentryFd.zygote)]),
      ...(options.hostNetwork ? ['--host-network'] : []),
      ...['--handshake', String(SentryFd.handshake), '--', ...options.command],
    ],
    // A ring would take submissions past the seccomp filter, if libuv's were one that the kernel polls.
    { ...options.environment, UV_USE_IO_URING: '0' },
  );
}

/** The caller's own ids, unchanged: for a Gofer of root's. */
export function identityNamespace(): UserNamespace {
  const own = (file: string): IdMap[] =>
    readFileSync(file, 'latin1')
      .trim()
      .split('\n')
      .map((line) => line.trim().split(/\s+/).map(Number))
      .map(([inside = 0, , count = 0]) => ({ inside, outside: inside, count }));
  return { uids: own('/proc/self/uid_map'), gids: own('/proc/self/gid_map') };
}

/** Only one id, root inside: for Sentries, and for Gofers of callers without privilege. */
export function singleNamespace(uid: number, gid: number): UserNamespace {
  return { uids: [{ inside: 0, outside: uid, count: 1 }], gids: [{ inside: 0, outside: gid, count: 1 }] };
}

type Stdio = number | 'ignore' | 'inherit' | 'pipe';

function launch(
  options: JailOptions,
  stdio: Stdio[],
  rest: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<Started> {
  const { userNamespace: namespace } = options;
  const maps = (option: string, ranges: readonly IdMap[]): string[] =>
    ranges.flatMap(({ inside, outside, count }) => [option, `${inside}:${outside}:${count}`]);
  const parameters = [
    ...['--status', '3'],
    ...(options.cgroups ?? []).flatMap((file) => ['--cgroup', file]),
    ...(options.oomScore === undefined ? [] : ['--oom-score', String(options.oomScore)]),
    ...(namespace ? [...maps('--uid-map', namespace.uids), ...maps('--gid-map', namespace.gids)] : []),
    ...(namespace?.mappers ? ['--mappers', namespace.mappers.uid, namespace.mappers.gid] : []),
    ...rest,
  ];
  const { promise, resolve, reject } = Promise.withResolvers<Started>();
  const child = spawn(options.launcher, parameters, { stdio, env: { ...env }, cwd: '/' });
  const status = child.stdio[3];
  let text = '';
  status?.on('data', (bytes: Buffer) => {
    text += bytes.toString();
  });
  child.on('error', reject);
  // After the last of the status has been read.
  child.on('close', (code, signal) => {
    const pid = /^pid (\d+)$/m.exec(text)?.[1];
    const reason = /^error (.*)$/m.exec(text)?.[1];
    if (code === 0 && pid !== undefined && /^ready$/m.test(text)) resolve({ pid: Number(pid) });
    else reject(new Error(`the launcher could not start it: ${reason ?? `it ended with ${signal ?? code}`}`));
  });
  return promise;
}
