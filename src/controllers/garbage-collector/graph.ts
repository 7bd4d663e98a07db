// Who owns whom: a graph of all objects by uid, made from their ownerReferences as the informers tell of them. It
// decides nothing about deletion; it says which objects must be looked at (`check`), and keeps three facts that the
// decision needs: the dependents of an owner, whether it waits for them (foreground), whether it has been seen.
//
// An owner that is referred to before it is seen stands as an absent node; nothing can be concluded from that until
// the server has been asked, so its dependents are to be checked.

import { parseGroupVersion } from '../../api/index.ts';
import type { OwnerReference } from '../../api/types/meta-v1.ts';
import type { MetadataObject, ResourceType } from '../../client/index.ts';

export const FOREGROUND = 'foregroundDeletion';
export const ORPHAN = 'orphan';

/** Where an object is, and which it is. */
export interface Identity {
  readonly type: ResourceType;
  readonly namespace: string | undefined;
  readonly name: string;
  readonly uid: string;
}

export interface GraphNode {
  readonly uid: string;
  /** Undefined: referred to, but not seen (yet). */
  identity: Identity | undefined;
  owners: readonly OwnerReference[];
  /** Made when the first comes: most objects own nothing. */
  dependents: Set<GraphNode> | undefined;
  beingDeleted: boolean;
  /** It is deleted in the foreground: it stays until its blocking dependents are gone. */
  waitsForDependents: boolean;
  /** It is deleted with its dependents to be orphaned first. */
  orphansDependents: boolean;
}

export interface GraphListener {
  /** Look at this object: it may have to be deleted, or its deletion may go on. */
  check(node: GraphNode): void;
  /** Its dependents are to lose their reference to it before it goes. */
  orphan(node: GraphNode): void;
  /** The reference names an object that exists, but in a place where it cannot own this one. */
  misplaced(dependent: GraphNode, reference: OwnerReference): void;
}

const none: ReadonlySet<GraphNode> = new Set();

export class OwnerGraph {
  readonly #nodes = new Map<string, GraphNode>();
  readonly #listener: GraphListener;

  constructor(listener: GraphListener) {
    this.#listener = listener;
  }

  get size(): number {
    return this.#nodes.size;
  }

  get(uid: string): GraphNode | undefined {
    return this.#nodes.get(uid);
  }

  dependents(node: GraphNode): ReadonlySet<GraphNode> {
    return node.dependents ?? none;
  }

  /** Those whose reference says that the owner must not go before them. */
  *blockingDependents(owner: GraphNode): Iterable<GraphNode> {
    for (const dependent of this.dependents(owner))
      if (dependent.owners.some((ref) => ref.uid === owner.uid && ref.blockOwnerDeletion === true))
        yield dependent;
  }

  /** True when the reference leads to a node that has been seen in the place that the reference means. */
  seen(dependent: Identity, reference: OwnerReference): GraphNode | undefined {
    const owner = this.#nodes.get(reference.uid);
    return owner?.identity && refersTo(reference, dependent, owner.identity) ? owner : undefined;
  }

  /** The object is there, in this state. */
  upsert(type: ResourceType, object: MetadataObject): void {
    const {
      uid,
      namespace,
      name,
      ownerReferences = [],
      deletionTimestamp,
      finalizers = [],
    } = object.metadata;
    const identity: Identity = { type, namespace, name, uid };
    let node = this.#nodes.get(uid);
    // One object served by two groups (as events are): the group in which it was seen first stands.
    if (node?.identity && !sameResource(node.identity, identity)) return;
    const firstSeen = node?.identity === undefined;
    if (!node) {
      node = {
        uid,
        identity,
        owners: [],
        dependents: undefined,
        beingDeleted: false,
        waitsForDependents: false,
        orphansDependents: false,
      };
      this.#nodes.set(uid, node);
    } else node.identity = identity;
    this.#setOwners(node, identity, ownerReferences);
    if (firstSeen) this.#checkClaims(node, identity);

    node.beingDeleted = deletionTimestamp !== undefined;
    const orphans = node.beingDeleted && finalizers.includes(ORPHAN);
    if (orphans && !node.orphansDependents) this.#listener.orphan(node);
    node.orphansDependents = orphans;
    const waits = node.beingDeleted && finalizers.includes(FOREGROUND);
    if (waits && !node.waitsForDependents) {
      node.waitsForDependents = true;
      for (const dependent of this.dependents(node)) this.#listener.check(dependent);
      this.#listener.check(node);
    }
    node.waitsForDependents = waits;
  }

  /** The object is gone for good. */
  remove(uid: string): void {
    const node = this.#nodes.get(uid);
    if (!node?.identity) return;
    node.identity = undefined;
    this.#setOwners(node, undefined, []);
    if (!node.dependents?.size) {
      this.#nodes.delete(uid);
      return;
    }
    node.beingDeleted = false;
    node.waitsForDependents = false;
    node.orphansDependents = false;
    for (const dependent of node.dependents) this.#listener.check(dependent);
  }

  #setOwners(node: GraphNode, identity: Identity | undefined, next: readonly OwnerReference[]): void {
    const before = new Map(node.owners.map((ref) => [ref.uid, ref]));
    const after = new Map(next.map((ref) => [ref.uid, ref]));
    node.owners = next.length === 0 ? [] : next;
    for (const [uid, old] of before) {
      const now = after.get(uid);
      if (!now) this.#unlink(node, uid);
      // An owner that waits may go on when this dependent no longer blocks it.
      else if (old.blockOwnerDeletion === true && now.blockOwnerDeletion !== true) this.#checkIfWaiting(uid);
    }
    for (const [uid, reference] of after)
      if (!before.has(uid) && identity) this.#link(node, identity, reference);
  }

  #link(node: GraphNode, identity: Identity, reference: OwnerReference): void {
    let owner = this.#nodes.get(reference.uid);
    if (!owner) {
      owner = {
        uid: reference.uid,
        identity: undefined,
        owners: [],
        dependents: undefined,
        beingDeleted: false,
        waitsForDependents: false,
        orphansDependents: false,
      };
      this.#nodes.set(reference.uid, owner);
    }
    owner.dependents ??= new Set();
    owner.dependents.add(node);
    if (!owner.identity) {
      this.#listener.check(node);
      return;
    }
    if (!refersTo(reference, identity, owner.identity))
      this.#reportMisplaced(node, identity, reference, owner.identity);
    else if (owner.waitsForDependents) this.#listener.check(node);
  }

  #unlink(node: GraphNode, ownerUid: string): void {
    const owner = this.#nodes.get(ownerUid);
    if (!owner?.dependents?.delete(node)) return;
    if (owner.dependents.size === 0) {
      owner.dependents = undefined;
      if (!owner.identity) {
        this.#nodes.delete(ownerUid);
        return;
      }
    }
    if (owner.waitsForDependents) this.#listener.check(owner);
  }

  #checkIfWaiting(uid: string): void {
    const owner = this.#nodes.get(uid);
    if (owner?.waitsForDependents) this.#listener.check(owner);
  }

  /** The owner is seen for the first time: do those that claim it mean this object? */
  #checkClaims(owner: GraphNode, identity: Identity): void {
    for (const dependent of this.dependents(owner)) {
      const reference = dependent.owners.find((ref) => ref.uid === owner.uid);
      if (!reference || !dependent.identity || refersTo(reference, dependent.identity, identity)) continue;
      this.#reportMisplaced(dependent, dependent.identity, reference, identity);
    }
  }

  #reportMisplaced(
    dependent: GraphNode,
    identity: Identity,
    reference: OwnerReference,
    owner: Identity,
  ): void {
    if (owner.namespace !== undefined && owner.namespace !== identity.namespace)
      this.#listener.misplaced(dependent, reference);
    this.#listener.check(dependent);
  }
}

/** An owner is cluster-scoped, or in the namespace of what it owns. */
function refersTo(reference: OwnerReference, dependent: Identity, owner: Identity): boolean {
  return (
    reference.kind === owner.type.kind &&
    reference.name === owner.name &&
    parseGroupVersion(reference.apiVersion).group === owner.type.group &&
    (owner.namespace === undefined || owner.namespace === dependent.namespace)
  );
}

function sameResource(a: Identity, b: Identity): boolean {
  return a.type.group === b.type.group && a.type.resource === b.type.resource;
}
