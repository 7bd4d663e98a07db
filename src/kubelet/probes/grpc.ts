// gRPC probes: grpc.health.v1.Health/Check over plain HTTP/2. The two messages are small enough to be written by hand:
// HealthCheckRequest{1: service}, HealthCheckResponse{1: status}.

import { connect, constants } from 'node:http2';
import type { GRPCAction } from '../../api/types/core-v1.ts';
import type { ProbeAnswer } from '../host/host.ts';
import { dialError, hostPort } from './ports.ts';

const STATUS = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'] as const;
const SERVING = 1;
const UNIMPLEMENTED = 12;
const ANSWER_LIMIT = 4096;

function varint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 127) {
    bytes.push((rest & 127) | 128);
    rest >>>= 7;
  }
  return [...bytes, rest];
}

function request(service: string): Buffer {
  const name = Buffer.from(service);
  const message =
    name.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, ...varint(name.length)]), name]);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

/** The status field of the answer, 0 when absent; undefined for what is no answer. */
function decode(body: Buffer): number | undefined {
  if (body.length < 5 || body[0] !== 0 || body.readUInt32BE(1) !== body.length - 5) return undefined;
  const message = body.subarray(5);
  if (message.length === 0) return 0;
  return message[0] === 0x08 && message.length >= 2 ? message[1] : undefined;
}

export async function probeGrpc(
  action: GRPCAction,
  podIP: string,
  signal: AbortSignal,
): Promise<ProbeAnswer> {
  const address = hostPort(podIP, action.port);
  const failure = (output: string): ProbeAnswer => ({ verdict: 'failure', output });
  return new Promise((resolve) => {
    const session = connect(`http://${address}`);
    const finish = (answer: ProbeAnswer): void => {
      signal.removeEventListener('abort', expire);
      session.destroy();
      resolve(answer);
    };
    const expire = (): void =>
      finish(failure(`timeout: failed to connect service "${address}": context deadline exceeded`));
    signal.addEventListener('abort', expire, { once: true });
    const unreachable = (error: unknown): void =>
      finish(
        failure(
          `error: failed to connect service at "${address}": connection error: desc = "transport: Error while dialing: ${dialError(error, address)}"`,
        ),
      );
    session.on('error', unreachable);
    const stream = session.request({
      [constants.HTTP2_HEADER_METHOD]: 'POST',
      [constants.HTTP2_HEADER_PATH]: '/grpc.health.v1.Health/Check',
      [constants.HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc',
      [constants.HTTP2_HEADER_TE]: 'trailers',
      [constants.HTTP2_HEADER_USER_AGENT]: 'kube-probe/1.36',
    });
    const chunks: Buffer[] = [];
    let size = 0;
    let code: number | undefined;
    let message = '';
    const readStatus = (headers: Readonly<Record<string, unknown>>): void => {
      if (headers['grpc-status'] === undefined) return;
      code = Number(headers['grpc-status']);
      message = decodeURIComponent(String(headers['grpc-message'] ?? ''));
    };
    stream.on('response', readStatus);
    stream.on('trailers', readStatus);
    stream.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > ANSWER_LIMIT) finish(failure('error: health rpc probe failed: the answer is too long'));
      else chunks.push(chunk);
    });
    // A stream that waited for its connection in vain says so only in its cause.
    stream.on('error', (error) => {
      if (error.cause) unreachable(error.cause);
      else finish(failure(`error: health rpc probe failed: ${dialError(error, address)}`));
    });
    stream.on('end', () => {
      if (code === UNIMPLEMENTED)
        return finish(
          failure(
            `error: this server does not implement the grpc health protocol (grpc.health.v1.Health): ${message}`,
          ),
        );
      if (code !== 0)
        return finish(
          failure(`error: health rpc probe failed: rpc error: code = ${code ?? 'Unknown'} desc = ${message}`),
        );
      const status = decode(Buffer.concat(chunks));
      if (status === SERVING) return finish({ verdict: 'success', output: 'service healthy' });
      const name = status === undefined ? 'an unreadable message' : (STATUS[status] ?? String(status));
      return finish(failure(`service unhealthy (responded with "${name}")`));
    });
    stream.end(request(action.service ?? ''));
  });
}
