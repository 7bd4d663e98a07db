// execve: what of a process is replaced, what is kept, in Linux's order (fs/exec.c: begin_new_exec, de_thread). The new
// image is made first (mm/loader); as long as that can fail the old program is untouched. The last step before the point
// of no return is that the other threads have ended.

import { Errno } from '../../abi/errno.ts';
import { Access, At } from '../../abi/file.ts';
import { MountFlag } from '../../abi/mount.ts';
import { Rlimit } from '../../abi/resource.ts';
import { Signal } from '../../abi/signal.ts';
import {
  type ExecDecision,
  type Executed,
  type Hardware,
  hardwareFrom,
  type PreparedImage,
  prepareExec,
} from '../../mm/loader/prepare-exec.ts';
import type { FileDescription } from '../../vfs/file-description.ts';
import { endExecution, openExecutable } from '../../vfs/open.ts';
import { inodePermission } from '../../vfs/permission.ts';
import { Lookup } from '../../vfs/walk.ts';
import { BLOCKED, REGISTERS_SET } from '../contract.ts';
import type { TaskCredentials } from '../credentials/credentials.ts';
import { credentialsAfterExec } from '../credentials/transitions.ts';
import { Poll } from '../wait-queue.ts';
import { forgetThread, leaveMemory } from './exit.ts';
import type { Thread } from './thread.ts';

/** What programs are told of the processor: kernel.part(ProgramHardware), set by whoever builds the sandbox. */
export class ProgramHardware {
  value: Hardware = hardwareFrom(new Map());
}

/** What execve and execveat are asked for, decoded. */
export interface ExecTarget {
  readonly dirfd: number;
  readonly path: string;
  /** Lookup bits. */
  readonly lookup: number;
  /** As scripts and AT_EXECFN see the path. */
  readonly shownPath: string;
  readonly pathInaccessible: boolean;
}

/** The new image for a thread, with what has to be known to put it in place. */
interface Prepared {
  readonly image: PreparedImage;
  /** The file that was named: a script, or the program. */
  readonly file: FileDescription;
  readonly readable: boolean;
}

/** Whether set-user-ID bits and file capabilities of a file count for this task (mnt_may_suid). */
function mayGivePrivileges(thread: Thread, file: FileDescription): boolean {
  const mount = file.path?.mount;
  if (!mount || mount.flags & MountFlag.noSuid) return false;
  return mount.namespace === undefined || mount.namespace === thread.mounts;
}

function decide(thread: Thread, executed: Executed): ExecDecision | number {
  const { credentials, process, fs, trace } = thread;
  const tracer = trace.tracer;
  const sharing = process.tasks.filter((other) => other.fs === fs).length;
  return credentialsAfterExec(
    credentials,
    {
      mode: executed.mode,
      uid: executed.uid,
      gid: executed.gid,
      capabilities: executed.capabilities,
      mayGivePrivileges: mayGivePrivileges(thread, executed.file),
    },
    {
      noNewPrivileges: thread.noNewPrivileges,
      sharedFs: fs.users > sharing,
      weakTracer: tracer !== undefined && !tracer.credentials.hasIn(credentials.userNamespace, capSysPtrace),
    },
  );
}

/** CAP_SYS_PTRACE. */
const capSysPtrace = 19;

/** Opens and loads; a negative errno leaves nothing behind. */
export function prepareProgram(
  thread: Thread,
  target: ExecTarget,
  argv: () => readonly string[] | number,
  envp: () => readonly string[] | number,
): Prepared | number {
  const file = openExecutable(thread, target.dirfd, target.path, target.lookup);
  if (typeof file === 'number') return file;
  const opened: FileDescription[] = [];
  const fail = (errno: number): number => {
    endExecution(file);
    return errno;
  };
  const args = argv();
  if (typeof args === 'number') return fail(args);
  const environment = envp();
  if (typeof environment === 'number') return fail(environment);
  const image = prepareExec(thread, {
    file,
    path: target.shownPath,
    argv: args,
    envp: environment,
    personality: thread.personality,
    hardware: thread.kernel.part(ProgramHardware).value,
    pathInaccessible: target.pathInaccessible,
    open: (path) => {
      const next = openExecutable(thread, At.cwd, path, Lookup.follow);
      if (typeof next !== 'number') opened.push(next.acquire());
      return next;
    },
    decide: (executed) => decide(thread, executed),
  });
  // Only the program itself stays closed to writers, by ThreadGroup.execute.
  for (const other of opened) endExecution(other);
  if (typeof image === 'number') return fail(image);
  const seen = [file, ...image.files];
  const readable = seen.every(({ inode }) => !inode || inodePermission(thread, inode, Access.read) >= 0);
  return { image, file, readable };
}

/** execve(2) and execveat(2): REGISTERS_SET when the new program is in place, BLOCKED while other threads end. */
export function execute(
  thread: Thread,
  target: ExecTarget,
  argv: () => readonly string[] | number,
  envp: () => readonly string[] | number,
): number {
  const { kernel, process, credentials } = thread;
  if (thread.processLimitExceeded && kernel.processCount(credentials.uid) > process.limit(Rlimit.nproc).soft)
    return -Errno.EAGAIN;
  thread.processLimitExceeded = false;
  if (process.executing) return -Errno.EAGAIN;
  const prepared = prepareProgram(thread, target, argv, envp);
  if (typeof prepared === 'number') return prepared;
  const { image, file } = prepared;
  if (process.groupExitStatus !== undefined) {
    image.discard();
    endExecution(file);
    return -Errno.EAGAIN;
  }
  const finish = (): number => {
    replaceProgram(thread, prepared, target);
    endExecution(file);
    return REGISTERS_SET;
  };
  if (process.tasks.length === 1 && thread.leader) return finish();
  return endOthers(thread, finish, () => {
    image.discard();
    endExecution(file);
  });
}

/** de_thread: the other threads end; then this one is the leader, with its numbers. */
function endOthers(thread: Thread, finish: () => number, abandon: () => void): number {
  const { process } = thread;
  process.executing = thread;
  for (const other of [...process.tasks]) if (other !== thread && !other.exiting) other.signals.kill();
  let over = false;
  const attempt = (): number => {
    if (process.tasks.length > 1) return BLOCKED;
    over = true;
    process.executing = undefined;
    return finish();
  };
  const result = attempt();
  if (result !== BLOCKED) return result;
  return thread.block({
    on: [{ queue: process.threadEnded, events: Poll.in }],
    killableOnly: true,
    retry: attempt,
    interrupted: () => -Errno.EINTR,
    ended: () => {
      if (over) return;
      process.executing = undefined;
      abandon();
    },
  });
}

/** The thread takes the leader's place and numbers; the former leader, a zombie by now, disappears. */
function takeLeadership(thread: Thread): void {
  const { process } = thread;
  const former = process.leader;
  if (former === thread) return;
  const own = thread.id;
  thread.id = former.id;
  thread.id.thread = thread;
  thread.startTime = former.startTime;
  process.leader = thread;
  former.id = own;
  own.thread = former;
  if (former.trace.tracer) former.trace.detached();
  forgetThread(former);
}

/** The point of no return is behind: everything that a new program does not inherit goes. */
function replaceProgram(thread: Thread, prepared: Prepared, target: ExecTarget): void {
  const { process } = thread;
  const { image } = prepared;
  const formerTid = thread.visibleTid;
  takeLeadership(thread);
  process.exitSignal = Signal.SIGCHLD;
  leaveMemory(thread);
  thread.robustList = 0;
  if (thread.files.users > 1) {
    const files = thread.files.fork();
    thread.files.release(thread);
    thread.files = files;
  }
  process.execute(image.executable);
  image.handOver();
  thread.adopt(image.mm, image.context);
  process.timers.exec();
  process.signals.exec();
  thread.signals.exec();
  thread.files.closeForExec(thread);
  thread.name = commandName(target, prepared.file);
  thread.restart = undefined;
  thread.personality = image.personality;
  process.executed = true;
  process.execution++;
  takeCredentials(thread, prepared);
  thread.trace.executed(formerTid);
}

/** The last component of the path, or the file's own name where the path names none. */
function commandName(target: ExecTarget, file: FileDescription): string {
  const path = target.path === '' ? (file.path?.dentry.name ?? '') : target.path;
  return path.slice(path.lastIndexOf('/') + 1).slice(0, 15);
}

function takeCredentials(thread: Thread, { image, readable }: Prepared): void {
  const { decision, mm } = image;
  const credentials = decision.credentials as TaskCredentials;
  const same = credentials.euid === credentials.uid && credentials.egid === credentials.gid;
  // Nobody may look into a program that its user could not read, or that is not the user's own.
  mm.dumpable = readable && same ? 1 : 0;
  if (decision.secure) thread.parentDeathSignal = 0;
  thread.setCredentials(credentials);
}

/** For the first program of a process that has never run (spawn.ts): puts the image in place. */
export function installFirstProgram(thread: Thread, prepared: Prepared, target: ExecTarget): void {
  const { image, file } = prepared;
  thread.process.execute(image.executable);
  image.handOver();
  thread.mm = image.mm;
  thread.context = image.context;
  thread.name = commandName(target, file);
  thread.personality = image.personality;
  takeCredentials(thread, prepared);
  endExecution(file);
}
