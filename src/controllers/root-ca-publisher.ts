// Publishes the cluster's CA certificate in every namespace, as the ConfigMap kube-root-ca.crt that is mounted beside
// every service account token, and restores it when it is changed or deleted.

import { isAlreadyExists, isNamespaceTerminating, isNotFound } from '../api/index.ts';
import { resources, startController } from '../client/index.ts';
import type { Running } from '../component/index.ts';
import { allSynced, type ControllerContext, disposeAll } from './context.ts';

const NAME = 'kube-root-ca.crt';
const DESCRIPTION = 'kubernetes.io/description';
const DESCRIPTION_TEXT =
  'Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.';

/** Does nothing in a cluster that was given no CA certificate. */
export function startRootCaPublisher(context: ControllerContext): Running {
  const { client, clock, logger, settings } = context;
  const { rootCa } = settings;
  if (rootCa === undefined) {
    logger.info(
      { controller: 'root-ca-certificate-publisher-controller' },
      'no root CA is set; none is published',
    );
    return { ready: Promise.resolve(), [Symbol.asyncDispose]: async () => {} };
  }
  const data = { 'ca.crt': rootCa };
  const namespaces = client.informers.informer(resources.namespaces);
  // Only these of all ConfigMaps: others are none of our business and may be large.
  const maps = client.informers.informer(resources.configMaps, { fieldSelector: { 'metadata.name': NAME } });
  const controller = startController({
    name: 'root-ca-certificate-publisher-controller',
    clock,
    logger,
    ready: allSynced(namespaces, maps),
    async reconcile(name) {
      const namespace = namespaces.lister.get(name);
      if (!namespace || namespace.metadata.deletionTimestamp !== undefined) return;
      const configMaps = client.resource(resources.configMaps, name);
      const existing = maps.lister.find(name, NAME);
      try {
        if (!existing)
          await configMaps.create({
            metadata: { name: NAME, annotations: { [DESCRIPTION]: DESCRIPTION_TEXT } },
            data,
          });
        else if (
          existing.data?.['ca.crt'] !== rootCa ||
          Object.keys(existing.data).length !== 1 ||
          !existing.metadata.annotations?.[DESCRIPTION]
        )
          await configMaps.update({
            ...existing,
            metadata: {
              ...existing.metadata,
              annotations: { ...existing.metadata.annotations, [DESCRIPTION]: DESCRIPTION_TEXT },
            },
            data,
          });
      } catch (error) {
        // It is there, or its namespace is going: either way the event that says so brings us back.
        if (!isAlreadyExists(error) && !isNotFound(error) && !isNamespaceTerminating(error)) throw error;
      }
    },
  });
  const { queue } = controller;
  const enqueue = (object: { readonly metadata: { readonly namespace?: string } }): void => {
    if (object.metadata.namespace) queue.add(object.metadata.namespace);
  };
  namespaces.addHandler({
    added: (namespace) => queue.add(namespace.metadata.name),
    updated: (namespace) => queue.add(namespace.metadata.name),
  });
  maps.addHandler({ updated: enqueue, deleted: enqueue });
  return {
    ready: controller.ready,
    [Symbol.asyncDispose]: () => disposeAll([namespaces, maps, controller]),
  };
}
