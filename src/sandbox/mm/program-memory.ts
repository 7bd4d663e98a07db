// A program's memory (mm_struct): the books of its mappings beside the platform's address space. Creating, removing and
// protecting mappings; fork and the end. Other calls work on it from files of their own: growth.ts (brk, stacks),
// mremap.ts, madvise.ts, mlock.ts, policy.ts. Order of checks and errors as in mm/mmap.c and mm/mprotect.c.
//
// Private anonymous memory is the address space's own; files and shared memory are mapped from host descriptors. The
// host pages and copies; the books say what a program may see and do, and are never behind the host.

import { Capability } from '../abi/capability.ts';
import { Errno } from '../abi/errno.ts';
import { Seal } from '../abi/file.ts';
import { Madv, MapFlag, Personality, Prot, pageSize } from '../abi/memory.ts';
import { MountFlag } from '../abi/mount.ts';
import { Rlimit } from '../abi/resource.ts';
import type { Kernel, Task } from '../kernel/contract.ts';
import type { AddressSpace, Backing, Context, Fault, UserMemory } from '../platform/contract.ts';
import type { FileDescription } from '../vfs/file-description.ts';
import { CheckedMemory } from './checked-memory.ts';
import type { MapRequest, MemoryManager, Vma } from './contract.ts';
import { growForKernel, resolveFault, setBreak } from './growth.ts';
import { HostChanges, hostProtection } from './host-changes.ts';
import { anonymousFlags, fileFlags, mayLockAtAll } from './map-rules.ts';
import { protect } from './mprotect.ts';
import { alignUp, type Bases, choosePlace, maximumMappings, platformHoles } from './placement.ts';
import { SharedAnonymousMemory } from './shared-memory.ts';
import { countedAs, lockedMask, Mapping, VmFlag } from './vma.ts';
import { VmaSet } from './vma-set.ts';

const anonymous: Backing = { kind: 'anonymous' };

export interface MemoryOptions {
  readonly kernel: Kernel;
  readonly addressSpace: AddressSpace;
  readonly bases: Bases;
}

/** memfd_check_seals_mmap: what is sealed against writing may be mapped shared, but never for writing. */
function isWriteSealed(task: Task, file: FileDescription): boolean {
  const seals = file.seals(task, undefined);
  return seals > 0 && (seals & (Seal.write | Seal.futureWrite)) !== 0;
}

export type Layout = MemoryManager['layout'];

export class ProgramMemory implements MemoryManager {
  readonly kernel: Kernel;
  readonly addressSpace: AddressSpace;
  readonly bases: Bases;
  /** The books; only the files of this folder change them. */
  readonly set: VmaSet;
  readonly changes: HostChanges;
  readonly layout: Layout;
  dumpable = 1;
  /** mlockall(MCL_FUTURE): flags that new mappings get. */
  futureFlags = 0;
  /** Commands that membarrier(2) registered, as MEMBARRIER_CMD_REGISTER_* bits. */
  barriers = 0;
  /**
   * While a program is being loaded: the context of the new address space, which is not yet the task's. Undefined as
   * soon as it runs.
   */
  loading: Context | undefined;
  #users = 1;
  #lastContext: Context | undefined;
  #lastMemory: UserMemory | undefined;
  #retried: { readonly address: number; readonly generation: number } | undefined;
  readonly #memories = new WeakMap<Context, UserMemory>();

  constructor(options: MemoryOptions, set = new VmaSet(), layout: Layout = emptyLayout()) {
    this.kernel = options.kernel;
    this.addressSpace = options.addressSpace;
    this.bases = options.bases;
    this.set = set;
    this.layout = layout;
    this.changes = new HostChanges(options.addressSpace, set);
  }

  get users(): number {
    return this.#users;
  }

  /** The context through which a task's changes reach the host. */
  through(task: Task): Context {
    return this.loading ?? task.context;
  }

  get range(): { readonly start: number; readonly end: number } {
    return this.kernel.platform.userRange;
  }

  // Rules.

  /** mlock_future_ok: whether memory that is to be locked fits the limit. */
  mayLock(task: Task, flags: number, length: number): boolean {
    if ((flags & VmFlag.locked) === 0) return true;
    if (this.set.locked + length <= task.process.limit(Rlimit.memlock).soft) return true;
    return task.credentials.hasIn(this.kernel.rootUserNamespace, Capability.ipcLock);
  }

  /** may_expand_vm: whether `length` bytes more of this kind fit the limits. */
  mayExpand(task: Task, flags: number, length: number): boolean {
    if (this.set.total + length > roundedLimit(task, Rlimit.as)) return false;
    return countedAs(flags) !== 'data' || this.set.data + length <= roundedLimit(task, Rlimit.data);
  }

  /** __vm_enough_memory with the heuristic of vm.overcommit_memory 0: no single claim beyond all memory. */
  enoughMemory(length: number): boolean {
    return length <= this.kernel.memoryTotal;
  }

  /** READ_IMPLIES_EXEC, which exec clears. */
  #readExecutes(task: Task): boolean {
    return (task.personality & Personality.readImpliesExec) !== 0 && this.loading === undefined;
  }

  // Mapping.

  map(task: Task, request: MapRequest): number {
    const { flags } = request;
    const fixed = (flags & (MapFlag.fixed | MapFlag.fixedNoReplace)) !== 0;
    if (request.length === 0) return -Errno.EINVAL;
    const file = request.file;
    const noExec = file?.path !== undefined && (file.path.mount.flags & MountFlag.noExec) !== 0;
    let protection = request.protection & (Prot.read | Prot.write | Prot.exec);
    if (protection & Prot.read && this.#readExecutes(task) && !noExec) protection |= Prot.exec;
    const length = alignUp(request.length);
    if (length === 0) return -Errno.ENOMEM;
    if (this.set.count > maximumMappings) return -Errno.ENOMEM;

    let vmFlags = protection | VmFlag.mayRead | VmFlag.mayWrite | VmFlag.mayExec | this.futureFlags;
    if (flags & MapFlag.growsDown) vmFlags |= VmFlag.growsDown;
    if (flags & MapFlag.locked) vmFlags |= VmFlag.locked;
    if (flags & MapFlag.stack) vmFlags |= VmFlag.noHugePage;
    const start = choosePlace(
      this.set,
      this.range,
      this.bases,
      request.address,
      length,
      flags,
      file === undefined && (flags & MapFlag.type) === MapFlag.private,
      this.kernel,
    );
    if (start < 0) return start;
    const end = start + length;
    if (flags & MapFlag.fixedNoReplace && this.set.overlaps(start, end)) return -Errno.EEXIST;
    if (flags & MapFlag.locked && !mayLockAtAll(task)) return -Errno.EPERM;
    if (!this.mayLock(task, vmFlags, length)) return -Errno.EAGAIN;

    const typed = file
      ? fileFlags(file, flags, vmFlags, noExec, request.offset + length)
      : anonymousFlags(flags, vmFlags);
    if (typed < 0) return typed;
    vmFlags = typed;
    if (flags & MapFlag.noReserve) vmFlags |= VmFlag.noReserve;
    if (file && vmFlags & VmFlag.mayShare && isWriteSealed(task, file)) {
      if (vmFlags & VmFlag.write) return -Errno.EPERM;
      vmFlags &= ~VmFlag.mayWrite;
    }
    const replaced = fixed ? this.set.mapped(start, end) : 0;
    if (!this.mayExpand(task, vmFlags, length - replaced)) return -Errno.ENOMEM;
    if (replaced > 0) {
      const refused = this.#removable(start, end);
      if (refused < 0) return refused;
    }
    if ((vmFlags & (VmFlag.noReserve | VmFlag.shared | VmFlag.write)) === VmFlag.write) {
      if (!this.enoughMemory(length)) return -Errno.ENOMEM;
      vmFlags |= VmFlag.account;
    }
    return this.#place(task, start, end, protection, vmFlags, flags, file, request.offset);
  }

  /** The mapping's backing, the host's part and the books. */
  #place(
    task: Task,
    start: number,
    end: number,
    protection: number,
    vmFlags: number,
    flags: number,
    file: FileDescription | undefined,
    offset: number,
  ): number {
    const context = this.through(task);
    const length = end - start;
    const shared = (vmFlags & VmFlag.mayShare) !== 0;
    let backing = anonymous;
    let mapped = file?.acquire();
    let mappedOffset = start;
    if (shared && (!file || file.mapsAnonymous)) {
      if ((vmFlags & VmFlag.noReserve) === 0 && !this.enoughMemory(length)) {
        mapped?.unreference();
        return -Errno.ENOMEM;
      }
      const memory = SharedAnonymousMemory.create(this.kernel.host, length);
      mapped?.unreference();
      if (typeof memory === 'number') return memory;
      mapped = memory;
      mappedOffset = 0;
    } else if (file?.mapsAnonymous) {
      vmFlags |= VmFlag.zeroFile;
      mappedOffset = offset;
    } else if (file) {
      mappedOffset = offset;
    }
    if (mapped && (vmFlags & VmFlag.zeroFile) === 0) {
      const found = this.backingOf(task, mapped, protection, shared, mappedOffset);
      if (typeof found === 'number') {
        mapped.unreference();
        return found;
      }
      backing = found;
    }
    this.changes.begin();
    const old = this.set.cut(start, end);
    this.set.insert(new Mapping(start, end, vmFlags, mapped, mappedOffset, '', undefined));
    this.changes.record(start, end, old, 'unmap');
    const result = this.addressSpace.map(context, start, length, hostProtection(vmFlags), shared, backing);
    const populate =
      (vmFlags & lockedMask) === VmFlag.locked ||
      (flags & (MapFlag.populate | MapFlag.nonBlock)) === MapFlag.populate;
    const settled = this.changes.settle(context, result, populate || this.changes.immediate);
    if (settled < 0) return settled;
    if (populate) this.populate(context, start, end);
    return start;
  }

  /** What the host maps for a file; a mapping that may become writable later needs a descriptor that allows it. */
  backingOf(
    task: Task,
    file: FileDescription,
    protection: number,
    shared: boolean,
    offset: number,
  ): Backing | number {
    const wanted =
      shared && file.writable && !isWriteSealed(task, file) ? protection | Prot.write : protection;
    const fd = file.mappable(task, wanted, shared);
    return fd < 0 ? fd : { kind: 'file', fd, offset };
  }

  /** Faults pages in. The first failure, of which mmap says nothing: it shows when the program touches them. */
  populate(context: Context, start: number, end: number): number {
    let failure = 0;
    for (const mapping of this.set.parts(start, end)) {
      if ((mapping.flags & VmFlag.access) === 0) {
        if (failure === 0) failure = -Errno.EFAULT;
        continue;
      }
      const write = (mapping.flags & (VmFlag.write | VmFlag.shared)) === VmFlag.write;
      const advice = write ? Madv.populateWrite : Madv.populateRead;
      const result =
        this.addressSpace.advise(context, mapping.start, mapping.length, advice) || context.flush();
      if (result < 0 && failure === 0) failure = result;
    }
    return failure;
  }

  // Unmapping.

  unmap(task: Task, address: number, length: number): number {
    const { end: limit } = this.range;
    if (address % pageSize !== 0 || address > limit || length > limit - address) return -Errno.EINVAL;
    const end = address + alignUp(length);
    if (end === address) return -Errno.EINVAL;
    return this.unmapRange(task, address, end);
  }

  /** Removes all mappings from a range of whole pages. */
  unmapRange(task: Task, start: number, end: number): number {
    if (!this.set.overlaps(start, end)) return 0;
    const refused = this.#removable(start, end);
    if (refused < 0) return refused;
    const context = this.through(task);
    this.changes.begin();
    const parts = this.set.cut(start, end);
    this.changes.record(start, end, parts, 'none');
    const result = this.changes.settle(context, this.#unmapOnHost(context, start, end, parts));
    // Nothing was split, so the host has no reason to refuse: files are let go at once.
    if (result === 0 && refused === 0 && parts.some((part) => part.file)) this.changes.forget();
    return result;
  }

  /** 0, 1 (a mapping is split), or the errno with which the range cannot be removed. */
  #removable(start: number, end: number): number {
    const splits = this.set.splits(start, end);
    if (splits > 0 && this.set.count >= maximumMappings) return -Errno.ENOMEM;
    for (const mapping of this.set.within(start, end)) if (mapping.flags & VmFlag.sealed) return -Errno.EPERM;
    return splits;
  }

  /** Leaves the platform's own holes alone, unless something of the program's was there. */
  #unmapOnHost(context: Context, start: number, end: number, parts: readonly Mapping[]): number {
    let from = start;
    for (const hole of platformHoles) {
      if (hole.end <= from || hole.start >= end) continue;
      if (parts.some((part) => part.start < hole.end && part.end > hole.start)) continue;
      if (hole.start > from) {
        const result = this.addressSpace.unmap(context, from, hole.start - from);
        if (result < 0) return result;
      }
      from = hole.end;
    }
    return from < end ? this.addressSpace.unmap(context, from, end - from) : 0;
  }

  // Protection.

  protect(task: Task, address: number, length: number, protection: number): number {
    return protect(this, task, address, length, protection);
  }

  brk(task: Task, address: number): number {
    return setBreak(this, task, address);
  }

  // Looking.

  *vmas(): IterableIterator<Vma> {
    for (const mapping of this.set) yield this.#named(mapping);
  }

  find(address: number): Vma | undefined {
    const mapping = this.set.find(address);
    return mapping && this.#named(mapping);
  }

  /** As /proc/pid/maps names it: heap and stack are known by where they lie. */
  #named(mapping: Mapping): Mapping {
    if (mapping.file && (mapping.flags & VmFlag.zeroFile) === 0) return mapping;
    const { brkStart, brk, stackStart } = this.layout;
    if (mapping.start <= brk && mapping.end >= brkStart && brk > 0) return mapping.labelled('[heap]');
    if (mapping.start <= stackStart && mapping.end >= stackStart && stackStart > 0)
      return mapping.labelled('[stack]');
    return mapping;
  }

  accessible(address: number, length: number, protection: number): boolean {
    const end = address + length;
    let at = address;
    while (at < end) {
      const mapping = this.set.find(at);
      if (!mapping || (hostProtection(mapping.flags) & protection) !== protection) return false;
      at = mapping.end;
    }
    return true;
  }

  memoryOf(context: Context): UserMemory {
    if (context === this.#lastContext && this.#lastMemory) return this.#lastMemory;
    let memory = this.#memories.get(context);
    if (!memory) {
      memory = new CheckedMemory(context, this.set, (through, address) =>
        growForKernel(this, through, address),
      );
      this.#memories.set(context, memory);
    }
    this.#lastContext = context;
    this.#lastMemory = memory;
    return memory;
  }

  futexKey(address: number): { readonly owner: object; readonly offset: number } | undefined {
    const mapping = this.set.find(address);
    if (!mapping || (mapping.flags & VmFlag.access) === 0) return undefined;
    if (!mapping.shared || !mapping.file) return { owner: this, offset: address };
    return {
      owner: mapping.file.inode ?? mapping.file,
      offset: mapping.offset + (address - mapping.start),
    };
  }

  usage(): ReturnType<MemoryManager['usage']> {
    const { total, locked, data, stack, executable, peakTotal } = this.set;
    return { total, locked, data, stack, executable, resident: this.#resident(), peakTotal };
  }

  /**
   * The platform tells nothing about pages: an upper bound of what can be resident, that is all mappings that can be
   * accessed and were not reserved without backing (MAP_NORESERVE), at most the machine's memory.
   */
  #resident(): number {
    let bytes = 0;
    for (const mapping of this.set)
      if (mapping.flags & VmFlag.access && (mapping.flags & (VmFlag.noReserve | VmFlag.special)) === 0)
        bytes += mapping.length;
    return Math.min(bytes, this.kernel.memoryTotal);
  }

  resolveFault(task: Task, fault: Fault): boolean {
    return resolveFault(this, task, fault);
  }

  /**
   * The books allow what faulted: another thread may have changed them since. Once; a fault that comes again with the
   * same books is the program's (a guard region, poisoned memory).
   */
  mayRetry(fault: Fault): boolean {
    const { generation } = this.set;
    if (this.#retried?.address === fault.address && this.#retried.generation === generation) return false;
    this.#retried = { address: fault.address, generation };
    return true;
  }

  operationsDone(): void {
    this.changes.forget();
  }

  /**
   * The host refused a change that was queued through this task's context (event operationFailed). Puts the books right
   * and gives what the system call answers; 'fault': the program was touching its stack and gets SIGSEGV instead.
   */
  operationFailed(task: Task, failure: number): number | 'fault' {
    const { answer, agree } = this.changes.rollBack(this.through(task));
    // Books that the host does not follow are no base to go on from.
    if (!agree) task.process.sendSignal({ signal: 9, code: 0x80 });
    return answer === 'errno' ? failure : answer;
  }

  // Sharing and the end.

  acquire(): MemoryManager {
    this.#users++;
    // What was queued so far belongs to the call that is being answered; from the next one on threads meet.
    this.changes.immediate = true;
    return this;
  }

  fork(child: Context): MemoryManager {
    const dropped: Mapping[] = [];
    const wiped: Mapping[] = [];
    const set = this.set.copy((mapping) => {
      if (mapping.flags & VmFlag.dontCopy) {
        dropped.push(mapping);
        return undefined;
      }
      if (mapping.flags & VmFlag.wipeOnFork) wiped.push(mapping);
      return mapping.flags & lockedMask ? mapping.withFlags(mapping.flags & ~lockedMask) : mapping;
    });
    const memory = new ProgramMemory(
      { kernel: this.kernel, addressSpace: child.addressSpace, bases: this.bases },
      set,
      { ...this.layout },
    );
    memory.dumpable = this.dumpable;
    // Queued on the child, before its first instruction.
    for (const mapping of dropped) child.addressSpace.unmap(child, mapping.start, mapping.length);
    for (const mapping of wiped)
      child.addressSpace.advise(child, mapping.start, mapping.length, Madv.dontNeed);
    return memory;
  }

  release(): void {
    if (--this.#users > 0) {
      if (this.#users === 1) this.changes.immediate = false;
      return;
    }
    this.changes.forget();
    this.set.clear();
    this.addressSpace.destroy();
  }
}

function roundedLimit(task: Task, resource: number): number {
  const { soft } = task.process.limit(resource);
  return soft === Number.POSITIVE_INFINITY ? soft : soft - (soft % pageSize);
}

export function emptyLayout(): Layout {
  return {
    codeStart: 0,
    codeEnd: 0,
    dataStart: 0,
    dataEnd: 0,
    brkStart: 0,
    brk: 0,
    stackStart: 0,
    argumentsStart: 0,
    argumentsEnd: 0,
    environmentStart: 0,
    environmentEnd: 0,
    auxiliaryVector: new Uint8Array(0),
  };
}
