// Starts bulkhead-host and keeps it there: it ends with us, and is started again should it end before. Knows how to
// send one request and read its reply; what the requests are is in host-operations.ts.

import { type ChildProcess, spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { type Clock, type Logger, silentLogger, systemClock } from '../component/index.ts';
import { HostError, HostLockedError } from './host-error.ts';
import { nativeProgram } from './native-programs.ts';
import { decodeReply, encodeRequest, type Field } from './wire.ts';

export interface HostProcessOptions {
  /** Where bulkhead-host listens; at most 107 bytes, in a directory that only root can enter. */
  readonly socketPath: string;
  /** Held as long as we run; starting rejects with HostLockedError when another process has it. */
  readonly lockPath?: string;
  /** Directories of the cgroups (one a hierarchy) that it and what it starts shall be in; they exist. */
  readonly cgroups?: readonly string[];
  /** The program; found beside the project's other builds when absent. */
  readonly program?: string;
  readonly logger?: Logger;
  readonly clock?: Clock;
}

/** A reply, and the connection on which a streaming request goes on. */
export interface Conversation {
  readonly fields: readonly Buffer[];
  readonly socket: Socket;
  /** What came with the reply already. */
  readonly rest: Buffer;
}

const EXIT_LOCKED = 75;
/** A process that ends sooner than this after its start counts towards giving up. */
const SHORT_LIFE_MS = 1000;
const MAX_SHORT_LIVES = 5;

/** The request was not even sent. */
class NotListening extends HostError {}

export class HostProcess {
  readonly #options: HostProcessOptions;
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #program: string;
  #child: ChildProcess | undefined;
  #started: Promise<void>;
  #exited = Promise.withResolvers<void>();
  #shortLives = 0;
  #stopping = false;
  #cgroups: readonly string[];
  readonly #open = new Set<Socket>();

  constructor(options: HostProcessOptions) {
    this.#options = options;
    this.#logger = options.logger ?? silentLogger;
    this.#clock = options.clock ?? systemClock;
    if (Buffer.byteLength(options.socketPath) > 107)
      throw new HostError(
        'ENAMETOOLONG',
        `listen on ${options.socketPath}`,
        'a socket path has at most 107 bytes; choose a shorter run directory',
      );
    this.#cgroups = options.cgroups ?? [];
    this.#program = options.program ?? nativeProgram('bulkhead-host');
    this.#started = this.#start();
    this.#started.catch(() => {});
  }

  get clock(): Clock {
    return this.#clock;
  }

  get stopping(): boolean {
    return this.#stopping;
  }

  get started(): Promise<void> {
    return this.#started;
  }

  #start(): Promise<void> {
    const { lockPath, socketPath } = this.#options;
    const args = [
      ...(lockPath ? ['--lock', lockPath] : []),
      ...this.#cgroups.flatMap((directory) => ['--cgroup', directory]),
      ...['--listen', socketPath],
    ];
    const startedAt = this.#clock.monotonic();
    const child = spawn(this.#program, args, {
      // A session of its own: what the terminal sends to us is not meant for containers.
      detached: true,
      cwd: '/',
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
    });
    this.#child = child;
    return new Promise((resolve, reject) => {
      let said = '';
      let ready = false;
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        said += text;
        if (ready) this.#logger.warn({ text: text.trimEnd() }, 'bulkhead-host complains');
      });
      child.stdout.on('data', () => {
        ready = true;
        resolve();
      });
      child.stdin.on('error', () => {});
      child.on('error', (error) => reject(new HostError('ENOEXEC', `run ${this.#program}`, error.message)));
      child.on('close', (code, signal) => {
        if (!ready) {
          reject(
            code === EXIT_LOCKED
              ? new HostLockedError(lockPath ?? '', Number.parseInt(said, 10) || undefined)
              : new HostError(
                  'EIO',
                  `start ${this.#program}`,
                  said.trim() || `it ended with ${code ?? signal}`,
                ),
          );
        }
      });
      child.on('exit', (code, signal) => {
        const exited = this.#exited;
        this.#exited = Promise.withResolvers();
        queueMicrotask(exited.resolve);
        if (this.#stopping || !ready) return;
        this.#shortLives = this.#clock.monotonic() - startedAt < SHORT_LIFE_MS ? this.#shortLives + 1 : 0;
        if (this.#shortLives >= MAX_SHORT_LIVES) {
          this.#logger.error({ code, signal }, 'bulkhead-host keeps ending; giving up');
          this.#started = Promise.reject(
            new HostError('EIO', `run ${this.#program}`, `it keeps ending with ${code ?? signal}`),
          );
          this.#started.catch(() => {});
          return;
        }
        this.#logger.error({ code, signal }, 'bulkhead-host ended and is started again');
        this.#started = this.#start();
        this.#started.catch((error: unknown) =>
          this.#logger.error({ err: error }, 'bulkhead-host cannot be started'),
        );
      });
    });
  }

  /** Sends a request; resolves with its reply. The caller ends the connection. */
  async converse(operation: string, fields: readonly Field[], signal?: AbortSignal): Promise<Conversation> {
    for (let attempt = 0; ; attempt++) {
      signal?.throwIfAborted();
      await this.#started;
      const exited = this.#exited.promise;
      try {
        return await this.#converseOnce(operation, fields, signal);
      } catch (error) {
        if (!(error instanceof NotListening) || attempt >= MAX_SHORT_LIVES || this.#stopping) throw error;
        // It has died, and the news of that is on its way: then it is started again.
        const waited = Promise.withResolvers<void>();
        const timer = this.#clock.setTimer(SHORT_LIFE_MS, waited.resolve);
        await Promise.race([exited, waited.promise]);
        timer.cancel();
      }
    }
  }

  async #converseOnce(
    operation: string,
    fields: readonly Field[],
    signal: AbortSignal | undefined,
  ): Promise<Conversation> {
    if (this.#stopping) throw new HostError('ESHUTDOWN', operation, 'the node agent is stopping');
    const socket = connect({ path: this.#options.socketPath, allowHalfOpen: true });
    this.#open.add(socket);
    socket.once('close', () => this.#open.delete(socket));
    const reply = await new Promise<{ readonly fields: Buffer[]; readonly rest: Buffer }>(
      (resolve, reject) => {
        const chunks: Buffer[] = [];
        const settle = (done: () => void): void => {
          socket.off('data', onData).off('end', onEnd).off('error', onError).off('close', onEnd);
          signal?.removeEventListener('abort', onAbort);
          done();
        };
        const lose = (error: unknown): void =>
          settle(() => {
            socket.on('error', () => {}).destroy();
            reject(error);
          });
        const onData = (chunk: Buffer): void => {
          chunks.push(chunk);
          const whole = decodeReply(chunks.length === 1 ? chunk : Buffer.concat(chunks));
          if (!whole) return;
          socket.pause();
          settle(() => resolve(whole));
        };
        const onEnd = (): void =>
          lose(new HostError('EPIPE', operation, 'bulkhead-host ended without an answer'));
        const onError = (error: NodeJS.ErrnoException): void => {
          const Failure = error.syscall === 'connect' ? NotListening : HostError;
          lose(
            new Failure(error.code ?? 'EIO', operation, `bulkhead-host does not answer (${error.message})`),
          );
        };
        const onAbort = (): void => lose(signal?.reason);
        socket.on('data', onData).on('end', onEnd).on('error', onError).on('close', onEnd);
        signal?.addEventListener('abort', onAbort, { once: true });
        socket.write(encodeRequest(operation, fields));
      },
    );
    const errno = Number(reply.fields[0]?.toString());
    if (errno !== 0) {
      socket.on('error', () => {}).destroy();
      throw HostError.ofNumber(errno, reply.fields[1]?.toString() || operation);
    }
    return { fields: reply.fields.slice(1), socket, rest: reply.rest };
  }

  /** For a request whose reply is all. */
  async ask(operation: string, fields: readonly Field[], signal?: AbortSignal): Promise<readonly Buffer[]> {
    const { fields: reply, socket } = await this.converse(operation, fields, signal);
    socket.on('error', () => {}).destroy();
    return reply;
  }

  /** Moves it, and what it starts from now on, into the cgroups with these directories. */
  async joinCgroups(directories: readonly string[]): Promise<void> {
    this.#cgroups = directories;
    await this.#started;
    const pid = String(this.#child!.pid);
    await Promise.all(directories.map((directory) => writeFile(join(directory, 'cgroup.procs'), pid)));
  }

  async stop(): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    await this.#started.catch(() => {});
    for (const socket of this.#open) socket.on('error', () => {}).destroy();
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const closed = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.stdin?.end();
    await closed;
  }
}
