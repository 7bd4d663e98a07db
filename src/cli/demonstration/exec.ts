// Runs a command in a container through the API server, as `kubectl exec` does: over a WebSocket whose messages carry
// one channel's bytes behind the channel's number.

import WebSocket from 'ws';
import type { Status } from '../../api/types/meta-v1.ts';
import type { LoadedConfig } from '../../client/index.ts';
import { CommandError } from '../command.ts';

const PROTOCOL = 'v5.channel.k8s.io';
const STDOUT = 1;
const STDERR = 2;
/** How it ended, as a Status. */
const ENDED = 3;

export interface ExecTarget {
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
}

/** Resolves with what the command printed, both streams as they came; rejects when it failed. */
export async function execInPod(
  { transport }: LoadedConfig,
  { namespace, pod, container }: ExecTarget,
  command: readonly string[],
): Promise<string> {
  const url = new URL(`${transport.server}/api/v1/namespaces/${namespace}/pods/${pod}/exec`);
  url.protocol = 'wss:';
  for (const word of command) url.searchParams.append('command', word);
  for (const [name, value] of Object.entries({ container, stdout: 'true', stderr: 'true' }))
    url.searchParams.append(name, value);
  const certificate = await transport.credentials.certificate();
  const authorization = await transport.credentials.authorization();
  const socket = new WebSocket(url, PROTOCOL, {
    ...(transport.ca === undefined ? {} : { ca: transport.ca }),
    ...(certificate === undefined ? {} : { cert: certificate.cert, key: certificate.key }),
    ...(authorization === undefined ? {} : { headers: { authorization } }),
  });
  const output: Buffer[] = [];
  let status: Status | undefined;
  const closed = Promise.withResolvers<void>();
  socket.on('message', (data: Buffer) => {
    const payload = data.subarray(1);
    if (data[0] === STDOUT || data[0] === STDERR) output.push(payload);
    if (data[0] === ENDED) status = JSON.parse(payload.toString('utf8')) as Status;
  });
  socket.on('error', (error) => closed.reject(error));
  socket.on('close', () => closed.resolve());
  await closed.promise;
  const text = Buffer.concat(output).toString('utf8');
  if (status?.status === 'Success') return text;
  const why = status?.message ?? 'the connection ended before the command did';
  throw new CommandError(`${command.join(' ')} in pod ${pod}: ${why}\n${text}`);
}
