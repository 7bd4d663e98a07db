// conmon's command line, answers and files: it starts a container through the OCI runtime, keeps its standard streams,
// writes its log in the CRI's format, serves attach, and leaves a file with the exit code. One runs for each
// container, and outlives us.

import { constants } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { HostOperations, ProcessIdentity } from '../../host/index.ts';
import { RuntimeError } from '../cri.ts';
import { errorCode } from './cgroup-files.ts';
import { type OciRuntime, runtimeMessage } from './oci-runtime.ts';
import { identify } from './process-identity.ts';

export interface ConmonRequest {
  readonly program: string;
  readonly runtime: OciRuntime;
  readonly id: string;
  readonly name: string;
  readonly bundle: string;
  readonly exits: string;
  /** Absent: what the container writes is dropped. */
  readonly logPath?: string;
  readonly terminal: boolean;
  readonly stdin: boolean;
  readonly stdinOnce: boolean;
}

function commandLine(request: ConmonRequest): string[] {
  const { bundle, id, runtime } = request;
  return [
    request.program,
    ...['--cid', id, '--cuuid', id, '--name', request.name],
    ...['--bundle', bundle, '--exit-dir', request.exits, '--persist-dir', bundle],
    ...['--container-pidfile', join(bundle, 'pid'), '--conmon-pidfile', join(bundle, 'conmon.pid')],
    ...[
      '--runtime',
      runtime.program,
      ...runtime.globalArguments.map((argument) => `--runtime-arg=${argument}`),
    ],
    // The kubelet rotates logs itself and asks for them to be reopened; a sync at the end only delays the news of it.
    ...['--log-path', `k8s-file:${request.logPath ?? '/dev/null'}`, '--no-sync-log'],
    '--full-attach',
    ...(request.terminal ? ['--terminal'] : []),
    ...(request.stdin ? ['--stdin'] : []),
    ...(request.stdin && !request.stdinOnce ? ['--leave-stdin-open'] : []),
  ];
}

export interface StartedContainer {
  /** Undefined when it has ended already. */
  readonly process: ProcessIdentity | undefined;
  readonly conmon: ProcessIdentity | undefined;
}

async function pidFile(path: string): Promise<number> {
  return Number((await readFile(path, 'utf8').catch(() => '')).trim());
}

/** The processes that the files in a bundle name, as far as they live. */
export async function readPidFiles(bundle: string): Promise<StartedContainer> {
  const [process, conmon] = await Promise.all(
    ['pid', 'conmon.pid'].map(async (name) => identify(await pidFile(join(bundle, name)))),
  );
  return { process, conmon };
}

/** Creates the container, without starting its process; rejects with the OCI runtime's message when that fails. */
export async function createWithConmon(
  host: HostOperations,
  request: ConmonRequest,
): Promise<StartedContainer> {
  const { answer, stderr, exitCode } = await host.runInBackground(commandLine(request), {
    directory: request.bundle,
  });
  let said: { readonly pid?: unknown; readonly data?: unknown; readonly message?: unknown } = {};
  try {
    said = JSON.parse(answer) as typeof said;
  } catch {
    const message = stderr.toString().trim() || `it ended with ${exitCode}`;
    throw new RuntimeError('Internal', `conmon did not start container ${request.id}: ${message}`);
  }
  const pid = Number(said.pid ?? said.data);
  if (!(pid > 0)) {
    const message = typeof said.message === 'string' && said.message ? said.message : stderr.toString();
    throw new RuntimeError(
      'Internal',
      `OCI runtime create failed: ${runtimeMessage(message) || `error ${pid}`}`,
    );
  }
  return readPidFiles(request.bundle);
}

export interface ExitFile {
  readonly exitCode: number;
  /** Milliseconds since the epoch. */
  readonly finishedAt: number;
}

/** Undefined as long as there is none. */
export async function readExitFile(path: string): Promise<ExitFile | undefined> {
  try {
    const [text, { mtimeMs }] = await Promise.all([readFile(path, 'utf8'), stat(path)]);
    const exitCode = Number.parseInt(text, 10);
    return { exitCode: Number.isNaN(exitCode) ? 255 : exitCode, finishedAt: mtimeMs };
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Has conmon open the log file anew, after it was renamed. */
export async function reopenLog(bundle: string): Promise<void> {
  let handle: Awaited<ReturnType<typeof open>> | undefined;
  try {
    handle = await open(join(bundle, 'ctl'), constants.O_WRONLY | constants.O_NONBLOCK);
    await handle.write('2 0 0\n');
  } catch (error) {
    // Nobody reads the FIFO, or there is none: conmon has ended with the container.
    if (errorCode(error) === 'ENXIO' || errorCode(error) === 'ENOENT')
      throw new RuntimeError('FailedPrecondition', 'the container is not running', { cause: error });
    throw error;
  } finally {
    await handle?.close();
  }
}
