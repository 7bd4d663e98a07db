// Creating a container: from a bundle to a first process that waits for `start`.

import { statSync } from 'node:fs';
import { hostname, userInfo } from 'node:os';
import { resolve } from 'node:path';
import type { HostFd } from '../host/contract.ts';
import { type Attended, sendConsole, startAttend, writePidFile } from './attend.ts';
import { Cgroup, cgroupPath } from './cgroups.ts';
import { type Config, loadConfig } from './config.ts';
import { prepareContainer } from './container-spec.ts';
import { ControlClient } from './control-client.ts';
import { destroyContainer } from './destroy.ts';
import { CommandError, messageOf } from './errors.ts';
import type { GlobalOptions } from './global-options.ts';
import { runHooks } from './hooks.ts';
import { endProcess, isAlive, type Outside } from './outside.ts';
import { type Placement, placeContainer } from './placement.ts';
import { isPrivileged, readFatal, startContainerGofer, startSandbox } from './sandbox-start.ts';
import type { ContainerRecord, SandboxRecord, StateDirectory } from './state.ts';
import { ociState } from './status.ts';

export interface CreateOptions {
  readonly id: string;
  readonly bundle: string;
  readonly consoleSocket: string | undefined;
  readonly pidFile: string | undefined;
  /** So many descriptors from 3 on are the program's. */
  readonly preserveFds: number;
  /** A terminal of the command's own, for `run` in the foreground. */
  readonly terminal?: { readonly slave: HostFd; readonly rows: number; readonly columns: number } | undefined;
}

export interface Created {
  readonly record: ContainerRecord;
  readonly attended: Attended;
}

export interface Environment {
  readonly outside: Outside;
  readonly state: StateDirectory;
  readonly options: GlobalOptions;
}

/** LISTEN_FDS of whoever calls: the descriptors from 3 on that are the program's, as sd_listen_fds(3). */
export function listenFds(): number {
  const count = Number(process.env['LISTEN_FDS'] ?? '0');
  return Number.isInteger(count) && count > 0 && count < 64 ? count : 0;
}

/** Descriptors from 3 on, which must be open. */
export function preservedFds(count: number): HostFd[] {
  return Array.from({ length: count }, (_, index) => {
    const fd = 3 + index;
    try {
      statSync(`/proc/self/fd/${fd}`);
    } catch {
      throw new CommandError(`--preserve-fds: descriptor ${fd} is not open`);
    }
    return fd;
  });
}

export async function createContainer(environment: Environment, options: CreateOptions): Promise<Created> {
  const { state } = environment;
  const bundle = resolve(options.bundle);
  const config = loadConfig(bundle);
  checkTerminal(config, options);
  state.claim(options.id);
  try {
    return await create(environment, { ...options, bundle }, config);
  } catch (error) {
    await destroyContainer(environment, options.id).catch(() => undefined);
    throw error;
  }
}

function checkTerminal(config: Config, { consoleSocket, terminal }: CreateOptions): void {
  if (config.process.terminal && consoleSocket === undefined && !terminal)
    throw new CommandError('cannot allocate tty if runc will detach without setting console socket');
  if (!config.process.terminal && consoleSocket !== undefined)
    throw new CommandError('cannot use console socket if runc will not detach or allocate tty');
}

async function create(environment: Environment, options: CreateOptions, config: Config): Promise<Created> {
  const { outside, state } = environment;
  const { id, bundle } = options;
  const placement = placeContainer(state, id, config);
  const path = cgroupPath(config.cgroupsPath, id);
  const cgroup = new Cgroup(path);
  const limited = cgroup.make();
  if (!limited && config.cgroupsPath !== undefined && isPrivileged())
    throw new CommandError(`the cgroup ${path} cannot be made`);
  const base: ContainerRecord = {
    id,
    ociVersion: config.ociVersion,
    bundle,
    rootfs: config.root.path,
    created: new Date().toISOString(),
    owner: userInfo().username,
    annotations: config.annotations,
    hooks: config.hooks,
    sandbox: placement.sandbox,
    attend: undefined,
    namespaces: placement.namespaces,
    cgroup: limited ? path : undefined,
    terminal: config.process.terminal,
  };
  state.write(base);
  if (limited) cgroup.limit(config.resources, placement.sandboxCgroup === undefined);
  const surroundings = {
    bundle,
    hostname: hostnameFor(outside, config),
    sharedNamespaces: placement.sharedNamespaces,
    terminal: terminalSize(config, options),
    extraFds: options.preserveFds,
    privileged: isPrivileged(),
  };
  const { spec, roots } = prepareContainer(config, surroundings);
  const extra = preservedFds(options.preserveFds);
  using lock = outside.lock(`${state.sandbox(placement.sandbox)}.lock`);
  void lock;
  const socket = await joinSandbox(environment, placement, base, roots);
  const console = config.process.terminal && !options.terminal ? outside.openTerminal() : undefined;
  const slave = console?.slave ?? options.terminal?.slave;
  let attended: Attended | undefined;
  try {
    using control = ControlClient.connect(outside, state.socket(placement.sandbox));
    if (!control) throw new CommandError(`the sandbox did not start: ${readFatal(state, placement.sandbox)}`);
    control.request({ command: 'create', container: id, spec }, [
      socket,
      ...(slave === undefined ? [0, 1, 2] : [slave]),
      ...extra,
    ]);
    attended = await startAttend(outside, {
      socket: state.socket(placement.sandbox),
      container: id,
      terminal: slave,
      network: placement.namespaces['network'],
    });
    if (limited) cgroup.add(attended.process.pid);
    const record: ContainerRecord = { ...base, attend: attended.process };
    state.write(record);
    for (const name of ['prestart', 'createRuntime', 'createContainer'] as const)
      runHooks(config.hooks, name, ociState(record, 'creating'), bundle);
    if (console && options.consoleSocket !== undefined)
      sendConsole(outside, options.consoleSocket, console.master);
    writePidFile(options.pidFile, attended.process);
    return { record, attended };
  } catch (error) {
    if (attended) endProcess(attended.process);
    throw error;
  } finally {
    outside.host.close(socket);
    if (console) {
      outside.host.close(console.master);
      outside.host.close(console.slave);
    }
  }
}

/** Starts a Gofer, and a Sentry if there is none yet. Gives the Sentry's end of the Gofer's socket. */
async function joinSandbox(
  environment: Environment,
  placement: Placement,
  container: ContainerRecord,
  roots: Parameters<typeof startContainerGofer>[1],
): Promise<HostFd> {
  const { outside, state, options } = environment;
  const { sandbox, sandboxCgroup } = placement;
  const known = state.findSandbox(sandbox);
  const running = known && isAlive(known.sentry) ? known : undefined;
  const home = running ? running.cgroup : sandboxCgroup;
  const members = cgroupMembers(home, container);
  // The Sentry takes longest, so it is begun first; the Gofer comes up meanwhile.
  const started = running ? undefined : startSandbox(outside, state, sandbox, options, members);
  const starting = startContainerGofer(outside, roots, members);
  let gofer: Awaited<typeof starting> | undefined;
  try {
    // Both are under way; a failure is told when both have ended.
    const [sentry] = await Promise.allSettled([started, starting]);
    if (sentry.status === 'rejected')
      throw new CommandError(
        `the sandbox did not start: ${messageOf(sentry.reason)}${logOf(state, sandbox)}`,
      );
    let record: SandboxRecord;
    if (running) {
      record = running;
    } else {
      if (!sentry.value) throw new CommandError('the sandbox did not start');
      record = { id: sandbox, sentry: sentry.value.sentry, cgroup: sandboxCgroup, gofers: {} };
      state.writeSandbox(record);
    }
    gofer = await starting;
    state.writeSandbox({ ...record, gofers: { ...record.gofers, [container.id]: gofer.gofer } });
    return gofer.socket;
  } catch (error) {
    const settled = await starting.then(
      (one) => one,
      () => undefined,
    );
    if (settled && !gofer) {
      outside.host.close(settled.socket);
      endProcess(settled.gofer);
    }
    throw error;
  }
}

function cgroupMembers(home: string | undefined, container: ContainerRecord): string[] {
  if (container.cgroup === undefined) return [];
  const cgroup = new Cgroup(home ?? container.cgroup);
  if (home !== undefined) cgroup.make();
  return cgroup.members;
}

function logOf(state: StateDirectory, sandbox: string): string {
  const text = readFatal(state, sandbox);
  return text === undefined ? '' : `: ${text}`;
}

/** Without one in the configuration it is that of the UTS namespace that the container would be in. */
function hostnameFor(outside: Outside, config: Config): string {
  if (config.hostname !== undefined && config.hostname !== '') return config.hostname;
  const path = config.namespaces.find(({ type }) => type === 'uts')?.path;
  return (path === undefined ? undefined : outside.hostnameIn(path)) ?? hostname();
}

function terminalSize(
  config: Config,
  { terminal }: CreateOptions,
): { readonly rows: number; readonly columns: number } | undefined {
  if (!config.process.terminal) return undefined;
  const { rows, columns } = config.process.consoleSize;
  return { rows: rows || (terminal?.rows ?? 0), columns: columns || (terminal?.columns ?? 0) };
}
