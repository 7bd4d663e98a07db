// The process that stands for a program on the host (native/attend), and the terminal that it may have.

import { type ChildProcess, spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import type { HostFd } from '../host/contract.ts';
import { ControlClient } from './control-client.ts';
import { CommandError } from './errors.ts';
import { type HostProcess, identify, type Outside, programs } from './outside.ts';

export interface Attended {
  readonly process: HostProcess;
  readonly child: ChildProcess;
}

export interface AttendOptions {
  readonly socket: string;
  readonly container: string;
  /** A process that exec has made; undefined: the container's first. */
  readonly process?: string | undefined;
  /** The host's end of the program's terminal. */
  readonly terminal?: HostFd | undefined;
  readonly network?: string | undefined;
}

/** Resolves when it catches signals. Its standard streams are its own, so that nobody waits for their end. */
export async function startAttend(outside: Outside, options: AttendOptions): Promise<Attended> {
  const control = ControlClient.connect(outside, options.socket);
  if (!control) throw new CommandError('the sandbox has ended');
  try {
    const child = spawn(
      programs.attend,
      [options.container, options.process ?? '', ...(options.network === undefined ? [] : [options.network])],
      {
        stdio: [
          ...(['ignore', 'ignore', 'ignore', control.fd, 'pipe'] as const),
          ...(options.terminal === undefined ? [] : [options.terminal]),
        ],
        env: {},
        cwd: '/',
      },
    );
    const ready = child.stdio[4];
    await new Promise<void>((resolve, reject) => {
      child.once('error', reject);
      ready?.once('data', () => resolve());
      child.once('exit', (code) => reject(new CommandError(`bulkhead-attend ended with status ${code}`)));
    });
    ready?.removeAllListeners();
    if (ready && 'destroy' in ready) ready.destroy();
    child.removeAllListeners();
    return { process: identify(child.pid ?? 0), child };
  } finally {
    control[Symbol.dispose]();
  }
}

/** Lets it go on without this command. */
export function detach({ child }: Attended): void {
  child.unref();
}

/**
 * Resolves with its status. Meanwhile the command hands on the signals that it gets itself. `status` may have come
 * before: Node keeps it.
 */
export function attendInForeground({ child }: Attended): Promise<number> {
  const handOn = (signal: NodeJS.Signals): void => void child.kill(signal);
  const signals: readonly NodeJS.Signals[] = [
    ...(['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH', 'SIGCONT'] as const),
  ];
  for (const signal of signals) process.on(signal, handOn);
  return new Promise<number>((resolve) => {
    const ended = (code: number | null): void => {
      for (const signal of signals) process.off(signal, handOn);
      resolve(code ?? 137);
    };
    if (child.exitCode !== null || child.signalCode !== null) ended(child.exitCode);
    else child.once('exit', ended);
  });
}

export function writePidFile(path: string | undefined, { pid }: HostProcess): void {
  if (path !== undefined && path !== '') writeFileSync(path, String(pid));
}

/** Sends a terminal's master to whoever listens at the console socket, as runc does. */
export function sendConsole(outside: Outside, socket: string, master: HostFd): void {
  const fd = outside.connect(socket);
  if (fd < 0) throw new CommandError(`connecting to the console socket ${socket}: error ${-fd}`);
  const name = Buffer.from('/dev/ptmx');
  const sent = outside.host.send(fd, name, 0, name.length, [master]);
  outside.host.close(fd);
  if (sent < 0) throw new CommandError(`sending the terminal to ${socket}: error ${-sent}`);
}
