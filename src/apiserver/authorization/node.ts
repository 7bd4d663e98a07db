// The node authorizer: a node may read what the pods bound to it refer to, and nothing else of its kind. Members of
// system:nodes named system:node:<name> are nodes. The graph pods → secrets, configmaps, claims, service accounts is
// kept as counts by node, from the pods' watch cache. What a node may write is checked more closely by the
// NodeRestriction admission plugin.

import type { PersistentVolume, PersistentVolumeClaim, Pod } from '../../api/types/core-v1.ts';
import type { PolicyRule } from '../../api/types/rbac-v1.ts';
import type { VolumeAttachment } from '../../api/types/storage-v1.ts';
import type {
  Authorizer,
  AuthorizerAttributes,
  AuthorizerDecision,
  ObjectReader,
  UserInfo,
} from '../chain.ts';
import { podReferences } from './pod-references.ts';
import { ruleAllows } from './rules.ts';

const ALLOW: AuthorizerDecision = { decision: 'allow', reason: '' };
const NO_OPINION: AuthorizerDecision = { decision: 'no-opinion', reason: '' };
const refuse = (reason: string): AuthorizerDecision => ({ decision: 'no-opinion', reason });

const PREFIX = 'system:node:';
const LEASE_NAMESPACE = 'kube-node-lease';

/** The node's name when the user is one; '' for a member of system:nodes with another name; else undefined. */
export function nodeOf(user: UserInfo): string | undefined {
  if (!user.groups.includes('system:nodes')) return undefined;
  return user.name.startsWith(PREFIX) ? user.name.slice(PREFIX.length) : '';
}

/** `spec.nodeName=n1` alone or among other terms. */
function selects(selector: string | undefined, field: string, value: string): boolean {
  return (selector ?? '')
    .split(',')
    .some((term) => term === `${field}=${value}` || term === `${field}==${value}`);
}

/** An object that pods refer to, and how many pods of each node do. Shared by those pods. */
interface Reference {
  readonly key: string;
  readonly nodes: Map<string, number>;
}

interface KnownPod {
  readonly version: string;
  readonly node: string;
  readonly references: readonly Reference[];
}

export class NodeAuthorizer implements Authorizer, Disposable {
  readonly #reader: ObjectReader;
  readonly #rules: readonly PolicyRule[];
  readonly #references = new Map<string, Reference>();
  readonly #pods = new Map<string, KnownPod>();
  readonly #stop: () => void;

  /** `rules`: what every node may do, whichever it is (the role system:node, less what is decided here). */
  constructor(reader: ObjectReader, rules: readonly PolicyRule[]) {
    this.#reader = reader;
    this.#rules = rules;
    this.#stop = reader.follow<Pod>('', 'pods', (event) => {
      const key = `${event.object.metadata.namespace ?? ''}/${event.object.metadata.name}`;
      if (event.type === 'DELETED') this.#forget(key);
      else this.#learn(key, event.object);
    });
  }

  authorize(attributes: AuthorizerAttributes): AuthorizerDecision {
    const node = nodeOf(attributes.user);
    if (node === undefined) return NO_OPINION;
    if (node === '') return refuse(`unknown node for user ${JSON.stringify(attributes.user.name)}`);
    if (!attributes.resourceRequest) return this.#byRules(attributes);
    switch (`${attributes.group}/${attributes.resource}`) {
      case '/secrets':
      case '/configmaps':
        return this.#readReferenced(node, attributes, ['get', 'list', 'watch']);
      case '/persistentvolumeclaims':
        if (attributes.subresource === 'status')
          return ['get', 'update', 'patch'].includes(attributes.verb)
            ? this.#referenced(node, attributes)
            : refuse('can only get, update or patch the status of this type');
        // Upstream's agent asks again and again and needs no more than get; ours waits for the object to change.
        return this.#readReferenced(node, attributes, ['get', 'list', 'watch']);
      case '/persistentvolumes':
        return this.#persistentVolume(node, attributes);
      case 'resource.k8s.io/resourceclaims':
        return this.#readReferenced(node, attributes, ['get']);
      case '/serviceaccounts':
        if (attributes.subresource === 'token')
          return attributes.verb === 'create' && attributes.name !== ''
            ? this.#referenced(node, attributes)
            : refuse('can only create tokens for individual service accounts');
        return this.#readReferenced(node, attributes, ['get']);
      case 'storage.k8s.io/volumeattachments':
        return this.#volumeAttachment(node, attributes);
      case 'coordination.k8s.io/leases':
        return ownNamed(node, attributes, LEASE_NAMESPACE);
      case 'storage.k8s.io/csinodes':
        return ownNamed(node, attributes, '');
      case '/nodes':
        return this.#node(node, attributes);
      case '/pods':
        return this.#pod(node, attributes);
      default:
        return this.#byRules(attributes);
    }
  }

  [Symbol.dispose](): void {
    this.#stop();
  }

  #byRules(attributes: AuthorizerAttributes): AuthorizerDecision {
    return this.#rules.some((rule) => ruleAllows(rule, attributes)) ? ALLOW : NO_OPINION;
  }

  #readReferenced(
    node: string,
    attributes: AuthorizerAttributes,
    verbs: readonly string[],
  ): AuthorizerDecision {
    if (!verbs.includes(attributes.verb))
      return refuse(
        verbs.length === 1
          ? 'can only get individual resources of this type'
          : 'can only read resources of this type',
      );
    if (attributes.subresource !== '') return refuse('cannot read subresource');
    if (attributes.name === '') return refuse('can only read individual objects of this type');
    return this.#referenced(node, attributes);
  }

  #referenced(node: string, { resource, namespace, name }: AuthorizerAttributes): AuthorizerDecision {
    return this.#refersTo(node, `${resource}/${namespace}/${name}`)
      ? ALLOW
      : refuse(`no relationship found between node '${node}' and this object`);
  }

  #refersTo(node: string, key: string): boolean {
    return (this.#references.get(key)?.nodes.get(node) ?? 0) > 0;
  }

  #persistentVolume(node: string, attributes: AuthorizerAttributes): AuthorizerDecision {
    if (attributes.verb !== 'get' || attributes.subresource !== '' || attributes.name === '')
      return refuse('can only get individual resources of this type');
    const volume = this.#reader.get<PersistentVolume>('', 'persistentvolumes', '', attributes.name);
    const claim = volume?.spec.claimRef;
    const bound =
      claim &&
      this.#reader.get<PersistentVolumeClaim>(
        '',
        'persistentvolumeclaims',
        claim.namespace ?? '',
        claim.name ?? '',
      );
    return bound?.spec.volumeName === attributes.name &&
      this.#refersTo(node, `persistentvolumeclaims/${claim?.namespace ?? ''}/${claim?.name ?? ''}`)
      ? ALLOW
      : refuse(`no relationship found between node '${node}' and this object`);
  }

  #volumeAttachment(node: string, attributes: AuthorizerAttributes): AuthorizerDecision {
    if (attributes.verb !== 'get' || attributes.subresource !== '' || attributes.name === '')
      return refuse('can only get individual resources of this type');
    const attachment = this.#reader.get<VolumeAttachment>(
      'storage.k8s.io',
      'volumeattachments',
      '',
      attributes.name,
    );
    return attachment?.spec.nodeName === node
      ? ALLOW
      : refuse(`no relationship found between node '${node}' and this object`);
  }

  #node(node: string, attributes: AuthorizerAttributes): AuthorizerDecision {
    const { verb, subresource, name } = attributes;
    // Creation has no name yet; NodeRestriction compares it.
    if (verb === 'create' && subresource === '') return ALLOW;
    if (!['', 'status'].includes(subresource)) return this.#byRules(attributes);
    if (!['get', 'list', 'watch', 'update', 'patch'].includes(verb)) return this.#byRules(attributes);
    return name === node ? ALLOW : refuse(`node '${node}' cannot read '${name}', only its own Node object`);
  }

  #pod(node: string, attributes: AuthorizerAttributes): AuthorizerDecision {
    const { verb, subresource, namespace, name } = attributes;
    if (verb === 'get' && subresource === '') {
      const pod = this.#reader.get<Pod>('', 'pods', namespace, name);
      return pod?.spec.nodeName === node
        ? ALLOW
        : refuse(`no relationship found between node '${node}' and this object`);
    }
    if ((verb === 'list' || verb === 'watch') && subresource === '') {
      return selects(attributes.fieldSelector, 'spec.nodeName', node)
        ? ALLOW
        : refuse('can only list/watch pods with spec.nodeName field selector');
    }
    return this.#byRules(attributes);
  }

  #learn(key: string, pod: Pod): void {
    const node = pod.spec.nodeName ?? '';
    const version = referenceVersion(pod);
    const known = this.#pods.get(key);
    if (known?.version === version && known.node === node) return;
    this.#forget(key);
    if (node === '') return;
    const references: Reference[] = [];
    for (const key of podReferences(pod)) {
      let reference = this.#references.get(key);
      if (!reference) {
        reference = { key, nodes: new Map() };
        this.#references.set(key, reference);
      }
      reference.nodes.set(node, (reference.nodes.get(node) ?? 0) + 1);
      references.push(reference);
    }
    this.#pods.set(key, { version, node, references });
  }

  #forget(key: string): void {
    const known = this.#pods.get(key);
    if (!known) return;
    this.#pods.delete(key);
    for (const { key: referenceKey, nodes } of known.references) {
      const count = (nodes.get(known.node) ?? 0) - 1;
      if (count > 0) nodes.set(known.node, count);
      else nodes.delete(known.node);
      if (nodes.size === 0) this.#references.delete(referenceKey);
    }
  }
}

/** Changes whenever what the pod refers to may have: ephemeral containers and resource claims come later. */
function referenceVersion({ metadata, spec, status }: Pod): string {
  return `${metadata.uid}/${spec.ephemeralContainers?.length ?? 0}/${status?.resourceClaimStatuses?.length ?? 0}`;
}

/** Leases and CSINodes carry the node's own name. */
function ownNamed(node: string, attributes: AuthorizerAttributes, namespace: string): AuthorizerDecision {
  const { verb, subresource, name } = attributes;
  if (!['get', 'create', 'update', 'patch', 'delete'].includes(verb) || subresource !== '')
    return refuse('can only get, create, update, patch, or delete an object of this type');
  if (attributes.namespace !== namespace)
    return refuse(`can only access leases in the '${LEASE_NAMESPACE}' system namespace`);
  if (verb !== 'create' && name !== node)
    return refuse(
      `can only access the ${attributes.resource.slice(0, -1)} with the same name as the requesting node`,
    );
  return ALLOW;
}
