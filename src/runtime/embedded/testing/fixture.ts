// A runtime for tests in directories, cgroups and images of its own, without a network but loopback. Disposing removes
// every trace and checks that none is left.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Logger } from '../../../component/index.ts';
import { startHostOperations } from '../../../host/index.ts';
import type {
  ContainerConfig,
  ContainerEvent,
  ContainerSecurity,
  ContainerStatus,
  NamespaceOptions,
  PodSandboxConfig,
} from '../../cri.ts';
import type { PodNetworkProvider } from '../../network-provider.ts';
import { type CgroupManager, createCgroupManager } from '../cgroups.ts';
import { removeRuntimeTraces } from '../reset.ts';
import { type EmbeddedRuntime, type EmbeddedRuntimeOptions, startEmbeddedRuntime } from '../runtime.ts';
import { BusyboxImages } from './busybox-image.ts';

/** Why containers cannot run here; false when they can. */
export function whyNoContainers(): string | false {
  if (process.platform !== 'linux') return 'needs Linux';
  if (process.getuid?.() !== 0) return 'needs root';
  if (!existsSync('/bin/busybox')) return 'needs busybox-static';
  const path = ['/usr/sbin', '/usr/bin', '/sbin', '/bin', '/usr/local/bin', '/usr/local/sbin'];
  const has = (name: string): boolean => path.some((directory) => existsSync(join(directory, name)));
  if (!has('conmon')) return 'needs conmon';
  if (!has('runc') && !has('crun')) return 'needs runc or crun';
  if (!/^\S+ \S+ cgroup2? /m.test(readFileSync('/proc/mounts', 'utf8'))) return 'needs cgroups';
  return false;
}

/** Gives out addresses and connects nothing. */
export class NoNetwork implements PodNetworkProvider {
  readonly attached = new Map<string, string>();
  #next = 2;

  async attach({ sandboxId }: { readonly sandboxId: string }): Promise<{ readonly ips: readonly string[] }> {
    const ip = this.attached.get(sandboxId) ?? `192.0.2.${this.#next++}`;
    this.attached.set(sandboxId, ip);
    return { ips: [ip] };
  }
  async detach(sandboxId: string): Promise<void> {
    this.attached.delete(sandboxId);
  }
  async status(): Promise<{ readonly ready: boolean }> {
    return { ready: true };
  }
  async reconcile(live: ReadonlySet<string>): Promise<void> {
    for (const id of this.attached.keys()) if (!live.has(id)) this.attached.delete(id);
  }
  async setPodCidrs(): Promise<void> {}
}

const POD_NAMESPACES: NamespaceOptions = { network: 'POD', pid: 'CONTAINER', ipc: 'POD' };

type Changes<T> = Partial<T>;

export class RuntimeFixture implements AsyncDisposable {
  readonly directory: string;
  readonly images: BusyboxImages;
  readonly network = new NoNetwork();
  readonly cgroups: CgroupManager;
  readonly events: ContainerEvent[] = [];
  readonly name: string;
  readonly #options: Partial<EmbeddedRuntimeOptions>;
  runtime!: EmbeddedRuntime;
  #pods = 0;

  private constructor(directory: string, cgroups: CgroupManager, options: Partial<EmbeddedRuntimeOptions>) {
    this.directory = directory;
    this.images = new BusyboxImages(join(directory, 'images'));
    this.cgroups = cgroups;
    this.name = `bulkhead-test-${randomBytes(4).toString('hex')}`;
    this.#options = options;
  }

  static async start(
    options: Partial<EmbeddedRuntimeOptions> & { readonly logger?: Logger } = {},
  ): Promise<RuntimeFixture> {
    const fixture = new RuntimeFixture(
      await mkdtemp(join(tmpdir(), 'bh-rt-')),
      await createCgroupManager(),
      options,
    );
    await fixture.images.add('busybox', { Cmd: ['sleep', '1000'] });
    await fixture.startRuntime();
    return fixture;
  }

  get options(): EmbeddedRuntimeOptions {
    return {
      stateDirectory: join(this.directory, 'state'),
      runDirectory: join(this.directory, 'run'),
      cgroup: `/${this.name}`,
      images: this.images,
      network: this.network,
      ...this.#options,
    };
  }

  async startRuntime(): Promise<void> {
    this.runtime = await startEmbeddedRuntime(this.options);
    this.runtime.onEvent((event) => this.events.push(event));
  }

  /** As when the node agent is restarted. */
  async restart(): Promise<void> {
    await this.runtime[Symbol.asyncDispose]();
    await this.startRuntime();
  }

  podConfig(changes: Changes<PodSandboxConfig> = {}): PodSandboxConfig {
    const name = `pod-${this.#pods++}`;
    return {
      metadata: { name, uid: `uid-${name}`, namespace: 'default', attempt: 0 },
      hostname: name,
      logDirectory: join(this.directory, 'logs', name),
      portMappings: [],
      labels: { app: name },
      annotations: {},
      namespaces: POD_NAMESPACES,
      cgroupParent: `/${this.name}/pods/${name}`,
      sysctls: {},
      security: { privileged: false, supplementalGroups: [] },
      ...changes,
    };
  }

  containerConfig(
    command: readonly string[],
    changes: Changes<Omit<ContainerConfig, 'security'>> & {
      readonly security?: Changes<ContainerSecurity>;
    } = {},
  ): ContainerConfig {
    return {
      metadata: { name: 'main', attempt: 0 },
      image: 'busybox',
      imageReference: 'docker.io/library/busybox:latest',
      command,
      env: [],
      mounts: [],
      devices: [],
      labels: {},
      annotations: {},
      logPath: 'main/0.log',
      stdin: false,
      stdinOnce: false,
      tty: false,
      resources: {},
      ...changes,
      security: {
        capabilities: { add: [], drop: [] },
        privileged: false,
        namespaces: POD_NAMESPACES,
        supplementalGroups: [],
        readonlyRootfs: false,
        noNewPrivileges: false,
        maskedPaths: ['/proc/kcore', '/proc/timer_list', '/sys/firmware'],
        readonlyPaths: ['/proc/sys', '/proc/sysrq-trigger'],
        seccomp: { type: 'RuntimeDefault' },
        ...changes.security,
      },
    };
  }

  async pod(
    changes: Changes<PodSandboxConfig> = {},
  ): Promise<{ readonly id: string; readonly config: PodSandboxConfig }> {
    const config = this.podConfig(changes);
    await this.cgroups.create(config.cgroupParent);
    return { id: await this.runtime.runPodSandbox(config, ''), config };
  }

  async container(
    pod: { readonly id: string; readonly config: PodSandboxConfig },
    ...config: Parameters<RuntimeFixture['containerConfig']>
  ): Promise<string> {
    const id = await this.runtime.createContainer(pod.id, this.containerConfig(...config), pod.config);
    await this.runtime.startContainer(id);
    return id;
  }

  /** Runs a command in a container of a new pod to its end. */
  async output(
    command: readonly string[],
    changes: Parameters<RuntimeFixture['containerConfig']>[1] = {},
    pod: Changes<PodSandboxConfig> = {},
  ): Promise<{ readonly stdout: string; readonly stderr: string; readonly status: ContainerStatus }> {
    const made = await this.pod(pod);
    const id = await this.container(made, command, changes);
    const status = await this.exited(id);
    const log = await this.log(id);
    await this.runtime.removePodSandbox(made.id);
    return { stdout: text(log, 'stdout'), stderr: text(log, 'stderr'), status };
  }

  async log(id: string): Promise<string> {
    return readFile((await this.runtime.containerStatus(id)).logPath, 'utf8');
  }

  /** Waits for the end of a container. */
  async exited(id: string): Promise<ContainerStatus> {
    await this.until(
      `container ${id} to end`,
      async () => (await this.runtime.containerStatus(id)).state === 'EXITED',
    );
    return this.runtime.containerStatus(id);
  }

  async until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = performance.now() + 30_000;
    while (!(await condition())) {
      assert.ok(performance.now() < deadline, `waited too long for ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.runtime[Symbol.asyncDispose]();
    const { stateDirectory, runDirectory, cgroup } = this.options;
    {
      await using host = await startHostOperations({ socketPath: join(this.directory, 'reset.sock') });
      await removeRuntimeTraces({
        host,
        stateDirectory,
        runDirectory,
        cgroup,
        cgroups: this.cgroups,
        podCgroups: [`/${this.name}/pods`],
      });
    }
    assert.doesNotMatch(readFileSync('/proc/self/mountinfo', 'utf8'), new RegExp(this.directory));
    for (const path of this.cgroups.directories(`/${this.name}`))
      assert.ok(!existsSync(path), `${path} is left`);
    await rm(this.directory, { recursive: true });
  }
}

/** What a stream of a log in the CRI's format says. */
export function text(log: string, stream: 'stdout' | 'stderr'): string {
  return log
    .split('\n')
    .map((line) => line.match(/^\S+ (stdout|stderr) ([FP]) (.*)$/))
    .filter((match) => match?.[1] === stream)
    .map((match) => `${match![3]}${match![2] === 'F' ? '\n' : ''}`)
    .join('');
}
