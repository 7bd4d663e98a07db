// PID namespaces and the numbers in them (pid_namespaces(7)). A Pid is one identity with a number in its own namespace
// and in every ancestor; tasks, thread groups, process groups and sessions hang on it, and the numbers are free again
// when nothing does.

import { Errno } from '../../abi/errno.ts';
import type { PidNamespace, UserNamespace } from '../contract.ts';
import type { JobGroup, LoginSession } from './jobs.ts';
import type { Thread } from './thread.ts';
import type { ThreadGroup } from './thread-group.ts';

/** Numbers below this are not used again once they have been passed (RESERVED_PIDS). */
const reservedNumbers = 300;
const maximumLevel = 32;

export class Pid {
  readonly namespace: PidTable;
  /** By level: numbers[0] is the one in the root namespace. */
  readonly numbers: readonly number[];
  thread: Thread | undefined;
  process: ThreadGroup | undefined;
  group: JobGroup | undefined;
  session: LoginSession | undefined;

  constructor(namespace: PidTable, numbers: readonly number[]) {
    this.namespace = namespace;
    this.numbers = numbers;
  }

  /** Its number as seen from a namespace; 0 if it is not visible there. */
  in(namespace: PidNamespace): number {
    const level = namespace.level;
    let own: PidTable | undefined = this.namespace;
    while (own && own.level > level) own = own.parent;
    return own === namespace ? (this.numbers[level] ?? 0) : 0;
  }

  /** Gives its numbers back if nothing uses it any more. */
  freeIfUnused(): void {
    if (this.thread || this.process || this.group || this.session) return;
    let table: PidTable | undefined = this.namespace;
    while (table) {
      table.forget(this.numbers[table.level] ?? 0, this);
      table = table.parent;
    }
  }
}

export class PidTable implements PidNamespace {
  readonly parent: PidTable | undefined;
  readonly level: number;
  readonly userNamespace: UserNamespace;
  /** The process that is number 1 in it. */
  init: ThreadGroup | undefined;
  /** Its init has ended: nobody can be born here any more. */
  dead = false;
  /** Called once when its init has ended and the last other task is gone. */
  emptied: (() => void) | undefined;
  /** /proc/sys/kernel/pid_max. */
  maximum: number;
  #last = 0;
  readonly #pids = new Map<number, Pid>();

  private constructor(parent: PidTable | undefined, userNamespace: UserNamespace, maximum: number) {
    this.parent = parent;
    this.level = parent ? parent.level + 1 : 0;
    this.userNamespace = userNamespace;
    this.maximum = maximum;
  }

  static root(userNamespace: UserNamespace, maximum = 32_768): PidTable {
    return new PidTable(undefined, userNamespace, maximum);
  }

  /** -ENOSPC when nested too deeply. */
  child(userNamespace: UserNamespace): PidTable | number {
    if (this.level + 1 >= maximumLevel) return -Errno.ENOSPC;
    return new PidTable(this, userNamespace, this.maximum);
  }

  /** A task here has been killed since or will be the first: no init yet, and one task has been made. */
  get hasHadInit(): boolean {
    return this.#last > 0;
  }

  /** ns_last_pid. */
  get last(): number {
    return this.#last;
  }

  /**
   * A new identity. wanted: clone3's set_tid, innermost namespace first. -EAGAIN: all numbers are taken; -ENOMEM: the
   * namespace's init is gone; -EEXIST, -EINVAL as clone3(2).
   */
  allocate(wanted: readonly number[] = []): Pid | number {
    if (this.dead) return -Errno.ENOMEM;
    const numbers: number[] = new Array(this.level + 1).fill(0);
    let table: PidTable | undefined = this;
    for (let depth = 0; table; depth++, table = table.parent) {
      const asked: number | undefined = wanted[depth];
      if (asked !== undefined) {
        if (asked < 1 || asked >= table.maximum) return -Errno.EINVAL;
        if (asked !== 1 && depth === 0 && !table.init) return -Errno.EINVAL;
        if (table.#pids.has(asked)) return -Errno.EEXIST;
      }
      const number = asked ?? table.#free();
      if (number < 0) return number;
      numbers[table.level] = number;
    }
    const pid = new Pid(this, numbers);
    table = this;
    for (let depth = 0; table; depth++, table = table.parent) {
      const number = numbers[table.level] ?? 0;
      table.#pids.set(number, pid);
      if (wanted[depth] === undefined || table.#last === 0) table.#last = number;
    }
    return pid;
  }

  #free(): number {
    let candidate = this.#last + 1;
    for (let tries = 0; tries < this.maximum; tries++, candidate++) {
      if (candidate >= this.maximum) candidate = this.#last < reservedNumbers ? 1 : reservedNumbers;
      if (!this.#pids.has(candidate)) return candidate;
    }
    return -Errno.EAGAIN;
  }

  forget(number: number, pid: Pid): void {
    if (this.#pids.get(number) === pid) this.#pids.delete(number);
    // Its first process never came to be: the next one is the first.
    if (this.#pids.size === 0 && !this.init && !this.dead) this.#last = 0;
  }

  find(number: number): Pid | undefined {
    return this.#pids.get(number);
  }

  findTask(tid: number): Thread | undefined {
    return this.#pids.get(tid)?.thread;
  }
  findProcess(pid: number): ThreadGroup | undefined {
    return this.#pids.get(pid)?.process;
  }
  findGroup(pgid: number): JobGroup | undefined {
    return this.#pids.get(pgid)?.group;
  }
  findSession(sid: number): LoginSession | undefined {
    return this.#pids.get(sid)?.session;
  }

  /** In ascending order of their numbers. */
  *processes(): IterableIterator<readonly [pid: number, process: ThreadGroup]> {
    for (const number of [...this.#pids.keys()].sort((a, b) => a - b)) {
      const process = this.#pids.get(number)?.process;
      if (process) yield [number, process];
    }
  }

  /** All tasks, dead ones that wait to be reaped too, in no particular order. */
  *tasks(): IterableIterator<Thread> {
    for (const pid of [...this.#pids.values()]) if (pid.thread) yield pid.thread;
  }

  /** Whether any task but those of `init` is left. */
  hasOthers(init: ThreadGroup): boolean {
    for (const pid of this.#pids.values()) if (pid.thread && pid.thread.process !== init) return true;
    return false;
  }

  /** Whether this is `ancestor` or lies below it. */
  within(ancestor: PidNamespace): boolean {
    for (let at: PidTable | undefined = this; at; at = at.parent) if (at === ancestor) return true;
    return false;
  }
}
