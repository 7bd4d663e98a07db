// A sandbox from the inside: its containers and their processes, made and ended as the control protocol asks. This is
// what turns an OCI configuration into namespaces, credentials, files and a first process.

import { allCapabilities } from '../abi/capability.ts';
import { Errno, errnoName } from '../abi/errno.ts';
import { At } from '../abi/file.ts';
import type {
  Answers,
  Command,
  ContainerSpec,
  ContainerState,
  ProcessSpec,
  Request,
} from '../control/protocol.ts';
import { type Answer, ControlError } from '../control/server.ts';
import { GoferClient } from '../gofer/client.ts';
import type { HostFd } from '../host/contract.ts';
import type { ResourceLimit } from '../kernel/contract.ts';
import { TaskCredentials } from '../kernel/credentials/credentials.ts';
import type { SandboxKernel } from '../kernel/kernel.ts';
import { CgroupNamespace } from '../kernel/namespace/cgroup.ts';
import { NamedUtsNamespace } from '../kernel/namespace/uts.ts';
import { FilterProgram } from '../kernel/seccomp/bpf.ts';
import { FilterChain } from '../kernel/seccomp/seccomp.ts';
import { Work } from '../kernel/signal/contract.ts';
import { Container } from '../kernel/task/container.ts';
import { defaultLimits } from '../kernel/task/limits.ts';
import { createProcess } from '../kernel/task/spawn.ts';
import type { Thread } from '../kernel/task/thread.ts';
import { ContainerNetwork } from '../net/container-network.ts';
import type { Dispatcher } from '../syscalls/dispatch.ts';
import { Strace } from '../syscalls/strace.ts';
import type { MountNamespace } from '../vfs/contract.ts';
import { DescriptorTable } from '../vfs/fd-table.ts';
import type { FileDescription } from '../vfs/file-description.ts';
import { FileSystemContext } from '../vfs/fs-context.ts';
import { endExecution, openExecutable } from '../vfs/open.ts';
import { settingsOf } from '../vfs/proc/settings.ts';
import { Lookup, resolveFrom } from '../vfs/walk.ts';
import { describeSandbox } from './debug.ts';
import { makeRoot, mountAll } from './mounts.ts';
import { openStandardFiles, type StandardFiles } from './standard-files.ts';

interface Started {
  readonly thread: Thread;
  readonly files: StandardFiles;
  /** Wait status, when it has ended. */
  status: number | undefined;
  readonly waiters: Answer[];
}

interface ContainerEntry {
  readonly id: string;
  readonly spec: ContainerSpec;
  readonly container: Container;
  readonly gofer: GoferClient;
  readonly mounts: MountNamespace;
  readonly init: Started;
  readonly executed: Map<string, Started>;
  started: boolean;
}

const encode = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');

export class Sandbox {
  readonly kernel: SandboxKernel;
  readonly #dispatcher: Dispatcher;
  readonly #log: (line: string) => void;
  readonly #containers = new Map<string, ContainerEntry>();
  /** Set by shutdown: the loop ends. */
  over = false;

  constructor(kernel: SandboxKernel, dispatcher: Dispatcher, log: (line: string) => void) {
    this.kernel = kernel;
    this.#dispatcher = dispatcher;
    this.#log = log;
  }

  /** Carries out a request of the control protocol. */
  handle(request: Request, fds: HostFd[], answer: Answer): void {
    switch (request.command) {
      case 'create':
        this.#create(request.container, request.spec, fds);
        answer({});
        return;
      case 'start':
        answer(this.#start(request.container));
        return;
      case 'exec':
        answer(this.#exec(request.container, request.process, request.spec, fds));
        return;
      case 'wait':
        this.#wait(this.#process(request.container, request.process), answer);
        return;
      case 'resize': {
        const { files } = this.#process(request.container, request.process);
        files.terminal?.resize(request.rows, request.columns, 0, 0);
        answer({});
        return;
      }
      default:
        for (const fd of fds) this.kernel.host.close(fd);
        answer(this.#simple(request));
    }
  }

  #simple(
    request: Exclude<Request, { command: 'create' | 'start' | 'exec' | 'wait' | 'resize' }>,
  ): Answers[Command] {
    switch (request.command) {
      case 'state':
        return this.#state(this.#find(request.container));
      case 'list':
        return {
          containers: [...this.#containers.values()].map((entry) => ({
            container: entry.id,
            state: this.#state(entry).state,
          })),
        };
      case 'signal':
        return this.#signal(request.container, request.signal, request.all ?? false, request.process);
      case 'pause':
        this.#find(request.container).container.freeze();
        return {};
      case 'resume':
        this.#find(request.container).container.thaw();
        return {};
      case 'ps':
        return this.#ps(this.#find(request.container));
      case 'stats':
        return this.#stats(this.#find(request.container));
      case 'delete':
        return this.#delete(request.container, request.force);
      case 'shutdown':
        for (const entry of this.#containers.values()) entry.container.kill();
        this.over = true;
        return {};
      case 'debug':
        return { text: describeSandbox(this.kernel, this.#dispatcher, request.what) };
      case 'strace':
        this.setStrace(request.on, request.filter);
        return {};
    }
  }

  setStrace(on: boolean, filter?: readonly string[]): void {
    const strace = on ? new Strace(this.#dispatcher.table.entries, { filter, write: this.#log }) : undefined;
    this.#dispatcher.strace = strace;
    this.kernel.answered = strace ? (thread, result) => this.#dispatcher.answered(thread, result) : undefined;
  }

  #find(id: string): ContainerEntry {
    const entry = this.#containers.get(id);
    if (!entry) throw new ControlError(`there is no container ${id} in this sandbox`, Errno.ENOENT);
    return entry;
  }

  #process(id: string, process: string | undefined): Started {
    const entry = this.#find(id);
    if (process === undefined) return entry.init;
    const executed = entry.executed.get(process);
    if (!executed) throw new ControlError(`container ${id} has no process ${process}`, Errno.ESRCH);
    return executed;
  }

  // Making.

  #create(id: string, spec: ContainerSpec, fds: HostFd[]): void {
    if (this.#containers.has(id)) throw new ControlError(`container ${id} exists already`, Errno.EEXIST);
    const [socket, ...standard] = fds;
    if (socket === undefined) throw new ControlError(`container ${id}: no Gofer was given`, Errno.EINVAL);
    const { kernel } = this;
    const gofer = new GoferClient(kernel.host, socket);
    const container = new Container(kernel, id, spec.pidsLimit > 0 ? spec.pidsLimit : undefined, {
      memory: spec.memoryLimit > 0 ? spec.memoryLimit : Infinity,
      cpuQuota: spec.cpu?.quota ?? Infinity,
      cpuPeriod: spec.cpu?.period ?? 100_000,
      cpuShares: spec.cpu?.shares,
    });
    const mounts = makeRoot(kernel, gofer, spec.root.overlay);
    // Held until the container is deleted: exec needs it when the first process has ended its own use.
    kernel.namespaceUsers.hold(mounts);
    const shared = (kind: 'pid' | 'ipc' | 'uts' | 'network'): ContainerEntry | undefined => {
      const other = spec.sharedNamespaces[kind];
      return other === undefined ? undefined : this.#find(other);
    };
    const owner = kernel.rootUserNamespace;
    const pidNamespace =
      shared('pid')?.init.thread.process.pidNamespace ?? kernel.rootPidNamespace.child(owner);
    if (typeof pidNamespace === 'number')
      throw new ControlError(`container ${id}: a PID namespace cannot be made: ${errnoName(pidNamespace)}`);
    const network =
      shared('network')?.init.thread.network ??
      kernel.part(ContainerNetwork).shared ??
      kernel.parts.network(owner);
    if (typeof network === 'number')
      throw new ControlError(`container ${id}: a network namespace cannot be made: ${errnoName(network)}`);
    const uts =
      shared('uts')?.init.thread.uts ??
      new NamedUtsNamespace(encode(spec.hostname), encode(spec.domainname), owner);
    const init = this.#spawn(container, spec.process, standard, {
      mounts,
      uts,
      ipc: shared('ipc')?.init.thread.ipc.acquire() ?? kernel.parts.ipc(owner),
      network,
      pidNamespace,
      cgroup: new CgroupNamespace(owner),
      prepare: (thread) => {
        mountAll(thread, spec, gofer);
        applySettings(thread, spec.sysctl);
      },
    });
    this.#containers.set(id, {
      id,
      spec,
      container,
      gofer,
      mounts,
      init,
      executed: new Map(),
      started: false,
    });
  }

  #spawn(
    container: Container,
    spec: ProcessSpec,
    fds: readonly HostFd[],
    places: Pick<
      Parameters<typeof createProcess>[1],
      'mounts' | 'uts' | 'ipc' | 'network' | 'pidNamespace' | 'cgroup'
    > & {
      prepare?(thread: Thread): void;
    },
  ): Started {
    const { kernel } = this;
    let standard: StandardFiles | undefined;
    const files = new DescriptorTable();
    const root = places.mounts.root;
    const fs = new FileSystemContext(root, root, spec.user.umask ?? 0o022);
    const credentials = credentialsOf(kernel, spec);
    const argv = spec.args.map(encode);
    const envp = spec.env.map(encode);
    let path = argv[0] ?? '';
    let made: Started | undefined;
    const thread = createProcess(kernel, {
      ...places,
      container,
      files,
      fs,
      argv,
      envp,
      // Mounted and made with all rights; what the program may do is decided before it is loaded.
      credentials: TaskCredentials.root(kernel.rootUserNamespace),
      limits: limitsOf(kernel, spec),
      noNewPrivileges: spec.noNewPrivileges,
      oomScoreAdjust: spec.oomScoreAdj ?? 0,
      get path() {
        return path;
      },
      prepare(task) {
        places.prepare?.(task);
        standard = openStandardFiles(task, spec, fds);
        installStandardFiles(task, files, standard);
        const cwd = enterDirectory(task, encode(spec.cwd));
        if (cwd < 0) throw new ControlError(`chdir to ${spec.cwd}: ${errnoName(cwd)}`, Math.abs(cwd));
        task.setCredentials(credentials);
        path = findProgram(task, path, envp);
        if (spec.seccomp) confine(task, spec.seccomp.filter);
      },
      ended(status) {
        if (made) processEnded(made, status);
      },
    });
    if (typeof thread === 'number' || standard === undefined)
      throw new ControlError(
        `exec: "${spec.args[0] ?? ''}": ${describeExecError(Number(thread))}`,
        Math.abs(Number(thread)),
      );
    const opened: StandardFiles = standard;
    opened.terminal?.control(thread);
    made = { thread, files: opened, status: undefined, waiters: [] };
    return made;
  }

  #start(id: string): Answers['start'] {
    const entry = this.#find(id);
    if (entry.started) throw new ControlError(`container ${id} has been started already`, Errno.EBUSY);
    entry.started = true;
    entry.init.thread.start();
    return { pid: entry.init.thread.tid };
  }

  #exec(id: string, name: string, spec: ProcessSpec, fds: HostFd[]): Answers['exec'] {
    const entry = this.#find(id);
    if (entry.executed.has(name))
      throw new ControlError(`container ${id} has a process ${name} already`, Errno.EEXIST);
    const { thread } = entry.init;
    if (!entry.started || entry.init.status !== undefined)
      throw new ControlError(`container ${id} is not running`, Errno.ESRCH);
    const executed = this.#spawn(entry.container, spec, fds, {
      mounts: thread.mounts,
      uts: thread.uts,
      ipc: thread.ipc.acquire(),
      network: thread.network,
      pidNamespace: thread.process.pidNamespace,
      cgroup: thread.cgroup,
    });
    entry.executed.set(name, executed);
    executed.thread.start();
    return { pid: executed.thread.tid };
  }

  #wait(process: Started, answer: Answer): void {
    if (process.status === undefined) process.waiters.push(answer);
    else answer(waitAnswer(process.status));
  }

  // Looking and ending.

  #state(entry: ContainerEntry): Answers['state'] {
    const { status, thread } = entry.init;
    const state: ContainerState =
      status !== undefined
        ? 'stopped'
        : !entry.started
          ? 'created'
          : entry.container.frozen
            ? 'paused'
            : 'running';
    return {
      state,
      pid: thread.tid,
      ...(status === undefined ? {} : { exitStatus: waitAnswer(status).exited }),
    };
  }

  #signal(id: string, signal: number, all: boolean, process: string | undefined): Record<never, never> {
    if (!Number.isInteger(signal) || signal < 0 || signal > 64)
      throw new ControlError(`container ${id}: there is no signal ${signal}`, Errno.EINVAL);
    const entry = this.#find(id);
    const info = { signal, code: 0, uid: 0 };
    if (all) {
      if (signal === 9) entry.container.kill();
      else for (const member of [...entry.container.processes]) if (signal !== 0) member.sendSignal(info);
      return {};
    }
    const target = this.#process(id, process);
    if (target.status !== undefined) throw new ControlError(`container ${id} is not running`, Errno.ESRCH);
    if (!entry.started && process === undefined && (signal === 9 || signal === 15)) {
      // Never started: its end is that of the prepared process.
      entry.started = true;
      target.thread.process.sendSignal({ signal: 9, code: 0 });
      target.thread.start();
    } else if (signal === 9) {
      target.thread.process.sendSignal({ signal: 9, code: 0x80 });
    } else if (signal !== 0) {
      target.thread.process.sendSignal(info);
    }
    return {};
  }

  #ps(entry: ContainerEntry): Answers['ps'] {
    return {
      processes: [...entry.container.processes].map((process) => {
        const { user, system } = process.cpuTime();
        return {
          pid: process.pidIn(entry.init.thread.process.pidNamespace),
          ppid: process.parent?.pidIn(entry.init.thread.process.pidNamespace) ?? 0,
          uid: process.leader.credentials.uid,
          name: process.leader.name,
          command: process.executable?.path?.dentry.name ?? process.leader.name,
          threads: process.tasks.length,
          cpu: user + system,
        };
      }),
    };
  }

  #stats(entry: ContainerEntry): Answers['stats'] {
    let cpu = 0;
    let memory = 0;
    let files = 0;
    for (const process of entry.container.processes) {
      const { user, system } = process.cpuTime();
      cpu += user + system;
      memory += process.leader.mm.usage().resident;
      files += [...process.leader.files.entries()].length;
    }
    return {
      cpuNanoseconds: cpu,
      memoryBytes: memory,
      pids: entry.container.tasks,
      syscalls: this.#dispatcher.calls,
      openFiles: files,
    };
  }

  #delete(id: string, force: boolean): Record<never, never> {
    const entry = this.#find(id);
    if (entry.init.status === undefined && !force)
      throw new ControlError(`container ${id} is still running`, Errno.EBUSY);
    entry.container.thaw();
    entry.container.kill();
    this.kernel.namespaceUsers.drop(entry.mounts);
    entry.gofer.close();
    this.#containers.delete(id);
    return {};
  }
}

function processEnded(process: Started, status: number): void {
  process.status = status;
  process.files.close();
  for (const answer of process.waiters.splice(0)) answer(waitAnswer(status));
}

function waitAnswer(status: number): Answers['wait'] {
  const signal = status & 0x7f;
  return { exited: signal === 0 ? (status >> 8) & 0xff : 128 + signal, signal };
}

function credentialsOf(kernel: SandboxKernel, spec: ProcessSpec): TaskCredentials {
  const set = (numbers: readonly number[]): bigint =>
    numbers.reduce((bits, one) => bits | (1n << BigInt(one)), 0n);
  const { uid, gid, additionalGids } = spec.user;
  const { capabilities } = spec;
  return new TaskCredentials({
    ...{ uid, euid: uid, suid: uid, fsuid: uid, gid, egid: gid, sgid: gid, fsgid: gid },
    groups: [...new Set(additionalGids)].sort((a, b) => a - b),
    userNamespace: kernel.rootUserNamespace,
    effective: set(capabilities.effective) & allCapabilities,
    permitted: set(capabilities.permitted) & allCapabilities,
    inheritable: set(capabilities.inheritable) & allCapabilities,
    bounding: set(capabilities.bounding) & allCapabilities,
    ambient: set(capabilities.ambient) & allCapabilities,
    securebits: 0,
  });
}

function limitsOf(kernel: SandboxKernel, spec: ProcessSpec): ResourceLimit[] {
  const limits = defaultLimits(kernel.taskLimit);
  const value = (number: number): number => (number < 0 ? Infinity : number);
  for (const [resource, soft, hard] of spec.rlimits)
    if (resource < limits.length) limits[resource] = { soft: value(soft), hard: value(hard) };
  return limits;
}

function installStandardFiles(task: Thread, files: DescriptorTable, standard: StandardFiles): void {
  const install = (file: FileDescription, fd: number): void => {
    const result = files.replace(task, fd, file, false);
    if (result < 0) throw new ControlError(`descriptor ${fd}: ${errnoName(result)}`);
  };
  for (const [fd, file] of standard.files.entries()) install(file, fd);
}

function enterDirectory(task: Thread, path: string): number {
  const place = resolveFrom(task, path === '' ? '/' : path);
  if (typeof place === 'number') return place;
  if (!place.dentry.inode?.isDirectory) return -Errno.ENOTDIR;
  task.fs.setCwd(place);
  return 0;
}

/** Puts the program under the container's own filter, which it does not leave any more. `filter`: in base64. */
function confine(task: Thread, filter: string): void {
  const program = FilterProgram.decode(Buffer.from(filter, 'base64'));
  if (typeof program === 'number')
    throw new ControlError('linux.seccomp: the filter is not valid', Errno.EINVAL);
  const { seccomp } = task;
  task.seccomp = new FilterChain(program, seccomp instanceof FilterChain ? seccomp : undefined);
  task.signals.setWork(Work.seccomp);
}

/** linux.sysctl. What this kernel does not let be set is told in the log, and stays as it is. */
function applySettings(task: Thread, wanted: Readonly<Record<string, string>>): void {
  const settings = settingsOf(task.kernel);
  for (const [name, value] of Object.entries(wanted)) {
    const setting = settings.get(name.replaceAll('.', '/'));
    if (setting?.write) {
      const result = setting.write(`${value}\n`, task);
      if (result < 0) throw new ControlError(`linux.sysctl: ${name}=${value}: ${errnoName(result)}`);
    } else if (setting?.read(task).trim().replaceAll('\t', ' ') !== value.trim().replaceAll('\t', ' ')) {
      task.kernel.log.warn(`linux.sysctl: ${name} cannot be set to ${value}`);
    }
  }
}

/** execvp(3): a name without a slash is looked for in PATH. */
function findProgram(task: Thread, name: string, envp: readonly string[]): string {
  if (name === '') throw new ControlError('process.args is empty', Errno.EINVAL);
  if (name.includes('/')) return name;
  const search = envp.find((entry) => entry.startsWith('PATH='))?.slice(5) ?? '/bin:/usr/bin';
  let denied = false;
  for (const directory of search.split(':')) {
    const path = `${directory === '' ? '.' : directory}/${name}`;
    const file = openExecutable(task, At.cwd, path, Lookup.follow);
    if (typeof file !== 'number') {
      endExecution(file);
      return path;
    }
    if (file === -Errno.EACCES) denied = true;
  }
  throw new ControlError(
    `exec: "${name}": ${denied ? 'permission denied' : 'executable file not found in $PATH'}`,
    denied ? Errno.EACCES : Errno.ENOENT,
  );
}

/** In the words that runtimes use, which tools look for. */
function describeExecError(errno: number): string {
  switch (-errno) {
    case Errno.ENOENT:
      return 'no such file or directory';
    case Errno.EACCES:
      return 'permission denied';
    case Errno.ENOEXEC:
      return 'exec format error';
    default:
      return errnoName(errno);
  }
}
