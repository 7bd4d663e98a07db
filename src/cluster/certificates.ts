// The cluster's own certificate authority and what it signs: server certificates for the API server and the
// nodes, client certificates for the components and the administrator, and the key that signs service-account
// tokens. ECDSA P-256 throughout: a key takes a millisecond, where RSA takes a hundred.
//
// On disk (`<state>/pki`, keys 0600) or, for a cluster in a test, only in memory.

import { createPrivateKey, createPublicKey, webcrypto, X509Certificate } from 'node:crypto';
import { chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import type * as X509Library from '@peculiar/x509';

/** A certificate and its private key, both PEM. */
export interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}

export interface ClusterCertificates {
  readonly ca: KeyPair;
  /** Serves the API. */
  readonly apiServer: KeyPair;
  /** Lets the API server in at a node agent's port (logs, exec, port-forward). */
  readonly apiServerKubeletClient: KeyPair;
  /** system:masters, for the kubeconfig. */
  readonly admin: KeyPair;
  /** Signs and verifies service-account tokens; PEM. */
  readonly serviceAccountKey: string;
  /** The serving certificate of a node agent. */
  kubeletServer(nodeName: string, addresses: readonly string[]): Promise<KeyPair>;
}

const DAY = 24 * 60 * 60 * 1000;
const CA_LIFETIME = 3650 * DAY;
const LEAF_LIFETIME = 365 * DAY;
/** A certificate on disk that ends sooner than this is made anew at start. */
const RENEW_BEFORE = 30 * DAY;
/** Clocks differ between machines; certificates count from a little before now. */
const BACKDATE = 60 * 60 * 1000;

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

/** Loaded only when something is to be signed: a start with good certificates on disk does without it. */
async function x509Library(): Promise<typeof X509Library> {
  await import('reflect-metadata');
  return import('@peculiar/x509');
}

interface LeafRequest {
  readonly commonName: string;
  readonly organizations?: readonly string[];
  readonly usage: 'server' | 'client';
  /** DNS names and addresses. */
  readonly alternativeNames?: readonly string[];
}

async function generateKey(): Promise<{ pair: webcrypto.CryptoKeyPair; pem: string }> {
  const pair = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const der = await webcrypto.subtle.exportKey('pkcs8', pair.privateKey);
  const pem = createPrivateKey({ key: Buffer.from(der), format: 'der', type: 'pkcs8' }).export({
    type: 'pkcs8',
    format: 'pem',
  });
  return { pair: pair as webcrypto.CryptoKeyPair, pem: pem.toString() };
}

function serialNumber(): string {
  const bytes = Buffer.from(webcrypto.getRandomValues(new Uint8Array(16)));
  bytes[0] = (bytes[0]! & 0x7f) | 0x40; // positive, and never shortened by a leading zero
  return bytes.toString('hex');
}

async function createAuthority(now: number): Promise<KeyPair> {
  const x509 = await x509Library();
  const { pair, pem } = await generateKey();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: 'CN=bulkhead-ca',
    notBefore: new Date(now - BACKDATE),
    notAfter: new Date(now + CA_LIFETIME),
    signingAlgorithm: algorithm,
    keys: pair,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign | x509.KeyUsageFlags.digitalSignature,
        true,
      ),
      await x509.SubjectKeyIdentifierExtension.create(pair.publicKey),
    ],
  });
  return { certificate: `${certificate.toString('pem')}\n`, key: pem };
}

/** An authority that is loaded and can sign. */
class Authority {
  readonly #x509: typeof X509Library;
  readonly #certificate: X509Library.X509Certificate;
  readonly #key: webcrypto.CryptoKey;

  private constructor(
    x509: typeof X509Library,
    certificate: X509Library.X509Certificate,
    key: webcrypto.CryptoKey,
  ) {
    this.#x509 = x509;
    this.#certificate = certificate;
    this.#key = key;
  }

  static async load(pair: KeyPair): Promise<Authority> {
    const x509 = await x509Library();
    const der = createPrivateKey(pair.key).export({ type: 'pkcs8', format: 'der' });
    const key = await webcrypto.subtle.importKey('pkcs8', der, algorithm, true, ['sign']);
    return new Authority(x509, new x509.X509Certificate(pair.certificate), key as webcrypto.CryptoKey);
  }

  async sign(request: LeafRequest, now: number): Promise<KeyPair> {
    const x509 = this.#x509;
    const { pair, pem } = await generateKey();
    const subject = [
      ...(request.organizations ?? []).map((o) => ({ O: [o] })),
      { CN: [request.commonName] },
    ] satisfies X509Library.JsonName;
    const server = request.usage === 'server';
    const names = (request.alternativeNames ?? []).map((value) => ({
      type: isIP(value) ? ('ip' as const) : ('dns' as const),
      value,
    }));
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject,
      issuer: this.#certificate.subject,
      notBefore: new Date(now - BACKDATE),
      notAfter: new Date(Math.min(now + LEAF_LIFETIME, this.#certificate.notAfter.getTime())),
      signingAlgorithm: algorithm,
      publicKey: pair.publicKey,
      signingKey: this.#key,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([
          server ? x509.ExtendedKeyUsage.serverAuth : x509.ExtendedKeyUsage.clientAuth,
        ]),
        await x509.AuthorityKeyIdentifierExtension.create(this.#certificate.publicKey, false),
        ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : []),
      ],
    });
    return { certificate: `${certificate.toString('pem')}\n`, key: pem };
  }
}

/** The names under which clients reach the API server, in certificates and in the `kubernetes` service. */
export interface ApiServerNames {
  /** Addresses and DNS names of the host, beside localhost. */
  readonly hosts: readonly string[];
  /** The first address of the service range. */
  readonly serviceAddress: string;
  readonly clusterDomain: string;
}

export function apiServerAlternativeNames(names: ApiServerNames): string[] {
  return [
    ...new Set([
      'kubernetes',
      'kubernetes.default',
      'kubernetes.default.svc',
      `kubernetes.default.svc.${names.clusterDomain}`,
      'localhost',
      '127.0.0.1',
      '::1',
      names.serviceAddress,
      ...names.hosts,
    ]),
  ];
}

/** Where key pairs live between starts: each is loaded when it is still good, and made and kept otherwise. */
interface Keep {
  pair(name: string, good: (pair: KeyPair) => boolean, make: () => Promise<KeyPair>): Promise<KeyPair>;
  key(name: string, make: () => Promise<string>): Promise<string>;
}

const inMemory: Keep = {
  pair: (_name, _good, make) => make(),
  key: (_name, make) => make(),
};

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

async function writeWhole(path: string, content: string, mode: number): Promise<void> {
  const temporary = `${path}.new`;
  await writeFile(temporary, content, { mode });
  await chmod(temporary, mode);
  await rename(temporary, path);
}

async function onDisk(directory: string): Promise<Keep> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const keep: Keep = {
    async pair(name, good, make) {
      const [certificate, key] = await Promise.all([
        readIfThere(join(directory, `${name}.crt`)),
        readIfThere(join(directory, `${name}.key`)),
      ]);
      if (certificate !== undefined && key !== undefined && good({ certificate, key }))
        return { certificate, key };
      const made = await make();
      await writeWhole(join(directory, `${name}.key`), made.key, 0o600);
      await writeWhole(join(directory, `${name}.crt`), made.certificate, 0o644);
      return made;
    },
    async key(name, make) {
      const path = join(directory, `${name}.key`);
      const kept = await readIfThere(path);
      if (kept !== undefined) return kept;
      const made = await make();
      await writeWhole(path, made, 0o600);
      return made;
    },
  };
  return keep;
}

/** True when the certificate belongs to its key, was signed by this authority, covers these names and lasts. */
function isGood(
  pair: KeyPair,
  ca: X509Certificate | undefined,
  names: readonly string[],
  now: number,
): boolean {
  try {
    const certificate = new X509Certificate(pair.certificate);
    if (!certificate.checkPrivateKey(createPrivateKey(pair.key))) return false;
    if (Date.parse(certificate.validTo) - RENEW_BEFORE < now) return false;
    if (ca && !(certificate.checkIssued(ca) && certificate.verify(ca.publicKey))) return false;
    return names.every((n) => (isIP(n) ? certificate.checkIP(n) : certificate.checkHost(n)) !== undefined);
  } catch {
    return false; // not a certificate or not a key: made anew
  }
}

/**
 * Loads the cluster's certificates from `directory`, making what is missing, about to end, or no longer fitting
 * (a new host address); with no directory, makes all of them in memory. The authority itself is never replaced
 * while it is readable: every kubeconfig hangs on it.
 */
export async function clusterCertificates(options: {
  readonly directory?: string;
  readonly names: ApiServerNames;
  /** Milliseconds since the epoch. */
  readonly now: number;
}): Promise<ClusterCertificates> {
  const { now } = options;
  const keep = options.directory === undefined ? inMemory : await onDisk(options.directory);
  const ca = await keep.pair(
    'ca',
    (pair) => isGood(pair, undefined, [], now),
    () => createAuthority(now),
  );
  const caCertificate = new X509Certificate(ca.certificate);
  let authority: Promise<Authority> | undefined;
  const leaf = (name: string, request: LeafRequest): Promise<KeyPair> =>
    keep.pair(
      name,
      (pair) => isGood(pair, caCertificate, request.alternativeNames ?? [], now),
      async () => {
        authority ??= Authority.load(ca);
        return (await authority).sign(request, now);
      },
    );
  const [apiServer, apiServerKubeletClient, admin, serviceAccountKey] = await Promise.all([
    leaf('apiserver', {
      commonName: 'kube-apiserver',
      usage: 'server',
      alternativeNames: apiServerAlternativeNames(options.names),
    }),
    leaf('apiserver-kubelet-client', {
      commonName: 'kube-apiserver-kubelet-client',
      organizations: ['system:masters'],
      usage: 'client',
    }),
    leaf('admin', { commonName: 'kubernetes-admin', organizations: ['system:masters'], usage: 'client' }),
    keep.key('service-account', async () => (await generateKey()).pem),
  ]);
  return {
    ca,
    apiServer,
    apiServerKubeletClient,
    admin,
    serviceAccountKey,
    kubeletServer: (nodeName, addresses) =>
      leaf(`kubelet-${nodeName}`, {
        commonName: `system:node:${nodeName}`,
        organizations: ['system:nodes'],
        usage: 'server',
        alternativeNames: [nodeName, ...addresses],
      }),
  };
}

/** The public half of a private key, PEM (SPKI). */
export function publicKeyOf(privateKey: string): string {
  return createPublicKey(privateKey).export({ type: 'spki', format: 'pem' }).toString();
}
