// Starting a sandbox's two processes: a blank Sentry, which everything may be asked of before the configuration has
// been read, and a Gofer for each container.

import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { join } from 'node:path';
import type { SentrySettings } from '../boot/settings.ts';
import type { HostFd } from '../host/contract.ts';
import { sharedLibraries } from '../jail/shared-libraries.ts';
import {
  type GoferRoot,
  identityNamespace,
  singleNamespace,
  startBlankSentry,
  startGofer,
  type UserNamespace,
} from '../jail/start.ts';
import type { GlobalOptions } from './global-options.ts';
import { type HostProcess, identify, type Outside, programs } from './outside.ts';
import type { StateDirectory } from './state.ts';

/** Nobody's user and group. */
const nobody = 65_534;
const sentryOomScore = -998;
const taskLimit = 32_768;

export const isPrivileged = (): boolean => process.getuid?.() === 0;

/** Everything that Node has to find in the jail until it is sealed. */
function jailFiles(): { readonly source: string; readonly target: string }[] {
  return [
    { source: process.execPath, target: '/node' },
    ...sharedLibraries(process.execPath),
    { source: programs.sentry, target: '/dist/sentry' },
    { source: programs.addon, target: '/build/native/sentry.node' },
  ];
}

function auxiliaryVector(): [number, number][] {
  const bytes = readFileSync('/proc/self/auxv');
  const vector: [number, number][] = [];
  for (let at = 0; at + 16 <= bytes.length; at += 16) {
    const type = Number(bytes.readBigUInt64LE(at));
    if (type !== 0) vector.push([type, Number(bytes.readBigUInt64LE(at + 8))]);
  }
  return vector;
}

function sentrySettings(options: GlobalOptions): SentrySettings {
  return {
    platform: options.platform,
    network: options.network,
    cpus: availableParallelism(),
    memoryTotal: totalmem(),
    taskLimit,
    auxiliaryVector: auxiliaryVector(),
    processorInformation: readFileSync('/proc/cpuinfo', 'utf8'),
    ...(options.strace ? { strace: options.straceFilter } : {}),
    debug: options.debug,
    sealed: true,
  };
}

export interface StartedSandbox {
  readonly sentry: HostProcess;
}

/** Makes the sandbox's directory with its control socket, and starts the Sentry that listens there. */
export async function startSandbox(
  outside: Outside,
  state: StateDirectory,
  id: string,
  options: GlobalOptions,
  cgroups: readonly string[],
): Promise<StartedSandbox> {
  state.forgetSandbox(id);
  mkdirSync(state.sandbox(id), { recursive: true, mode: 0o700 });
  const listener = outside.listen(state.socket(id));
  const log = openSync(options.debugLog ?? state.log(id), 'a', 0o600);
  try {
    const { pid } = await startBlankSentry({
      launcher: programs.launcher,
      zygote: options.platform === 'ptrace' ? programs.tracee : programs.stub,
      userNamespace: isPrivileged()
        ? singleNamespace(nobody, nobody)
        : singleNamespace(process.getuid?.() ?? 0, process.getgid?.() ?? 0),
      cgroups,
      oomScore: sentryOomScore,
      files: jailFiles(),
      command: [
        '/node',
        ...options.sentryFlags,
        '/dist/sentry/start.cjs',
        JSON.stringify(sentrySettings(options)),
      ],
      environment: { UV_USE_IO_URING: '0' },
      stdio: ['ignore', log, log],
      descriptors: [listener],
      hostNetwork: options.network === 'host',
    });
    return { sentry: identify(pid) };
  } finally {
    outside.host.close(listener);
    closeSync(log);
  }
}

export interface StartedGofer {
  readonly gofer: HostProcess;
  /** The Sentry's end of its socket. */
  readonly socket: HostFd;
}

export async function startContainerGofer(
  outside: Outside,
  roots: readonly GoferRoot[],
  cgroups: readonly string[],
): Promise<StartedGofer> {
  const [socket, far] = outside.socketPair();
  try {
    const { pid } = await startGofer({
      launcher: programs.launcher,
      gofer: programs.gofer,
      userNamespace: goferNamespace(),
      cgroups,
      oomScore: sentryOomScore,
      log: 'ignore',
      roots,
      socket: far,
    });
    return { gofer: identify(pid), socket };
  } catch (error) {
    outside.host.close(socket);
    throw error;
  } finally {
    outside.host.close(far);
  }
}

/** Root's Gofers see the caller's ids as they are; others' have their own as root's. */
function goferNamespace(): UserNamespace {
  return isPrivileged()
    ? identityNamespace()
    : singleNamespace(process.getuid?.() ?? 0, process.getgid?.() ?? 0);
}

/** The last lines of a Sentry's log that say why it ended. */
export function readFatal(state: StateDirectory, id: string): string | undefined {
  try {
    const lines = readFileSync(join(state.log(id)), 'utf8')
      .trim()
      .split('\n');
    return lines.slice(-5).join('\n') || undefined;
  } catch {
    return undefined;
  }
}
