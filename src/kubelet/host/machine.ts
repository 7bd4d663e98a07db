// What a Linux machine is and what it consumes, read from /proc and /sys (proc(5)).

import { readdir, readFile, statfs } from 'node:fs/promises';
import { arch, cpus, release } from 'node:os';
import type { FilesystemState, MachineInfo, MachineUsage, NetworkInterfaceUsage } from './host.ts';

/** Ticks of /proc/stat: USER_HZ is 100 on every Linux that Node runs on. */
const NANOSECONDS_A_TICK = 10_000_000;

const ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'amd64',
  ia32: '386',
  arm64: 'arm64',
  arm: 'arm',
};

async function text(path: string): Promise<string> {
  return (await readFile(path, 'utf8').catch(() => '')).trim();
}

/** `MemTotal:  16384 kB` → bytes by name. */
export function parseMeminfo(content: string): ReadonlyMap<string, number> {
  const values = new Map<string, number>();
  for (const line of content.split('\n')) {
    const match = /^([^:]+):\s+(\d+)( kB)?$/.exec(line);
    if (match) values.set(match[1]!, Number(match[2]) * (match[3] ? 1024 : 1));
  }
  return values;
}

async function hugePages(): Promise<Record<string, number>> {
  const root = '/sys/kernel/mm/hugepages';
  const sizes: Record<string, number> = {};
  for (const name of await readdir(root).catch(() => [])) {
    const kilobytes = Number(/^hugepages-(\d+)kB$/.exec(name)?.[1]);
    if (!kilobytes) continue;
    const label =
      kilobytes >= 1024 * 1024
        ? `${kilobytes / 1024 / 1024}Gi`
        : kilobytes >= 1024
          ? `${kilobytes / 1024}Mi`
          : `${kilobytes}Ki`;
    sizes[label] = Number(await text(`${root}/${name}/nr_hugepages`)) * kilobytes * 1024;
  }
  return sizes;
}

export async function filesystemState(path: string): Promise<FilesystemState> {
  const { bsize, blocks, bavail, bfree, files, ffree } = await statfs(path);
  return {
    capacityBytes: blocks * bsize,
    availableBytes: bavail * bsize,
    usedBytes: (blocks - bfree) * bsize,
    inodes: files,
    inodesFree: ffree,
  };
}

/** `storagePath` lies on the file system that counts as the node's ephemeral storage. */
export async function readMachineInfo(storagePath: string): Promise<MachineInfo> {
  const memory = parseMeminfo(await readFile('/proc/meminfo', 'utf8'));
  const osRelease = await text('/etc/os-release');
  const bootTime = Number(/^btime (\d+)$/m.exec(await text('/proc/stat'))?.[1] ?? 0);
  const machineId = (await text('/etc/machine-id')) || (await text('/var/lib/dbus/machine-id'));
  return {
    cpus: cpus().length,
    memoryBytes: memory.get('MemTotal') ?? 0,
    swapBytes: memory.get('SwapTotal') ?? 0,
    storageBytes: (await filesystemState(storagePath)).capacityBytes,
    hugePages: await hugePages(),
    machineId,
    systemUuid: (await text('/sys/class/dmi/id/product_uuid')) || machineId,
    bootId: await text('/proc/sys/kernel/random/boot_id'),
    kernelVersion: release(),
    osImage: /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(osRelease)?.[1] ?? 'Linux',
    operatingSystem: 'linux',
    architecture: ARCHITECTURES[arch()] ?? arch(),
    bootedAt: bootTime * 1000,
  };
}

export function parseNetworkDevices(content: string): NetworkInterfaceUsage[] {
  return content
    .split('\n')
    .slice(2)
    .map((line) => /^\s*([^:]+):\s*(.*)$/.exec(line))
    .filter((match) => match !== null)
    .map(([, name = '', rest = '']) => {
      const fields = rest.split(/\s+/).map(Number);
      return {
        name,
        receivedBytes: fields[0] ?? 0,
        receiveErrors: fields[2] ?? 0,
        transmittedBytes: fields[8] ?? 0,
        transmitErrors: fields[10] ?? 0,
      };
    })
    .filter(({ name }) => name !== 'lo');
}

export async function readMachineUsage(
  nodePath: string,
  imagePath: string,
  now: number,
): Promise<MachineUsage> {
  const [meminfo, stat, vmstat, loadavg, pidMax, threadsMax, devices, nodeFilesystem, imageFilesystem] =
    await Promise.all([
      readFile('/proc/meminfo', 'utf8'),
      readFile('/proc/stat', 'utf8'),
      readFile('/proc/vmstat', 'utf8'),
      readFile('/proc/loadavg', 'utf8'),
      readFile('/proc/sys/kernel/pid_max', 'utf8'),
      readFile('/proc/sys/kernel/threads-max', 'utf8'),
      readFile('/proc/net/dev', 'utf8'),
      filesystemState(nodePath),
      filesystemState(imagePath),
    ]);
  const memory = parseMeminfo(meminfo);
  const total = memory.get('MemTotal') ?? 0;
  const usage = total - (memory.get('MemFree') ?? 0);
  // As upstream: what the kernel could drop at once does not count as used.
  const workingSet = Math.max(0, usage - (memory.get('Inactive(file)') ?? 0));
  const ticks = (/^cpu +(.*)$/m.exec(stat)?.[1] ?? '').split(/ +/).map(Number);
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = ticks;
  const counter = (name: string): number =>
    Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(vmstat)?.[1] ?? 0);
  return {
    timestamp: now,
    cpuCoreNanoseconds: (user + nice + system + irq + softirq + steal) * NANOSECONDS_A_TICK,
    memory: {
      availableBytes: total - workingSet,
      usageBytes: usage,
      workingSetBytes: workingSet,
      rssBytes: memory.get('AnonPages') ?? 0,
      pageFaults: counter('pgfault'),
      majorPageFaults: counter('pgmajfault'),
    },
    nodeFilesystem,
    imageFilesystem,
    processes: {
      limit: Math.min(Number(pidMax), Number(threadsMax)),
      current: Number(/^\S+ \S+ \S+ \d+\/(\d+)/.exec(loadavg)?.[1] ?? 0),
    },
    network: parseNetworkDevices(devices),
  };
}
