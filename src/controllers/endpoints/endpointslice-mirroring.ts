// Mirrors Endpoints that somebody keeps by hand, those of Services without a selector, to EndpointSlices, so that
// whoever reads only slices (the service proxy, DNS) finds them.

import { controllerReference, isNamespaceTerminating, isNotFound } from '../../api/index.ts';
import type { Endpoints } from '../../api/types/core-v1.ts';
import type { EndpointSlice } from '../../api/types/discovery-v1.ts';
import {
  createEventRecorder,
  ExponentialFailureLimiter,
  keyOf,
  referenceTo,
  resources,
  splitKey,
  startController,
} from '../../client/index.ts';
import type { Running } from '../../component/index.ts';
import { allSynced, type ControllerContext, disposeAll } from '../context.ts';
import { hasSelector } from './backends.ts';
import { SKIP_MIRROR, serviceOfManaged } from './labels.ts';
import { MIRRORING, MOST_MIRRORED, mirrored, planMirror } from './mirror-plan.ts';
import { SliceTracker } from './slice-tracker.ts';

/** Endpoints that were locks once, from before there were Leases. */
const LEADER = 'control-plane.alpha.kubernetes.io/leader';
/** As upstream's: a change can be a thousand endpoints. */
const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 100_000;

const mirroredService = (slice: EndpointSlice): readonly string[] => serviceOfManaged(slice, MIRRORING);

export function startEndpointSliceMirroringController(context: ControllerContext): Running {
  const { client, clock, logger } = context;
  const services = client.informers.informer(resources.services);
  const endpoints = client.informers.informer(resources.endpoints);
  const slices = client.informers.informer(resources.endpointSlices);
  const slicesByService = slices.index(mirroredService);
  const tracker = new SliceTracker((slice) => slices.lister.get(keyOf(slice)));
  const recorder = createEventRecorder({
    client,
    component: 'endpoint-slice-mirroring-controller',
    clock,
    logger,
  });
  const controller = startController({
    name: 'endpointslice-mirroring-controller',
    clock,
    logger,
    concurrency: 5,
    rateLimiter: new ExponentialFailureLimiter<string>(FIRST_RETRY_MS, LONGEST_RETRY_MS),
    ready: allSynced(services, endpoints, slices),
    reconcile,
  });
  const { queue } = controller;
  services.addHandler({
    added: (service) => {
      if (!hasSelector(service)) queue.add(keyOf(service));
    },
    updated: (service, old) => {
      if (hasSelector(service) !== hasSelector(old)) queue.add(keyOf(service));
    },
    deleted: (service) => {
      if (!hasSelector(service)) queue.add(keyOf(service));
    },
  });
  endpoints.addHandler({
    added: (object) => {
      if (mayBeMirrored(object)) queue.add(keyOf(object));
    },
    updated: (object, old) => {
      if (mayBeMirrored(object) || mayBeMirrored(old)) queue.add(keyOf(object));
    },
    deleted: (object) => queue.add(keyOf(object)),
  });
  tracker.follow(slices, mirroredService, (key) => queue.add(key));

  async function reconcile(key: string): Promise<void> {
    const source = endpoints.lister.get(key);
    const service = services.lister.get(key);
    const existing = slicesByService
      .list(key)
      .filter(({ metadata }) => metadata.deletionTimestamp === undefined);
    if (!source || !mayBeMirrored(source) || !service || hasSelector(service)) {
      tracker.forget(key);
      for (const slice of existing) await remove(key, slice);
      return;
    }
    // The event that brings the cache up to date brings us back.
    if (tracker.isStale(key, existing)) return;
    const wanted = mirrored(source);
    tellSkipped(source, wanted.invalid, wanted.skipped);
    const plan = planMirror(existing, wanted);
    const api = client.resource(resources.endpointSlices, splitKey(key).namespace);
    const metadata = {
      labels: { ...wanted.labels },
      annotations: { ...wanted.annotations },
      ownerReferences: [controllerReference(source, { apiVersion: 'v1', kind: 'Endpoints' })],
    };
    try {
      if (source.metadata.deletionTimestamp === undefined)
        for (const slice of plan.create)
          tracker.wrote(
            key,
            await api.create({
              ...slice,
              metadata: { ...metadata, generateName: `${source.metadata.name}-` },
            }),
          );
      for (const { slice, wanted: next } of plan.update)
        tracker.wrote(
          key,
          await api.update({ ...slice, ...next, metadata: { ...slice.metadata, ...metadata } }),
        );
      for (const slice of plan.delete) await remove(key, slice);
    } catch (error) {
      if (!isNamespaceTerminating(error)) throw error;
    }
  }

  function tellSkipped(source: Endpoints, invalid: number, skipped: number): void {
    const about = referenceTo(resources.endpoints, source);
    if (invalid > 0)
      recorder.event(
        about,
        'Warning',
        'InvalidIPAddress',
        `Skipped ${invalid} invalid IP addresses when mirroring to EndpointSlices`,
      );
    if (skipped > invalid)
      recorder.event(
        about,
        'Warning',
        'TooManyAddressesToMirror',
        `A max of ${MOST_MIRRORED} addresses can be mirrored to EndpointSlices per Endpoints subset. ${skipped} addresses were skipped`,
      );
  }

  async function remove(key: string, slice: EndpointSlice): Promise<void> {
    const { namespace, name, uid } = slice.metadata;
    tracker.removes(key, slice);
    try {
      await client.resource(resources.endpointSlices, namespace).delete(name, { preconditions: { uid } });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  return {
    ready: controller.ready,
    [Symbol.asyncDispose]: () => disposeAll([services, endpoints, slices, recorder, controller]),
  };
}

function mayBeMirrored({ metadata }: Endpoints): boolean {
  return metadata.labels?.[SKIP_MIRROR] !== 'true' && metadata.annotations?.[LEADER] === undefined;
}
