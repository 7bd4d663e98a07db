// Who we say we are: client certificates, tokens and exec plugins, each kept fresh. Files are read again when they
// change (kubelets rotate their certificates, projected tokens are renewed in place), and plugins are run again when
// what they gave expires or the server answers 401.

import { execFile } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import { timestampMs } from '../api/index.ts';
import type { Clock } from '../component/index.ts';

export interface ClientCertificate {
  /** PEM. */
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
}

export interface Credentials {
  /** The Authorization header's value, when there is one. */
  authorization(): Promise<string | undefined>;
  /** The same object as before as long as it did not change: connections are made anew when it does. */
  certificate(): Promise<ClientCertificate | undefined>;
  /** The server answered 401. True when what we would send now may differ from what we sent. */
  refused(): Promise<boolean>;
}

/** How often files are looked at for changes. */
const FILE_CHECK_MS = 60_000;

/** A file's content, read again when its modification time or inode changes, checked at most once a minute. */
export class WatchedFile {
  readonly path: string;
  readonly #clock: Clock;
  #content: Buffer | undefined;
  #stamp = '';
  #checked = Number.NEGATIVE_INFINITY;

  constructor(path: string, clock: Clock) {
    this.path = path;
    this.#clock = clock;
  }

  /** The same buffer while the file does not change. Rejects when it cannot be read and never could. */
  async content(force = false): Promise<Buffer> {
    const now = this.#clock.monotonic();
    if (this.#content && !force && now - this.#checked < FILE_CHECK_MS) return this.#content;
    this.#checked = now;
    try {
      const { mtimeNs, ino, size } = await stat(this.path, { bigint: true });
      const stamp = `${mtimeNs} ${ino} ${size}`;
      if (this.#content && stamp === this.#stamp) return this.#content;
      const content = await readFile(this.path);
      this.#stamp = stamp;
      if (!this.#content?.equals(content)) this.#content = content;
      return this.#content;
    } catch (error) {
      // In the middle of a rotation the old content still serves.
      if (this.#content) return this.#content;
      throw error;
    }
  }
}

export const anonymous: Credentials = {
  authorization: async () => undefined,
  certificate: async () => undefined,
  refused: async () => false,
};

export function staticToken(token: string): Credentials {
  return { ...anonymous, authorization: async () => `Bearer ${token}` };
}

export function basicAuth(username: string, password: string): Credentials {
  const value = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  return { ...anonymous, authorization: async () => value };
}

export function tokenFile(path: string, clock: Clock): Credentials {
  const file = new WatchedFile(path, clock);
  const read = async (force: boolean): Promise<string> => {
    const token = (await file.content(force)).toString('utf8').trim();
    if (token === '') throw new Error(`the token file ${path} is empty`);
    return token;
  };
  let last: string | undefined;
  return {
    ...anonymous,
    async authorization() {
      last = await read(false);
      return `Bearer ${last}`;
    },
    async refused() {
      return (await read(true)) !== last;
    },
  };
}

export function staticCertificate(certificate: ClientCertificate): Credentials {
  return { ...anonymous, certificate: async () => certificate };
}

export function certificateFiles(certPath: string, keyPath: string, clock: Clock): Credentials {
  const certFile = new WatchedFile(certPath, clock);
  const keyFile = new WatchedFile(keyPath, clock);
  let current: { readonly cert: Buffer; readonly key: Buffer } | undefined;
  const read = async (force: boolean): Promise<ClientCertificate> => {
    const [cert, key] = await Promise.all([certFile.content(force), keyFile.content(force)]);
    if (current?.cert !== cert || current.key !== key) current = { cert, key };
    return current;
  };
  return {
    ...anonymous,
    certificate: () => read(false),
    async refused() {
      const before = current;
      return (await read(true)) !== before;
    },
  };
}

/** A certificate and a token together. */
export function combined(certificate: Credentials, token: Credentials): Credentials {
  return {
    authorization: () => token.authorization(),
    certificate: () => certificate.certificate(),
    async refused() {
      const [a, b] = await Promise.all([certificate.refused(), token.refused()]);
      return a || b;
    },
  };
}

export interface ExecPlugin {
  readonly apiVersion: string;
  readonly command: string;
  readonly args?: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value: string }[];
  readonly installHint?: string;
  readonly interactiveMode?: 'Never' | 'IfAvailable' | 'Always';
  /** Present when the plugin is to be told of the cluster. */
  readonly cluster?: Readonly<Record<string, unknown>>;
}

interface ExecCredential {
  readonly kind?: string;
  readonly apiVersion?: string;
  readonly status?: {
    readonly token?: string;
    readonly clientCertificateData?: string;
    readonly clientKeyData?: string;
    readonly expirationTimestamp?: string;
  };
}

/** A client-go credential plugin (client.authentication.k8s.io, KEP-541). */
export function execPlugin(plugin: ExecPlugin, clock: Clock): Credentials {
  if (!/^client\.authentication\.k8s\.io\/v1(beta1)?$/.test(plugin.apiVersion))
    throw new Error(
      `exec plugin ${plugin.command}: apiVersion "${plugin.apiVersion}" is not supported, only client.authentication.k8s.io/v1 and v1beta1 are`,
    );
  interface Answer {
    readonly token?: string;
    readonly certificate?: ClientCertificate;
    readonly expires: number;
  }
  let current: Promise<Answer> | undefined;
  let expires = Number.POSITIVE_INFINITY;
  const interactive = plugin.interactiveMode !== 'Never' && process.stdin.isTTY === true;

  const run = async (): Promise<Answer> => {
    if (plugin.interactiveMode === 'Always' && !interactive)
      throw new Error(`exec plugin ${plugin.command} needs a terminal on standard input, and there is none`);
    const info = {
      apiVersion: plugin.apiVersion,
      kind: 'ExecCredential',
      spec: { interactive, ...(plugin.cluster ? { cluster: plugin.cluster } : {}) },
    };
    const output = await runPlugin(plugin, JSON.stringify(info), interactive);
    let credential: ExecCredential;
    try {
      credential = JSON.parse(output);
    } catch (error) {
      throw new Error(`exec plugin ${plugin.command}: its output is not JSON`, { cause: error });
    }
    if (credential.kind !== 'ExecCredential' || credential.apiVersion !== plugin.apiVersion)
      throw new Error(
        `exec plugin ${plugin.command} answered ${credential.apiVersion} ${credential.kind}, not ${plugin.apiVersion} ExecCredential`,
      );
    const {
      token,
      clientCertificateData: cert,
      clientKeyData: key,
      expirationTimestamp,
    } = credential.status ?? {};
    if (!token && !(cert && key))
      throw new Error(`exec plugin ${plugin.command} gave neither a token nor a certificate with its key`);
    return {
      ...(token ? { token } : {}),
      ...(cert && key ? { certificate: { cert, key } } : {}),
      expires: timestampMs(expirationTimestamp) ?? Number.POSITIVE_INFINITY,
    };
  };
  const answer = (): Promise<Answer> => {
    if (current && clock.now() < expires) return current;
    expires = Number.POSITIVE_INFINITY;
    const next = run();
    current = next;
    next.then(
      (a) => {
        if (current === next) expires = a.expires;
      },
      () => {
        if (current === next) current = undefined;
      },
    );
    return next;
  };
  return {
    async authorization() {
      const { token } = await answer();
      return token === undefined ? undefined : `Bearer ${token}`;
    },
    certificate: async () => (await answer()).certificate,
    async refused() {
      current = undefined;
      return true;
    },
  };
}

function runPlugin(plugin: ExecPlugin, info: string, interactive: boolean): Promise<string> {
  return new Promise((resolve, reject) => {
    const env: NodeJS.ProcessEnv = { ...process.env, KUBERNETES_EXEC_INFO: info };
    for (const { name, value } of plugin.env ?? []) env[name] = value;
    const child = execFile(
      plugin.command,
      [...(plugin.args ?? [])],
      { env, encoding: 'utf8', maxBuffer: 1 << 20 },
      (error, stdout, stderr) => {
        if (!error) {
          resolve(stdout);
          return;
        }
        const hint =
          plugin.installHint && 'code' in error && error.code === 'ENOENT' ? `\n${plugin.installHint}` : '';
        const said = stderr.trim() === '' ? '' : `: ${stderr.trim()}`;
        reject(
          new Error(`exec plugin ${plugin.command} failed (${error.message.trim()})${said}${hint}`, {
            cause: error,
          }),
        );
      },
    );
    if (interactive && child.stdin) process.stdin.pipe(child.stdin);
    else child.stdin?.end();
  });
}
