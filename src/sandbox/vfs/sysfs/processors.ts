// /sys/devices/system: processors, their topology, and memory nodes (Documentation/ABI/stable/sysfs-devices-system-cpu).
// The sandbox shows one package whose cores have one thread each, and one memory node.

import type { Kernel } from '../../kernel/contract.ts';
import { directory, type Entry, line, link, text } from '../kernfs/tree.ts';
import { sumsOf } from '../proc/system.ts';

/** CONFIG_NR_CPUS - 1. */
const largestProcessor = 8191;

/** "0-3": the processors from `first` to `last`. */
export function rangeText(first: number, last: number): string {
  return first === last ? String(first) : `${first}-${last}`;
}

/** A mask of all processors up to `count` as %*pb prints it: as many bits as are possible, 32 a word. */
export function maskText(present: (processor: number) => boolean, count: number): string {
  const words: string[] = [];
  for (let first = 0; first < count; first += 32) {
    let word = 0;
    for (let bit = 0; bit < 32; bit++) if (first + bit < count && present(first + bit)) word += 2 ** bit;
    // The highest word has only the digits that its bits need.
    const bits = Math.min(32, count - first);
    words.unshift(word.toString(16).padStart(Math.ceil(bits / 4), '0'));
  }
  return words.join(',');
}

function topology(kernel: Kernel, index: number): Entry {
  const { cpus } = kernel;
  const own = line(() => maskText((processor) => processor === index, cpus));
  const ownList = line(() => String(index));
  const all = line(() => maskText(() => true, cpus));
  const allList = line(() => rangeText(0, cpus - 1));
  return directory({
    cluster_cpus: own,
    cluster_cpus_list: ownList,
    cluster_id: line(() => '65535'),
    core_cpus: own,
    core_cpus_list: ownList,
    core_id: line(() => String(index)),
    core_siblings: all,
    core_siblings_list: allList,
    die_cpus: all,
    die_cpus_list: allList,
    die_id: line(() => '0'),
    package_cpus: all,
    package_cpus_list: allList,
    physical_package_id: line(() => '0'),
    thread_siblings: own,
    thread_siblings_list: ownList,
  });
}

export function processors(kernel: Kernel): Entry {
  const { cpus } = kernel;
  const all = line(() => rangeText(0, cpus - 1));
  const names: Record<string, Entry> = {};
  for (let index = 0; index < cpus; index++)
    names[`cpu${index}`] = directory({
      node0: link('../../node/node0'),
      // The first processor cannot be taken away and has no such file on x86.
      ...(index === 0 ? {} : { online: line(() => '1') }),
      subsystem: link('../../../../bus/cpu'),
      topology: topology(kernel, index),
    });
  return directory({
    ...names,
    isolated: line(() => ''),
    kernel_max: line(() => String(largestProcessor)),
    offline: line(() => ''),
    online: all,
    possible: all,
    present: all,
  });
}

function nodeMemory(kernel: Kernel): string {
  const total = kernel.memoryTotal;
  const used = Math.min(total, sumsOf(kernel).resident);
  const row = (name: string, bytes: number): string =>
    `Node 0 ${`${name}:`.padEnd(15)} ${String(Math.floor(bytes / 1024)).padStart(8)} kB\n`;
  const zeroes = (names: string): string =>
    names
      .split(' ')
      .map((name) => row(name, 0))
      .join('');
  return (
    row('MemTotal', total) +
    row('MemFree', total - used) +
    row('MemUsed', used) +
    zeroes('SwapCached') +
    row('Active', used) +
    zeroes('Inactive') +
    row('Active(anon)', used) +
    zeroes(
      'Inactive(anon) Active(file) Inactive(file) Unevictable Mlocked Dirty Writeback FilePages Mapped',
    ) +
    row('AnonPages', used) +
    zeroes('Shmem KernelStack PageTables SecPageTables NFS_Unstable Bounce WritebackTmp KReclaimable Slab') +
    zeroes('SReclaimable SUnreclaim') +
    ['Total', 'Free', 'Surp']
      .map((name) => `Node 0 ${`HugePages_${name}:`.padEnd(16)} ${'0'.padStart(5)}\n`)
      .join('')
  );
}

export function memoryNodes(kernel: Kernel): Entry {
  const { cpus } = kernel;
  const zero = line(() => '0');
  const links: Record<string, Entry> = {};
  for (let index = 0; index < cpus; index++) links[`cpu${index}`] = link(`../../cpu/cpu${index}`);
  return directory({
    has_cpu: zero,
    has_memory: zero,
    has_normal_memory: zero,
    node0: directory({
      ...links,
      cpulist: line(() => rangeText(0, cpus - 1)),
      cpumap: line(() => maskText(() => true, cpus)),
      distance: line(() => '10'),
      meminfo: text(() => nodeMemory(kernel)),
      numastat: text(() =>
        ['numa_hit', 'numa_miss', 'numa_foreign', 'interleave_hit', 'local_node', 'other_node']
          .map((name) => `${name} 0\n`)
          .join(''),
      ),
    }),
    online: zero,
    possible: zero,
  });
}
