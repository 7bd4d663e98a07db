// A node without containers: the real node agent over the simulated runtime and a machine that is not there. Needs no
// root and touches no disk.

import type { Client } from '../client/index.ts';
import type { Clock, Logger } from '../component/index.ts';
import { createSimulatedHost, type Kubelet, startKubelet } from '../kubelet/index.ts';
import { type Simulation, startSimulatedRuntime } from '../runtime/simulated/index.ts';
import { dnsAddress } from './ranges.ts';

export interface SimulatedNode extends AsyncDisposable {
  readonly name: string;
  readonly kubelet: Kubelet;
  /** The part that containers would play: `runtime.exit(…)` ends one. */
  readonly runtime: Simulation;
}

export interface SimulatedNodeOptions {
  readonly name: string;
  /** Counts the nodes of one cluster from 0; their addresses and pod ranges follow from it. */
  readonly index: number;
  readonly client: Client;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly random?: () => number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly cpus?: number;
  readonly memoryBytes?: number;
  readonly maxPods?: number;
  /** The cluster's service ranges: pods are told the DNS address in them, as on a real node. */
  readonly serviceCidrs: readonly string[];
}

/** Pods of node i have addresses of 10.128+.x/24, one range a node; the nodes' own are of 198.18.0.0/15, the benchmark range. */
export async function startSimulatedNode(options: SimulatedNodeOptions): Promise<SimulatedNode> {
  const { index, client, clock, logger } = options;
  const stack = new AsyncDisposableStack();
  try {
    const podCidr = `10.${128 + (index >> 8)}.${index & 255}.0/24`;
    const runtime = stack.use(startSimulatedRuntime({ clock, podCidrs: [podCidr] }));
    const host = createSimulatedHost({
      clock,
      isReady: (containerId) => runtime.isReady(containerId),
      ...(options.cpus === undefined ? {} : { cpus: options.cpus }),
      ...(options.memoryBytes === undefined ? {} : { memoryBytes: options.memoryBytes }),
    });
    const kubelet = stack.use(
      await startKubelet({
        client,
        clock,
        logger,
        ...(options.random === undefined ? {} : { random: options.random }),
        nodeName: options.name,
        nodeIPs: [`198.18.${index >> 8}.${index & 255}`],
        runtime,
        images: runtime,
        host,
        podCidrs: [podCidr],
        clusterDNS: options.serviceCidrs.map(dnsAddress),
        labels: { 'bulkhead.dev/simulated': 'true', ...options.labels },
        ...(options.maxPods === undefined ? {} : { maxPods: options.maxPods }),
      }),
    );
    const owned = stack.move();
    return { name: options.name, kubelet, runtime, [Symbol.asyncDispose]: () => owned.disposeAsync() };
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}
