// Pod sandboxes: the namespaces that a pod's containers share, pinned without a pause container, the pod's network
// and files. A sandbox is ready from its making until it is stopped, or the host was rebooted, or its init has died.

import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type PodSandbox,
  type PodSandboxConfig,
  type PodSandboxState,
  type PodSandboxStatus,
  RuntimeError,
} from '../cri.ts';
import type { Containers } from './containers.ts';
import { messageOf, type RuntimeContext, runtimeFor } from './context.ts';
import { type SandboxRecord, writeRecord } from './records.ts';
import { podSysctls, resolvConf } from './sandbox-files.ts';
import type { PodFiles } from './spec/mounts.ts';

/** As upstream's runtimes have it. */
const SHM_BYTES = 64 << 20;

interface Entry {
  record: SandboxRecord;
  stopping?: Promise<void>;
  removing?: Promise<void>;
  unwatch?: () => void;
}

function reservedName({ name, namespace, uid, attempt }: PodSandboxConfig['metadata']): string {
  return `${name}_${namespace}_${uid}_${attempt}`;
}

export class Sandboxes {
  readonly #context: RuntimeContext;
  readonly #containers: Containers;
  readonly #entries = new Map<string, Entry>();
  readonly #names = new Map<string, string>();

  constructor(context: RuntimeContext, containers: Containers) {
    this.#context = context;
    this.#containers = containers;
  }

  async run(config: PodSandboxConfig, handler: string): Promise<string> {
    const { paths, host, network, clock } = this.#context;
    runtimeFor(this.#context, handler);
    const sysctls = podSysctls(config);
    const name = reservedName(config.metadata);
    const holder = this.#names.get(name);
    if (holder)
      throw new RuntimeError(
        'AlreadyExists',
        `failed to reserve sandbox name "${name}": it is reserved for "${holder}"`,
      );
    const id = randomBytes(32).toString('hex');
    this.#names.set(name, id);
    const { namespaces, metadata } = config;
    const run = paths.sandboxRun(id);
    let record: SandboxRecord | undefined;
    try {
      const ownNetwork = namespaces.network === 'POD';
      await Promise.all([
        mkdir(paths.sandboxState(id), { recursive: true, mode: 0o711 }),
        mkdir(run, { recursive: true, mode: 0o711 }),
      ]);
      const [init] = await Promise.all([
        host.createPodNamespaces({
          directory: run,
          network: ownNetwork,
          // As with containerd, a pod in the host's network has the host's name too.
          uts: ownNetwork,
          ipc: namespaces.ipc === 'POD',
          pid: namespaces.pid === 'POD',
          hostname: config.hostname,
          shmBytes: SHM_BYTES,
          sysctls,
        }),
        this.#writeFiles(run, config),
      ]);
      record = {
        id,
        config,
        handler,
        createdAt: clock.now(),
        bootId: this.#context.bootId,
        ips: [],
        ...(init && { init }),
        state: 'ready',
      };
      if (ownNetwork) {
        const { ips } = await network.attach({
          sandboxId: id,
          netnsPath: paths.namespace(id, 'net'),
          podName: metadata.name,
          podNamespace: metadata.namespace,
          podUid: metadata.uid,
          hostname: config.hostname,
          annotations: config.annotations,
          portMappings: config.portMappings,
        });
        record = { ...record, ips };
      }
      await writeRecord(paths.sandboxState(id), 'sandbox', record);
    } catch (error) {
      this.#names.delete(name);
      await this.#discard(id, record).catch((cleanup: unknown) =>
        this.#context.logger.error(
          { err: cleanup, sandboxId: id },
          'a half-made sandbox cannot be cleared away',
        ),
      );
      throw error instanceof RuntimeError
        ? error
        : new RuntimeError('Internal', `failed to create the sandbox: ${messageOf(error)}`, { cause: error });
    }
    this.adopt(record);
    this.#context.emit({ type: 'SANDBOX_CREATED', podSandboxId: id, podUid: metadata.uid });
    return id;
  }

  async #writeFiles(run: string, config: PodSandboxConfig): Promise<void> {
    const hostname = config.namespaces.network === 'NODE' ? this.#context.specHost.hostname : config.hostname;
    await Promise.all([
      writeFile(join(run, 'resolv.conf'), await resolvConf(config.dns), { mode: 0o644 }),
      writeFile(join(run, 'hostname'), `${hostname || this.#context.specHost.hostname}\n`, { mode: 0o644 }),
    ]);
  }

  /** Takes down what a sandbox has, whole or not; without its record it is not known what that is. */
  async #discard(id: string, record: SandboxRecord | undefined): Promise<void> {
    await this.#takeDown(id, record);
    const { host, paths } = this.#context;
    await host.removeTree(paths.sandboxRun(id));
    await host.removeTree(paths.sandboxState(id));
  }

  async #takeDown(id: string, record: SandboxRecord | undefined): Promise<void> {
    const { host, network, paths, logger } = this.#context;
    await network.detach(id);
    const detached = await host.removePodNamespaces(paths.sandboxRun(id), record?.init);
    for (const path of detached)
      logger.warn({ sandboxId: id, path }, 'a mount was busy and is only detached');
  }

  /** Makes a sandbox known: a new one, or one from disk. */
  adopt(record: SandboxRecord): void {
    const entry: Entry = { record };
    this.#entries.set(record.id, entry);
    this.#names.set(reservedName(record.config.metadata), record.id);
    if (record.init && record.state === 'ready')
      entry.unwatch = this.#context.host.watchProcess(record.init, () => this.#initEnded(entry));
  }

  /** Without its init a shared PID namespace takes no more processes. */
  #initEnded(entry: Entry): void {
    if (entry.stopping || entry.record.state !== 'ready') return;
    const { id } = entry.record;
    this.#context.logger.warn(
      { sandboxId: id },
      "the init of a pod's PID namespace has ended; the sandbox is not ready",
    );
    this.#setNotReady(entry).catch((error: unknown) =>
      this.#context.logger.error({ err: error, sandboxId: id }, 'the record of a sandbox cannot be written'),
    );
  }

  async #setNotReady(entry: Entry): Promise<void> {
    if (entry.record.state === 'notready') return;
    const { id, config } = entry.record;
    entry.record = { ...entry.record, state: 'notready' };
    await writeRecord(this.#context.paths.sandboxState(id), 'sandbox', entry.record);
    this.#context.emit({ type: 'SANDBOX_STOPPED', podSandboxId: id, podUid: config.metadata.uid });
  }

  #entry(id: string): Entry {
    const entry = this.#entries.get(id);
    if (!entry) throw new RuntimeError('NotFound', `sandbox "${id}" is not found`);
    return entry;
  }

  get(id: string): SandboxRecord {
    return this.#entry(id).record;
  }

  /** For what needs a sandbox that works. */
  ready(id: string): SandboxRecord {
    const { record, stopping } = this.#entry(id);
    if (record.state !== 'ready' || stopping)
      throw new RuntimeError('FailedPrecondition', `sandbox "${id}" is not ready`);
    return record;
  }

  async stop(id: string): Promise<void> {
    const entry = this.#entries.get(id);
    if (!entry) return;
    entry.stopping ??= this.#stop(entry).finally(() => {
      entry.stopping = undefined;
    });
    await entry.stopping;
  }

  async #stop(entry: Entry): Promise<void> {
    const { id } = entry.record;
    await Promise.all(this.#containers.idsOf(id).map((container) => this.#containers.stop(container, 0)));
    entry.unwatch?.();
    await this.#takeDown(id, entry.record);
    await this.#setNotReady(entry);
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
    const { id, config } = entry.record;
    const { host, paths } = this.#context;
    await this.stop(id);
    await Promise.all(this.#containers.idsOf(id).map((container) => this.#containers.remove(container)));
    await host.removeTree(paths.sandboxRun(id));
    await host.removeTree(paths.sandboxState(id));
    this.#entries.delete(id);
    this.#names.delete(reservedName(config.metadata));
    this.#context.emit({ type: 'SANDBOX_DELETED', podSandboxId: id, podUid: config.metadata.uid });
  }

  /** The files that the sandbox's containers share. */
  files(record: SandboxRecord): PodFiles {
    const run = this.#context.paths.sandboxRun(record.id);
    return {
      shm: record.config.namespaces.ipc === 'POD' ? join(run, 'shm') : '/dev/shm',
      resolvConf: join(run, 'resolv.conf'),
      hostname: join(run, 'hostname'),
    };
  }

  #describe({ id, config, state, createdAt, handler }: SandboxRecord): PodSandbox {
    return {
      id,
      metadata: config.metadata,
      state: state === 'ready' ? 'READY' : 'NOTREADY',
      createdAt,
      labels: config.labels,
      annotations: config.annotations,
      runtimeHandler: handler,
    };
  }

  status(id: string): PodSandboxStatus {
    const { record } = this.#entry(id);
    return { ...this.#describe(record), ips: record.ips, namespaces: record.config.namespaces };
  }

  list(
    filter: { readonly id?: string; readonly podUid?: string; readonly state?: PodSandboxState } = {},
  ): PodSandbox[] {
    const records = filter.id === undefined ? [...this.#entries.values()] : [this.#entries.get(filter.id)];
    return records.flatMap((entry) => {
      if (!entry) return [];
      if (filter.podUid !== undefined && entry.record.config.metadata.uid !== filter.podUid) return [];
      const sandbox = this.#describe(entry.record);
      return filter.state === undefined || filter.state === sandbox.state ? [sandbox] : [];
    });
  }

  /** Those whose network must be kept. */
  liveIds(): Set<string> {
    return new Set(
      [...this.#entries.values()].filter((e) => e.record.state === 'ready').map((e) => e.record.id),
    );
  }

  /** Clears away what a crash left of sandboxes that were being made or removed. */
  async clearBroken(ids: readonly string[]): Promise<void> {
    await Promise.all(
      ids.map(async (id) => {
        this.#context.logger.warn(
          { sandboxId: id },
          'clearing away a sandbox that was half made or half removed',
        );
        await this.#discard(id, undefined);
      }),
    );
  }
}
