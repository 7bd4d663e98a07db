// A TLS server on loopback for tests of the HTTPS transport: HTTP/2, a certificate of its own, and whatever handler
// the test brings.

import 'reflect-metadata';
import { createPrivateKey, webcrypto } from 'node:crypto';
import {
  createSecureServer,
  type Http2SecureServer,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import * as x509 from '@peculiar/x509';

export interface TestCertificate {
  readonly cert: string;
  readonly key: string;
}

/** A self-signed certificate for localhost, 127.0.0.1 and this name. */
export async function selfSigned(commonName: string): Promise<TestCertificate> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
  const keys = (await webcrypto.subtle.generateKey(algorithm, true, [
    'sign',
    'verify',
  ])) as webcrypto.CryptoKeyPair;
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${commonName}`,
    keys,
    signingAlgorithm: algorithm,
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 3_600_000),
    extensions: [
      new x509.BasicConstraintsExtension(true),
      new x509.SubjectAlternativeNameExtension([
        { type: 'dns', value: 'localhost' },
        { type: 'dns', value: commonName },
        { type: 'ip', value: '127.0.0.1' },
      ]),
    ],
  });
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  return { cert: certificate.toString('pem'), key: key.export({ type: 'pkcs8', format: 'pem' }).toString() };
}

export interface TestServer extends AsyncDisposable {
  readonly url: string;
  readonly ca: string;
  readonly sessions: ReadonlySet<ServerHttp2Session>;
  readonly server: Http2SecureServer;
}

export type StreamHandler = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, body: string) => void;

/** `handler` is called when the request's body is complete. */
export async function startTestServer(
  handler: StreamHandler,
  options: {
    readonly certificate?: TestCertificate;
    readonly clientCa?: string;
    readonly maxConcurrentStreams?: number;
    readonly port?: number;
  } = {},
): Promise<TestServer> {
  const certificate = options.certificate ?? (await selfSigned('test-server'));
  const server = createSecureServer({
    cert: certificate.cert,
    key: certificate.key,
    ...(options.clientCa ? { requestCert: true, ca: options.clientCa, rejectUnauthorized: true } : {}),
    ...(options.maxConcurrentStreams
      ? { settings: { maxConcurrentStreams: options.maxConcurrentStreams } }
      : {}),
  });
  const sessions = new Set<ServerHttp2Session>();
  server.on('session', (session) => {
    sessions.add(session);
    session.once('close', () => sessions.delete(session));
    session.on('error', () => {});
  });
  server.on('stream', (stream, headers) => {
    let body = '';
    stream.setEncoding('utf8');
    stream.on('error', () => {});
    stream.on('data', (chunk: string) => {
      body += chunk;
    });
    stream.once('end', () => handler(stream, headers, body));
  });
  await new Promise<void>((resolve) => server.listen(options.port ?? 0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `https://127.0.0.1:${port}`,
    ca: certificate.cert,
    sessions,
    server,
    async [Symbol.asyncDispose]() {
      for (const session of sessions) session.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

export function answerJson(
  stream: ServerHttp2Stream,
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  stream.respond({ ':status': status, 'content-type': 'application/json', ...headers });
  stream.end(JSON.stringify(body));
}

/** A TCP hop before a server that can stop passing anything on, as a network does that lost a route. */
export async function startFreezingPath(
  port: number,
): Promise<AsyncDisposable & { readonly url: string; freeze(): void }> {
  const sockets = new Set<Socket>();
  let frozen = false;
  const server = createServer((near) => {
    const far = connect(port, '127.0.0.1');
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on('data', (chunk) => {
        if (!frozen) to.write(chunk);
      });
      from.on('error', () => {});
      from.once('close', () => {
        sockets.delete(from);
        to.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    freeze() {
      frozen = true;
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
