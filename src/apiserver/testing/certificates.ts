// A certificate authority for tests: server and client certificates that live only in memory.

import 'reflect-metadata';
import { createPrivateKey, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';

export interface TestKeyPair {
  readonly certificate: string;
  readonly key: string;
}

export interface TestAuthority {
  /** The authority's own certificate, PEM. */
  readonly certificate: string;
  server(): Promise<TestKeyPair>;
  client(user: string, groups?: readonly string[]): Promise<TestKeyPair>;
}

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const HOUR = 3_600_000;

async function generate(): Promise<webcrypto.CryptoKeyPair> {
  return (await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair;
}

async function pem(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', key));
  return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
    .export({ type: 'pkcs8', format: 'pem' })
    .toString();
}

export async function testAuthority(name = 'test-ca'): Promise<TestAuthority> {
  const validity = { notBefore: new Date(Date.now() - HOUR), notAfter: new Date(Date.now() + 24 * HOUR) };
  const keys = await generate();
  let serial = 1;
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: '01',
    name: `CN=${name}`,
    ...validity,
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.digitalSignature, true),
    ],
  });
  const sign = async (subject: x509.JsonName, usage: x509.ExtendedKeyUsage): Promise<TestKeyPair> => {
    const pair = await generate();
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: (++serial).toString(16).padStart(4, '0'),
      subject,
      issuer: authority.subject,
      ...validity,
      signingAlgorithm: algorithm,
      publicKey: pair.publicKey,
      signingKey: keys.privateKey,
      extensions: [
        new x509.ExtendedKeyUsageExtension([usage]),
        new x509.SubjectAlternativeNameExtension([
          { type: 'dns', value: 'localhost' },
          { type: 'ip', value: '127.0.0.1' },
          { type: 'ip', value: '127.0.0.2' },
        ]),
      ],
    });
    return { certificate: certificate.toString('pem'), key: await pem(pair.privateKey) };
  };
  return {
    certificate: authority.toString('pem'),
    server: () => sign([{ CN: ['localhost'] }], x509.ExtendedKeyUsage.serverAuth),
    client: (user, groups = []) =>
      sign([...groups.map((group) => ({ O: [group] })), { CN: [user] }], x509.ExtendedKeyUsage.clientAuth),
  };
}
