// Another program in a running container.

import type { ProcessSpec } from '../control/protocol.ts';
import type { HostFd } from '../host/contract.ts';
import { type Attended, sendConsole, startAttend, writePidFile } from './attend.ts';
import { Cgroup } from './cgroups.ts';
import { capabilityNumbers, loadConfig, loadProcess, type Process } from './config.ts';
import { prepareProcess } from './container-spec.ts';
import { type Environment, preservedFds } from './create.ts';
import { CommandError } from './errors.ts';
import { endProcess } from './outside.ts';
import type { ContainerRecord } from './state.ts';
import { connect, statusOf } from './status.ts';

export interface ExecOptions {
  readonly id: string;
  /** What is to be run: a process.json, or arguments with what they change of the container's own process. */
  readonly processFile: string | undefined;
  readonly args: readonly string[];
  readonly cwd: string | undefined;
  readonly env: readonly string[];
  readonly user: string | undefined;
  readonly additionalGids: readonly number[];
  readonly capabilities: readonly string[];
  readonly noNewPrivileges: boolean | undefined;
  readonly terminal: boolean;
  readonly consoleSocket: string | undefined;
  readonly detach: boolean;
  readonly pidFile: string | undefined;
  readonly preserveFds: number;
  readonly ignorePaused: boolean;
  readonly ownTerminal?:
    | { readonly slave: HostFd; readonly rows: number; readonly columns: number }
    | undefined;
}

/** The program that is to be run. */
export function execProcess(record: ContainerRecord, options: ExecOptions): Process {
  if (options.processFile !== undefined) return loadProcess(options.processFile);
  if (options.args.length === 0) throw new CommandError('exec args cannot be empty');
  const own = loadConfig(record.bundle).process;
  const extra = options.capabilities.map((name) => {
    const number = capabilityNumbers.get(name);
    if (number === undefined) throw new CommandError(`unknown capability "${name}"`);
    return number;
  });
  const with_ = (set: readonly number[]): number[] => [...new Set([...set, ...extra])];
  const { capabilities } = own;
  return {
    ...own,
    terminal: options.terminal,
    args: options.args,
    env: [...own.env, ...options.env],
    cwd: options.cwd ?? own.cwd,
    user: {
      ...(options.user === undefined ? own.user : { ...own.user, ...parseUser(options.user, own.user.gid) }),
      additionalGids: [...own.user.additionalGids, ...options.additionalGids],
    },
    capabilities: {
      bounding: with_(capabilities.bounding),
      effective: with_(capabilities.effective),
      permitted: with_(capabilities.permitted),
      inheritable: capabilities.inheritable,
      ambient: capabilities.ambient,
    },
    noNewPrivileges: options.noNewPrivileges ?? own.noNewPrivileges,
  };
}

function parseUser(text: string, gid: number): { readonly uid: number; readonly gid: number } {
  const [, user, group] = /^(\d{1,10})(?::(\d{1,10}))?$/.exec(text) ?? [];
  if (user === undefined) throw new CommandError(`--user: "${text}" is not UID[:GID]`);
  return { uid: Number(user), gid: group === undefined ? gid : Number(group) };
}

export async function execInContainer(environment: Environment, options: ExecOptions): Promise<Attended> {
  const { outside, state } = environment;
  const record = state.read(options.id);
  const status = statusOf(environment, record);
  if (status === 'stopped') throw new CommandError('cannot exec in a stopped container');
  if (status === 'paused' && !options.ignorePaused)
    throw new CommandError('cannot exec in a paused container');
  const process = execProcess(record, options);
  if (process.terminal && options.consoleSocket === undefined && !options.ownTerminal)
    throw new CommandError('cannot allocate tty if runc will detach without setting console socket');
  // The filter is the container's, as for runc.
  const { seccomp } = loadConfig(record.bundle);
  const extra = preservedFds(options.preserveFds);
  const console = process.terminal && !options.ownTerminal ? outside.openTerminal() : undefined;
  const slave = console?.slave ?? options.ownTerminal?.slave;
  const size = options.ownTerminal ?? { rows: 0, columns: 0 };
  const spec: ProcessSpec = prepareProcess(process, seccomp, {
    terminal: process.terminal
      ? {
          rows: process.consoleSize.rows || size.rows,
          columns: process.consoleSize.columns || size.columns,
        }
      : undefined,
    extraFds: options.preserveFds,
  });
  const name = `exec-${performance.timeOrigin.toString(36).replace('.', '')}-${globalThis.process.pid}`;
  let attended: Attended | undefined;
  try {
    using control = connect(environment, record);
    if (!control) throw new CommandError('cannot exec in a stopped container');
    control.request({ command: 'exec', container: record.id, process: name, spec }, [
      ...(slave === undefined ? [0, 1, 2] : [slave]),
      ...extra,
    ]);
    attended = await startAttend(outside, {
      socket: state.socket(record.sandbox),
      container: record.id,
      process: name,
      terminal: slave,
      network: record.namespaces['network'],
    });
    if (record.cgroup !== undefined) new Cgroup(record.cgroup).add(attended.process.pid);
    if (console && options.consoleSocket !== undefined)
      sendConsole(outside, options.consoleSocket, console.master);
    writePidFile(options.pidFile, attended.process);
    return attended;
  } catch (error) {
    if (attended) endProcess(attended.process);
    throw error;
  } finally {
    if (console) {
      outside.host.close(console.master);
      outside.host.close(console.slave);
    }
  }
}
