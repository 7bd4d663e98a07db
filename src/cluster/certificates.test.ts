import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { connect, createServer } from 'node:tls';
import { type ClusterCertificates, clusterCertificates } from './certificates.ts';

const names = {
  hosts: ['192.0.2.7', 'machine'],
  serviceAddress: '10.96.0.1',
  clusterDomain: 'cluster.local',
};
const now = Date.now();

/** Resolves with what the server learned of the client, over a real TLS connection. */
async function handshake(certificates: ClusterCertificates, host: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const server = createServer(
    {
      key: certificates.apiServer.key,
      cert: certificates.apiServer.certificate,
      ca: certificates.ca.certificate,
      requestCert: true,
      rejectUnauthorized: true,
    },
    (socket) => {
      const subject = socket.getPeerCertificate().subject;
      resolve(`${subject.O}/${subject.CN}`);
      socket.destroy();
    },
  );
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as { port: number };
  const socket = connect({
    host: '127.0.0.1',
    port,
    servername: host,
    ca: certificates.ca.certificate,
    key: certificates.admin.key,
    cert: certificates.admin.certificate,
  });
  socket.on('error', reject);
  try {
    return await promise;
  } finally {
    socket.destroy();
    server.close();
  }
}

describe('cluster certificates', () => {
  it('let the administrator in over TLS by every name of the API server', async () => {
    const certificates = await clusterCertificates({ names, now });
    for (const host of ['localhost', 'kubernetes.default.svc.cluster.local', 'machine']) {
      assert.equal(await handshake(certificates, host), 'system:masters/kubernetes-admin');
    }
    const server = new X509Certificate(certificates.apiServer.certificate);
    for (const address of ['127.0.0.1', '10.96.0.1', '192.0.2.7'])
      assert.ok(server.checkIP(address), address);
  });

  it('are kept on disk with private keys closed, and loaded again as they were', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'bulkhead-pki-'));
    try {
      const first = await clusterCertificates({ directory, names, now });
      const second = await clusterCertificates({ directory, names, now });
      assert.deepEqual(
        [second.ca, second.admin, second.apiServer, second.serviceAccountKey],
        [first.ca, first.admin, first.apiServer, first.serviceAccountKey],
      );
      assert.equal((await stat(join(directory, 'ca.key'))).mode & 0o777, 0o600);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  it('are made anew when the host got another address, are damaged or about to end, under the same authority', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'bulkhead-pki-'));
    try {
      const first = await clusterCertificates({ directory, names, now });
      const moved = await clusterCertificates({ directory, names: { ...names, hosts: ['192.0.2.8'] }, now });
      assert.deepEqual(moved.ca, first.ca);
      assert.deepEqual(moved.admin, first.admin);
      assert.ok(new X509Certificate(moved.apiServer.certificate).checkIP('192.0.2.8'));
      await writeFile(join(directory, 'admin.crt'), 'damaged');
      const mended = await clusterCertificates({ directory, names, now });
      assert.ok(
        new X509Certificate(mended.admin.certificate).verify(
          new X509Certificate(first.ca.certificate).publicKey,
        ),
      );
      const later = now + 340 * 24 * 60 * 60 * 1000;
      const renewed = await clusterCertificates({ directory, names, now: later });
      assert.deepEqual(renewed.ca, first.ca);
      assert.notDeepEqual(renewed.admin, mended.admin);
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});
