// `bulkhead up`: everything on this machine in one process, in an order that lets each part begin as soon as what it
// stands on is there.

import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { defaultVersion } from '../apiserver/index.ts';
import { resources } from '../client/index.ts';
import {
  type AddressRange,
  bareMachineLoadBalancers,
  listenerAt,
  machineAddresses,
  startServiceController,
} from '../cloud/index.ts';
import { createLogger, type Logger, type LogLevel, systemClock } from '../component/index.ts';
import { ensureDefaultStorageClass, startSimulatedProvisioner } from '../provisioner/index.ts';
import { createMemoryStore, openJournalStore, type Store } from '../store/index.ts';
import { type ClusterCertificates, clusterCertificates } from './certificates.ts';
import { type ControlHandler, serveControl } from './control.ts';
import { type ControlPlane, startControlPlane } from './control-plane.ts';
import { ADMINISTRATOR, LOAD_BALANCERS, nodeUser, PROVISIONER } from './identities.ts';
import { imageHandlers, imageOperations } from './image-operations.ts';
import {
  type KubeconfigEntry,
  KubeconfigError,
  type MergeResult,
  mergeKubeconfig,
  renderKubeconfig,
} from './kubeconfig.ts';
import { machineAddress } from './machine.ts';
import { type MachineNode, startMachineNode } from './machine-node.ts';
import { PreflightError } from './preflight.ts';
import { familyOf, firstAddress, loadBalancerRangesProblem, rangesOf } from './ranges.ts';
import { ensureSandboxClass } from './sandbox-class.ts';
import { type SimulatedNode, startSimulatedNode } from './simulated-node.ts';
import {
  CLUSTER_NAME,
  type ClusterPaths,
  type ClusterSettings,
  type ClusterStatus,
  readSettings,
  StateError,
  userKubeconfig,
} from './state.ts';
import { nodeReady } from './testing.ts';
import { checkMachine, settingsFor } from './up-settings.ts';

export interface UpOptions {
  readonly paths: ClusterPaths;
  readonly version: string;
  /** Nodes without containers, this many; undefined: this machine is the node. */
  readonly simulate: number | undefined;
  /** Objects in memory only. */
  readonly ephemeral: boolean;
  readonly address: string;
  readonly port: number;
  readonly kubeletPort: number;
  readonly nodeName: string | undefined;
  readonly podCidr: string | undefined;
  readonly serviceCidr: string | undefined;
  readonly bridge: string | undefined;
  /** Where Services of type LoadBalancer get their addresses; empty: they share the machine's own. */
  readonly loadBalancerRanges: readonly AddressRange[];
  /** Whom cluster DNS asks for other names; empty: the name servers of the host's resolv.conf. */
  readonly dnsUpstreams: readonly string[];
  /** By domain, whom cluster DNS asks for its names. */
  readonly stubDomains: Readonly<Record<string, readonly string[]>>;
  /** Hosts (with port) of registries without TLS. */
  readonly insecureRegistries: readonly string[];
  /** The kubeconfig to merge into; undefined: the user's; `none`: none. */
  readonly kubeconfig: string | undefined;
  readonly logLevel: LogLevel;
  readonly onStep?: (step: { readonly name: string; readonly detail: string }) => void;
}

export interface StopRequest {
  readonly keepContainers: boolean;
  /** How long the pods get to end, whatever they ask for; 30 s when absent. */
  readonly gracePeriodSeconds?: number;
}

/** Pods that ask for no grace period of their own get 30 s, so these end as they would one by one. */
const LONGEST_STOP_SECONDS = 30;

export interface StartedCluster {
  readonly url: string;
  /** Where the kubeconfig was merged into; undefined when nowhere. */
  readonly kubeconfig: MergeResult | undefined;
  stop(request: StopRequest): Promise<void>;
}

/**
 * Resolves when the cluster can be used: its nodes are Ready. `stopRequested` is called when somebody asks through
 * the control socket; whoever called this then calls `stop`. Rejects with PreflightError or StateError, among others,
 * when the cluster cannot start; nothing runs then.
 */
export async function startOnMachine(
  options: UpOptions,
  stopRequested: (request: StopRequest) => void,
): Promise<StartedCluster> {
  const { paths } = options;
  const simulated = options.simulate !== undefined;
  await checkMachine(options, simulated);
  const first = (await readSettings(paths)) === undefined && !existsSync(paths.store);
  const settings = await settingsFor(options, simulated);
  const logger = createLogger({ level: options.logLevel });
  const stack = new AsyncDisposableStack();
  // Apart from the rest: it goes last, because it still has to answer whoever asked to stop.
  const door = new AsyncDisposableStack();
  const startedAt = Date.now();
  let alone = false;
  try {
    await mkdir(paths.run, { recursive: true, mode: 0o711 });
    const stopped = Promise.withResolvers<void>();
    const machine: {
      status?: () => Promise<ClusterStatus>;
      /** While the cluster stops: pods get less time than they were given. */
      hurry?: (request: StopRequest) => void;
      handlers: Record<string, ControlHandler>;
    } = { handlers: {} };
    // First of all, because it is also what keeps a second process out.
    door.use(
      await serveControl(paths.controlSocket, {
        status: async () => {
          if (!machine.status) throw new Error('the cluster is starting');
          return machine.status();
        },
        process: async () => ({ pid: process.pid }),
        stop: async (argument) => {
          stopRequested(argument as StopRequest);
          machine.hurry?.(argument as StopRequest);
          await stopped.promise;
        },
        ...lateHandlers(machine, ['image-list', 'image-import', 'image-pull', 'image-remove']),
      }).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'EADDRINUSE') throw error;
        throw new StateError(`another process runs the cluster in ${paths.state}; see: bulkhead status`);
      }),
    );

    alone = true;

    const serviceCidrs = rangesOf(settings.serviceCidr);
    const podCidrs = rangesOf(settings.podCidr);
    const problem = loadBalancerRangesProblem(options.loadBalancerRanges, [...podCidrs, ...serviceCidrs]);
    if (problem !== undefined)
      throw new PreflightError([
        { what: problem, remedy: 'Give --load-balancer-range addresses that nobody else has.' },
      ]);
    const gateways = podCidrs.map(firstAddress);
    // A machine without a network of that version is reached by its pods at the bridge.
    const addresses = podCidrs.map((range, i) =>
      simulated
        ? '127.0.0.1'
        : (machineAddress(familyOf(range), [settings.bridge, 'veth', 'docker', 'br-']) ?? gateways[i]!),
    );
    const address = addresses[0]!;
    const [certificates, store] = await Promise.all([
      clusterCertificates({
        directory: paths.pki,
        names: {
          hosts: [...new Set([...addresses, ...gateways, options.address, settings.nodeName])].filter(
            (host) => host !== '0.0.0.0' && host !== '::',
          ),
          serviceAddress: firstAddress(serviceCidrs[0]!),
          clusterDomain: settings.clusterDomain,
        },
        now: startedAt,
      }),
      openStore(options, logger),
    ]);
    stack.use(store);
    options.onStep?.({
      name: 'store',
      detail: options.ephemeral ? 'in memory' : `${paths.store}, revision ${store.revision}`,
    });

    const plane = stack.use(
      await startControlPlane({
        store,
        certificates,
        listen: { host: options.address, port: options.port },
        ...advertised(options.address, simulated ? undefined : { address, gateway: gateways[0]! }),
        serviceCidrs,
        clusterDomain: settings.clusterDomain,
        logger,
      }),
    );
    const url = clientUrl(options.address, plane.address.port);
    options.onStep?.({ name: 'API server', detail: url });

    const admin = plane.client(ADMINISTRATOR);
    if (!simulated) {
      stack.use(
        startServiceController({
          client: plane.client(LOAD_BALANCERS),
          loadBalancers: bareMachineLoadBalancers({
            ranges: options.loadBalancerRanges,
            listener: listenerAt,
            machineAddresses: () => machineAddresses(settings.bridge),
          }),
          logger,
        }),
      );
    }
    await ensureDefaultStorageClass(admin);
    if (!simulated) await ensureSandboxClass(admin);
    const nodes = simulated
      ? await startSimulatedNodes(plane, options.simulate, serviceCidrs, logger, stack)
      : [
          await startThisMachine(
            plane,
            certificates,
            settings,
            options,
            addresses,
            logger,
            stack,
            machine.handlers,
          ),
        ];
    await plane.ready;
    options.onStep?.({ name: 'controllers', detail: 'and scheduler at work' });
    await Promise.all(nodes.map(({ name }) => nodeReady(admin, name)));
    options.onStep?.({
      name: nodes.length === 1 ? 'node' : 'nodes',
      detail: `${nodes.map(({ name }) => name).join(', ')}: Ready`,
    });

    machine.status = () => clusterStatus({ options, settings, plane, store, url, startedAt });
    const kubeconfig = await writeKubeconfigs(options, {
      name: CLUSTER_NAME,
      server: url,
      ca: certificates.ca.certificate,
      client: certificates.admin,
    });
    const owned = stack.move();
    return {
      url,
      kubeconfig,
      async stop({ keepContainers, gracePeriodSeconds = LONGEST_STOP_SECONDS }) {
        const stopPods = async (seconds: number): Promise<void> => {
          for (const node of nodes)
            if ('stopPods' in node) await node.stopPods({ longestMs: seconds * 1000 });
        };
        try {
          if (!keepContainers) {
            const stopping = stopPods(gracePeriodSeconds);
            machine.hurry = (request) => {
              // Whoever asked first learns how it went; this one has only changed when.
              if (request.gracePeriodSeconds !== undefined)
                stopPods(request.gracePeriodSeconds).catch(() => {});
            };
            await stopping;
          }
          await owned.disposeAsync();
        } finally {
          stopped.resolve();
          await door.disposeAsync();
        }
      },
    };
  } catch (error) {
    await stack.disposeAsync();
    // A cluster that never came up binds nobody to what it was to be made with.
    if (first && alone) {
      await rm(paths.settings, { force: true });
      await rm(paths.store, { recursive: true, force: true });
    }
    await door.disposeAsync();
    throw error;
  }
}

/** Handlers that exist only when the part that answers them has started; until then they say so. */
function lateHandlers(
  machine: { handlers: Record<string, ControlHandler> },
  names: readonly string[],
): Record<string, ControlHandler> {
  return Object.fromEntries(
    names.map((name) => [
      name,
      async (argument: unknown) => {
        const handler = machine.handlers[name];
        if (!handler) throw new Error('this cluster has no containers, or is still starting');
        return handler(argument);
      },
    ]),
  );
}

function openStore(options: UpOptions, logger: Logger): Promise<Store> | Store {
  if (options.ephemeral) return createMemoryStore({ clock: systemClock, logger });
  return openJournalStore({ directory: options.paths.store, logger });
}

async function startSimulatedNodes(
  plane: ControlPlane,
  count: number | undefined,
  serviceCidrs: readonly string[],
  logger: Logger,
  stack: AsyncDisposableStack,
): Promise<SimulatedNode[]> {
  stack.use(await startSimulatedProvisioner({ client: plane.client(PROVISIONER), logger }));
  const names = Array.from({ length: count ?? 0 }, (_, i) => `node-${i}`);
  return Promise.all(
    names.map(async (name, index) =>
      stack.use(
        await startSimulatedNode({
          name,
          index,
          client: plane.client(nodeUser(name)),
          clock: systemClock,
          serviceCidrs,
          logger,
        }),
      ),
    ),
  );
}

async function startThisMachine(
  plane: ControlPlane,
  certificates: ClusterCertificates,
  settings: ClusterSettings,
  options: UpOptions,
  addresses: readonly string[],
  logger: Logger,
  stack: AsyncDisposableStack,
  handlers: Record<string, ControlHandler>,
): Promise<MachineNode> {
  const node = stack.use(
    await startMachineNode({
      paths: options.paths,
      settings,
      addresses,
      client: plane.client,
      loadBalancerRanges: options.loadBalancerRanges,
      dnsUpstreams: options.dnsUpstreams,
      stubDomains: options.stubDomains,
      kubelet: {
        port: options.kubeletPort,
        clientAuthorities: certificates.ca.certificate,
        ...(await certificates.kubeletServer(settings.nodeName, addresses)),
      },
      registries: options.insecureRegistries.map((host) => ({ host, plainHttp: true })),
      onNetwork: async () => {
        for (const range of rangesOf(settings.podCidr))
          await openToPods(plane, options.address, firstAddress(range));
      },
      logger,
    }),
  );
  Object.assign(handlers, imageHandlers(imageOperations(node.images, `${options.paths.state}/work`)));
  return node;
}

/**
 * Where pods reach the API server: where it listens, or, while that is loopback, at the bridge, to which it listens
 * for them alone. Simulated pods reach nothing.
 */
function advertised(
  listening: string,
  machine: { readonly address: string; readonly gateway: string } | undefined,
): { readonly advertiseAddress?: string } {
  if (listening === '0.0.0.0' || listening === '::')
    return machine === undefined ? {} : { advertiseAddress: machine.address };
  if (!isLoopback(listening)) return { advertiseAddress: listening };
  return machine === undefined ? {} : { advertiseAddress: machine.gateway };
}

const isLoopback = (address: string): boolean => address.startsWith('127.') || address === '::1';

/** Lets pods in, where the API server's own address is not for them. */
async function openToPods(plane: ControlPlane, listening: string, gateway: string): Promise<void> {
  if (!isLoopback(listening)) return;
  try {
    await plane.apiServer.listenAlso(gateway);
  } catch (error) {
    throw new Error(
      `the API server cannot answer pods at ${gateway} port ${plane.address.port}: ${(error as Error).message}; choose another --port`,
      { cause: error },
    );
  }
}

/** How clients on this machine reach a server that listens there. */
function clientUrl(address: string, port: number): string {
  const host =
    address === '0.0.0.0'
      ? '127.0.0.1'
      : address === '::'
        ? '[::1]'
        : address.includes(':')
          ? `[${address}]`
          : address;
  return `https://${host}:${port}`;
}

async function writeKubeconfigs(
  options: UpOptions,
  entry: KubeconfigEntry,
): Promise<MergeResult | undefined> {
  await keepFile(options.paths.kubeconfig, renderKubeconfig(entry));
  if (options.kubeconfig === 'none') return undefined;
  try {
    return await mergeKubeconfig(options.kubeconfig ?? userKubeconfig(), entry);
  } catch (error) {
    if (!(error instanceof KubeconfigError)) throw error;
    throw new KubeconfigError(
      `${error.message}\nMend it, or leave it alone: bulkhead up --kubeconfig none (or another FILE)`,
    );
  }
}

/** Written only when it changes, and whole or not at all: a start on a full disk goes on with the file that is there. */
async function keepFile(path: string, content: string): Promise<void> {
  const before = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (before === content) return;
  await writeFile(`${path}.new`, content, { mode: 0o600 });
  await rename(`${path}.new`, path);
}

async function clusterStatus(cluster: {
  readonly options: UpOptions;
  readonly settings: ClusterSettings;
  readonly plane: ControlPlane;
  readonly store: Store;
  readonly url: string;
  readonly startedAt: number;
}): Promise<ClusterStatus> {
  const { options, settings, plane, store, url, startedAt } = cluster;
  const { reader } = plane.apiServer;
  const nodes = [...reader.list(resources.nodes.group, resources.nodes.resource)] as {
    metadata: { name: string };
    status?: { conditions?: { type: string; status: string; message?: string }[] };
  }[];
  const pods = [...reader.list(resources.pods.group, resources.pods.resource)] as {
    status?: { phase?: string };
  }[];
  return {
    version: options.version,
    kubernetesVersion: defaultVersion().gitVersion,
    pid: process.pid,
    startedAt,
    mode: settings.mode,
    url,
    residentBytes: process.memoryUsage.rss(),
    store: { revision: store.revision, bytes: await store.size() },
    nodes: nodes.map(({ metadata, status }) => {
      const condition = status?.conditions?.find((c) => c.type === 'Ready');
      const ready = condition?.status === 'True';
      return {
        name: metadata.name,
        ready,
        ...(ready || !condition?.message ? {} : { message: condition.message }),
      };
    }),
    pods: { total: pods.length, running: pods.filter((pod) => pod.status?.phase === 'Running').length },
  };
}
