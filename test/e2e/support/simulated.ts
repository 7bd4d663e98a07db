// A simulated cluster as its users meet it: the cluster in this process, a kubeconfig in a folder of its own, both
// kubectls and bare HTTP. Whatever the cluster logs as an error fails the test that disposes of it: a user may see
// nothing of it, but something went wrong.

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import {
  type HttpClient,
  type HttpClientOptions,
  type HttpTarget,
  httpClient,
} from '../../../src/apiserver/testing/http-client.ts';
import { startCluster, type TestCluster, type TestClusterOptions } from '../../../src/cluster/testing.ts';
import type { Logger } from '../../../src/component/index.ts';
import { type Kubectl, kubectl } from './kubectl.ts';

export interface SimulatedCluster extends AsyncDisposable {
  readonly cluster: TestCluster;
  /** kubectl 1.36 as the administrator. */
  readonly kubectl: Kubectl;
  /** Debian 12's. */
  readonly oldKubectl: Kubectl;
  /** kubectl 1.36 as somebody else. */
  kubectlAs(user: { readonly token: string }): Promise<Kubectl>;
  /** Bare HTTP/2 as the administrator. */
  readonly http: HttpClient;
  /** The same otherwise: HTTP/1.1, a token, no credentials. Disposed with the cluster. */
  httpWith(options: HttpClientOptions): HttpClient;
  /** A folder for the test's files; gone at dispose. */
  readonly directory: string;
  /** Writes a file into the folder and gives its path. */
  file(name: string, content: string): Promise<string>;
  /** Errors that the test means to provoke; matched against the logged line. */
  expectErrors(pattern: RegExp): void;
}

export async function startSimulated(options: TestClusterOptions = {}): Promise<SimulatedCluster> {
  const errors: string[] = [];
  const expected: RegExp[] = [];
  const directory = await mkdtemp(join(tmpdir(), 'bulkhead-e2e-'));
  const cluster = await startCluster({ nodes: 2, logger: errorCollector(errors), ...options });
  const kubeconfig = join(directory, 'kubeconfig');
  await writeFile(kubeconfig, cluster.kubeconfig, { mode: 0o600 });
  const clients = new AsyncDisposableStack();
  let users = 0;
  const httpWith = (as: HttpClientOptions): HttpClient =>
    clients.use(httpClient(targetOf(cluster.kubeconfig), as));
  return {
    cluster,
    kubectl: kubectl(kubeconfig),
    oldKubectl: kubectl(kubeconfig, '1.20'),
    async kubectlAs(user) {
      const file = join(directory, `kubeconfig-${++users}`);
      const config = parse(cluster.kubeconfig) as { users: [{ user: unknown }] };
      config.users[0].user = user;
      await writeFile(file, stringify(config), { mode: 0o600 });
      return kubectl(file);
    },
    http: httpWith({ protocol: 'HTTP/2' }),
    httpWith,
    directory,
    async file(name, content) {
      const path = join(directory, name);
      await writeFile(path, content);
      return path;
    },
    expectErrors: (pattern) => void expected.push(pattern),
    async [Symbol.asyncDispose]() {
      await clients.disposeAsync();
      await cluster[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
      assert.deepEqual(
        errors.filter((line) => !expected.some((pattern) => pattern.test(line))),
        [],
        'the cluster logged errors',
      );
    },
  };
}

interface Kubeconfig {
  readonly clusters: [{ cluster: { server: string; 'certificate-authority-data': string } }];
  readonly users: [{ user: { 'client-certificate-data': string; 'client-key-data': string } }];
}

function targetOf(kubeconfig: string): HttpTarget {
  const { clusters, users } = parse(kubeconfig) as Kubeconfig;
  const { cluster } = clusters[0];
  const { user } = users[0];
  const decode = (base64: string): string => Buffer.from(base64, 'base64').toString();
  return {
    server: { url: cluster.server },
    authority: { certificate: decode(cluster['certificate-authority-data']) },
    adminPair: {
      certificate: decode(user['client-certificate-data']),
      key: decode(user['client-key-data']),
    },
  };
}

/** A logger that keeps what is wrong and drops what is normal. */
function errorCollector(lines: string[]): Logger {
  const keep = (...args: unknown[]): void => {
    lines.push(
      args.map((arg) => (typeof arg === 'string' ? arg : JSON.stringify(arg, errorAsText))).join(' '),
    );
  };
  const drop = (): void => {};
  const logger: Logger = {
    trace: drop,
    debug: drop,
    info: drop,
    warn: drop,
    error: keep,
    fatal: keep,
    child: () => logger,
  };
  return logger;
}

const errorAsText = (_key: string, value: unknown): unknown =>
  value instanceof Error ? (value.stack ?? value.message) : value;
