// What the node agent asks of the host's kernel, as typed calls. Each is one request to bulkhead-host, which serves
// it in a process of its own: calls run side by side and never block the event loop. (Forking Node itself, as
// child_process does, stops the loop for 6 ms at 200 MB, once for every command.)

import type { Duplex } from 'node:stream';
import { type Logger, type Running, type StartOptions, silentLogger } from '../component/index.ts';
import { HostError } from './host-error.ts';
import { HostProcess, type HostProcessOptions } from './host-process.ts';
import { ProcessWatch } from './process-watch.ts';
import { FrameSession, RawConnection } from './sessions.ts';
import { counted } from './wire.ts';

/** A process and when it started (clock ticks since boot): together they name one process for good. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTime: string;
}

export interface RunOptions {
  readonly input?: string | Uint8Array;
  readonly directory?: string;
  /** A file that holds the network namespace to run in; the host's when absent. */
  readonly networkNamespace?: string;
  /** KEY=value, on top of a plain PATH and LC_ALL=C. */
  readonly environment?: readonly string[];
  /** Bytes kept of standard output and of standard error each; 16 MiB when absent. */
  readonly limit?: number;
  /** Kills the program. */
  readonly signal?: AbortSignal;
}

export interface RunResult {
  /** 128 + n when signal n ended it. */
  readonly exitCode: number;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  /** The process id that it had. */
  readonly pid?: number;
}

export interface PodNamespaces {
  /** Where the namespaces are pinned: <directory>/net, ipc, uts, pid, and /dev/shm as <directory>/shm. */
  readonly directory: string;
  readonly network: boolean;
  /** With a /dev/shm of the pod's own. */
  readonly ipc: boolean;
  readonly uts: boolean;
  /** A PID namespace that the pod's containers share; it is held by a small init process. */
  readonly pid: boolean;
  readonly hostname: string;
  readonly shmBytes: number;
  /** Paths below /proc/sys and their values. */
  readonly sysctls: readonly (readonly [path: string, value: string])[];
}

export interface RootfsRequest {
  readonly target: string;
  readonly upper: string;
  readonly work: string;
  /** The lowest first. */
  readonly layers: readonly string[];
  /** Files to read from the mounted root; links are resolved inside it. */
  readonly files: readonly string[];
  /** Directories to make on the host, with the owner, mode and contents of a path in the image. */
  readonly volumes: readonly { readonly path: string; readonly directory: string }[];
}

export interface ExecRequest {
  /** Files that the session needs are named with this; short, since a socket is among them. */
  readonly filePrefix: string;
  readonly terminal: boolean;
  readonly input: boolean;
  /** The `process` object of the OCI runtime specification, as JSON. */
  readonly process: string;
  readonly container: string;
  /** The runtime's program and its global arguments. */
  readonly runtime: readonly string[];
}

/** A running `watchTable`. */
export type TableWatch = Disposable;

const WATCH_RETRY_MS = 1000;
const DEFAULT_OUTPUT_LIMIT = 16 << 20;

export class HostOperations implements Running {
  readonly #process: HostProcess;
  readonly #watch: ProcessWatch;
  readonly #logger: Logger;

  constructor(options: HostProcessOptions) {
    this.#logger = options.logger ?? silentLogger;
    this.#process = new HostProcess(options);
    this.#watch = new ProcessWatch(this.#process, options.logger);
  }

  get ready(): Promise<void> {
    return this.#process.started;
  }

  /** Moves the process behind this, and all that it starts from now on, into the cgroups with these directories. */
  joinCgroups(directories: readonly string[]): Promise<void> {
    return this.#process.joinCgroups(directories);
  }

  /** Runs a program to its end. Rejects with HostError when it cannot be started; its exit code is the caller's to judge. */
  async run(command: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const [exitCode, stdout, stderr, , pid] = await this.#process.ask(
      'run',
      [
        '',
        options.directory ?? '',
        options.networkNamespace ?? '',
        options.limit ?? DEFAULT_OUTPUT_LIMIT,
        ...counted(command),
        ...counted(options.environment ?? []),
        options.input ?? '',
      ],
      options.signal,
    );
    return { exitCode: Number(exitCode), stdout: stdout!, stderr: stderr!, pid: Number(pid) };
  }

  /** As `run`; rejects when the program ends with anything but 0, with what it said. */
  async check(command: readonly string[], options: RunOptions = {}): Promise<Buffer> {
    const { exitCode, stdout, stderr } = await this.run(command, options);
    if (exitCode !== 0)
      throw new HostError(
        'EIO',
        command.slice(0, 3).join(' '),
        `${stderr.toString().trim() || stdout.toString().trim() || 'no message'} (exit code ${exitCode})`,
      );
    return stdout;
  }

  /**
   * Starts a program that puts itself into the background and answers with one line on the descriptor whose number
   * it finds in _OCI_SYNCPIPE, as conmon does. Not ended with us.
   */
  async runInBackground(
    command: readonly string[],
    options: Pick<RunOptions, 'directory' | 'environment'> = {},
  ): Promise<RunResult & { readonly answer: string }> {
    const [exitCode, stdout, stderr, answer] = await this.#process.ask('run', [
      's',
      options.directory ?? '',
      '',
      1 << 20,
      ...counted(command),
      ...counted(options.environment ?? []),
      '',
    ]);
    return { exitCode: Number(exitCode), stdout: stdout!, stderr: stderr!, answer: answer!.toString() };
  }

  /** Signals that very process; false when it is gone. */
  async kill(process: ProcessIdentity, signal: number): Promise<boolean> {
    try {
      await this.#process.ask('kill', [process.pid, process.startTime, signal]);
      return true;
    } catch (error) {
      if (error instanceof HostError && error.code === 'ESRCH') return false;
      throw error;
    }
  }

  /** Calls back once when the process has ended, soon when it already has; returns a function that forgets it. */
  watchProcess(process: ProcessIdentity, ended: () => void): () => void {
    return this.#watch.add(process, ended);
  }

  /**
   * Calls back whenever the nftables table, or a chain of it, was deleted, or might have been while nobody listened;
   * resolves once it watches.
   */
  watchTable(name: string, lost: () => void): Promise<TableWatch> {
    return this.#watchNftables('watch-nftables', [name], lost);
  }

  /**
   * Calls back after each transaction that changed anything in the nftables table, with the process id of the nft
   * that did it (RunResult.pid tells which were our own); without one when events may have been missed. Resolves
   * once it watches.
   */
  watchTableChanges(
    name: string,
    changed: (by: number | undefined) => void,
    options: Pick<RunOptions, 'networkNamespace'> = {},
  ): Promise<TableWatch> {
    return this.#watchNftables('watch-nftables-changes', [name, options.networkNamespace ?? ''], (payload) =>
      changed(Number(payload?.toString() ?? 0) || undefined),
    );
  }

  async #watchNftables(
    operation: string,
    fields: readonly [table: string, ...string[]],
    heard: (payload?: Buffer) => void,
  ): Promise<TableWatch> {
    let session: FrameSession | undefined;
    let disposed = false;
    const connect = async (): Promise<void> => {
      const { socket, rest } = await this.#process.converse(operation, fields);
      const current = new FrameSession(socket, rest, (_channel, payload) => {
        heard(payload);
        return undefined;
      });
      session = current;
      if (disposed) current.close();
      current.closed.then(again, again);
    };
    const again = (): void => {
      if (disposed || this.#process.stopping) return;
      connect().then(
        () => heard(),
        (error: unknown) => {
          if (disposed || this.#process.stopping) return;
          this.#logger.error({ err: error, table: fields[0] }, 'the table is not watched; trying again');
          this.#process.clock.setTimer(WATCH_RETRY_MS, again, { unref: true });
        },
      );
    };
    await connect();
    return {
      [Symbol.dispose]: () => {
        disposed = true;
        session?.close();
      },
    };
  }

  /** Makes and pins namespaces; resolves with the init process when there is a PID namespace among them. */
  async createPodNamespaces(pod: PodNamespaces): Promise<ProcessIdentity | undefined> {
    const flags = `${pod.network ? 'n' : ''}${pod.ipc ? 'i' : ''}${pod.uts ? 'u' : ''}${pod.pid ? 'p' : ''}`;
    const [pid, startTime] = await this.#process.ask('pod-create', [
      pod.directory,
      flags,
      pod.hostname,
      pod.shmBytes,
      pod.sysctls.length,
      ...pod.sysctls.flat(),
    ]);
    return pod.pid ? { pid: Number(pid), startTime: startTime!.toString() } : undefined;
  }

  /** Undoes createPodNamespaces, whole or half done; resolves with the mounts that were busy and only detached. */
  async removePodNamespaces(directory: string, init?: ProcessIdentity): Promise<string[]> {
    const detached = await this.#process.ask('pod-remove', [directory, init?.pid ?? 0, init?.startTime ?? 0]);
    return detached.map(String);
  }

  /** Mounts an overlay; resolves with the contents of the files asked for, empty for those that are not there. */
  async prepareRootfs(request: RootfsRequest): Promise<readonly Buffer[]> {
    return this.#process.ask('rootfs', [
      request.target,
      request.upper,
      request.work,
      ...counted(request.layers),
      ...counted(request.files),
      request.volumes.length,
      ...request.volumes.flatMap((volume) => [volume.path, volume.directory]),
    ]);
  }

  /** Succeeds when nothing is mounted there; false: the mount was busy and is only detached. */
  async unmount(path: string): Promise<boolean> {
    const [detached] = await this.#process.ask('unmount', [path]);
    return detached!.toString() === '0';
  }

  /** Unmounts all that is mounted at or below the directory; resolves with what was busy and only detached. */
  async unmountBelow(directory: string): Promise<string[]> {
    return (await this.#process.ask('unmount-below', [directory])).map(String);
  }

  /** Deletes a directory of any depth; rejects with EBUSY while something is mounted in it. */
  async removeTree(path: string): Promise<void> {
    await this.#process.ask('remove-tree', [path]);
  }

  /** What a directory takes on its file system, without what is mounted below it. */
  async diskUsage(path: string): Promise<{ readonly bytes: number; readonly inodes: number }> {
    const [bytes, inodes] = await this.#process.ask('disk-usage', [path]);
    return { bytes: Number(bytes), inodes: Number(inodes) };
  }

  /** Starts a process in a running container; rejects with code ECHILD and the runtime's own words when that fails. */
  async exec(
    request: ExecRequest,
    onFrame: (channel: number, payload: Buffer) => Promise<void> | undefined,
    signal?: AbortSignal,
  ): Promise<FrameSession> {
    const { socket, rest } = await this.#process.converse(
      'exec',
      [
        request.filePrefix,
        `${request.terminal ? 't' : ''}${request.input ? 'i' : ''}`,
        request.process,
        request.container,
        ...counted(request.runtime),
      ],
      signal,
    );
    return new FrameSession(socket, rest, onFrame);
  }

  /** Joins the streams of a container's first process through conmon, whose files are in the bundle directory. */
  async attach(
    bundle: string,
    input: boolean,
    onFrame: (channel: number, payload: Buffer) => Promise<void> | undefined,
    signal?: AbortSignal,
  ): Promise<FrameSession> {
    const { socket, rest } = await this.#process.converse('attach', [bundle, input ? 'i' : ''], signal);
    return new FrameSession(socket, rest, onFrame);
  }

  /** A TCP connection to a port on the loopback interface of a network namespace, or of the host's. */
  async connect(networkNamespace: string | undefined, port: number): Promise<Duplex> {
    const { socket, rest } = await this.#process.converse('connect', [networkNamespace ?? '', port]);
    return new RawConnection(socket, rest).stream;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#watch.close();
    await this.#process.stop();
  }
}

export interface HostOperationsOptions extends HostProcessOptions, StartOptions {}

/** Starts bulkhead-host; rejects when it cannot run or the lock is taken (HostLockedError). */
export async function startHostOperations(options: HostOperationsOptions): Promise<HostOperations> {
  const host = new HostOperations(options);
  try {
    await host.ready;
  } catch (error) {
    await host[Symbol.asyncDispose]();
    throw error;
  }
  return host;
}
