// TCP probes: the port accepts a connection, or it does not.

import { connect } from 'node:net';
import type { Container, TCPSocketAction } from '../../api/types/core-v1.ts';
import type { ProbeAnswer } from '../host/host.ts';
import { dialError, hostPort, resolvePort } from './ports.ts';

export async function probeTcp(
  action: TCPSocketAction,
  container: Container,
  podIP: string,
  signal: AbortSignal,
): Promise<ProbeAnswer> {
  const host = action.host || podIP;
  const port = resolvePort(action.port, container);
  const address = hostPort(host, port);
  return new Promise((resolve) => {
    const socket = connect({ host, port, signal });
    socket.once('connect', () => {
      socket.destroy();
      resolve({ verdict: 'success', output: '' });
    });
    socket.once('error', (error) => {
      const output = signal.aborted ? `dial tcp ${address}: i/o timeout` : dialError(error, address);
      resolve({ verdict: 'failure', output });
    });
  });
}
