// The cluster as a user meets it: how long `bulkhead up` takes until the node is Ready, what the idle process costs,
// and how long a pod takes from its creation until it runs. Real containers, so root; images are already there.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Draft } from '../../src/api/object.ts';
import type { Pod } from '../../src/api/types/core-v1.ts';
import { withBusyboxRoot } from '../../src/cli/demonstration/busybox-image.ts';
import { createClient, httpsTransport, loadKubeconfig, resources } from '../../src/client/index.ts';
import { withImages } from '../../src/cluster/image-operations.ts';
import { defaultPaths } from '../../src/cluster/state.ts';

const bulkhead = fileURLToPath(new URL('../../bin/bulkhead', import.meta.url));
const IMAGE = 'localhost/bench/busybox:1';
const ROUNDS = 7;
const PODS = 20;

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
const ms = (value: number): string => `${value.toFixed(0)} ms`;

function row(what: string, value: string, bar: string, good: boolean): void {
  console.log(
    `${what.padEnd(58)} ${value.padStart(12)}   ${bar.padEnd(12)} ${good ? 'reached' : 'NOT REACHED'}`,
  );
}

function residentBytes(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(match?.[1] ?? 0) * 1024;
}

/** Clock ticks (10 ms) of user and system time. */
function cpuTicks(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

/** The process and all of its children that are its own programs (not containers or their monitors). */
function ownProcesses(pid: number): number[] {
  const children = execFileSync('ps', ['-o', 'pid=,comm=', '--ppid', String(pid)], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .filter((line) => /bulkhead/.test(line))
    .map((line) => Number(line.trim().split(/\s+/)[0]));
  return [pid, ...children];
}

export async function run(): Promise<void> {
  if (process.getuid?.() !== 0) {
    console.log('the cluster benchmark runs real containers and needs root; it was not run');
    return;
  }
  const state = mkdtempSync(join(tmpdir(), 'bulkhead-bench-'));
  const paths = defaultPaths(state);
  const options = [
    '--state-dir',
    state,
    '--port',
    '16443',
    '--kubelet-port',
    '16250',
    '--bridge',
    'bhbench0',
    '--pod-cidr',
    '10.251.0.0/24',
    '--kubeconfig',
    'none',
  ];
  const command = (...args: string[]): void => {
    const { status, stderr } = spawnSync(bulkhead, args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      encoding: 'utf8',
    });
    if (status !== 0) throw new Error(`bulkhead ${args[0]}: ${stderr}`);
  };
  try {
    await withBusyboxRoot((request) => withImages(paths, (images) => images['image-import'](request)), IMAGE);
    const starts: number[] = [];
    for (let i = 0; i <= ROUNDS; i++) {
      const begun = performance.now();
      command('up', '--detach', ...options);
      if (i > 0) starts.push(performance.now() - begun); // the first start makes the certificates and all objects
      if (i < ROUNDS) command('down', '--state-dir', state);
    }
    row('bulkhead up to a Ready node, median', ms(median(starts)), '≤ 1500 ms', median(starts) <= 1500);

    const { pid } = JSON.parse(
      execFileSync(bulkhead, ['status', '--json', '--state-dir', state], { encoding: 'utf8' }),
    ) as { pid: number };
    await pause(5000);
    const own = ownProcesses(pid);
    const before = own.reduce((sum, one) => sum + cpuTicks(one), 0);
    await pause(10_000);
    const ticks = own.reduce((sum, one) => sum + cpuTicks(one), 0) - before;
    const resident = own.reduce((sum, one) => sum + residentBytes(one), 0) / 1024 ** 2;
    row(
      'resident memory of the idle cluster',
      `${resident.toFixed(0)} MiB`,
      '≤ 200 MB',
      resident * 1.048576 <= 200,
    );
    row('processor time of the idle cluster', `${(ticks / 10).toFixed(1)} %`, '≤ 1 %', ticks / 10 <= 1);

    const transport = httpsTransport(loadKubeconfig({ path: paths.kubeconfig }).transport);
    await using client = createClient(transport);
    const pods = client.informers.informer(resources.pods, { namespace: 'default' });
    await pods.synced;
    const running = new Map<string, () => void>();
    using _handler = pods.addHandler({
      updated: (pod) => {
        if (pod.status.phase === 'Running') running.get(pod.metadata.name)?.();
      },
    });
    const startPod = (name: string): Promise<number> => {
      const draft: Draft<Pod> = {
        metadata: { name },
        spec: {
          terminationGracePeriodSeconds: 0,
          containers: [
            { name: 'main', image: IMAGE, imagePullPolicy: 'Never', command: ['/bin/sleep', '3600'] },
          ],
        },
      };
      const begun = performance.now();
      return new Promise((resolve, reject) => {
        running.set(name, () => resolve(performance.now() - begun));
        client.resource(resources.pods, 'default').create(draft).catch(reject);
      });
    };
    const oneByOne: number[] = [];
    for (let i = 0; i < PODS; i++) oneByOne.push(await startPod(`one-${i}`));
    row(
      'pod created → Running, one by one, median',
      ms(median(oneByOne)),
      '≤ 300 ms',
      median(oneByOne) <= 300,
    );
    const begun = performance.now();
    await Promise.all(Array.from({ length: PODS }, (_, i) => startPod(`many-${i}`)));
    const together = performance.now() - begun;
    row(`${PODS} pods created at once → all Running`, ms(together), '≤ 2000 ms', together <= 2000);
    await transport[Symbol.asyncDispose]();
  } finally {
    spawnSync(bulkhead, ['reset', '--yes', '--state-dir', state, '--kubeconfig', '/dev/null'], {
      stdio: 'inherit',
    });
    rmSync(state, { recursive: true, force: true });
  }
}

if (import.meta.main) await run();
