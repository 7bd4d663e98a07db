// exec and attach: joins the client's streams with a process in the container, and reports how it ended. The status is
// the one that clients take the exit code from (k8s.io/kubelet's remotecommand/exec.go).

import { internalError } from '../../api/index.ts';
import type { Logger } from '../../component/index.ts';
import type { RuntimeService, StreamSession } from '../../runtime/cri.ts';
import { messageOf } from '../text.ts';
import type { RemoteStreams } from './remote-streams.ts';

type FinalStatus = Parameters<RemoteStreams['finish']>[0];

export function exitStatus(exitCode: number): FinalStatus {
  if (exitCode === 0) return { status: 'Success' };
  return {
    status: 'Failure',
    reason: 'NonZeroExitCode',
    message: `command terminated with non-zero exit code: exit status ${exitCode}`,
    details: { causes: [{ reason: 'ExitCode', message: String(exitCode) }] },
  };
}

function failureStatus(action: string, error: unknown): FinalStatus {
  const { status, reason, message, details, code } = internalError(
    new Error(`error ${action}: ${messageOf(error)}`),
  ).status;
  return { status: status ?? 'Failure', reason, message, details, code };
}

export type RemoteCommand =
  | { readonly type: 'exec'; readonly command: readonly string[] }
  | { readonly type: 'attach' };

/** Resolves when the command has ended and the client was told, or the client went away. Never rejects. */
export async function runRemoteCommand(
  runtime: RuntimeService,
  containerId: string,
  what: RemoteCommand,
  tty: boolean,
  streams: RemoteStreams,
  logger: Logger,
): Promise<void> {
  let session: StreamSession;
  const { stdin, stdout, stderr, closed } = streams;
  const options = {
    tty,
    ...(stdin && { stdin }),
    ...(stdout && { stdout }),
    ...(stderr && !tty && { stderr }),
    signal: closed,
  };
  const action = what.type === 'exec' ? 'executing command in container' : 'attaching to container';
  try {
    session =
      what.type === 'exec'
        ? await runtime.exec(containerId, { ...options, command: what.command })
        : await runtime.attach(containerId, options);
  } catch (error) {
    await finish(streams, failureStatus(action, error), logger);
    return;
  }
  streams.onResize((size) => session.resize(size));
  const leave = (): void => session.close();
  closed.addEventListener('abort', leave, { once: true });
  if (closed.aborted) leave();
  let status: FinalStatus;
  try {
    status = exitStatus(await session.done);
  } catch (error) {
    status = failureStatus(action, error);
  } finally {
    closed.removeEventListener('abort', leave);
  }
  await finish(streams, status, logger);
}

async function finish(streams: RemoteStreams, status: FinalStatus, logger: Logger): Promise<void> {
  try {
    await streams.finish(status);
  } catch (error) {
    // The client left before it was told; nobody else wants to know.
    logger.debug({ err: error }, 'the end of a command could not be told to its client');
  }
}
