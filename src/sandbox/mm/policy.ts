// Memory policies (set_mempolicy(2), mbind(2), get_mempolicy(2) …) on a machine with one node, number 0: they are
// checked, kept and given back as Linux does (mm/mempolicy.c); all memory is that node's anyway.

import { Capability } from '../abi/capability.ts';
import { Errno } from '../abi/errno.ts';
import { Mpol, pageSize } from '../abi/memory.ts';
import type { Task } from '../kernel/contract.ts';
import { mayAccess } from '../kernel/ptrace/access.ts';
import type { UserMemory } from '../platform/contract.ts';
import { alignUp } from './placement.ts';
import type { ProgramMemory } from './program-memory.ts';
import type { MemoryPolicy } from './vma.ts';

const modeFlags = Mpol.staticNodes | Mpol.relativeNodes | Mpol.numaBalancing;
/** MAX_NUMNODES: bits of a node mask. */
const maximumNodes = 1024;
const onlyNode = 1;

/** Threads' own policies: kernel.part(TaskPolicies). A new thread inherits its parent's. */
export class TaskPolicies {
  readonly #policies = new WeakMap<Task, MemoryPolicy>();

  of(task: Task): MemoryPolicy | undefined {
    return this.#policies.get(task);
  }

  set(task: Task, policy: MemoryPolicy | undefined): void {
    if (policy) this.#policies.set(task, policy);
    else this.#policies.delete(task);
  }

  /** clone(2). */
  inherit(parent: Task, child: Task): void {
    this.set(child, this.of(parent));
  }
}

/** get_nodes: bit 0 of a node mask; -EINVAL when it names nodes beyond those that there can be. */
function readNodes(memory: UserMemory, address: number, count: number): number {
  const bits = count - 1;
  if (bits <= 0 || address === 0) return 0;
  if (bits > pageSize * 8) return -Errno.EINVAL;
  const bytes = new Uint8Array(Math.ceil(bits / 64) * 8);
  if (memory.read(address, bytes, 0, bytes.length) < 0) return -Errno.EFAULT;
  // Bits beyond `bits` of the last word don't count.
  const last = bits % 64;
  if (last !== 0) {
    const view = new DataView(bytes.buffer);
    const at = bytes.length - 8;
    view.setBigUint64(at, view.getBigUint64(at, true) & ((1n << BigInt(last)) - 1n), true);
  }
  for (let i = maximumNodes / 8; i < bytes.length; i++) if (bytes[i]) return -Errno.EINVAL;
  // Nodes that are not there are left out; others than none must remain.
  const nodes = (bytes[0] ?? 0) & onlyNode;
  return nodes === 0 && bytes.some((byte) => byte !== 0) ? absentNodes : nodes;
}

/** Nodes were named, but none that exists. */
const absentNodes = 2;

/** mpol_new and mpol_set_nodemask: the policy, undefined for the default, or a negative errno. */
function makePolicy(mode: number, nodes: number): MemoryPolicy | undefined | number {
  const flags = mode & modeFlags;
  let kind = mode & ~modeFlags;
  if (kind < 0 || kind >= Mpol.count) return -Errno.EINVAL;
  if (flags & Mpol.staticNodes && flags & Mpol.relativeNodes) return -Errno.EINVAL;
  if (flags & Mpol.numaBalancing && kind !== Mpol.bind && kind !== Mpol.preferredMany) return -Errno.EINVAL;
  const given = nodes !== 0;
  if (kind === Mpol.default) return given || flags ? -Errno.EINVAL : undefined;
  if (kind === Mpol.preferred && !given) {
    if (flags & (Mpol.staticNodes | Mpol.relativeNodes)) return -Errno.EINVAL;
    kind = Mpol.local;
  } else if (kind === Mpol.local) {
    if (given || flags & (Mpol.staticNodes | Mpol.relativeNodes)) return -Errno.EINVAL;
  } else if (!given) {
    return -Errno.EINVAL;
  }
  // Relative nodes wrap around the one there is.
  if (nodes === absentNodes && (flags & Mpol.relativeNodes) === 0) return -Errno.EINVAL;
  return { mode: kind | flags, nodes: given ? onlyNode : 0 };
}

export function setTaskPolicy(task: Task, mode: number, mask: number, count: number): number {
  const nodes = readNodes(task.memory, mask, count);
  if (nodes < 0) return nodes;
  const policy = makePolicy(mode, nodes);
  if (typeof policy === 'number') return policy;
  task.kernel.part(TaskPolicies).set(task, policy);
  return 0;
}

export function bindRange(
  memory: ProgramMemory,
  task: Task,
  start: number,
  size: number,
  mode: number,
  mask: number,
  count: number,
  flags: number,
): number {
  const nodes = readNodes(task.memory, mask, count);
  if (nodes < 0) return nodes;
  if (flags & ~(Mpol.strict | Mpol.move | Mpol.moveAll)) return -Errno.EINVAL;
  if (flags & Mpol.moveAll && !task.credentials.hasIn(task.kernel.rootUserNamespace, Capability.sysNice))
    return -Errno.EPERM;
  if (start % pageSize !== 0) return -Errno.EINVAL;
  const end = start + alignUp(size);
  if (end >= 2 ** 64) return -Errno.EINVAL;
  if (end === start) return 0;
  const policy = makePolicy(mode, nodes);
  if (typeof policy === 'number') return policy;
  if (memory.set.mapped(start, end) < end - start) return -Errno.EFAULT;
  memory.changes.forget();
  memory.set.update(start, end, (part) => part.withPolicy(policy));
  return 0;
}

/** set_mempolicy_home_node(2). */
export function setHomeNode(
  memory: ProgramMemory,
  start: number,
  size: number,
  node: number,
  flags: bigint,
): number {
  if (start % pageSize !== 0 || flags !== 0n || node !== 0) return -Errno.EINVAL;
  const end = start + alignUp(size);
  if (end >= 2 ** 64) return -Errno.EINVAL;
  if (end === start) return 0;
  let result = -Errno.ENOENT;
  for (const { policy } of memory.set.within(start, end)) {
    if (!policy) continue;
    const kind = policy.mode & ~modeFlags;
    if (kind !== Mpol.bind && kind !== Mpol.preferredMany) return -Errno.EOPNOTSUPP;
    result = 0;
  }
  return result;
}

export function getPolicy(
  memory: ProgramMemory,
  task: Task,
  modeAddress: number,
  mask: number,
  count: number,
  address: number,
  flags: number,
): number {
  if (mask !== 0 && count < 1) return -Errno.EINVAL;
  if (flags & ~(Mpol.flagNode | Mpol.flagAddress | Mpol.flagMemsAllowed)) return -Errno.EINVAL;
  let mode: number = Mpol.default;
  let nodes = 0;
  if (flags & Mpol.flagMemsAllowed) {
    if (flags & (Mpol.flagNode | Mpol.flagAddress)) return -Errno.EINVAL;
    nodes = onlyNode;
  } else {
    let policy = task.kernel.part(TaskPolicies).of(task);
    if (flags & Mpol.flagAddress) {
      const mapping = memory.set.find(address);
      if (!mapping) return -Errno.EFAULT;
      policy = mapping.policy ?? policy;
    } else if (address !== 0) {
      return -Errno.EINVAL;
    }
    nodes = policy?.nodes ?? 0;
    const kind = policy ? policy.mode & ~modeFlags : Mpol.default;
    if (flags & Mpol.flagNode) {
      // The node of the page, or the next one that interleaving would use: the only one.
      const interleaves = kind === Mpol.interleave || kind === Mpol.weightedInterleave;
      if (!(flags & Mpol.flagAddress) && !interleaves) return -Errno.EINVAL;
      mode = 0;
    } else {
      mode = policy?.mode ?? Mpol.default;
    }
  }
  if (modeAddress !== 0 && task.memory.writeU32(modeAddress, mode) < 0) return -Errno.EFAULT;
  return mask === 0 ? 0 : writeNodes(task.memory, mask, count, nodes);
}

/** copy_nodes_to_user. */
function writeNodes(memory: UserMemory, address: number, count: number, nodes: number): number {
  const length = Math.ceil((count - 1) / 64) * 8;
  if (length > pageSize) return -Errno.EINVAL;
  const bytes = new Uint8Array(length);
  if (length > 0) bytes[0] = nodes;
  return memory.write(address, bytes, 0, length) < 0 ? -Errno.EFAULT : 0;
}

function targetOf(task: Task, pid: number): Task | number {
  const target = pid === 0 ? task : task.process.pidNamespace.findTask(pid);
  if (!target) return -Errno.ESRCH;
  return mayAccess(task, target) < 0 ? -Errno.EPERM : target;
}

/** migrate_pages(2): there is nowhere to go. */
export function migratePages(task: Task, pid: number, count: number, from: number, to: number): number {
  const old = readNodes(task.memory, from, count);
  if (old < 0) return old;
  const wanted = readNodes(task.memory, to, count);
  if (wanted < 0) return wanted;
  const target = targetOf(task, pid);
  if (typeof target === 'number') return target;
  if (wanted === absentNodes && !task.credentials.hasIn(task.kernel.rootUserNamespace, Capability.sysNice))
    return -Errno.EPERM;
  return wanted === onlyNode ? 0 : -Errno.EINVAL;
}

/** The kernel has one thread: so many pages it looks at in one call. */
const maximumPages = 2 ** 20;

/** move_pages(2): tells where pages are, or "moves" them to the node where they are. */
export function movePages(
  task: Task,
  pid: number,
  count: number,
  pages: number,
  nodes: number,
  status: number,
  flags: number,
): number {
  if (flags & ~(Mpol.move | Mpol.moveAll)) return -Errno.EINVAL;
  if (flags & Mpol.moveAll && !task.credentials.hasIn(task.kernel.rootUserNamespace, Capability.sysNice))
    return -Errno.EPERM;
  const target = targetOf(task, pid);
  if (typeof target === 'number') return target;
  if (count > maximumPages) return -Errno.E2BIG;
  for (let i = 0; i < count; i++) {
    const address = task.memory.readU64(pages + i * 8);
    if (address < 0) return -Errno.EFAULT;
    if (nodes !== 0) {
      const node = task.memory.readU32(nodes + i * 4);
      if (node < 0) return -Errno.EFAULT;
      if (node !== 0) return -Errno.ENODEV;
    }
    const found = target.mm.find(address) ? 0 : -Errno.EFAULT;
    if (task.memory.writeU32(status + i * 4, found) < 0) return -Errno.EFAULT;
  }
  return 0;
}
