// All controllers in one table, and the start of those that are asked for. They share the client's informers, so a
// resource that ten of them read is cached once.

import type { Client } from '../client/index.ts';
import type { Running, StartOptions } from '../component/index.ts';
import { silentLogger } from '../component/index.ts';
import { startClusterRoleAggregation } from './cluster-role-aggregation.ts';
import {
  type ControllerContext,
  type ControllerSettings,
  defaultSettings,
  disposeAll,
  type StartController,
} from './context.ts';
import { startCronJobController } from './cronjob/cronjob.ts';
import { startDaemonSetController } from './daemonset/daemonset.ts';
import { startDeploymentController } from './deployment/deployment.ts';
import { startEndpointsController } from './endpoints/endpoints.ts';
import { startEndpointSliceController } from './endpoints/endpointslice.ts';
import { startEndpointSliceMirroringController } from './endpoints/endpointslice-mirroring.ts';
import { startGarbageCollector } from './garbage-collector/garbage-collector.ts';
import { startJobController } from './job/job.ts';
import { startNamespaceController } from './namespace/namespace.ts';
import { startNodeLifecycleController } from './node-lifecycle/node-lifecycle.ts';
import { startTaintEvictionController } from './node-lifecycle/taint-eviction.ts';
import { startPodGarbageCollector } from './pod-gc/pod-gc.ts';
import { startReplicaSetController, startReplicationController } from './replicaset/replicaset.ts';
import { startRootCaPublisher } from './root-ca-publisher.ts';
import { startServiceAccountController } from './service-account.ts';
import { startServiceCidrController } from './service-cidr/service-cidr.ts';
import { startStatefulSetController } from './statefulset/statefulset.ts';
import { startTtlAfterFinishedController } from './ttl-after-finished.ts';
import { startVolumeBinder } from './volume/binder.ts';
import { startEphemeralVolumeController } from './volume/ephemeral.ts';
import { startVolumeProtectionController } from './volume/pv-protection.ts';
import { startClaimProtectionController } from './volume/pvc-protection.ts';
import { startVolumeAttributesClassProtectionController } from './volume/vac-protection.ts';

/** By upstream's names (`--controllers`), in the order in which they are started. */
const controllers = {
  'namespace-controller': startNamespaceController,
  'serviceaccount-controller': startServiceAccountController,
  'root-ca-certificate-publisher-controller': startRootCaPublisher,
  'garbage-collector-controller': startGarbageCollector,
  'node-lifecycle-controller': startNodeLifecycleController,
  'taint-eviction-controller': startTaintEvictionController,
  'pod-garbage-collector-controller': startPodGarbageCollector,
  'replicaset-controller': startReplicaSetController,
  'replicationcontroller-controller': startReplicationController,
  'deployment-controller': startDeploymentController,
  'job-controller': startJobController,
  'cronjob-controller': startCronJobController,
  'ttl-after-finished-controller': startTtlAfterFinishedController,
  'statefulset-controller': startStatefulSetController,
  'endpointslice-controller': startEndpointSliceController,
  'endpoints-controller': startEndpointsController,
  'endpointslice-mirroring-controller': startEndpointSliceMirroringController,
  'service-cidr-controller': startServiceCidrController,
  'clusterrole-aggregation-controller': startClusterRoleAggregation,
  'daemonset-controller': startDaemonSetController,
  'persistentvolume-binder-controller': startVolumeBinder,
  'persistentvolumeclaim-protection-controller': startClaimProtectionController,
  'persistentvolume-protection-controller': startVolumeProtectionController,
  'volumeattributesclass-protection-controller': startVolumeAttributesClassProtectionController,
  'ephemeral-volume-controller': startEphemeralVolumeController,
} as const satisfies Record<string, StartController>;

export type ControllerName = keyof typeof controllers;

export const controllerNames = Object.keys(controllers) as readonly ControllerName[];

export interface ControllersOptions extends StartOptions {
  readonly client: Client;
  readonly random?: () => number;
  /** As kube-controller-manager's --controllers: `*` for all, `name` to add one, `-name` to leave one out. Default `*`. */
  readonly enable?: readonly string[];
  readonly settings?: Partial<ControllerSettings>;
}

export interface RunningControllers extends Running {
  /** Those that run. */
  readonly names: readonly ControllerName[];
}

/**
 * Starts the controllers; `ready` resolves when their caches are filled and they work. Throws for a name that does
 * not exist, before anything is started.
 */
export async function startControllers(options: ControllersOptions): Promise<RunningControllers> {
  const names = chosen(options.enable ?? ['*']);
  const context: ControllerContext = {
    client: options.client,
    clock: options.clock ?? options.client.clock,
    logger: (options.logger ?? silentLogger).child({ component: 'controllers' }),
    random: options.random ?? Math.random,
    settings: { ...defaultSettings, ...options.settings },
  };
  const running: Running[] = [];
  try {
    for (const name of names) running.push(controllers[name](context));
  } catch (error) {
    await disposeAll(running);
    throw error;
  }
  const ready = Promise.all(running.map((one) => one.ready)).then(() => {
    context.logger.info({ controllers: names.length }, 'controllers are running');
  });
  // Stopping before they are ready is no failure of whoever does not wait for it.
  ready.catch(() => {});
  return { names, ready, [Symbol.asyncDispose]: () => disposeAll(running) };
}

function chosen(enable: readonly string[]): ControllerName[] {
  const known = new Set<string>(controllerNames);
  const wanted = new Set<string>(enable.includes('*') ? controllerNames : []);
  for (const entry of enable) {
    if (entry === '*') continue;
    const name = entry.replace(/^-/, '');
    if (!known.has(name))
      throw new Error(`there is no controller "${name}"; the controllers are ${controllerNames.join(', ')}`);
    if (entry.startsWith('-')) wanted.delete(name);
    else wanted.add(name);
  }
  return controllerNames.filter((name) => wanted.has(name));
}
