// Gives every namespace its ServiceAccount "default", and gives it again when somebody deletes it.

import { isAlreadyExists, isNamespaceTerminating } from '../api/index.ts';
import { keyOf, resources, startController } from '../client/index.ts';
import type { Running } from '../component/index.ts';
import { allSynced, type ControllerContext, disposeAll } from './context.ts';

const NAME = 'default';

export function startServiceAccountController(context: ControllerContext): Running {
  const { client, clock, logger } = context;
  const namespaces = client.informers.informer(resources.namespaces);
  const accounts = client.informers.informer(resources.serviceAccounts);
  const controller = startController({
    name: 'serviceaccount-controller',
    clock,
    logger,
    ready: allSynced(namespaces, accounts),
    async reconcile(name) {
      const namespace = namespaces.lister.get(name);
      if (!namespace || namespace.status?.phase === 'Terminating') return;
      if (namespace.metadata.deletionTimestamp !== undefined || accounts.lister.find(name, NAME)) return;
      try {
        await client.resource(resources.serviceAccounts, name).create({ metadata: { name: NAME } });
      } catch (error) {
        if (!isAlreadyExists(error) && !isNamespaceTerminating(error)) throw error;
      }
    },
  });
  namespaces.addHandler({
    added: (namespace) => controller.queue.add(keyOf(namespace)),
    updated: (namespace) => controller.queue.add(keyOf(namespace)),
  });
  accounts.addHandler({
    deleted(account) {
      if (account.metadata.name === NAME && account.metadata.namespace)
        controller.queue.add(account.metadata.namespace);
    },
  });
  return {
    ready: controller.ready,
    [Symbol.asyncDispose]: () => disposeAll([namespaces, accounts, controller]),
  };
}
