// NodeRestriction: what a node may write. Its own Node, Lease and CSINode; the status and the mirror pods of pods
// bound to it; tokens for the pods it runs. The node authorizer has already narrowed what it may touch at all.

import { isDeepStrictEqual } from 'node:util';
import { forbidden, goQuote } from '../../api/index.ts';
import type { TokenRequest } from '../../api/types/authentication-v1.ts';
import type { Node, Pod } from '../../api/types/core-v1.ts';
import { nodeOf } from '../authorization/node.ts';
import { podReferences } from '../authorization/pod-references.ts';
import type { AdmissionAttributes, AdmissionPlugin, ObjectReader, UserInfo } from '../chain.ts';
import { objectAs, oldObjectAs, refusal } from './refusal.ts';

const MIRROR = 'kubernetes.io/config.mirror';
const LEASE_NAMESPACE = 'kube-node-lease';

const KUBELET_LABELS = new Set([
  'kubernetes.io/hostname',
  'kubernetes.io/os',
  'kubernetes.io/arch',
  'beta.kubernetes.io/os',
  'beta.kubernetes.io/arch',
  'beta.kubernetes.io/instance-type',
  'node.kubernetes.io/instance-type',
  'topology.kubernetes.io/zone',
  'topology.kubernetes.io/region',
  'failure-domain.beta.kubernetes.io/zone',
  'failure-domain.beta.kubernetes.io/region',
]);
const within = (namespace: string, domain: string): boolean =>
  namespace === domain || namespace.endsWith(`.${domain}`);

/** Labels by which others steer pods must not be chosen by the node they would be steered to. */
function isForbiddenLabel(label: string): boolean {
  const slash = label.indexOf('/');
  const namespace = slash < 0 ? '' : label.slice(0, slash);
  if (within(namespace, 'node-restriction.kubernetes.io')) return true;
  if (!within(namespace, 'kubernetes.io') && !within(namespace, 'k8s.io')) return false;
  const own = within(namespace, 'kubelet.kubernetes.io') || within(namespace, 'node.kubernetes.io');
  return !own && !KUBELET_LABELS.has(label);
}

type Labels = Readonly<Record<string, string>> | undefined;

function changedForbiddenLabels(before: Labels, after: Labels): string[] {
  const names = new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})]);
  return [...names].filter((name) => before?.[name] !== after?.[name] && isForbiddenLabel(name)).sort();
}

/**
 * A node's token request must be for a pod that runs on it. Also called by the TokenRequest handler; throws a
 * StatusError.
 */
export function checkNodeTokenRequest(
  reader: ObjectReader,
  user: UserInfo,
  namespace: string,
  serviceAccount: string,
  request: TokenRequest,
): void {
  const node = nodeOf(user);
  if (node === undefined) return;
  const no = (why: string): Error => forbidden({ group: '', name: 'serviceaccounts' }, serviceAccount, why);
  const ref = request.spec.boundObjectRef;
  if (ref?.apiVersion !== 'v1' || ref.kind !== 'Pod' || !ref.name)
    throw no('node requested token not bound to a pod');
  if (!ref.uid) throw no('node requested token with a pod binding without a uid');
  const pod = reader.get<Pod>('', 'pods', namespace, ref.name);
  if (!pod) throw no(`pod ${goQuote(ref.name)} not found`);
  if (pod.metadata.uid !== ref.uid)
    throw no(
      `the UID in the bound object reference (${ref.uid}) does not match the UID in record (${pod.metadata.uid}). The object might have been deleted and then recreated`,
    );
  if (pod.spec.nodeName !== node)
    throw no('node requested token bound to a pod scheduled on a different node');
}

export function nodeRestrictionPlugin(reader: ObjectReader): AdmissionPlugin {
  const checkPod = (attributes: AdmissionAttributes, node: string): void => {
    const existing = reader.get<Pod>('', 'pods', attributes.namespace, attributes.name);
    switch (attributes.operation) {
      case 'CREATE': {
        const pod = objectAs<Pod>(attributes);
        if (pod.metadata.annotations?.[MIRROR] === undefined)
          throw refusal(
            attributes,
            `pod does not have ${goQuote(MIRROR)} annotation, node ${goQuote(node)} can only create mirror pods`,
          );
        if (pod.spec.nodeName !== node)
          throw refusal(
            attributes,
            `node ${goQuote(node)} can only create pods with spec.nodeName set to itself`,
          );
        for (const { kind, name } of pod.metadata.ownerReferences ?? [])
          if (kind !== 'Node' || name !== node)
            throw refusal(
              attributes,
              `node ${goQuote(node)} can only create pods with an owner reference set to itself`,
            );
        const [reference] = podReferences(pod);
        if (reference !== undefined)
          throw refusal(
            attributes,
            `node ${goQuote(node)} can not create pods that reference ${reference.split('/')[0]}`,
          );
        return;
      }
      case 'DELETE':
        if (existing?.spec.nodeName !== node)
          throw refusal(
            attributes,
            `node ${goQuote(node)} can only delete pods with spec.nodeName set to itself`,
          );
        return;
      default:
        throw refusal(
          attributes,
          `unexpected operation ${goQuote(attributes.operation)}, node ${goQuote(node)} can only create and delete mirror pods`,
        );
    }
  };

  const checkPodStatus = (attributes: AdmissionAttributes, node: string): void => {
    const old = oldObjectAs<Pod>(attributes);
    if (old?.spec.nodeName !== node)
      throw refusal(
        attributes,
        `node ${goQuote(node)} can only update pod status for pods with spec.nodeName set to itself`,
      );
    if (!isDeepStrictEqual({ ...old.metadata.labels }, { ...attributes.object?.metadata.labels }))
      throw refusal(attributes, `node ${goQuote(node)} cannot update labels through pod status`);
  };

  const checkEviction = (attributes: AdmissionAttributes, node: string): void => {
    const pod = reader.get<Pod>('', 'pods', attributes.namespace, attributes.name);
    if (pod?.spec.nodeName !== node)
      throw refusal(attributes, `node ${goQuote(node)} can only evict pods with spec.nodeName set to itself`);
  };

  const checkNode = (attributes: AdmissionAttributes, node: string): void => {
    const name = attributes.name || attributes.object?.metadata.name || '';
    if (name !== node)
      throw refusal(attributes, `node ${goQuote(node)} is not allowed to modify node ${goQuote(name)}`);
    const labels = attributes.object?.metadata.labels;
    if (attributes.operation === 'CREATE') {
      const wrong = changedForbiddenLabels(undefined, labels);
      if (wrong.length > 0)
        throw refusal(
          attributes,
          `node ${goQuote(node)} is not allowed to set the following labels: ${wrong.join(', ')}`,
        );
      return;
    }
    if (attributes.operation !== 'UPDATE') return;
    const old = oldObjectAs<Node>(attributes);
    const wrong = changedForbiddenLabels(old?.metadata.labels, labels);
    if (wrong.length > 0)
      throw refusal(attributes, `node ${goQuote(node)} is not allowed to modify labels: ${wrong.join(', ')}`);
    const same = (a: unknown, b: unknown): boolean => JSON.stringify(a ?? []) === JSON.stringify(b ?? []);
    if (!same(objectAs<Node>(attributes).spec?.taints, old?.spec.taints))
      throw refusal(attributes, `node ${goQuote(node)} is not allowed to modify taints`);
    if (!same(attributes.object?.metadata.ownerReferences, old?.metadata.ownerReferences))
      throw refusal(attributes, `node ${goQuote(node)} is not allowed to modify ownerReferences`);
  };

  const checkOwnName = (attributes: AdmissionAttributes, node: string, what: string): void => {
    const name = attributes.name || attributes.object?.metadata.name || '';
    if (name !== node)
      throw refusal(attributes, `can only access ${what} with the same name as the requesting node`);
  };

  return {
    name: 'NodeRestriction',
    handles: (operation) => operation !== 'CONNECT',
    validate(attributes) {
      const node = nodeOf(attributes.user);
      if (node === undefined) return;
      if (node === '')
        throw refusal(attributes, `could not determine node from user ${goQuote(attributes.user.name)}`);
      const { definition, subresource } = attributes;
      switch (`${definition.group}/${definition.resource}${subresource && `/${subresource}`}`) {
        case '/pods':
          return checkPod(attributes, node);
        case '/pods/status':
          return checkPodStatus(attributes, node);
        case '/pods/eviction':
          return checkEviction(attributes, node);
        case '/nodes':
        case '/nodes/status':
          return checkNode(attributes, node);
        case '/serviceaccounts/token':
          return checkNodeTokenRequest(
            reader,
            attributes.user,
            attributes.namespace,
            attributes.name,
            objectAs<TokenRequest>(attributes),
          );
        case 'coordination.k8s.io/leases':
          if (attributes.namespace !== LEASE_NAMESPACE)
            throw refusal(
              attributes,
              `can only access leases in the ${goQuote(LEASE_NAMESPACE)} system namespace`,
            );
          return checkOwnName(attributes, node, 'node lease');
        case 'storage.k8s.io/csinodes':
          return checkOwnName(attributes, node, 'CSINode');
        case '/pods/ephemeralcontainers':
        case '/pods/resize':
          throw refusal(attributes, `node ${goQuote(node)} can only create and delete mirror pods`);
        case '/persistentvolumeclaims':
          throw refusal(attributes, 'may only update PVC status');
      }
    },
  };
}
