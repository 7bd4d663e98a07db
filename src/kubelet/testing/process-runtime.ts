// The simulated runtime with enough of processes for the server's tests: exec runs a program of the host, attach echoes,
// logs are files that the test writes, port-forward dials the host's own loopback.

import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import type { Running } from '../../component/index.ts';
import type {
  ContainerConfig,
  ContainerStatus,
  ExecOptions,
  ExecSyncResult,
  PodSandboxConfig,
  StreamSession,
  TerminalSize,
} from '../../runtime/cri.ts';
import { SimulatedRuntime, type SimulatedRuntimeOptions } from '../../runtime/simulated/runtime.ts';

export class ProcessRuntime extends SimulatedRuntime implements Running {
  readonly ready: Promise<void> = Promise.resolve();
  /** Terminal sizes that clients sent, in order. */
  readonly sizes: TerminalSize[] = [];
  readonly #logs: string;
  readonly #logPaths = new Map<string, string>();

  constructor(logs: string, options: SimulatedRuntimeOptions = {}) {
    super(options);
    this.#logs = logs;
  }

  override async createContainer(
    sandboxId: string,
    config: ContainerConfig,
    sandbox?: PodSandboxConfig,
  ): Promise<string> {
    const id = await super.createContainer(sandboxId, config);
    const path = join(sandbox?.logDirectory || this.#logs, config.logPath);
    mkdirSync(dirname(path), { recursive: true });
    this.#logPaths.set(id, path);
    return id;
  }

  override async containerStatus(id: string): Promise<ContainerStatus> {
    return { ...(await super.containerStatus(id)), logPath: this.#logPaths.get(id) ?? '' };
  }

  override async reopenContainerLog(): Promise<void> {}

  override async execSync(_id: string, command: readonly string[] = []): Promise<ExecSyncResult> {
    const chunks: { stdout: Buffer[]; stderr: Buffer[] } = { stdout: [], stderr: [] };
    const child = spawn(command[0]!, command.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] });
    child.stdout.on('data', (chunk: Buffer) => chunks.stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => chunks.stderr.push(chunk));
    const exitCode = await new Promise<number>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code) => resolve(code ?? 137));
    });
    return { stdout: Buffer.concat(chunks.stdout), stderr: Buffer.concat(chunks.stderr), exitCode };
  }

  override async exec(_id: string, options?: ExecOptions): Promise<StreamSession> {
    const { command, stdin, stdout, stderr, signal } = options!;
    const child = spawn(command[0]!, command.slice(1), {
      stdio: [stdin ? 'pipe' : 'ignore', 'pipe', 'pipe'],
    });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', reject);
    });
    if (stdin && child.stdin) stdin.pipe(child.stdin);
    child.stdin?.on('error', () => {});
    const outputs = [
      [child.stdout!, stdout],
      [child.stderr!, options!.tty ? stdout : stderr],
    ] as const;
    for (const [from, to] of outputs) to ? from.pipe(to, { end: false }) : from.resume();
    const close = (): void => void child.kill('SIGKILL');
    signal?.addEventListener('abort', close, { once: true });
    const done = new Promise<number>((resolve) => child.on('close', (code) => resolve(code ?? 137)));
    return { done, close, resize: (size) => this.sizes.push(size) };
  }

  override async attach(id: string, options?: Omit<ExecOptions, 'command'>): Promise<StreamSession> {
    return this.exec(id, { ...options!, command: ['cat'] });
  }

  override async portForward(_sandbox: string, port = 0): Promise<ReturnType<typeof connect>> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true }, () => resolve(socket));
      socket.once('error', reject);
    });
  }

  /** The file that the container's log is expected in. */
  logPath(id: string): string {
    return this.#logPaths.get(id)!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}
