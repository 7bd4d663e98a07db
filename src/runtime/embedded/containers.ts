// Containers from their making to their removal. Creating prepares the root file system and config.json; starting
// runs conmon and the OCI runtime, as containerd does, so that a command that cannot be run is an error of the start.
//
// The end of a container is an event: conmon leaves a file in the exit directory, which is watched. Should conmon
// itself die, its process's end is the event, and the container, which nobody watches any more, is ended.

import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import {
  type Container,
  type ContainerConfig,
  type ContainerState,
  type ContainerStatus,
  type LinuxResources,
  RuntimeError,
} from '../cri.ts';
import { createWithConmon, readExitFile, readPidFiles, reopenLog } from './conmon.ts';
import { prepareContainer } from './container-creation.ts';
import { applyResources } from './container-resources.ts';
import { describe, stateOf, statusOf } from './container-status.ts';
import { messageOf, type RuntimeContext, runtimeFor, within } from './context.ts';
import { Gate } from './gate.ts';
import { runtimeMessage } from './oci-runtime.ts';
import { isAlive } from './process-identity.ts';
import { type ContainerRecord, type SandboxRecord, writeRecord } from './records.ts';
import type { Sandboxes } from './sandboxes.ts';
import type { SpecRequest } from './spec/container-spec.ts';
import { mergeResources } from './spec/resources.ts';
import { endStray } from './strays.ts';

const SIGKILL = 9;
/** How long a process may take to end after SIGKILL: it may be waiting for a disk or a network file system. */
const KILL_PATIENCE_MS = 120_000;

/** How long a start may hold up others. */
const START_HOLD_MS = 10_000;

/** As containerd reports them. */
const START_ERROR = { exitCode: 128, reason: 'StartError' } as const;
const UNKNOWN_END = { exitCode: 255, reason: 'Unknown' } as const;

interface Entry {
  record: ContainerRecord;
  /** Records are written one after the other. */
  writes: Promise<void>;
  readonly ended: PromiseWithResolvers<void>;
  starting?: Promise<void>;
  finishing?: Promise<void>;
  removing?: Promise<void>;
  /** What the OCI runtime keeps of an ended container is being deleted. */
  deleting?: Promise<void>;
  unwatch?: () => void;
}

type Ending = Pick<ContainerRecord, 'exitCode' | 'reason' | 'message' | 'finishedAt'>;

export class Containers {
  readonly #context: RuntimeContext;
  #sandboxes!: Sandboxes;
  readonly #entries = new Map<string, Entry>();
  readonly #bySandbox = new Map<string, Set<string>>();
  readonly #names = new Map<string, string>();
  readonly #starts: Gate;

  constructor(context: RuntimeContext) {
    this.#context = context;
    this.#starts = new Gate({
      clock: context.clock,
      width: 2 * availableParallelism(),
      holdMs: START_HOLD_MS,
    });
  }

  /** The two know each other; called once, before anything else. */
  connect(sandboxes: Sandboxes): void {
    this.#sandboxes = sandboxes;
  }

  #nameOf(sandboxId: string, config: ContainerConfig): string {
    return `${config.metadata.name}_${config.metadata.attempt}_${sandboxId}`;
  }

  #podUid(sandboxId: string): string {
    return this.#sandboxes.get(sandboxId).config.metadata.uid;
  }

  #emit(record: ContainerRecord, type: 'CREATED' | 'STARTED' | 'STOPPED' | 'DELETED'): void {
    this.#context.emit({
      type: `CONTAINER_${type}`,
      containerId: record.id,
      podSandboxId: record.sandboxId,
      podUid: this.#podUid(record.sandboxId),
    });
  }

  async create(sandboxId: string, config: ContainerConfig): Promise<string> {
    const { paths } = this.#context;
    const sandbox = this.#sandboxes.ready(sandboxId);
    const name = this.#nameOf(sandboxId, config);
    const holder = this.#names.get(name);
    if (holder)
      throw new RuntimeError(
        'AlreadyExists',
        `failed to reserve container name "${name}": it is reserved for "${holder}"`,
      );
    const id = randomBytes(32).toString('hex');
    this.#names.set(name, id);
    try {
      const record = await prepareContainer(this.#context, {
        id,
        config,
        sandbox,
        files: this.#sandboxes.files(sandbox),
        namespaces: this.#namespaces(sandbox, config),
      });
      await writeRecord(paths.containerState(id), 'container', record);
      // Stopped meanwhile, the sandbox knew nothing of this container and takes no further ones.
      this.#sandboxes.ready(sandboxId);
      this.adopt(record);
      this.#emit(record, 'CREATED');
      return id;
    } catch (error) {
      this.#names.delete(name);
      await this.#discard(id).catch((cleanup: unknown) =>
        this.#context.logger.error(
          { err: cleanup, containerId: id },
          'a half-made container cannot be cleared away',
        ),
      );
      throw error instanceof RuntimeError
        ? error
        : new RuntimeError('Internal', `failed to create the container: ${messageOf(error)}`, {
            cause: error,
          });
    }
  }

  #namespaces(sandbox: SandboxRecord, config: ContainerConfig): SpecRequest['namespaces'] {
    const { paths } = this.#context;
    const { network, ipc } = sandbox.config.namespaces;
    const wanted = config.security.namespaces;
    let pid: string | undefined;
    if (wanted.pid === 'CONTAINER') pid = 'new';
    if (wanted.pid === 'POD') {
      if (!sandbox.init)
        throw new RuntimeError(
          'InvalidArgument',
          `sandbox "${sandbox.id}" was made without a PID namespace to share`,
        );
      pid = paths.namespace(sandbox.id, 'pid');
    }
    if (wanted.pid === 'TARGET') {
      const target = this.running(wanted.targetId ?? '');
      if (target.sandboxId !== sandbox.id)
        throw new RuntimeError(
          'InvalidArgument',
          `container "${target.id}" is of another sandbox; its processes cannot be shared`,
        );
      pid = `/proc/${target.process!.pid}/ns/pid`;
    }
    return {
      ...(network === 'POD' && {
        network: paths.namespace(sandbox.id, 'net'),
        uts: paths.namespace(sandbox.id, 'uts'),
      }),
      ...(ipc === 'POD' && { ipc: paths.namespace(sandbox.id, 'ipc') }),
      ...(pid && { pid }),
    };
  }

  /** Makes a container known: a new one, or one from disk. */
  adopt(record: ContainerRecord): void {
    const entry: Entry = { record, writes: Promise.resolve(), ended: Promise.withResolvers() };
    this.#entries.set(record.id, entry);
    this.#names.set(this.#nameOf(record.sandboxId, record.config), record.id);
    const siblings = this.#bySandbox.get(record.sandboxId) ?? new Set();
    this.#bySandbox.set(record.sandboxId, siblings.add(record.id));
    if (record.phase === 'exited') entry.ended.resolve();
  }

  async #update(entry: Entry, change: Partial<ContainerRecord>): Promise<void> {
    entry.record = { ...entry.record, ...change };
    const { record } = entry;
    const write = (): Promise<void> =>
      writeRecord(this.#context.paths.containerState(record.id), 'container', record);
    entry.writes = entry.writes.then(write, write);
    await entry.writes;
  }

  #entry(id: string): Entry {
    const entry = this.#entries.get(id);
    if (!entry) throw new RuntimeError('NotFound', `container "${id}" is not found`);
    return entry;
  }

  get(id: string): ContainerRecord {
    return this.#entry(id).record;
  }

  /** For what needs a container that runs. */
  running(id: string): ContainerRecord {
    const { record } = this.#entry(id);
    if (record.phase !== 'running' || !record.process)
      throw new RuntimeError(
        'FailedPrecondition',
        `container "${id}" is not running: it is in state ${stateOf(record)}`,
      );
    return record;
  }

  idsOf(sandboxId: string): string[] {
    return [...(this.#bySandbox.get(sandboxId) ?? [])];
  }

  async start(id: string): Promise<void> {
    const entry = this.#entry(id);
    if (entry.record.phase !== 'created' || entry.starting || entry.removing)
      throw new RuntimeError(
        'FailedPrecondition',
        `container "${id}" cannot be started: it is ${entry.removing ? 'being removed' : `in state ${stateOf(entry.record)}`}`,
      );
    this.#sandboxes.ready(entry.record.sandboxId);
    entry.starting = this.#starts
      .pass(() => this.#start(entry))
      .finally(() => {
        entry.starting = undefined;
      });
    await entry.starting;
  }

  async #start(entry: Entry): Promise<void> {
    const { host, paths, clock, conmon } = this.#context;
    const { id, config, handler, logPath } = entry.record;
    const runtime = runtimeFor(this.#context, handler);
    try {
      await Promise.all([
        this.#update(entry, { phase: 'starting' }),
        logPath && mkdir(dirname(logPath), { recursive: true, mode: 0o755 }),
      ]);
      const started = await createWithConmon(host, {
        program: conmon,
        runtime,
        id,
        name: config.metadata.name,
        bundle: paths.bundle(id),
        exits: paths.exits,
        ...(logPath && { logPath }),
        terminal: config.tty,
        stdin: config.stdin,
        stdinOnce: config.stdinOnce,
      });
      entry.record = { ...entry.record, ...started };
      const { exitCode, stderr } = await host.run(runtime.command('start', id));
      if (exitCode !== 0)
        throw new RuntimeError(
          'Internal',
          `OCI runtime start failed: ${runtimeMessage(stderr.toString()) || `exit code ${exitCode}`}`,
        );
      await this.#update(entry, { phase: 'running', startedAt: clock.now() });
    } catch (error) {
      await this.#startFailed(entry, messageOf(error));
      throw error instanceof RuntimeError
        ? error
        : new RuntimeError('Internal', messageOf(error), { cause: error });
    }
    this.#emit(entry.record, 'STARTED');
    this.#watch(entry);
    // It may have ended already, and its file may have come when it was not yet looked for.
    await this.#finish(entry);
  }

  async #startFailed(entry: Entry, message: string): Promise<void> {
    const { paths, clock, logger } = this.#context;
    const { id } = entry.record;
    await this.#deleteFromRuntime(entry.record).catch((error: unknown) =>
      logger.error({ err: error, containerId: id }, 'what is left of a failed start cannot be deleted'),
    );
    await rm(paths.exitFile(id), { force: true });
    await this.#end(entry, { ...START_ERROR, message, finishedAt: clock.now() });
  }

  #watch(entry: Entry): void {
    const { conmon } = entry.record;
    if (!conmon) return;
    entry.unwatch = this.#context.host.watchProcess(conmon, () => {
      this.#conmonEnded(entry).catch((error: unknown) =>
        this.#context.logger.error(
          { err: error, containerId: entry.record.id },
          'the end of a container cannot be handled',
        ),
      );
    });
  }

  async #conmonEnded(entry: Entry): Promise<void> {
    await this.#finish(entry);
    if (entry.record.phase === 'running') await this.#orphaned(entry);
  }

  /** A container without its conmon: nobody reads its output or would learn how it ends. */
  async #orphaned(entry: Entry): Promise<void> {
    const { id } = entry.record;
    const message =
      'conmon, the process that watched over the container, ended unexpectedly; the container was killed';
    this.#context.logger.error({ containerId: id, conmon: entry.record.conmon }, message);
    await this.#kill(entry);
    await this.#end(entry, {
      exitCode: 128 + SIGKILL,
      reason: 'Error',
      message,
      finishedAt: this.#context.clock.now(),
    });
  }

  /** A file has come into the exit directory. */
  exitFileSeen(id: string): void {
    const entry = this.#entries.get(id);
    if (entry?.record.phase !== 'running') return;
    this.#finish(entry).catch((error: unknown) =>
      this.#context.logger.error({ err: error, containerId: id }, 'the end of a container cannot be handled'),
    );
  }

  /** Takes note of the container's end if its exit file is there. */
  #finish(entry: Entry): Promise<void> {
    entry.finishing ??= this.#readEnd(entry).finally(() => {
      entry.finishing = undefined;
    });
    return entry.finishing;
  }

  async #readEnd(entry: Entry): Promise<void> {
    const { paths, cgroups } = this.#context;
    const { id, cgroup, phase } = entry.record;
    if (phase !== 'running') return;
    const exit = await readExitFile(paths.exitFile(id));
    if (!exit) return;
    const oomKills = await cgroups.oomKills(cgroup).catch(() => 0);
    const oom =
      exit.exitCode !== 0 &&
      (oomKills > 0 ||
        (await readFile(join(paths.bundle(id), 'oom')).then(
          () => true,
          () => false,
        )));
    if (this.#sharesPids(entry.record)) await this.#killLeftovers(entry.record);
    await this.#end(entry, {
      ...exit,
      reason: oom ? 'OOMKilled' : exit.exitCode === 0 ? 'Completed' : 'Error',
      message: '',
    });
  }

  /** In a PID namespace of its own, the end of the first process ends all others. */
  #sharesPids({ config }: ContainerRecord): boolean {
    return config.security.namespaces.pid !== 'CONTAINER';
  }

  async #killLeftovers(record: ContainerRecord): Promise<void> {
    await this.#context.cgroups
      .kill(record.cgroup)
      .catch((error: unknown) =>
        this.#context.logger.warn(
          { err: error, containerId: record.id },
          'processes of an ended container are left',
        ),
      );
  }

  async #end(entry: Entry, ending: Ending): Promise<void> {
    if (entry.record.phase === 'exited') return;
    const { paths, logger } = this.#context;
    entry.unwatch?.();
    const written = await this.#update(entry, { ...ending, phase: 'exited' }).then(
      () => true,
      (error: unknown) => {
        // Known to us it is all the same; the exit file stays, and tells it again after a restart.
        logger.error(
          { err: error, containerId: entry.record.id },
          'the end of a container cannot be recorded',
        );
        return false;
      },
    );
    entry.ended.resolve();
    this.#emit(entry.record, 'STOPPED');
    entry.deleting ??= this.#deleteFromRuntime(entry.record)
      .then(() => (written ? rm(paths.exitFile(entry.record.id), { force: true }) : undefined))
      .catch((error: unknown) => {
        logger.warn(
          { err: error, containerId: entry.record.id },
          'the OCI runtime does not delete an ended container',
        );
        entry.deleting = undefined;
      });
  }

  /** Deletes the runtime's state and the cgroup, killing what is left; succeeds when there is nothing. */
  async #deleteFromRuntime({
    id,
    handler,
    cgroup,
  }: Pick<ContainerRecord, 'id' | 'handler' | 'cgroup'>): Promise<void> {
    const { host, cgroups, runtimes } = this.#context;
    const runtime = runtimes.get(handler);
    if (runtime && (await runtime.knows(id))) {
      const { exitCode, stderr } = await host.run(runtime.command('delete', '--force', id));
      const text = runtimeMessage(stderr.toString());
      if (exitCode !== 0 && !/does not exist/i.test(text))
        throw new RuntimeError('Internal', `OCI runtime delete failed: ${text}`);
    }
    await cgroups.remove(cgroup);
  }

  async #kill(entry: Entry): Promise<void> {
    const { host, cgroups } = this.#context;
    const { process, cgroup } = entry.record;
    if (process) await host.kill(process, SIGKILL);
    // Others may outlive the first process where it is not the first of its PID namespace.
    if (this.#sharesPids(entry.record)) await cgroups.kill(cgroup);
  }

  async stop(id: string, timeoutSeconds: number): Promise<void> {
    const entry = this.#entries.get(id);
    if (!entry) return;
    await entry.starting?.catch(() => {});
    if (entry.record.phase !== 'running') return;
    const { host, clock } = this.#context;
    const { process, stopSignal } = entry.record;
    if (timeoutSeconds > 0) {
      if (process) await host.kill(process, stopSignal);
      if (await within(clock, timeoutSeconds * 1000, entry.ended.promise)) return;
    }
    await this.#kill(entry);
    if (await within(clock, KILL_PATIENCE_MS, entry.ended.promise)) return;
    throw new RuntimeError(
      'DeadlineExceeded',
      `container "${id}" has not ended ${KILL_PATIENCE_MS / 1000} s after SIGKILL; process ${process?.pid} is stuck in the kernel`,
    );
  }

  async remove(id: string): Promise<void> {
    const entry = this.#entries.get(id);
    if (!entry) return;
    entry.removing ??= this.#remove(entry).finally(() => {
      entry.removing = undefined;
    });
    await entry.removing;
  }

  async #remove(entry: Entry): Promise<void> {
    const { id, sandboxId, config } = entry.record;
    await this.stop(id, 0);
    const { phase } = entry.record;
    if (phase !== 'created') await (entry.deleting ?? this.#deleteFromRuntime(entry.record));
    await entry.writes;
    await this.#discard(id);
    this.#entries.delete(id);
    this.#names.delete(this.#nameOf(sandboxId, config));
    const siblings = this.#bySandbox.get(sandboxId);
    siblings?.delete(id);
    if (siblings?.size === 0) this.#bySandbox.delete(sandboxId);
    this.#emit(entry.record, 'DELETED');
  }

  /** Unmounts and deletes all files of a container, whole or half made. */
  async #discard(id: string): Promise<void> {
    const { host, paths, images, logger } = this.#context;
    if (!(await host.unmount(paths.rootfs(id))))
      logger.warn(
        { containerId: id, path: paths.rootfs(id) },
        'the root file system was busy and is only detached',
      );
    await Promise.all([host.removeTree(paths.bundle(id)), rm(paths.exitFile(id), { force: true })]);
    await host.removeTree(paths.containerState(id));
    await images.release(id);
  }

  /**
   * Clears away containers that are half made or half removed, or whose sandbox is lost, with what runs of them.
   * `records`: of those that have one.
   */
  async clearStrays(ids: readonly string[], records: ReadonlyMap<string, ContainerRecord>): Promise<void> {
    await Promise.all(
      ids.map(async (id) => {
        this.#context.logger.warn({ containerId: id }, 'clearing away a container that belongs to nobody');
        await endStray(this.#context, id, records.get(id));
        await this.#discard(id);
      }),
    );
  }

  /** After a restart: finds out what each container has become meanwhile, and watches those that run. */
  async reconcile(): Promise<void> {
    await Promise.all([...this.#entries.values()].map((entry) => this.#reconcile(entry)));
  }

  async #reconcile(entry: Entry): Promise<void> {
    const { paths, clock, bootId, logger } = this.#context;
    const { id, phase, process, conmon } = entry.record;
    if (phase === 'exited') {
      await this.#deleteFromRuntime(entry.record);
      return;
    }
    if (entry.record.bootId !== bootId) {
      const message = `the host was rebooted ${phase === 'running' ? 'while the container ran' : 'before the container was started'}`;
      await this.#end(entry, { ...UNKNOWN_END, message, finishedAt: clock.now() });
      return;
    }
    if (phase === 'created') return;
    if (phase === 'starting') {
      entry.record = { ...entry.record, ...(await readPidFiles(paths.bundle(id))) };
      await this.#startFailed(entry, 'the node agent ended while the container was being started');
      return;
    }
    await this.#finish(entry);
    if (entry.record.phase !== 'running') return;
    if (await isAlive(conmon)) {
      this.#watch(entry);
      logger.info({ containerId: id, pid: process?.pid }, 'adopted a running container');
      return;
    }
    // Between the look for the file and the look at conmon it may have ended in the usual way.
    await this.#finish(entry);
    if (entry.record.phase === 'running') await this.#orphaned(entry);
  }

  async updateResources(id: string, resources: LinuxResources): Promise<void> {
    const entry = this.#entry(id);
    await entry.starting?.catch(() => {});
    await applyResources(this.#context, entry.record, resources);
    const { config } = entry.record;
    await this.#update(entry, {
      config: { ...config, resources: mergeResources(config.resources, resources) },
    });
  }

  async reopenLog(id: string): Promise<void> {
    this.running(id);
    await reopenLog(this.#context.paths.bundle(id));
  }

  list(
    filter: { readonly id?: string; readonly podSandboxId?: string; readonly state?: ContainerState } = {},
  ): Container[] {
    const ids =
      filter.id !== undefined
        ? [filter.id]
        : filter.podSandboxId !== undefined
          ? (this.#bySandbox.get(filter.podSandboxId) ?? [])
          : this.#entries.keys();
    const containers: Container[] = [];
    for (const id of ids) {
      const record = this.#entries.get(id)?.record;
      if (!record || (filter.podSandboxId !== undefined && record.sandboxId !== filter.podSandboxId))
        continue;
      if (filter.state === undefined || filter.state === stateOf(record)) containers.push(describe(record));
    }
    return containers;
  }

  status(id: string): ContainerStatus {
    return statusOf(this.#entry(id).record);
  }

  /** Resolves when nothing is written or deleted any more. */
  async settled(): Promise<void> {
    const pending = [...this.#entries.values()].flatMap((e) => [
      e.starting,
      e.finishing,
      e.removing,
      e.writes,
    ]);
    await Promise.allSettled(pending);
    await Promise.allSettled([...this.#entries.values()].map((e) => e.deleting));
  }
}
