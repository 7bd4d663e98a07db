// Where the server is and who we are, as kubectl would find out: kubeconfig files (merged in the order of KUBECONFIG,
// the first to name something wins) and, inside a pod, the service account's files. What a kubeconfig may say and
// this client cannot do (proxies, legacy auth providers) is an error that names it.

import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, isAbsolute, join } from 'node:path';
import { parse } from 'yaml';
import { type Clock, systemClock } from '../component/index.ts';
import {
  anonymous,
  basicAuth,
  type Credentials,
  certificateFiles,
  combined,
  type ExecPlugin,
  execPlugin,
  staticCertificate,
  staticToken,
  tokenFile,
} from './credentials.ts';
import type { HttpsTransportOptions } from './https-transport.ts';

interface Cluster {
  readonly server?: string;
  readonly 'certificate-authority'?: string;
  readonly 'certificate-authority-data'?: string;
  readonly 'insecure-skip-tls-verify'?: boolean;
  readonly 'tls-server-name'?: string;
  readonly 'proxy-url'?: string;
  readonly extensions?: readonly { readonly name?: string; readonly extension?: unknown }[];
}

interface User {
  readonly 'client-certificate'?: string;
  readonly 'client-certificate-data'?: string;
  readonly 'client-key'?: string;
  readonly 'client-key-data'?: string;
  readonly token?: string;
  readonly tokenFile?: string;
  readonly username?: string;
  readonly password?: string;
  readonly as?: string;
  readonly exec?: Omit<ExecPlugin, 'cluster'> & { readonly provideClusterInfo?: boolean };
  readonly 'auth-provider'?: { readonly name?: string };
}

interface Context {
  readonly cluster?: string;
  readonly user?: string;
  readonly namespace?: string;
}

/** One file's content. Relative paths in it are relative to `directory`. */
interface ConfigFile {
  readonly path: string;
  readonly directory: string;
  readonly currentContext?: string;
  readonly clusters: ReadonlyMap<string, Cluster>;
  readonly users: ReadonlyMap<string, User>;
  readonly contexts: ReadonlyMap<string, Context>;
}

export interface LoadedConfig {
  /** For httpsTransport(). */
  readonly transport: HttpsTransportOptions & { readonly credentials: Credentials };
  /** The context's namespace, or `default`. */
  readonly namespace: string;
  readonly context: string;
}

export interface LoadOptions {
  /** A single file; absent: those named by KUBECONFIG, else ~/.kube/config. */
  readonly path?: string;
  /** Absent: the current context. */
  readonly context?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly clock?: Clock;
}

/** Throws an Error that says what is missing or not supported, and in which file. */
export function loadKubeconfig(options: LoadOptions = {}): LoadedConfig {
  const env = options.env ?? process.env;
  const clock = options.clock ?? systemClock;
  const files = configPaths(options.path, env).map(readConfig);
  if (files.length === 0)
    throw new Error(
      `no kubeconfig: neither ${env['KUBECONFIG'] ? `KUBECONFIG=${env['KUBECONFIG']}` : '~/.kube/config'} nor any other file is there`,
    );
  const name = options.context ?? files.find((file) => file.currentContext)?.currentContext;
  if (!name) throw new Error(`no current-context is set in ${files.map((f) => f.path).join(', ')}`);
  const { value: context } = find(files, 'contexts', name) ?? missing('context', name, files);
  const clusterName = context.cluster ?? '';
  const cluster = find(files, 'clusters', clusterName) ?? missing('cluster', clusterName, files);
  const user =
    context.user === undefined || context.user === ''
      ? { value: {}, file: cluster.file }
      : (find(files, 'users', context.user) ?? missing('user', context.user, files));
  return {
    transport: {
      ...clusterOptions(cluster.value, cluster.file, clusterName),
      credentials: userCredentials(user.value, user.file, cluster, clock),
      clock,
    },
    namespace: context.namespace || 'default',
    context: name,
  };
}

/** The service account of the pod that we run in. Throws when we do not run in one. */
export function inClusterConfig(
  options: { readonly env?: LoadOptions['env']; readonly directory?: string; readonly clock?: Clock } = {},
): LoadedConfig {
  const env = options.env ?? process.env;
  const clock = options.clock ?? systemClock;
  const directory = options.directory ?? '/var/run/secrets/kubernetes.io/serviceaccount';
  const host = env['KUBERNETES_SERVICE_HOST'];
  const port = env['KUBERNETES_SERVICE_PORT'];
  if (!host || !port)
    throw new Error(
      'unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined',
    );
  const namespaceFile = join(directory, 'namespace');
  return {
    transport: {
      server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
      ca: readFileSync(join(directory, 'ca.crt')),
      credentials: tokenFile(join(directory, 'token'), clock),
      clock,
    },
    namespace: existsSync(namespaceFile) ? readFileSync(namespaceFile, 'utf8').trim() : 'default',
    context: '',
  };
}

function configPaths(path: string | undefined, env: NonNullable<LoadOptions['env']>): string[] {
  // A file that was asked for by name must be there; of a list, those that are there count.
  if (path !== undefined) return [path];
  const listed = env['KUBECONFIG'];
  const candidates = listed
    ? listed.split(delimiter).filter((p) => p !== '')
    : [join(env['HOME'] ?? homedir(), '.kube', 'config')];
  return candidates.filter((p) => existsSync(p));
}

function readConfig(path: string): ConfigFile {
  let document: unknown;
  try {
    document = parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new Error(
      `cannot read the kubeconfig ${path}: ${error instanceof Error ? error.message : String(error)}`,
      {
        cause: error,
      },
    );
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document))
    throw new Error(`${path} is not a kubeconfig`);
  const config = document as Readonly<Record<string, unknown>>;
  const currentContext = config['current-context'];
  return {
    path,
    directory: dirname(path),
    ...(typeof currentContext === 'string' && currentContext !== '' ? { currentContext } : {}),
    clusters: named<Cluster>(config['clusters'], 'cluster', path),
    users: named<User>(config['users'], 'user', path),
    contexts: named<Context>(config['contexts'], 'context', path),
  };
}

/** `[{name, cluster: {…}}]` → name → {…}; the first of a name wins. */
function named<V>(list: unknown, field: string, path: string): Map<string, V> {
  const result = new Map<string, V>();
  if (list === undefined || list === null) return result;
  if (!Array.isArray(list)) throw new Error(`${path}: ${field}s is not a list`);
  for (const entry of list as readonly Readonly<Record<string, unknown>>[]) {
    const name = entry?.['name'];
    if (typeof name !== 'string') throw new Error(`${path}: a ${field} has no name`);
    if (!result.has(name)) result.set(name, (entry[field] ?? {}) as V);
  }
  return result;
}

type Section = 'clusters' | 'users' | 'contexts';
type Entry<S extends Section> = ConfigFile[S] extends ReadonlyMap<string, infer V> ? V : never;

function find<S extends Section>(
  files: readonly ConfigFile[],
  section: S,
  name: string,
): { readonly value: Entry<S>; readonly file: ConfigFile } | undefined {
  for (const file of files) {
    const value = file[section].get(name);
    if (value !== undefined) return { value: value as Entry<S>, file };
  }
  return undefined;
}

function missing(what: string, name: string, files: readonly ConfigFile[]): never {
  throw new Error(`there is no ${what} "${name}" in ${files.map((f) => f.path).join(', ')}`);
}

function resolve(file: ConfigFile, path: string): string {
  return isAbsolute(path) ? path : join(file.directory, path);
}

function clusterOptions(cluster: Cluster, file: ConfigFile, name: string): HttpsTransportOptions {
  if (!cluster.server) throw new Error(`${file.path}: cluster "${name}" has no server`);
  if (cluster['proxy-url'])
    throw new Error(
      `${file.path}: cluster "${name}" asks for the proxy ${cluster['proxy-url']}: proxies are not supported`,
    );
  const data = cluster['certificate-authority-data'];
  const path = cluster['certificate-authority'];
  const insecure = cluster['insecure-skip-tls-verify'] === true;
  if (insecure && (data || path))
    throw new Error(
      `${file.path}: cluster "${name}": specifying a root certificates file with the insecure flag is not allowed`,
    );
  const ca = data ? Buffer.from(data, 'base64') : path ? readFileSync(resolve(file, path)) : undefined;
  return {
    server: cluster.server,
    ...(ca === undefined ? {} : { ca }),
    ...(insecure ? { insecureSkipTlsVerify: true } : {}),
    ...(cluster['tls-server-name'] ? { serverName: cluster['tls-server-name'] } : {}),
  };
}

function userCredentials(
  user: User,
  file: ConfigFile,
  cluster: { readonly value: Cluster; readonly file: ConfigFile },
  clock: Clock,
): Credentials {
  const provider = user['auth-provider'];
  if (provider)
    throw new Error(
      `${file.path}: the auth-provider "${provider.name}" is not supported; clients use exec plugins since 1.26`,
    );
  if (user.as) throw new Error(`${file.path}: impersonation (as: ${user.as}) is not supported`);
  if (user.exec) {
    const { provideClusterInfo, ...plugin } = user.exec;
    const command =
      plugin.command.includes('/') && !isAbsolute(plugin.command)
        ? resolve(file, plugin.command)
        : plugin.command;
    return execPlugin(
      {
        ...plugin,
        command,
        ...(provideClusterInfo ? { cluster: clusterInfo(cluster.value, cluster.file) } : {}),
      },
      clock,
    );
  }
  const certData = user['client-certificate-data'];
  const keyData = user['client-key-data'];
  const certPath = user['client-certificate'];
  const keyPath = user['client-key'];
  let certificate = anonymous;
  if ((certData || certPath) && (keyData || keyPath))
    certificate =
      !certData && !keyData && certPath && keyPath
        ? certificateFiles(resolve(file, certPath), resolve(file, keyPath), clock)
        : staticCertificate({
            cert: certData ? Buffer.from(certData, 'base64') : readFileSync(resolve(file, certPath ?? '')),
            key: keyData ? Buffer.from(keyData, 'base64') : readFileSync(resolve(file, keyPath ?? '')),
          });
  else if (certData || certPath || keyData || keyPath)
    throw new Error(`${file.path}: a client certificate needs its key, and the key its certificate`);
  const token = user.tokenFile
    ? tokenFile(resolve(file, user.tokenFile), clock)
    : user.token
      ? staticToken(user.token)
      : user.username
        ? basicAuth(user.username, user.password ?? '')
        : anonymous;
  return combined(certificate, token);
}

function clusterInfo(cluster: Cluster, file: ConfigFile): Record<string, unknown> {
  const path = cluster['certificate-authority'];
  const data =
    cluster['certificate-authority-data'] ??
    (path ? readFileSync(resolve(file, path)).toString('base64') : undefined);
  const config = cluster.extensions?.find((e) => e.name === 'client.authentication.k8s.io/exec')?.extension;
  return {
    server: cluster.server,
    ...(data ? { 'certificate-authority-data': data } : {}),
    ...(cluster['insecure-skip-tls-verify'] ? { 'insecure-skip-tls-verify': true } : {}),
    ...(cluster['tls-server-name'] ? { 'tls-server-name': cluster['tls-server-name'] } : {}),
    ...(config === undefined ? {} : { config }),
  };
}
