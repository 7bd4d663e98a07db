// The RuntimeClass that a cluster has from its first start, for pods that are not to run on the machine's own kernel.

import { type Draft, isAlreadyExists } from '../api/index.ts';
import type { RuntimeClass } from '../api/types/node-v1.ts';
import { type Client, resources } from '../client/index.ts';

/** Name of the class, and of the node's handler for it. */
export const SANDBOX = 'sandbox';
/** On the namespace kube-system: the class was made once, whatever became of it. */
const MADE = 'bulkhead.dev/sandbox-runtime-class';
const NAMESPACE = 'kube-system';

const sandboxClass: Draft<RuntimeClass> = {
  metadata: {
    name: SANDBOX,
    annotations: {
      'kubernetes.io/description':
        "Pods run on a kernel of their own in user space, which keeps their system calls from the machine's. They have a loopback interface and no other network.",
    },
  },
  handler: SANDBOX,
  // What that kernel needs before the pod has any memory.
  overhead: { podFixed: { memory: '128Mi' } },
};

/**
 * Makes the class once in the life of a cluster, as ensureDefaultStorageClass does: it neither makes it again when a
 * user has deleted it nor changes what a user has changed. Needs to read and patch the namespace kube-system.
 */
export async function ensureSandboxClass(client: Client): Promise<void> {
  const namespaces = client.resource(resources.namespaces);
  const system = await namespaces.get(NAMESPACE);
  if (system.metadata.annotations?.[MADE] !== undefined) return;
  try {
    await client.resource(resources.runtimeClasses).create(sandboxClass);
  } catch (error) {
    // Made before a crash that came before the note of it.
    if (!isAlreadyExists(error)) throw error;
  }
  await namespaces.patch(NAMESPACE, {
    type: 'merge',
    patch: { metadata: { annotations: { [MADE]: SANDBOX } } },
  });
}
