// A simulated cluster as its users meet it: the cluster in this process, a kubeconfig in a folder of its own, both
// kubectls and raw HTTP. Whatever the cluster logs as an error fails the test that disposes of it: a user may see
// nothing of it, but something went wrong.

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startCluster, type TestCluster, type TestClusterOptions } from '../../../src/cluster/testing.ts';
import type { Logger } from '../../../src/component/index.ts';
import { type Kubectl, kubectl } from './kubectl.ts';
import { type RawApi, rawApi } from './raw-api.ts';

export interface SimulatedCluster extends AsyncDisposable {
  readonly cluster: TestCluster;
  /** kubectl 1.36 as the administrator. */
  readonly kubectl: Kubectl;
  /** Debian 12's. */
  readonly oldKubectl: Kubectl;
  /** Over HTTP/2. */
  readonly api: RawApi;
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
  const api = rawApi(cluster.kubeconfig);
  return {
    cluster,
    kubectl: kubectl(kubeconfig),
    oldKubectl: kubectl(kubeconfig, '1.20'),
    api,
    directory,
    async file(name, content) {
      const path = join(directory, name);
      await writeFile(path, content);
      return path;
    },
    expectErrors: (pattern) => void expected.push(pattern),
    async [Symbol.asyncDispose]() {
      await api[Symbol.asyncDispose]();
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
