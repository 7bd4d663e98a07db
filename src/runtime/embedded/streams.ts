// exec, attach and port forwarding: streams between a caller and the processes of a container.

import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Duplex, Readable, Writable } from 'node:stream';
import { channels, type FrameSession, HostError } from '../../host/index.ts';
import { type ExecOptions, type ExecSyncResult, RuntimeError, type StreamSession } from '../cri.ts';
import { messageOf, type RuntimeContext, runtimeFor } from './context.ts';
import { runtimeMessage } from './oci-runtime.ts';
import type { ContainerRecord, SandboxRecord } from './records.ts';
import { mergeEnvironment } from './spec/container-spec.ts';
import type { OciSpec } from './spec/oci.ts';

/** What execSync keeps of each stream; upstream's limit for one message. */
const SYNC_OUTPUT_LIMIT = 16 << 20;

type FrameHandler = (channel: number, payload: Buffer) => Promise<void> | undefined;

/** Writes a chunk; a promise when the writer wants a pause. Once it has failed, what follows is dropped. */
function writeTo(stream: Writable | undefined, chunk: Buffer): Promise<void> | undefined {
  if (!stream || stream.destroyed || stream.writableEnded || stream.errored) return undefined;
  if (stream.write(chunk)) return undefined;
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off('drain', done).off('close', done).off('error', done);
      resolve();
    };
    stream.on('drain', done).on('close', done).on('error', done);
  });
}

/** Sends what the caller writes, no faster than the process reads; the end of it is passed on. */
function pumpInput(input: Readable, session: FrameSession): void {
  const onData = (chunk: Buffer | string): void => {
    if (session.send(channels.stdin, typeof chunk === 'string' ? Buffer.from(chunk) : chunk)) return;
    input.pause();
    void session.drained().then(() => input.resume());
  };
  const onEnd = (): void => {
    session.send(channels.stdin, new Uint8Array());
  };
  input.on('data', onData).once('end', onEnd);
  // One that broke off is at its end as well.
  input.once('error', onEnd);
  const release = (): void => {
    input.off('data', onData).off('end', onEnd).off('error', onEnd);
  };
  session.closed.then(release, release);
}

export class Streams {
  readonly #context: RuntimeContext;

  constructor(context: RuntimeContext) {
    this.#context = context;
  }

  /** The `process` of a further process: the container's own with another command line. */
  async #process(container: ContainerRecord, command: readonly string[], terminal: boolean): Promise<string> {
    if (command.length === 0)
      throw new RuntimeError('InvalidArgument', 'no command was given to run in the container');
    const text = await readFile(join(this.#context.paths.bundle(container.id), 'config.json'), 'utf8');
    const { process } = JSON.parse(text) as OciSpec;
    const env = terminal ? mergeEnvironment(process.env, ['TERM=xterm']) : process.env;
    return JSON.stringify({ ...process, args: command, terminal, env });
  }

  async #open(
    container: ContainerRecord,
    options: Pick<ExecOptions, 'command' | 'tty' | 'signal'> & { readonly input: boolean },
    onFrame: FrameHandler,
  ): Promise<FrameSession> {
    const { host, paths } = this.#context;
    const runtime = runtimeFor(this.#context, container.handler);
    try {
      return await host.exec(
        {
          filePrefix: join(paths.execSessions, randomBytes(6).toString('hex')),
          terminal: options.tty,
          input: options.input,
          process: await this.#process(container, options.command, options.tty),
          container: container.id,
          runtime: [runtime.program, ...runtime.globalArguments],
        },
        onFrame,
        options.signal,
      );
    } catch (error) {
      if (error instanceof HostError)
        throw new RuntimeError(
          'Internal',
          `OCI runtime exec failed: ${runtimeMessage(error.what || error.message)}`,
          {
            cause: error,
          },
        );
      throw error;
    }
  }

  async execSync(
    container: ContainerRecord,
    command: readonly string[],
    timeoutSeconds: number,
  ): Promise<ExecSyncResult> {
    const { clock } = this.#context;
    const kept = {
      [channels.stdout]: { chunks: [] as Buffer[], length: 0 },
      [channels.stderr]: { chunks: [] as Buffer[], length: 0 },
    };
    let exitCode: number | undefined;
    const controller = new AbortController();
    let session: FrameSession | undefined;
    let late = false;
    const timer =
      timeoutSeconds > 0
        ? clock.setTimer(timeoutSeconds * 1000, () => {
            late = true;
            controller.abort();
            session?.close();
          })
        : undefined;
    try {
      session = await this.#open(
        container,
        { command, tty: false, input: false, signal: controller.signal },
        (channel, payload) => {
          if (channel === channels.exit) exitCode = payload.readUInt8(0);
          const into = kept[channel as keyof typeof kept];
          if (into && into.length < SYNC_OUTPUT_LIMIT) {
            into.chunks.push(payload.subarray(0, SYNC_OUTPUT_LIMIT - into.length));
            into.length += payload.length;
          }
          return undefined;
        },
      );
      if (late) session.close();
      await session.closed;
    } catch (error) {
      if (!late) throw error;
    } finally {
      timer?.cancel();
    }
    if (exitCode === undefined)
      throw late
        ? new RuntimeError(
            'DeadlineExceeded',
            `command "${command.join(' ')}" timed out after ${timeoutSeconds} s`,
          )
        : new RuntimeError('Internal', `command "${command.join(' ')}" ended without an exit code`);
    return {
      stdout: Buffer.concat(kept[channels.stdout].chunks),
      stderr: Buffer.concat(kept[channels.stderr].chunks),
      exitCode,
    };
  }

  async exec(container: ContainerRecord, options: ExecOptions): Promise<StreamSession> {
    if (options.tty && options.stderr)
      throw new RuntimeError('InvalidArgument', 'a terminal has no standard error of its own');
    let exitCode: number | undefined;
    const session = await this.#open(
      container,
      { ...options, input: options.stdin !== undefined },
      (channel, payload) => {
        if (channel === channels.exit) exitCode = payload.readUInt8(0);
        if (channel === channels.stdout) return writeTo(options.stdout, payload);
        if (channel === channels.stderr) return writeTo(options.stderr, payload);
        return undefined;
      },
    );
    return this.#session(session, options, () => {
      if (exitCode === undefined)
        throw new RuntimeError(
          'Internal',
          `the exec session of command "${options.command.join(' ')}" was broken off`,
        );
      return exitCode;
    });
  }

  async attach(container: ContainerRecord, options: Omit<ExecOptions, 'command'>): Promise<StreamSession> {
    const { host, paths } = this.#context;
    const input = options.stdin !== undefined && container.config.stdin;
    let session: FrameSession;
    try {
      session = await host.attach(
        paths.bundle(container.id),
        input,
        (channel, payload) => {
          if (channel === channels.stdout) return writeTo(options.stdout, payload);
          if (channel === channels.stderr) return writeTo(options.stderr, payload);
          return undefined;
        },
        options.signal,
      );
    } catch (error) {
      // Its end may be known to conmon a moment before it is known to us.
      if (error instanceof HostError && (error.code === 'ENOENT' || error.code === 'ECONNREFUSED'))
        throw new RuntimeError('FailedPrecondition', `container "${container.id}" is not running`, {
          cause: error,
        });
      throw new RuntimeError('Internal', `attach to container "${container.id}": ${messageOf(error)}`, {
        cause: error,
      });
    }
    return this.#session(session, input ? options : { ...options, stdin: undefined }, () => 0);
  }

  #session(
    session: FrameSession,
    options: Pick<ExecOptions, 'stdin' | 'signal'>,
    result: () => number,
  ): StreamSession {
    const close = (): void => session.close();
    const done = session.closed.then(result);
    // A caller that is not interested in the end must not be ended by it.
    done.catch(() => {});
    options.signal?.addEventListener('abort', close, { once: true });
    session.closed.then(
      () => options.signal?.removeEventListener('abort', close),
      () => {},
    );
    if (options.signal?.aborted) close();
    if (options.stdin) pumpInput(options.stdin, session);
    return { done, resize: ({ height, width }) => session.resize(height, width), close };
  }

  async portForward(sandbox: SandboxRecord, port: number): Promise<Duplex> {
    const { host, paths } = this.#context;
    const namespace =
      sandbox.config.namespaces.network === 'POD' ? paths.namespace(sandbox.id, 'net') : undefined;
    try {
      return await host.connect(namespace, port);
    } catch (error) {
      throw new RuntimeError(
        'Internal',
        `failed to connect to localhost:${port} inside sandbox "${sandbox.id}": ${messageOf(error)}`,
        { cause: error },
      );
    }
  }
}
