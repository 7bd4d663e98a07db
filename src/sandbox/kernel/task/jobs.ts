// Process groups and sessions (setpgid(2), setsid(2), credentials(7)) as far as job control needs them.

import type { ControllingTerminal, ProcessGroup, Session, SignalInfo } from '../contract.ts';
import type { Pid } from './pid.ts';
import type { ThreadGroup } from './thread-group.ts';

export class LoginSession implements Session {
  readonly id: Pid;
  leader: ThreadGroup | undefined;
  terminal: ControllingTerminal | undefined;
  readonly groups = new Set<JobGroup>();

  constructor(id: Pid, leader?: ThreadGroup) {
    this.id = id;
    this.leader = leader;
    id.session = this;
  }

  get sid(): number {
    return this.id.numbers[0] ?? 0;
  }

  forget(group: JobGroup): void {
    this.groups.delete(group);
    if (this.groups.size > 0) return;
    this.id.session = undefined;
    this.id.freeIfUnused();
  }
}

export class JobGroup implements ProcessGroup {
  readonly id: Pid;
  readonly session: LoginSession;
  readonly #members = new Set<ThreadGroup>();

  constructor(id: Pid, session: LoginSession) {
    this.id = id;
    this.session = session;
    id.group = this;
    session.groups.add(this);
  }

  get pgid(): number {
    return this.id.numbers[0] ?? 0;
  }

  get processes(): ReadonlySet<ThreadGroup> {
    return this.#members;
  }

  add(process: ThreadGroup): void {
    this.#members.add(process);
  }

  remove(process: ThreadGroup): void {
    this.#members.delete(process);
    if (this.#members.size > 0) return;
    if (this.session.terminal?.foreground === this) this.session.terminal.foreground = undefined;
    this.id.group = undefined;
    this.session.forget(this);
    this.id.freeIfUnused();
  }

  get orphaned(): boolean {
    return this.orphanedWithout(undefined);
  }

  /** Whether the group would be orphaned if `leaving` did not count (will_become_orphaned_pgrp). */
  orphanedWithout(leaving: ThreadGroup | undefined): boolean {
    for (const member of this.#members) {
      if (member === leaving || member.dead) continue;
      const { parent } = member;
      if (parent && parent.group !== this && parent.session === this.session) return false;
    }
    return true;
  }

  get hasStopped(): boolean {
    for (const member of this.#members) if (member.stopped) return true;
    return false;
  }

  sendSignal(info: SignalInfo): void {
    for (const member of [...this.#members]) member.sendSignal(info);
  }
}
