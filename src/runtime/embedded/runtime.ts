// The embedded runtime: the CRI answered with conmon, an OCI runtime, overlayfs and pinned namespaces. This file puts
// its parts together, finds out at the start what runs from before, and watches for the ends of containers.

import { type FSWatcher, watch } from 'node:fs';
import { access, mkdir, readdir, readFile } from 'node:fs/promises';
import { hostname, release } from 'node:os';
import {
  type Clock,
  type Logger,
  type Running,
  type StartOptions,
  silentLogger,
  systemClock,
} from '../../component/index.ts';
import { HostLockedError, type HostOperations, startHostOperations } from '../../host/index.ts';
import {
  type Container,
  type ContainerConfig,
  type ContainerEvent,
  type ContainerState,
  type ContainerStats,
  type ContainerStatus,
  type ExecOptions,
  type ExecSyncResult,
  type LinuxResources,
  type PodSandbox,
  type PodSandboxConfig,
  type PodSandboxState,
  type PodSandboxStatus,
  RuntimeError,
  type RuntimeService,
  type RuntimeStatus,
  type StreamSession,
} from '../cri.ts';
import type { PodNetworkProvider } from '../network-provider.ts';
import { type CgroupManager, createCgroupManager } from './cgroups.ts';
import { Containers } from './containers.ts';
import { messageOf, type RuntimeContext } from './context.ts';
import type { ImageSource } from './images/image-source.ts';
import { chooseDefaultRuntime, findProgram, OciRuntime } from './oci-runtime.ts';
import { RuntimePaths } from './paths.ts';
import { type ContainerRecord, readRecords, type SandboxRecord } from './records.ts';
import { Sandboxes } from './sandboxes.ts';
import { availableCapabilities } from './spec/capabilities.ts';
import type { SpecHost } from './spec/container-spec.ts';
import { Statistics } from './stats.ts';
import { Streams } from './streams.ts';

export interface EmbeddedRuntimeOptions extends StartOptions {
  /** Records and writable layers; /var/lib/bulkhead/runtime when absent. */
  readonly stateDirectory?: string;
  /** Mounts, bundles and sockets; /run/bulkhead when absent. Socket paths limit it to 80 bytes. */
  readonly runDirectory?: string;
  readonly images: ImageSource;
  readonly network: PodNetworkProvider;
  /** Further OCI runtimes by handler name, as paths; '' replaces the default one. */
  readonly handlers?: Readonly<Record<string, string>>;
  /** Shared with others; one of its own, which holds a lock on the state directory, is started when absent. */
  readonly host?: HostOperations;
  readonly cgroups?: CgroupManager;
  /** Where what watches over containers lives, so that it does not end with the service we are part of; /bulkhead. */
  readonly cgroup?: string;
  readonly version?: string;
}

export const DEFAULT_STATE_DIRECTORY = '/var/lib/bulkhead/runtime';
export const DEFAULT_RUN_DIRECTORY = '/run/bulkhead';
export const DEFAULT_CGROUP = '/bulkhead';

const MAX_RUN_DIRECTORY = 80;

async function describeHost(cgroups: CgroupManager): Promise<SpecHost> {
  const [capabilities, limits, oomScoreAdj] = await Promise.all([
    availableCapabilities(),
    readFile('/proc/self/limits', 'utf8'),
    readFile('/proc/self/oom_score_adj', 'utf8'),
  ]);
  const hard = limits.match(/^Max open files\s+\S+\s+(\S+)/m)?.[1];
  return {
    mode: cgroups.mode,
    swapAccounting: cgroups.swapAccounting,
    capabilities,
    arch: process.arch,
    kernel: release(),
    hostname: hostname(),
    // With CAP_SYS_RESOURCE the hard limit can be raised.
    openFilesLimit:
      capabilities.has('CAP_SYS_RESOURCE') || hard === 'unlimited' ? Number.MAX_SAFE_INTEGER : Number(hard),
    oomScoreAdj: Number(oomScoreAdj),
  };
}

export class EmbeddedRuntime implements RuntimeService, Running {
  readonly ready: Promise<void>;
  readonly #options: EmbeddedRuntimeOptions;
  readonly #paths: RuntimePaths;
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #handlers = new Set<(event: ContainerEvent) => void>();
  #context!: RuntimeContext;
  #containers!: Containers;
  #sandboxes!: Sandboxes;
  #streams!: Streams;
  #statistics!: Statistics;
  #ownHost: HostOperations | undefined;
  #watcher: FSWatcher | undefined;
  #stopping = false;

  constructor(options: EmbeddedRuntimeOptions) {
    this.#options = options;
    this.#logger = options.logger ?? silentLogger;
    this.#clock = options.clock ?? systemClock;
    const runDirectory = options.runDirectory ?? DEFAULT_RUN_DIRECTORY;
    if (Buffer.byteLength(runDirectory) > MAX_RUN_DIRECTORY)
      throw new RuntimeError(
        'InvalidArgument',
        `the run directory ${runDirectory} is longer than ${MAX_RUN_DIRECTORY} bytes`,
      );
    this.#paths = new RuntimePaths(options.stateDirectory ?? DEFAULT_STATE_DIRECTORY, runDirectory);
    this.ready = this.#start();
    this.ready.catch(() => {});
  }

  async #start(): Promise<void> {
    const paths = this.#paths;
    if (process.platform !== 'linux' || process.getuid?.() !== 0)
      throw new RuntimeError('FailedPrecondition', 'containers need Linux and root');
    await Promise.all(
      [paths.sandboxRecords, paths.containerRecords, paths.sandboxRuns, paths.containerRuns].map(
        (directory) => mkdir(directory, { recursive: true, mode: 0o711 }),
      ),
    );
    await Promise.all(
      [paths.exits, paths.execSessions].map((directory) =>
        mkdir(directory, { recursive: true, mode: 0o700 }),
      ),
    );
    const cgroups =
      this.#options.cgroups ?? (await createCgroupManager({ logger: this.#logger, clock: this.#clock }));
    const [host, conmon, runtimes, specHost, bootId] = await Promise.all([
      this.#startHost(),
      findProgram('conmon'),
      this.#findRuntimes(cgroups),
      describeHost(cgroups),
      readFile('/proc/sys/kernel/random/boot_id', 'utf8'),
    ]);
    if (!conmon)
      throw new RuntimeError(
        'FailedPrecondition',
        'there is no conmon on this host; install it. On Debian: apt-get install conmon',
      );
    const cgroup = `${this.#options.cgroup ?? DEFAULT_CGROUP}/conmon`;
    await cgroups.create(cgroup);
    await host.joinCgroups(cgroups.directories(cgroup));
    this.#context = {
      paths,
      host,
      cgroups,
      images: this.#options.images,
      network: this.#options.network,
      clock: this.#clock,
      logger: this.#logger,
      bootId: bootId.trim(),
      specHost,
      conmon,
      runtimes,
      emit: (event) => this.#emit(event),
    };
    this.#containers = new Containers(this.#context);
    this.#sandboxes = new Sandboxes(this.#context, this.#containers);
    this.#containers.connect(this.#sandboxes);
    this.#streams = new Streams(this.#context);
    this.#statistics = new Statistics(this.#context);
    // The watch first, so that no exit falls between it and the look at what is there.
    this.#watchExits();
    await this.#reconcile();
  }

  async #startHost(): Promise<HostOperations> {
    if (this.#options.host) return this.#options.host;
    try {
      this.#ownHost = await startHostOperations({
        socketPath: this.#paths.hostSocket,
        lockPath: this.#paths.lock,
        logger: this.#logger,
        clock: this.#clock,
      });
    } catch (error) {
      if (error instanceof HostLockedError)
        throw new RuntimeError(
          'FailedPrecondition',
          `the runtime's state in ${this.#paths.stateDirectory} is in use by ${error.holder ? `process ${error.holder}` : 'another process'}`,
          { cause: error },
        );
      throw error;
    }
    return this.#ownHost;
  }

  async #findRuntimes(cgroups: CgroupManager): Promise<Map<string, OciRuntime>> {
    const runtimes = new Map<string, OciRuntime>();
    const named = this.#options.handlers ?? {};
    const programs = { '': named[''] ?? (await chooseDefaultRuntime(cgroups.mode, this.#logger)), ...named };
    for (const [handler, program] of Object.entries(programs)) {
      const path = await findProgram(program);
      if (!path)
        throw new RuntimeError(
          'FailedPrecondition',
          `the OCI runtime ${program} of handler "${handler}" cannot be run`,
        );
      const root = this.#paths.ociRoot(handler || 'default');
      await mkdir(root, { recursive: true, mode: 0o700 });
      runtimes.set(handler, new OciRuntime(handler, path, root));
    }
    return runtimes;
  }

  #watchExits(): void {
    const watcher = watch(this.#paths.exits, (_event, name) => {
      if (name) this.#containers.exitFileSeen(name);
    });
    this.#watcher = watcher;
    watcher.on('error', (error) => {
      this.#logger.error({ err: error }, 'the exit directory is not watched any more; watching it again');
      watcher.close();
      if (this.#stopping) return;
      this.#watchExits();
      // Those that ended in between.
      readdir(this.#paths.exits).then(
        (names) => {
          for (const name of names) this.#containers.exitFileSeen(name);
        },
        (cause: unknown) => this.#logger.error({ err: cause }, 'the exit directory cannot be read'),
      );
    });
  }

  /** Compares what is on record with what there is. */
  async #reconcile(): Promise<void> {
    const paths = this.#paths;
    const [sandboxes, containers, sandboxRuns, containerRuns] = await Promise.all([
      readRecords<SandboxRecord>(paths.sandboxRecords, 'sandbox'),
      readRecords<ContainerRecord>(paths.containerRecords, 'container'),
      readdir(paths.sandboxRuns),
      readdir(paths.containerRuns),
    ]);
    const sandboxIds = new Set(sandboxes.records.map(({ id }) => id));
    // A container whose sandbox is gone without trace belongs to nobody.
    const kept = containers.records.filter(({ sandboxId }) => sandboxIds.has(sandboxId));
    const keptIds = new Set(kept.map(({ id }) => id));
    const strayContainers = [
      ...containers.records.map(({ id }) => id),
      ...containers.broken,
      ...containerRuns,
    ];
    for (const record of sandboxes.records) this.#sandboxes.adopt(await this.#lookAt(record));
    for (const record of kept) this.#containers.adopt(record);
    await this.#containers.reconcile();
    await this.#containers.clearStrays(
      [...new Set(strayContainers.filter((id) => !keptIds.has(id)))],
      new Map(containers.records.map((record) => [record.id, record])),
    );
    const strays = [...sandboxes.broken, ...sandboxRuns].filter((id) => !sandboxIds.has(id));
    await this.#sandboxes.clearBroken([...new Set(strays)]);
    await this.#context.network.reconcile(this.#sandboxes.liveIds());
  }

  /** After a reboot nothing is left of a sandbox but its record; the same when its pins were unmounted by hand. */
  async #lookAt(record: SandboxRecord): Promise<SandboxRecord> {
    if (record.state !== 'ready') return record;
    const { network } = record.config.namespaces;
    const there = await access(
      network === 'POD' ? this.#paths.namespace(record.id, 'net') : this.#paths.sandboxRun(record.id),
    ).then(
      () => true,
      () => false,
    );
    if (there && record.bootId === this.#context.bootId) return record;
    this.#logger.info({ sandboxId: record.id }, 'a sandbox did not survive; it is not ready');
    return { ...record, state: 'notready' };
  }

  #emit(event: ContainerEvent): void {
    if (event.type === 'CONTAINER_DELETED') this.#statistics.forget(event.containerId);
    for (const handler of this.#handlers) {
      try {
        handler(event);
      } catch (error) {
        this.#logger.error({ err: error, event }, 'a handler of container events failed');
      }
    }
  }

  onEvent(handler: (event: ContainerEvent) => void): () => void {
    // A function of its own: the same handler may be given twice.
    const own = (event: ContainerEvent): void => handler(event);
    this.#handlers.add(own);
    return () => this.#handlers.delete(own);
  }

  async version(): Promise<{ readonly runtimeName: string; readonly runtimeVersion: string }> {
    return { runtimeName: 'bulkhead', runtimeVersion: this.#options.version ?? '0.1.0' };
  }

  async status(): Promise<RuntimeStatus> {
    const network = await this.#options.network.status();
    const failure = await this.ready.then(
      () => undefined,
      (error: unknown) => messageOf(error),
    );
    const messages = [failure, network.message].filter((text) => text !== undefined);
    return {
      runtimeReady: failure === undefined && !this.#stopping,
      networkReady: network.ready,
      ...(messages.length > 0 && { message: messages.join('; ') }),
      handlers: failure === undefined ? [...this.#context.runtimes.keys()] : [],
    };
  }

  async runPodSandbox(config: PodSandboxConfig, runtimeHandler: string): Promise<string> {
    await this.ready;
    return this.#sandboxes.run(config, runtimeHandler);
  }

  async stopPodSandbox(id: string): Promise<void> {
    await this.ready;
    await this.#sandboxes.stop(id);
  }

  async removePodSandbox(id: string): Promise<void> {
    await this.ready;
    await this.#sandboxes.remove(id);
  }

  async podSandboxStatus(id: string): Promise<PodSandboxStatus> {
    await this.ready;
    return this.#sandboxes.status(id);
  }

  async listPodSandboxes(filter?: {
    readonly id?: string;
    readonly podUid?: string;
    readonly state?: PodSandboxState;
  }): Promise<PodSandbox[]> {
    await this.ready;
    return this.#sandboxes.list(filter);
  }

  /** The sandbox's configuration is that of its making; the third argument, which repeats it, is not needed. */
  async createContainer(
    podSandboxId: string,
    config: ContainerConfig,
    _sandbox: PodSandboxConfig,
  ): Promise<string> {
    await this.ready;
    return this.#containers.create(podSandboxId, config);
  }

  async startContainer(id: string): Promise<void> {
    await this.ready;
    await this.#containers.start(id);
  }

  async stopContainer(id: string, timeoutSeconds: number): Promise<void> {
    await this.ready;
    await this.#containers.stop(id, timeoutSeconds);
  }

  async removeContainer(id: string): Promise<void> {
    await this.ready;
    await this.#containers.remove(id);
  }

  async listContainers(filter?: {
    readonly id?: string;
    readonly podSandboxId?: string;
    readonly state?: ContainerState;
  }): Promise<Container[]> {
    await this.ready;
    return this.#containers.list(filter);
  }

  async containerStatus(id: string): Promise<ContainerStatus> {
    await this.ready;
    return this.#containers.status(id);
  }

  async updateContainerResources(id: string, resources: LinuxResources): Promise<void> {
    await this.ready;
    await this.#containers.updateResources(id, resources);
  }

  async reopenContainerLog(id: string): Promise<void> {
    await this.ready;
    await this.#containers.reopenLog(id);
  }

  async containerStats(id: string): Promise<ContainerStats> {
    await this.ready;
    return this.#statistics.of(this.#containers.get(id));
  }

  async listContainerStats(): Promise<ContainerStats[]> {
    await this.ready;
    const running = this.#containers.list({ state: 'RUNNING' });
    return Promise.all(running.map(({ id }) => this.#statistics.of(this.#containers.get(id))));
  }

  async execSync(id: string, command: readonly string[], timeoutSeconds: number): Promise<ExecSyncResult> {
    await this.ready;
    return this.#streams.execSync(this.#containers.running(id), command, timeoutSeconds);
  }

  async exec(id: string, options: ExecOptions): Promise<StreamSession> {
    await this.ready;
    return this.#streams.exec(this.#containers.running(id), options);
  }

  async attach(id: string, options: Omit<ExecOptions, 'command'>): Promise<StreamSession> {
    await this.ready;
    return this.#streams.attach(this.#containers.running(id), options);
  }

  async portForward(
    podSandboxId: string,
    port: number,
  ): Promise<NodeJS.ReadWriteStream & { destroy(error?: Error): void }> {
    await this.ready;
    return this.#streams.portForward(this.#sandboxes.ready(podSandboxId), port);
  }

  async updateRuntimeConfig(config: { readonly podCidrs: readonly string[] }): Promise<void> {
    await this.ready;
    if (config.podCidrs.length > 0) await this.#options.network.setPodCidrs(config.podCidrs);
  }

  /** Stops watching; pods and containers go on. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    await this.ready.catch(() => {});
    this.#watcher?.close();
    await this.#containers?.settled();
    this.#handlers.clear();
    await this.#ownHost?.[Symbol.asyncDispose]();
  }
}

/** Starts the runtime; resolves when what ran before is adopted and new pods can be run. */
export async function startEmbeddedRuntime(options: EmbeddedRuntimeOptions): Promise<EmbeddedRuntime> {
  const runtime = new EmbeddedRuntime(options);
  try {
    await runtime.ready;
  } catch (error) {
    await runtime[Symbol.asyncDispose]();
    throw error;
  }
  return runtime;
}
