// NamespaceLifecycle: nothing is created in a namespace that is not there or is going away, and the namespaces that
// the system lives in are not deleted.

import { notFound, StatusError } from '../../api/index.ts';
import type { Namespace } from '../../api/types/core-v1.ts';
import type { AdmissionAttributes, AdmissionPlugin, ObjectReader } from '../chain.ts';
import { refusal } from './refusal.ts';

const IMMORTAL = new Set(['default', 'kube-system', 'kube-public']);

const isTerminating = (namespace: Namespace): boolean =>
  namespace.status?.phase === 'Terminating' || namespace.metadata.deletionTimestamp !== undefined;

/** Upstream's words, with the cause by which controllers tell this refusal from others. */
function terminating(attributes: AdmissionAttributes): StatusError {
  const { namespace } = attributes;
  const { status } = refusal(
    attributes,
    `unable to create new content in namespace ${namespace} because it is being terminated`,
  );
  return new StatusError({
    code: status.code,
    reason: status.reason,
    message: status.message,
    details: {
      ...status.details,
      causes: [
        {
          reason: 'NamespaceTerminating',
          message: `namespace ${namespace} is being terminated`,
          field: 'metadata.namespace',
        },
      ],
    },
  });
}

export function namespaceLifecyclePlugin(reader: ObjectReader): AdmissionPlugin {
  const check = (attributes: AdmissionAttributes, namespace: Namespace | undefined): void => {
    if (!namespace) throw notFound({ group: '', name: 'namespaces' }, attributes.namespace);
    if (attributes.operation === 'CREATE' && isTerminating(namespace)) throw terminating(attributes);
  };
  return {
    name: 'NamespaceLifecycle',
    handles: (operation) => operation !== 'CONNECT',
    admit(attributes) {
      const { operation, definition, namespace } = attributes;
      if (operation === 'DELETE') {
        if (definition.group === '' && definition.resource === 'namespaces' && IMMORTAL.has(attributes.name))
          throw refusal(attributes, 'this namespace may not be deleted');
        return;
      }
      if (!definition.namespaced || namespace === '') return;
      if (definition.group === 'authorization.k8s.io') return;
      const cached = reader.get<Namespace>('', 'namespaces', '', namespace);
      if (cached) return check(attributes, cached);
      // The cache may be a moment behind a namespace that was just created.
      return reader
        .getFresh<Namespace>('', 'namespaces', '', namespace)
        .then((fresh) => check(attributes, fresh));
    },
  };
}
