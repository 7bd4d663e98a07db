// An authority in memory with a server's certificate and clients', for tests of the agent's server.

import 'reflect-metadata';
import { createPrivateKey, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';

export interface TestKeyPair {
  readonly certificate: string;
  readonly key: string;
}

export interface TestAuthority {
  readonly certificate: string;
  server(): Promise<TestKeyPair>;
  client(user: string, groups?: readonly string[]): Promise<TestKeyPair>;
}

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const HOUR = 3_600_000;

export async function testAuthority(): Promise<TestAuthority> {
  const notBefore = new Date(Date.now() - HOUR);
  const notAfter = new Date(Date.now() + HOUR);
  const generate = async (): Promise<webcrypto.CryptoKeyPair> =>
    (await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair;
  const keys = await generate();
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: '01',
    name: 'CN=test',
    notBefore,
    notAfter,
    signingAlgorithm: algorithm,
    keys,
    extensions: [new x509.BasicConstraintsExtension(true, undefined, true)],
  });
  let serial = 1;
  const sign = async (subject: x509.JsonName, usage: x509.ExtendedKeyUsage): Promise<TestKeyPair> => {
    const pair = await generate();
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: `00${(++serial).toString(16)}`.slice(-2),
      subject,
      issuer: authority.subject,
      notBefore,
      notAfter,
      signingAlgorithm: algorithm,
      publicKey: pair.publicKey,
      signingKey: keys.privateKey,
      extensions: [
        new x509.ExtendedKeyUsageExtension([usage]),
        new x509.SubjectAlternativeNameExtension([{ type: 'ip', value: '127.0.0.1' }]),
      ],
    });
    const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', pair.privateKey));
    const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }).export({
      type: 'pkcs8',
      format: 'pem',
    });
    return { certificate: certificate.toString('pem'), key: key.toString() };
  };
  return {
    certificate: authority.toString('pem'),
    server: () => sign([{ CN: ['node-1'] }], x509.ExtendedKeyUsage.serverAuth),
    client: (user, groups = []) =>
      sign([...groups.map((group) => ({ O: [group] })), { CN: [user] }], x509.ExtendedKeyUsage.clientAuth),
  };
}
