// The agent's HTTPS server, port 10250 of a node: logs, exec, attach and port-forward for the API server, statistics,
// the pods as the agent sees them. Paths and answers are upstream's (pkg/kubelet/server). Nobody is let in unknown.

import { access } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { createWebSocketStream, type WebSocket, WebSocketServer } from 'ws';
import type { Pod, PodStatus } from '../../api/types/core-v1.ts';
import type { Client } from '../../client/index.ts';
import type { Clock, Logger } from '../../component/index.ts';
import { RuntimeError, type RuntimeService } from '../../runtime/cri.ts';
import type { KubeletServerOptions } from '../options.ts';
import { findContainer } from '../pod.ts';
import { newestContainer, type RuntimeStateCache } from '../runtime-state.ts';
import { messageOf } from '../text.ts';
import { requestAttributes, ServerAccess } from './authentication.ts';
import { type LogOptions, LogOptionsError, parseLogOptions } from './log-options.ts';
import { LogTargetError, logTarget } from './log-target.ts';
import { readLog } from './logs.ts';
import {
  forwardChannels,
  forwardSpdy,
  PORT_FORWARD_PROTOCOL,
  portForwardChannelProtocols,
  requestedPorts,
  TUNNEL_PROTOCOL,
} from './port-forward.ts';
import { type RemoteCommand, runRemoteCommand } from './remote-command.ts';
import { type RemoteStreams, streamRequest } from './remote-streams.ts';
import { acceptSpdy, remoteCommandProtocols, SPDY_PROTOCOL, spdyRemoteStreams } from './spdy-streams.ts';
import type { StatsReader } from './stats.ts';
import { webSocketProtocols, webSocketRemoteStreams } from './websocket-streams.ts';

/** An answer that is no success, with the text that its client sees. */
class HttpError extends Error {
  override readonly name = 'HttpError';
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

/** A frame or message longer than this is no terminal's and no port's. */
const MAX_MESSAGE = 1 << 20;
const COMMAND_LIMIT = 1 << 20;

export interface ServerContext {
  readonly client: Client;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly nodeName: string;
  readonly runtime: RuntimeService;
  readonly states: RuntimeStateCache;
  readonly stats: StatsReader;
  /** The pods of this node, each with the newest status that the agent computed. */
  readonly pods: () => readonly Pod[];
  readonly findPod: (namespace: string, name: string) => Pod | undefined;
  readonly status: (podUid: string) => PodStatus | undefined;
}

interface Target {
  readonly pod: Pod;
  readonly containerId: string;
}

export class KubeletServer implements AsyncDisposable {
  readonly #context: ServerContext;
  readonly #access: ServerAccess;
  readonly #server: Server;
  readonly #webSockets = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_MESSAGE,
    perMessageDeflate: false,
  });
  /** What was agreed on for a handshake that is under way. */
  readonly #protocols = new WeakMap<IncomingMessage, string>();
  /** Sockets that left HTTP behind: the server does not close them by itself. */
  readonly #upgraded = new Set<Duplex>();
  readonly #closing = new AbortController();

  constructor(context: ServerContext, options: KubeletServerOptions) {
    this.#context = context;
    this.#access = new ServerAccess(context.client, context.clock, context.nodeName, options.authorize);
    this.#server = createServer({
      cert: options.certificate,
      key: options.key,
      ...(options.clientAuthorities !== undefined && { ca: options.clientAuthorities, requestCert: true }),
      // A caller without a certificate may have a token.
      rejectUnauthorized: false,
      minVersion: 'TLSv1.2',
      ALPNProtocols: ['http/1.1'],
    });
    this.#webSockets.on('headers', (headers, request) => {
      const protocol = this.#protocols.get(request);
      if (protocol) headers.push(`Sec-WebSocket-Protocol: ${protocol}`);
    });
    this.#server.on('request', (request, response) => void this.#serve(request, response));
    this.#server.on('upgrade', (request, socket, head) => void this.#upgrade(request, socket, head));
    this.#server.on('tlsClientError', (error) =>
      context.logger.debug({ err: error }, 'a TLS handshake failed'),
    );
  }

  /** Resolves with where the server listens; rejects when it cannot. */
  async listen(address: string, port: number): Promise<{ readonly host: string; readonly port: number }> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, address, () => {
        this.#server.off('error', reject);
        resolve();
      });
    });
    const { address: host, port: actual } = this.#server.address() as AddressInfo;
    return { host, port: actual };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new Error('the node agent stops'));
    for (const socket of this.#upgraded) socket.destroy();
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
    this.#webSockets.close();
  }

  // ---- plain requests ----------------------------------------------------------------------------------------------

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => {});
    try {
      const url = requestUrl(request);
      await this.#authorize(request, url);
      await this.#route(request, response, url);
    } catch (error) {
      this.#refuse(response, error);
    }
  }

  #refuse(response: ServerResponse, error: unknown): void {
    if (response.headersSent) {
      // Too late for a status: cutting the connection tells the client that the body is not whole.
      response.destroy();
      return;
    }
    const { code, message } = httpError(error);
    if (code >= 500) this.#context.logger.error({ err: error }, 'a request to the node agent failed');
    response.writeHead(code, { 'content-type': 'text/plain; charset=utf-8' });
    response.end(message);
  }

  async #authorize(request: IncomingMessage, url: URL): Promise<void> {
    const caller = await this.#access.authenticate(request);
    if (!caller) throw new HttpError(401, 'Unauthorized');
    const attributes = requestAttributes(request.method ?? '', url.pathname);
    if (await this.#access.mayCall(caller, attributes)) return;
    const { verb, subresources } = attributes;
    throw new HttpError(
      403,
      `Forbidden (user=${caller.name}, verb=${verb}, resource=nodes, subresource(s)=[${subresources.join(' ')}])`,
    );
  }

  async #route(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    const parts = url.pathname
      .split('/')
      .filter((part) => part !== '')
      .map(decodeURIComponent);
    const [first = '', ...rest] = parts;
    const method = request.method ?? '';
    if (first === 'run' && method === 'POST') return this.#runCommand(response, rest, url);
    if (method !== 'GET' && method !== 'HEAD') {
      const isKnown = ['exec', 'attach', 'portForward'].includes(first);
      if (isKnown && (method === 'POST' || method === 'GET'))
        throw new HttpError(400, 'Upgrade request required');
      throw new HttpError(405, '405: Method Not Allowed');
    }
    const { stats } = this.#context;
    switch (parts.join('/')) {
      case 'healthz':
      case 'healthz/ping':
      case 'healthz/log':
      case 'healthz/syncloop':
        return sendText(response, 'ok');
      case 'pods':
        return sendJson(response, podList(this.#context.pods()));
      case 'runningpods':
        return sendJson(response, podList(await this.#runningPods()));
      case 'stats/summary':
        return sendJson(response, await stats.summary());
      case 'metrics':
        return sendText(response, await stats.volumeMetrics(), 'text/plain; version=0.0.4; charset=utf-8');
      case 'metrics/resource':
        return sendText(response, await stats.resourceMetrics(), 'text/plain; version=0.0.4; charset=utf-8');
      default:
    }
    if (first === 'containerLogs' && rest.length === 3) return this.#logs(response, rest, url);
    if (['exec', 'attach', 'portForward'].includes(first))
      throw new HttpError(400, 'Upgrade request required');
    throw new HttpError(404, '404 page not found');
  }

  /** What really runs, whatever the API says of it. */
  async #runningPods(): Promise<object[]> {
    const { runtime } = this.#context;
    const pods: object[] = [];
    for (const sandbox of await runtime.listPodSandboxes({ state: 'READY' })) {
      const running = await runtime.listContainers({ podSandboxId: sandbox.id, state: 'RUNNING' });
      const { name, namespace, uid } = sandbox.metadata;
      const containers = running.map(({ metadata, image }) => ({
        name: metadata.name,
        image,
        resources: {},
      }));
      pods.push({
        metadata: { name, namespace, uid },
        spec: { containers },
        status: {},
      });
    }
    return pods;
  }

  async #logs(
    response: ServerResponse,
    [namespace, name, container]: readonly string[],
    url: URL,
  ): Promise<void> {
    const { clock, runtime, status } = this.#context;
    let options: LogOptions;
    try {
      options = parseLogOptions(url.searchParams, clock.now());
    } catch (error) {
      if (error instanceof LogOptionsError) throw new HttpError(422, error.message);
      throw error;
    }
    const pod = this.#context.findPod(namespace!, name!);
    if (!pod) throw new HttpError(404, `pod "${name}" does not exist\n`);
    if (!findContainer(pod, container!))
      throw new HttpError(404, `container "${container}" not found in pod "${name}"\n`);
    const id = logTarget(name!, status(pod.metadata.uid) ?? pod.status ?? {}, container!, options.previous);
    using end = containerEnd(runtime, id);
    // After subscribing to its end: one that ends in between is not missed.
    const { logPath, state } = await runtime.containerStatus(id);
    if (logPath === '') throw new HttpError(501, 'containers of this runtime write no logs');
    // While an error can still be told: once the answer has begun it can only be cut off.
    await access(logPath).catch((error: unknown) => {
      throw new HttpError(500, `failed to open log file "${logPath}": ${messageOf(error)}`);
    });
    const gone = new AbortController();
    response.on('close', () => gone.abort(new Error('the client went away')));
    response.writeHead(200, { 'content-type': 'text/plain', 'transfer-encoding': 'chunked' });
    response.flushHeaders();
    const source = { path: logPath, ...(state === 'RUNNING' && { ended: end.signal }) };
    const signal = AbortSignal.any([gone.signal, this.#closing.signal]);
    await readLog(source, options, (chunk) => writeOut(response, chunk), signal).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
    response.end();
  }

  /** One command without streams: its output is the answer. */
  async #runCommand(response: ServerResponse, parts: readonly string[], url: URL): Promise<void> {
    const target = await this.#target(parts);
    const command = (url.searchParams.get('cmd') ?? '').split(' ').filter((part) => part !== '');
    if (command.length === 0) throw new HttpError(400, 'the query needs cmd');
    const { stdout, stderr, exitCode } = await this.#context.runtime.execSync(target.containerId, command, 0);
    const output = Buffer.concat([stdout, stderr]);
    if (exitCode !== 0)
      throw new HttpError(
        500,
        `command '${command.join(' ')}' exited with ${exitCode}: ${output.toString('utf8')}`,
      );
    sendText(response, output);
  }

  /** The container that `<namespace>/<pod>[/<uid>]/<container>` names; it must be running. */
  async #target(parts: readonly string[]): Promise<Target> {
    const [namespace = '', name = ''] = parts;
    const container = parts.at(-1) ?? '';
    const uid = parts.length === 4 ? parts[2] : undefined;
    if (parts.length < 3 || parts.length > 4) throw new HttpError(404, '404 page not found');
    const pod = this.#pod(namespace, name, uid);
    const record = newestContainer(await this.#context.states.get(pod.metadata.uid), container);
    if (record?.state !== 'RUNNING') throw new HttpError(500, `container not found ("${container}")`);
    return { pod, containerId: record.id };
  }

  #pod(namespace: string, name: string, uid: string | undefined): Pod {
    const pod = this.#context.findPod(namespace, name);
    if (!pod || (uid !== undefined && pod.metadata.uid !== uid))
      throw new HttpError(404, 'pod does not exist');
    return pod;
  }

  // ---- upgrades ----------------------------------------------------------------------------------------------------

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on('error', () => {});
    this.#upgraded.add(socket);
    socket.on('close', () => this.#upgraded.delete(socket));
    try {
      const url = requestUrl(request);
      await this.#authorize(request, url);
      await this.#switchProtocols(request, socket, head, url);
    } catch (error) {
      if (socket.destroyed) return;
      const { code, message } = httpError(error);
      if (code >= 500)
        this.#context.logger.error({ err: error }, 'an upgrade request to the node agent failed');
      refuseUpgrade(socket, code, message);
    }
  }

  async #switchProtocols(request: IncomingMessage, socket: Duplex, head: Buffer, url: URL): Promise<void> {
    const [first, ...rest] = url.pathname
      .split('/')
      .filter((part) => part !== '')
      .map(decodeURIComponent);
    const kind = (request.headers.upgrade ?? '').toLowerCase();
    const isSpdy = kind === SPDY_PROTOCOL.toLowerCase();
    if (!isSpdy && kind !== 'websocket')
      throw new HttpError(400, `unable to upgrade: unknown protocol ${JSON.stringify(kind)}`);
    if (first === 'portForward' && (rest.length === 2 || rest.length === 3))
      return isSpdy
        ? this.#forwardSpdy(request, socket, head, rest)
        : this.#forwardWebSocket(request, socket, head, rest, url);
    if (first !== 'exec' && first !== 'attach') throw new HttpError(404, '404 page not found');
    const what = this.#command(first, url);
    const target = await this.#target(rest);
    // Attaching joins a terminal that is there or is not: the container's spec says.
    const asked = streamRequest(url.searchParams);
    const tty =
      first === 'attach' ? findContainer(target.pod, rest.at(-1)!)?.container.tty === true : asked.tty;
    const streams = { ...asked, tty, stderr: asked.stderr && !tty };
    if (!streams.stdin && !streams.stdout && !streams.stderr)
      throw new HttpError(400, 'you must specify at least 1 of stdin, stdout, stderr');
    const { clock, logger, runtime } = this.#context;
    const run = (remote: RemoteStreams): Promise<void> =>
      runRemoteCommand(runtime, target.containerId, what, tty, remote, logger);
    if (isSpdy) {
      const accepted = acceptSpdy(request, socket, remoteCommandProtocols);
      if (accepted) await run(await spdyRemoteStreams(socket, head, streams, accepted.protocol, clock));
      return;
    }
    const agreed = await this.#acceptWebSocket(request, socket, head, webSocketProtocols);
    await run(webSocketRemoteStreams(agreed.socket, agreed.protocol, streams));
  }

  #command(first: 'exec' | 'attach', url: URL): RemoteCommand {
    if (first === 'attach') return { type: 'attach' };
    const command = url.searchParams.getAll('command');
    if (command.length === 0) throw new HttpError(400, 'you must specify a command to execute');
    if (command.join('').length > COMMAND_LIMIT) throw new HttpError(400, 'the command is too long');
    return { type: 'exec', command };
  }

  /** Resolves after the handshake. */
  #acceptWebSocket(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    supported: readonly string[],
  ): Promise<Agreed> {
    const { offered, chosen } = chooseProtocol(request, supported);
    if (chosen === undefined)
      throw new HttpError(
        403,
        `unable to upgrade: unable to negotiate protocol: client supports [${offered.join(' ')}], server accepts [${supported.join(' ')}]`,
      );
    delete request.headers['sec-websocket-protocol'];
    this.#protocols.set(request, chosen);
    return new Promise((resolve) => {
      this.#webSockets.handleUpgrade(request, socket, head, (accepted) =>
        resolve({ socket: accepted, protocol: chosen }),
      );
    });
  }

  async #sandbox(parts: readonly string[]): Promise<{ readonly pod: Pod; readonly sandboxId: string }> {
    const pod = this.#pod(parts[0]!, parts[1]!, parts[2]);
    const sandbox = (await this.#context.states.get(pod.metadata.uid)).sandboxes[0];
    if (sandbox?.state !== 'READY') throw new HttpError(500, `sandbox of pod ${parts[1]} is not running`);
    return { pod, sandboxId: sandbox.id };
  }

  async #forwardSpdy(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    parts: readonly string[],
  ): Promise<void> {
    const options = await this.#forwardOptions(parts);
    if (acceptSpdy(request, socket, [PORT_FORWARD_PROTOCOL])) await forwardSpdy(socket, head, options);
  }

  async #forwardWebSocket(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    parts: readonly string[],
    url: URL,
  ): Promise<void> {
    const options = await this.#forwardOptions(parts);
    const supported = [TUNNEL_PROTOCOL, ...portForwardChannelProtocols];
    const agreed = await this.#acceptWebSocket(request, socket, head, supported);
    if (agreed.protocol === TUNNEL_PROTOCOL) {
      await forwardSpdy(createWebSocketStream(agreed.socket), Buffer.alloc(0), options);
      return;
    }
    let ports: number[];
    try {
      ports = requestedPorts(url.searchParams);
    } catch (error) {
      agreed.socket.close(1008, messageOf(error).slice(0, 120));
      return;
    }
    forwardChannels(agreed.socket, agreed.protocol, ports, options);
  }

  async #forwardOptions(parts: readonly string[]) {
    const { pod, sandboxId } = await this.#sandbox(parts);
    const { runtime, clock, logger } = this.#context;
    const name = `${pod.metadata.name}_${pod.metadata.namespace}`;
    return { dial: (port: number) => runtime.portForward(sandboxId, port), clock, logger, pod: name };
  }
}

/** A signal that aborts when the container stops. */
function containerEnd(
  runtime: RuntimeService,
  containerId: string,
): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const unsubscribe = runtime.onEvent((event) => {
    if ('containerId' in event && event.containerId === containerId && /STOPPED|DELETED/.test(event.type))
      controller.abort();
  });
  return { signal: controller.signal, [Symbol.dispose]: unsubscribe };
}

/** A WebSocket and the protocol that was agreed on; '' for none. */
interface Agreed {
  readonly socket: WebSocket;
  readonly protocol: string;
}

/**
 * The client's first protocol that is among `supported`; '' when it offers none, undefined when none suits. Read here,
 * because one of upstream's names (SPDY/3.1+portforward.k8s.io) is no valid token and ws would refuse it.
 */
function chooseProtocol(
  request: IncomingMessage,
  supported: readonly string[],
): { offered: string[]; chosen: string | undefined } {
  const offered = (request.headers['sec-websocket-protocol'] ?? '')
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');
  return { offered, chosen: offered.length === 0 ? '' : offered.find((name) => supported.includes(name)) };
}

function podList(items: readonly object[]): object {
  return { kind: 'PodList', apiVersion: 'v1', metadata: {}, items };
}

function requestUrl(request: IncomingMessage): URL {
  try {
    return new URL(request.url ?? '/', 'https://node');
  } catch {
    throw new HttpError(400, 'the request has no valid URL');
  }
}

function httpError(error: unknown): { readonly code: number; readonly message: string } {
  if (error instanceof HttpError) return error;
  if (error instanceof LogTargetError) return { code: 400, message: error.message };
  if (error instanceof URIError) return { code: 400, message: 'the request has no valid URL' };
  if (error instanceof RuntimeError && error.code === 'Unimplemented')
    return { code: 501, message: error.message };
  if (error instanceof RuntimeError && error.code === 'NotFound')
    return { code: 404, message: error.message };
  return { code: 500, message: messageOf(error) };
}

function sendText(response: ServerResponse, body: string | Buffer, type = 'text/plain; charset=utf-8'): void {
  response.writeHead(200, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
  response.end(body);
}

function sendJson(response: ServerResponse, value: object): void {
  sendText(response, JSON.stringify(value), 'application/json');
}

/** Resolves when the response has room for more; rejects when its client is gone. */
async function writeOut(response: ServerResponse, chunk: Buffer): Promise<void> {
  if (response.destroyed) throw new Error('the client went away');
  if (response.write(chunk)) return;
  await new Promise<void>((resolve, reject) => {
    const settle = (): void => {
      response.off('drain', settle);
      response.off('close', settle);
      if (response.destroyed) reject(new Error('the client went away'));
      else resolve();
    };
    response.once('drain', settle);
    response.once('close', settle);
  });
}

const REASONS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  500: 'Internal Server Error',
  501: 'Not Implemented',
};

function refuseUpgrade(socket: Duplex, code: number, message: string): void {
  socket.end(
    `HTTP/1.1 ${code} ${REASONS[code] ?? 'Error'}\r\nContent-Type: text/plain; charset=utf-8\r\n` +
      `Content-Length: ${Buffer.byteLength(message)}\r\nConnection: close\r\n\r\n${message}`,
  );
}
