// What the rest of the kernel knows of a program's memory: the books of its mappings (VMAs), kept beside an address
// space of the platform's, which does the paging. Shared by the tasks that share memory (CLONE_VM), counted.

import type { Task } from '../kernel/contract.ts';
import type { AddressSpace, Context, Fault, UserMemory } from '../platform/contract.ts';
import type { FileDescription } from '../vfs/file-description.ts';

/** One mapping, [start, end), page-aligned. */
export interface Vma {
  readonly start: number;
  readonly end: number;
  /** Protection.read | write | execute. */
  readonly protection: number;
  readonly shared: boolean;
  /** VM_GROWSDOWN, VM_LOCKED and the like, see mm/vma.ts. */
  readonly flags: number;
  /** What is mapped, held open; undefined: anonymous. */
  readonly file: FileDescription | undefined;
  readonly fileOffset: number;
  /** "[heap]", "[stack]", "[vdso]", "[anon:…]" in /proc/pid/maps, else empty. */
  readonly label: string;
}

export interface MapRequest {
  /** 0: anywhere. */
  readonly address: number;
  readonly length: number;
  readonly protection: number;
  /** MAP_* of mmap(2), as the program gave them. */
  readonly flags: number;
  readonly file: FileDescription | undefined;
  readonly offset: number;
}

export interface MemoryManager {
  readonly addressSpace: AddressSpace;
  /** How many tasks use it. */
  readonly users: number;

  /** mmap(2); the address or a negative errno. */
  map(task: Task, request: MapRequest): number;
  unmap(task: Task, address: number, length: number): number;
  protect(task: Task, address: number, length: number, protection: number): number;
  brk(task: Task, address: number): number;

  /** In ascending order. */
  vmas(): IterableIterator<Vma>;
  /** The mapping that contains the address. */
  find(address: number): Vma | undefined;
  /** Whether all of [address, address + length) is mapped with these rights. */
  accessible(address: number, length: number, protection: number): boolean;

  /** The memory seen through a context that is stopped. Checks ranges against the VMAs before anything is copied. */
  memoryOf(context: Context): UserMemory;

  /**
   * What a word in memory that may be shared is known by: what is mapped there (the same object for all who map it:
   * the file's inode, the shared anonymous memory) and the offset in it; for private memory the memory itself and the
   * address. Undefined: nothing readable is mapped there.
   */
  futexKey(address: number): { readonly owner: object; readonly offset: number } | undefined;

  /** Tries to resolve a fault (stack growth); false: the program gets its signal. */
  resolveFault(task: Task, fault: Fault): boolean;

  /** A context of the only task that uses it has stopped again: what was queued has been carried out. */
  operationsDone(): void;

  /**
   * Event operationFailed: the host refused what was queued through the task's context. Makes books and host agree again
   * and gives the answer to the system call; 'fault': its program touched a stack that could not grow (SIGSEGV).
   */
  operationFailed(task: Task, failure: number): number | 'fault';

  /** For CLONE_VM. */
  acquire(): MemoryManager;
  /** The books of a copy for the forked address space. */
  fork(child: Context): MemoryManager;
  /** A task stops using it; the last one destroys the address space. */
  release(): void;

  /** Bytes: sum of all mappings; locked; data; stack; executable; and what the host holds resident, as far as known. */
  usage(): {
    readonly total: number;
    readonly locked: number;
    readonly data: number;
    readonly stack: number;
    readonly executable: number;
    readonly resident: number;
    readonly peakTotal: number;
  };

  /** For /proc/pid/{stat,cmdline,environ,auxv}: ranges and addresses set by exec and prctl(PR_SET_MM). */
  readonly layout: {
    codeStart: number;
    codeEnd: number;
    dataStart: number;
    dataEnd: number;
    brkStart: number;
    brk: number;
    stackStart: number;
    argumentsStart: number;
    argumentsEnd: number;
    environmentStart: number;
    environmentEnd: number;
    auxiliaryVector: Uint8Array;
  };
  /** PR_SET_DUMPABLE: 0, 1 or 2. */
  dumpable: number;
}
