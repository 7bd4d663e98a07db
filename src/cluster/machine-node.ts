// This machine as a node: host operations, image store, pod network, embedded runtime and node agent, put together.

import type { UserInfo } from '../apiserver/index.ts';
import type { Client } from '../client/index.ts';
import type { AddressRange } from '../cloud/index.ts';
import { type Logger, systemClock } from '../component/index.ts';
import { nativeProgram, startHostOperations } from '../host/index.ts';
import { createLinuxHost, startKubelet } from '../kubelet/index.ts';
import { startPodNetwork } from '../network/index.ts';
import { type ImageStore, openImageStore, type RegistryConfig } from '../runtime/embedded/images/index.ts';
import { createCgroupManager, startEmbeddedRuntime } from '../runtime/embedded/index.ts';
import { sandboxRuntime } from '../sandbox/oci/index.ts';
import { nodeUser } from './identities.ts';
import { startNodeServices } from './node-services.ts';
import { dnsAddress, rangesOf } from './ranges.ts';
import { SANDBOX } from './sandbox-class.ts';
import type { ClusterPaths, ClusterSettings } from './state.ts';

export interface MachineNodeOptions {
  readonly paths: ClusterPaths;
  readonly settings: ClusterSettings;
  /** The node's own, one of each IP version that pods have; its agent listens at the first. */
  readonly addresses: readonly string[];
  /** In process, as a user. */
  readonly client: (as: UserInfo) => Client;
  /** Where Services of type LoadBalancer get their addresses; empty: they share the machine's own. */
  readonly loadBalancerRanges: readonly AddressRange[];
  /** Whom cluster DNS asks: for names in these domains, and for all others (empty: the host's own name servers). */
  readonly stubDomains: Readonly<Record<string, readonly string[]>>;
  readonly dnsUpstreams: readonly string[];
  readonly kubelet: {
    readonly port: number;
    readonly certificate: string;
    readonly key: string;
    readonly clientAuthorities: string;
  };
  readonly registries: readonly RegistryConfig[];
  /** Called when the host answers at the bridge's addresses, where its pods reach it. */
  readonly onNetwork: () => Promise<void>;
  readonly logger: Logger;
}

export interface MachineNode extends AsyncDisposable {
  readonly name: string;
  readonly images: ImageStore;
  /**
   * Ends every pod as its spec asks, all within `longestMs`; what they are stays recorded, and they start again with the
   * next up. A second call with a shorter limit hurries the first.
   */
  stopPods(limit: { readonly longestMs: number }): Promise<void>;
}

export async function startMachineNode(options: MachineNodeOptions): Promise<MachineNode> {
  const { paths, settings, logger } = options;
  const podCidrs = rangesOf(settings.podCidr);
  const stack = new AsyncDisposableStack();
  const sandbox = sandboxRuntime();
  try {
    const [host, images] = await Promise.all([
      startHostOperations({
        socketPath: `${paths.run}/host.sock`,
        lockPath: `${paths.run}/host.lock`,
        logger,
      }),
      openImageStore({
        directory: paths.images,
        layerProgram: nativeProgram('bulkhead-layer'),
        registries: options.registries,
        logger,
      }),
    ]);
    stack.use(host);
    stack.use(images);
    const [network, cgroups] = await Promise.all([
      startPodNetwork({
        podCidrs,
        stateDirectory: paths.network,
        bridge: settings.bridge,
        table: settings.instance,
        host,
        logger,
      }),
      createCgroupManager(),
    ]);
    stack.use(network);
    await network.ready;
    await options.onNetwork();
    const services = stack.use(
      await startNodeServices({
        paths,
        settings,
        client: options.client,
        host,
        loadBalancerRanges: options.loadBalancerRanges,
        dnsUpstreams: options.dnsUpstreams,
        stubDomains: options.stubDomains,
        logger,
      }),
    );
    const runtime = stack.use(
      await startEmbeddedRuntime({
        stateDirectory: paths.runtime,
        runDirectory: paths.run,
        images,
        network,
        host,
        cgroups,
        cgroup: `/${settings.instance}`,
        ...(sandbox === undefined ? {} : { handlers: { [SANDBOX]: sandbox } }),
        logger,
      }),
    );
    const kubelet = stack.use(
      await startKubelet({
        client: options.client(nodeUser(settings.nodeName)),
        nodeName: settings.nodeName,
        nodeIPs: options.addresses,
        runtime,
        images,
        host: await createLinuxHost({
          operations: host,
          cgroups,
          rootDirectory: paths.kubelet,
          podLogsDirectory: paths.podLogs,
          imagesDirectory: paths.images,
          clock: systemClock,
        }),
        server: { address: options.addresses[0]!, ...options.kubelet },
        clusterDNS: rangesOf(settings.serviceCidr).map(dnsAddress),
        clusterDomain: settings.clusterDomain,
        podCidrs,
        cgroupRoot: `/${settings.instance}`,
        logger,
      }),
    );
    await Promise.all([kubelet.ready, services.ready]);
    const owned = stack.move();
    let removing: Promise<void> | undefined;
    return {
      name: settings.nodeName,
      images,
      async stopPods(limit) {
        await kubelet.stopPods(limit);
        await kubelet[Symbol.asyncDispose]();
        removing ??= services.removeRules();
        await removing;
      },
      async [Symbol.asyncDispose]() {
        logger.debug({ component: 'node' }, 'the node stops');
        await owned.disposeAsync();
      },
    };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}
