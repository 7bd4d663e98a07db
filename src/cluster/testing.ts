// `bulkhead/testing`: a whole cluster inside a test. Real API semantics, real controllers and scheduler, and nodes
// whose pods become Running and Ready without containers. On a port of its own, in memory, gone at dispose; any
// number of them in one process, on any operating system, without root.
//
//   await using cluster = await startCluster({ nodes: 2 });
//   const pods = cluster.client.resource(resources.pods, 'default');

import { firstServiceAddress } from '../apiserver/index.ts';
import { type Client, resources } from '../client/index.ts';
import { type Clock, type Logger, silentLogger, systemClock } from '../component/index.ts';
import { ensureDefaultStorageClass, startSimulatedProvisioner } from '../provisioner/index.ts';
import type { Simulation } from '../runtime/simulated/index.ts';
import { createMemoryStore } from '../store/index.ts';
import { type ClusterCertificates, clusterCertificates } from './certificates.ts';
import { type ControlPlane, startControlPlane } from './control-plane.ts';
import { ADMINISTRATOR, nodeUser, PROVISIONER } from './identities.ts';
import { renderKubeconfig } from './kubeconfig.ts';
import { type SimulatedNode, startSimulatedNode } from './simulated-node.ts';
import { CLUSTER_NAME } from './state.ts';

export { type Client, resources } from '../client/index.ts';
export { ManualClock, systemClock } from '../component/index.ts';
export { simulationKeys } from '../runtime/simulated/index.ts';

export interface TestClusterOptions {
  /** How many nodes there are at the start, or their names; 1 when absent. */
  readonly nodes?: number | readonly string[];
  /** Time for everything in the cluster; `new ManualClock()` stands still until it is moved. */
  readonly clock?: Clock;
  /** The API server's port on 127.0.0.1; any free one when absent. */
  readonly port?: number;
  /** Where Services get their addresses from, one range a family; 10.96.0.0/16 when absent. */
  readonly serviceCidrs?: readonly [string] | readonly [string, string];
  /** Inclusive; 30000–32767 when absent. */
  readonly nodePorts?: { readonly first: number; readonly last: number };
  readonly logger?: Logger;
  /** Uniform in [0, 1); for clusters that behave the same at every run. */
  readonly random?: () => number;
}

export interface TestNode extends AsyncDisposable {
  readonly name: string;
  /** `runtime.exit({ podUid, container }, 1)`: the container ends with that code. */
  readonly runtime: Simulation;
}

export interface TestCluster extends AsyncDisposable {
  /** https://127.0.0.1:port */
  readonly url: string;
  /** The administrator's, as text; any client can use it. */
  readonly kubeconfig: string;
  /** The administrator's client, in process: objects that it gives are shared and frozen. */
  readonly client: Client;
  readonly nodes: ReadonlyMap<string, TestNode>;
  /** Another node; resolves when it is Ready. */
  addNode(name: string): Promise<TestNode>;
}

/** Resolves when the API answers, the controllers work and all nodes are Ready. */
export async function startCluster(options: TestClusterOptions = {}): Promise<TestCluster> {
  const clock = options.clock ?? systemClock;
  const logger = options.logger ?? silentLogger;
  const serviceCidrs = serviceCidrsOf(options);
  const stack = new AsyncDisposableStack();
  try {
    const certificates = await clusterCertificates({
      names: {
        hosts: [],
        serviceAddress: firstServiceAddress(serviceCidrs[0]),
        clusterDomain: 'cluster.local',
      },
      // Clients judge certificates by the real time, whatever time the cluster lives in.
      now: Date.now(),
    });
    const store = stack.use(createMemoryStore({ clock, logger }));
    const plane = stack.use(
      await startControlPlane({
        store,
        certificates,
        listen: { host: '127.0.0.1', port: options.port ?? 0 },
        serviceCidrs,
        ...(options.nodePorts === undefined ? {} : { nodePorts: options.nodePorts }),
        clusterDomain: 'cluster.local',
        clock,
        logger,
        ...(options.random === undefined ? {} : { random: options.random }),
      }),
    );
    const cluster = new RunningTestCluster(plane, certificates, clock, logger, options);
    stack.use(cluster.nodesOwner);
    await ensureDefaultStorageClass(cluster.client);
    stack.use(await startSimulatedProvisioner({ client: plane.client(PROVISIONER), clock, logger }));
    const names = typeof options.nodes === 'object' ? options.nodes : numbered(options.nodes ?? 1);
    await Promise.all([plane.ready, ...names.map((name) => cluster.addNode(name))]);
    cluster.own(stack.move());
    return cluster;
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

const serviceCidrsOf = ({ serviceCidrs = ['10.96.0.0/16'] }: TestClusterOptions) => serviceCidrs;

const NOT_READY_TAINT = 'node.kubernetes.io/not-ready';

const numbered = (count: number): string[] => Array.from({ length: count }, (_, i) => `node-${i}`);

class RunningTestCluster implements TestCluster {
  readonly url: string;
  readonly kubeconfig: string;
  readonly client: Client;
  readonly nodes = new Map<string, TestNode>();
  readonly nodesOwner = new AsyncDisposableStack();
  readonly #plane: ControlPlane;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #random: (() => number) | undefined;
  readonly #serviceCidrs: readonly string[];
  #made = 0;
  #owned: AsyncDisposableStack | undefined;

  constructor(
    plane: ControlPlane,
    certificates: ClusterCertificates,
    clock: Clock,
    logger: Logger,
    options: TestClusterOptions,
  ) {
    this.#plane = plane;
    this.#clock = clock;
    this.#logger = logger;
    this.#random = options.random;
    this.#serviceCidrs = serviceCidrsOf(options);
    this.url = plane.apiServer.url;
    this.client = plane.client(ADMINISTRATOR);
    this.kubeconfig = renderKubeconfig({
      name: CLUSTER_NAME,
      server: this.url,
      ca: certificates.ca.certificate,
      client: certificates.admin,
    });
  }

  own(stack: AsyncDisposableStack): void {
    this.#owned = stack;
  }

  async addNode(name: string): Promise<TestNode> {
    const node: SimulatedNode = await startSimulatedNode({
      name,
      index: this.#made++,
      client: this.#plane.client(nodeUser(name)),
      clock: this.#clock,
      logger: this.#logger,
      serviceCidrs: this.#serviceCidrs,
      ...(this.#random === undefined ? {} : { random: this.#random }),
    });
    this.nodesOwner.use(node);
    const added: TestNode = {
      name,
      runtime: node.runtime,
      [Symbol.asyncDispose]: async () => {
        this.nodes.delete(name);
        await node[Symbol.asyncDispose]();
      },
    };
    this.nodes.set(name, added);
    await node.kubelet.ready;
    await nodeReady(this.client, name);
    return added;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned?.disposeAsync();
  }
}

/**
 * Resolves when the node's Ready condition is True and pods can be placed there: the taint of a new node goes a moment
 * after it became ready, and a pod that comes in between would have to wait out its back-off.
 */
export async function nodeReady(client: Client, name: string): Promise<void> {
  await using nodes = client.informers.informer(resources.nodes);
  const ready = Promise.withResolvers<void>();
  const look = (node: {
    metadata: { name: string };
    spec: { taints?: { key: string }[] };
    status: { conditions?: { type: string; status: string }[] };
  }): void => {
    if (node.metadata.name !== name) return;
    const isReady = node.status.conditions?.some((c) => c.type === 'Ready' && c.status === 'True');
    if (isReady && !node.spec.taints?.some(({ key }) => key === NOT_READY_TAINT)) ready.resolve();
  };
  using _handler = nodes.addHandler({ added: look, updated: look });
  await ready.promise;
}
