// Pods and containers without a cluster on top: the runtime's own time for each step, beside what the OCI runtime
// takes for creating and starting the same container by itself, in the same run. Needs root.

import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger } from '../../src/component/index.ts';
import { startHostOperations } from '../../src/host/index.ts';
import { removePodNetworkTraces, startPodNetwork } from '../../src/network/index.ts';
import type { ContainerConfig, PodSandboxConfig } from '../../src/runtime/cri.ts';
import {
  createCgroupManager,
  removeRuntimeTraces,
  startEmbeddedRuntime,
} from '../../src/runtime/embedded/index.ts';
import { chooseDefaultRuntime } from '../../src/runtime/embedded/oci-runtime.ts';
import { BusyboxImages } from '../../src/runtime/embedded/testing/busybox-image.ts';
import { whyNoContainers } from '../../src/runtime/embedded/testing/fixture.ts';

const ROUNDS = 15;
const AT_ONCE = 20;
const NAME = 'bulkhead-bench';
const NAMESPACES = { network: 'POD', pid: 'CONTAINER', ipc: 'POD' } as const;

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

function podConfig(directory: string, index: number): PodSandboxConfig {
  const name = `pod-${index}`;
  return {
    metadata: { name, uid: name, namespace: 'default', attempt: 0 },
    hostname: name,
    logDirectory: join(directory, 'logs', name),
    portMappings: [],
    labels: {},
    annotations: {},
    namespaces: NAMESPACES,
    cgroupParent: `/${NAME}/kubepods/${name}`,
    sysctls: {},
    security: { privileged: false, supplementalGroups: [] },
  };
}

const container: ContainerConfig = {
  metadata: { name: 'main', attempt: 0 },
  image: 'busybox',
  imageReference: 'busybox',
  env: [],
  mounts: [],
  devices: [],
  labels: {},
  annotations: {},
  logPath: 'main/0.log',
  stdin: false,
  stdinOnce: false,
  tty: false,
  resources: { cpuShares: 102, memoryLimitBytes: 64 << 20, oomScoreAdj: 900 },
  security: {
    capabilities: { add: [], drop: [] },
    privileged: false,
    namespaces: NAMESPACES,
    supplementalGroups: [],
    readonlyRootfs: false,
    noNewPrivileges: false,
    maskedPaths: ['/proc/kcore', '/proc/keys', '/proc/timer_list', '/sys/firmware'],
    readonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
    seccomp: { type: 'RuntimeDefault' },
  },
};

export async function run(): Promise<void> {
  const reason = whyNoContainers();
  if (reason) {
    console.log(`the runtime benchmark was not run: it ${reason}`);
    return;
  }
  const directory = mkdtempSync(join(tmpdir(), 'bh-bench-'));
  const paths = { stateDirectory: join(directory, 'state'), runDirectory: join(directory, 'run') };
  const network = { stateDirectory: join(directory, 'network'), bridge: 'bhbench0', table: 'bulkhead_bench' };
  try {
    await measure(directory, paths, network);
  } finally {
    {
      await using host = await startHostOperations({ socketPath: join(directory, 'reset.sock') });
      await removeRuntimeTraces({ host, ...paths, cgroup: `/${NAME}`, podCgroups: [`/${NAME}/kubepods`] });
      await removePodNetworkTraces({ host, ...network });
    }
    rmSync(directory, { recursive: true });
  }
}

async function measure(
  directory: string,
  paths: { readonly stateDirectory: string; readonly runDirectory: string },
  networkOptions: { readonly stateDirectory: string; readonly bridge: string; readonly table: string },
): Promise<void> {
  const times = new Map<string, number[]>();
  const timed = async <T>(what: string, work: () => Promise<T> | T): Promise<T> => {
    const started = performance.now();
    const result = await work();
    times.set(what, [...(times.get(what) ?? []), performance.now() - started]);
    return result;
  };
  const images = new BusyboxImages(join(directory, 'images'));
  await images.add('busybox', { Cmd: ['sleep', '1000'] });
  const cgroups = await createCgroupManager();
  const oci = await chooseDefaultRuntime(cgroups.mode, silentLogger);
  await using host = await startHostOperations({ socketPath: join(directory, 'host.sock') });
  await using network = await startPodNetwork({ host, podCidrs: ['10.197.77.0/24'], ...networkOptions });
  await using runtime = await timed('runtime start', () =>
    startEmbeddedRuntime({ host, images, network, cgroup: `/${NAME}`, ...paths }),
  );
  const podOf = async (
    index: number,
    what: string,
  ): Promise<{ readonly pod: string; readonly config: PodSandboxConfig }> => {
    const config = podConfig(directory, index);
    await cgroups.create(config.cgroupParent, { cpuShares: 102 });
    return { config, pod: await timed(what, () => runtime.runPodSandbox(config, '')) };
  };
  for (let round = 0; round < ROUNDS; round++) {
    const { pod, config } = await podOf(round, 'runPodSandbox');
    const started = performance.now();
    const id = await timed('createContainer', () => runtime.createContainer(pod, container, config));
    await timed('startContainer', () => runtime.startContainer(id));
    times.set('create and start', [...(times.get('create and start') ?? []), performance.now() - started]);
    await timed('execSync true', () => runtime.execSync(id, ['true'], 10));
    await timed('stopContainer, killing', () => runtime.stopContainer(id, 0));
    // The same container by the OCI runtime alone, in the same namespaces and over the same root file system.
    const bundle = join(directory, 'bare');
    cpSync(join(paths.runDirectory, 'containers', id, 'config.json'), join(bundle, 'config.json'), {
      recursive: true,
    });
    const spec = JSON.parse(readFileSync(join(bundle, 'config.json'), 'utf8')) as {
      linux: { cgroupsPath: string };
    };
    spec.linux.cgroupsPath += '-bare';
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(spec));
    const root = join(directory, 'bare-root');
    const bare = (...args: string[]): unknown =>
      execFileSync(oci, ['--root', root, ...args], { stdio: 'ignore' });
    await timed(`${oci} create and start`, () => {
      bare('create', '--bundle', bundle, 'bare');
      bare('start', 'bare');
    });
    bare('delete', '--force', 'bare');
    await timed('removePodSandbox', () => runtime.removePodSandbox(pod));
    await cgroups.remove(config.cgroupParent);
  }
  let longest = 0;
  let last = performance.now();
  const beat = setInterval(() => {
    longest = Math.max(longest, performance.now() - last - 1);
    last = performance.now();
  }, 1);
  await timed(`${AT_ONCE} pods at once, all running`, () =>
    Promise.all(
      Array.from({ length: AT_ONCE }, async (_, i) => {
        const { pod, config } = await podOf(ROUNDS + i, `runPodSandbox, ${AT_ONCE} at once`);
        await runtime.startContainer(await runtime.createContainer(pod, container, config));
      }),
    ),
  );
  clearInterval(beat);
  const pods = await runtime.listPodSandboxes();
  await timed(`${AT_ONCE} pods at once, all removed`, () =>
    Promise.all(pods.map(({ id }) => runtime.removePodSandbox(id))),
  );

  const bars: Readonly<Record<string, number>> = {
    runPodSandbox: 30,
    'create and start': 60,
    [`${AT_ONCE} pods at once, all running`]: 2000,
  };
  console.log(`${'p50'.padEnd(44)} ${'ms'.padStart(9)}   to reach`);
  for (const [what, values] of times)
    console.log(
      `${what.padEnd(44)} ${median(values).toFixed(1).padStart(9)}   ${bars[what] ? `≤ ${bars[what]}` : ''}`,
    );
  const ratio = median(times.get('create and start')!) / median(times.get(`${oci} create and start`)!);
  console.log(`create and start, against ${oci} alone: ${ratio.toFixed(2)} times its time`);
  console.log(`longest stop of the event loop with ${AT_ONCE} at once: ${longest.toFixed(0)} ms`);
}
