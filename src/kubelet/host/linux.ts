// The real machine: /proc and /sys, cgroups through the runtime's manager, mounts through the host operations (a
// process of its own, so that nothing here forks). Needs root.

import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock, systemClock } from '../../component/index.ts';
import { HostError, type HostOperations } from '../../host/index.ts';
import { type LinuxResources, RuntimeError } from '../../runtime/cri.ts';
import type { CgroupManager, CgroupUsage, HostStorage, KubeletHost, MountOperations } from './host.ts';
import { readMachineInfo, readMachineUsage } from './machine.ts';

/** What the agent asks of the machine's control groups; the embedded runtime's manager answers it. */
export interface HostCgroups {
  create(path: string, resources?: LinuxResources): Promise<void>;
  kill(path: string): Promise<void>;
  remove(path: string): Promise<void>;
  exists(path: string): Promise<boolean>;
  children(path: string): Promise<string[]>;
  stat(path: string): Promise<{
    readonly cpuUsageNanoseconds: number;
    readonly memory: {
      readonly usageBytes: number;
      readonly workingSetBytes: number;
      readonly rssBytes: number;
    };
    readonly pids: number;
  }>;
}

export interface LinuxHostOptions {
  readonly operations: Pick<HostOperations, 'run' | 'unmount' | 'diskUsage' | 'removeTree'>;
  readonly cgroups: HostCgroups;
  /** Pods' volumes and files; made when it does not exist. */
  readonly rootDirectory: string;
  readonly podLogsDirectory: string;
  readonly containerLogsDirectory?: string;
  /** Where images and writable layers lie; the root directory when absent. */
  readonly imagesDirectory?: string;
  readonly resolvConf?: string;
  readonly clock?: Clock;
}

/** systemd-resolved's stub listens on the host's loopback only; its real configuration stands elsewhere. */
const RESOLVED_CONF = '/run/systemd/resolve/resolv.conf';

async function chooseResolvConf(): Promise<string> {
  const own = await readFile('/etc/resolv.conf', 'utf8').catch(() => '');
  const servers = [...own.matchAll(/^nameserver\s+(\S+)/gm)].map((match) => match[1]);
  const isStub = servers.length > 0 && servers.every((server) => server === '127.0.0.53');
  if (!isStub) return '/etc/resolv.conf';
  return readFile(RESOLVED_CONF).then(
    () => RESOLVED_CONF,
    () => '/etc/resolv.conf',
  );
}

/** The fields of /proc/self/mountinfo write blanks in octal. */
function unescapeMount(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

function mountOperations(operations: LinuxHostOptions['operations']): MountOperations {
  const mount = async (what: string, command: readonly string[]): Promise<void> => {
    const { exitCode, stderr } = await operations.run(command);
    if (exitCode !== 0) throw new HostError('EIO', what, stderr.toString().trim() || `exit code ${exitCode}`);
  };
  return {
    async mountTmpfs(path, { sizeBytes }) {
      const size = sizeBytes === undefined ? '' : `size=${Math.ceil(sizeBytes)},`;
      await mount(`mount a tmpfs at ${path}`, [
        'mount',
        '-t',
        'tmpfs',
        '-o',
        `${size}nosuid,nodev`,
        'tmpfs',
        path,
      ]);
    },
    async unmount(path) {
      await operations.unmount(path);
    },
    async bind(source, target) {
      await mount(`bind ${source} to ${target}`, ['mount', '--no-canonicalize', '--bind', source, target]);
    },
    async remountBind(target, options) {
      const flags = ['remount', 'bind', ...options].join(',');
      await mount(`remount ${target} as ${options.join(',')}`, ['mount', '-o', flags, target]);
    },
    async mountsUnder(path) {
      const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n');
      const points = lines
        .filter((line) => line !== '')
        .map((line) => unescapeMount(line.split(' ')[4] ?? ''));
      return points.filter((point) => point === path || point.startsWith(`${path}/`));
    },
  };
}

function cgroupManager(cgroups: HostCgroups): CgroupManager {
  return {
    ensure: (path, resources) => cgroups.create(path, resources),
    async remove(path) {
      if (!(await cgroups.exists(path))) return;
      await cgroups.kill(path);
      await cgroups.remove(path);
    },
    async children(path) {
      if (!(await cgroups.exists(path))) return [];
      return (await cgroups.children(path)).map((child) => child.slice(child.lastIndexOf('/') + 1));
    },
    async usage(path): Promise<CgroupUsage | undefined> {
      try {
        const { cpuUsageNanoseconds, memory, pids } = await cgroups.stat(path);
        return {
          cpuCoreNanoseconds: cpuUsageNanoseconds,
          memoryUsageBytes: memory.usageBytes,
          memoryWorkingSetBytes: memory.workingSetBytes,
          memoryRssBytes: memory.rssBytes,
          processes: pids,
        };
      } catch (error) {
        if (error instanceof RuntimeError && error.code === 'NotFound') return undefined;
        throw error;
      }
    },
  };
}

/** Makes the directories and reads what the machine is. */
export async function createLinuxHost(options: LinuxHostOptions): Promise<KubeletHost> {
  const { rootDirectory, podLogsDirectory, containerLogsDirectory, operations } = options;
  const clock = options.clock ?? systemClock;
  const imagesDirectory = options.imagesDirectory ?? rootDirectory;
  for (const directory of [rootDirectory, join(rootDirectory, 'pods'), join(rootDirectory, 'seccomp')])
    await mkdir(directory, { recursive: true, mode: 0o750 });
  for (const directory of [podLogsDirectory, ...(containerLogsDirectory ? [containerLogsDirectory] : [])])
    await mkdir(directory, { recursive: true, mode: 0o755 });
  const storage: HostStorage = {
    rootDirectory,
    podLogsDirectory,
    ...(containerLogsDirectory !== undefined && { containerLogsDirectory }),
    resolvConf: options.resolvConf ?? (await chooseResolvConf()),
    mounts: mountOperations(operations),
    diskUsage: (path) => operations.diskUsage(path),
    removeTree: (path) => operations.removeTree(path),
  };
  return {
    machine: await readMachineInfo(rootDirectory),
    usage: () => readMachineUsage(rootDirectory, imagesDirectory, clock.now()),
    cgroups: cgroupManager(options.cgroups),
    storage,
  };
}
