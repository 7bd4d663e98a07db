// The flags before the command's name.

import type { FlagDescriptions, Flags } from './arguments.ts';
import { CommandError } from './errors.ts';

export interface GlobalOptions {
  readonly root: string;
  /** Where the command's own messages go besides standard error. */
  readonly log: string | undefined;
  readonly logFormat: 'text' | 'json';
  readonly debug: boolean;
  readonly platform: 'systrap' | 'ptrace';
  readonly network: 'none' | 'host';
  readonly strace: boolean;
  readonly straceFilter: readonly string[];
  /** The Sentry's log; undefined: in its sandbox's directory. */
  readonly debugLog: string | undefined;
  /** For Node in the jail, for profiling and tests. */
  readonly sentryFlags: readonly string[];
}

export const globalFlags = {
  root: { kind: 'string', help: 'directory for the state of containers (default: /run/bulkhead-sandbox)' },
  log: { kind: 'string', help: 'file for messages (default: standard error)' },
  'log-format': { kind: 'string', help: 'text or json' },
  debug: { kind: 'boolean', help: 'more messages' },
  'debug-log': { kind: 'string', help: "file for the sandboxes' own messages and strace" },
  'systemd-cgroup': { kind: 'boolean', help: 'not supported: cgroups are managed by their paths' },
  platform: { kind: 'string', help: 'how programs are run: systrap (default) or ptrace' },
  network: { kind: 'string', help: 'none: a loopback interface of its own; host: the sockets of the host' },
  strace: { kind: 'boolean', help: 'write down all system calls' },
  'strace-filter': { kind: 'string', help: 'only these, separated by commas' },
  rootless: { kind: 'string', help: 'true, false or auto' },
  criu: { kind: 'string', help: 'ignored, for compatibility' },
  version: { kind: 'boolean', aliases: ['v'], help: 'print the version' },
  help: { kind: 'boolean', aliases: ['h'], help: 'print this text' },
} satisfies FlagDescriptions;

function oneOf<T extends string>(flags: Flags, name: string, values: readonly T[], otherwise: T): T {
  const text = flags.text(name) ?? otherwise;
  const value = values.find((one) => one === text);
  if (value === undefined)
    throw new CommandError(
      `invalid value "${text}" for flag -${name}: it must be one of ${values.join(', ')}`,
    );
  return value;
}

export function readGlobalOptions(flags: Flags): GlobalOptions {
  if (flags.is('systemd-cgroup'))
    throw new CommandError(
      '--systemd-cgroup is not supported: use the cgroupfs driver (podman: --cgroup-manager=cgroupfs)',
    );
  const platform = oneOf(flags, 'platform', ['systrap', 'ptrace'], 'systrap');
  oneOf(flags, 'rootless', ['true', 'false', 'auto'], 'auto');
  return {
    root: flags.text('root') ?? defaultRoot(),
    log: flags.text('log') || undefined,
    logFormat: oneOf(flags, 'log-format', ['text', 'json'], 'text'),
    debug: flags.is('debug'),
    platform,
    network: oneOf(flags, 'network', ['none', 'host'], 'none'),
    strace: flags.is('strace') || flags.has('strace-filter'),
    straceFilter: (flags.text('strace-filter') ?? '').split(',').filter((name) => name !== ''),
    debugLog: flags.text('debug-log') || undefined,
    sentryFlags: [],
  };
}

function defaultRoot(): string {
  const runtime = process.env['XDG_RUNTIME_DIR'];
  return process.getuid?.() !== 0 && runtime ? `${runtime}/bulkhead-sandbox` : '/run/bulkhead-sandbox';
}
