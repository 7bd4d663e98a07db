// Unmodified kubectl, as the test set-up unpacked it: the current one and Debian 12's, which is of 1.20.

import { type ChildProcessWithoutNullStreams, execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const peers = fileURLToPath(new URL('../../../.cache/peers/', import.meta.url));

export const kubectlPrograms = {
  '1.36': `${peers}current/usr/bin/kubectl`,
  '1.20': `${peers}bookworm/usr/bin/kubectl`,
} as const;

export type KubectlVersion = keyof typeof kubectlPrograms;

export interface KubectlResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Kubectl {
  /** Runs to the end, and fails the test when the exit code is not 0. Resolves with standard output. */
  (...args: string[]): Promise<string>;
  /** The same with input and environment, and without failing. */
  run(
    args: readonly string[],
    input?: string | Uint8Array,
    variables?: Readonly<Record<string, string>>,
  ): Promise<KubectlResult>;
  /** For calls that must fail: resolves with standard error, fails the test when the exit code is 0. */
  refused(...args: string[]): Promise<string>;
  /** Starts and leaves it running; the caller ends it. */
  spawn(args: readonly string[]): ChildProcessWithoutNullStreams;
}

let cache: string | undefined;

/** Discovery caches of all kubectls of this test process; gone with it. */
function cacheRoot(): string {
  if (cache === undefined) {
    const made = mkdtempSync(join(tmpdir(), 'bh-kubectl-cache-'));
    process.on('exit', () => rmSync(made, { recursive: true, force: true }));
    cache = made;
  }
  return cache;
}

/** How long one kubectl may take before the test fails with what it printed so far. */
const TIMEOUT_MS = 120_000;

export function kubectl(kubeconfig: string, version: KubectlVersion = '1.36'): Kubectl {
  const program = kubectlPrograms[version];
  if (!existsSync(program)) throw new Error(`${program} is missing: npm test unpacks it`);
  // An empty home: no cache and no configuration of the machine's own gets in.
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: '/nonexistent',
    KUBECONFIG: kubeconfig,
    KUBECACHEDIR: join(
      cacheRoot(),
      createHash('sha256').update(kubeconfig).digest('hex').slice(0, 12),
      version,
    ),
  };
  const common = version === '1.20' ? ['--cache-dir', env.KUBECACHEDIR] : [];
  const run = (
    args: readonly string[],
    input?: string | Uint8Array,
    variables?: Readonly<Record<string, string>>,
  ): Promise<KubectlResult> =>
    new Promise((resolve, reject) => {
      const child = execFile(
        program,
        [...common, ...args],
        { env: { ...env, ...variables }, timeout: TIMEOUT_MS, maxBuffer: 64 * 1024 * 1024, encoding: 'utf8' },
        (error, stdout, stderr) => {
          if (error?.killed)
            reject(new Error(`kubectl ${args.join(' ')} took too long:\n${stdout}${stderr}`));
          else
            resolve({ code: typeof error?.code === 'number' ? error.code : error ? 1 : 0, stdout, stderr });
        },
      );
      child.stdin?.on('error', () => {}); // it may end without reading all
      child.stdin?.end(input);
    });
  const call = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await run(args);
    if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: exit code ${code}\n${stdout}${stderr}`);
    return stdout;
  };
  return Object.assign(call, {
    run,
    async refused(...args: string[]): Promise<string> {
      const { code, stdout, stderr } = await run(args);
      if (code === 0) throw new Error(`kubectl ${args.join(' ')} succeeded:\n${stdout}${stderr}`);
      return stderr.trim();
    },
    spawn: (args: readonly string[]) => spawn(program, [...common, ...args], { env }),
  });
}
