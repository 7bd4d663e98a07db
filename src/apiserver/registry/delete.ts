// delete and deletecollection. An object goes at once when nothing holds it; otherwise it is marked (deletionTimestamp,
// a grace period for kinds that have one, finalizers as the propagation policy asks) and goes with the write that
// takes the last hold away. The cases are those of k8s.io/apiserver's registry/generic/registry/store.go and
// registry/rest/delete.go.

import type { MutableObject, ResourceDefinition } from '../../api/definition.ts';
import { conflict, notFound, StatusError, serverTimeout } from '../../api/errors.ts';
import { timestamp } from '../../api/meta.ts';
import type { KubeObject } from '../../api/object.ts';
import { decodeTarget } from '../../api/schema/decode.ts';
import type { StoredObject } from '../cache/stored-object.ts';
import { type DeleteOptions, deleteOptions } from '../request/options.ts';
import { removeWithCompanions } from './companions.ts';
import { AdmissionRun, decodeBody, type RegistryContext, storageDefinition } from './context.ts';
import { list } from './list.ts';
import { FINALIZER_FOREGROUND, FINALIZER_ORPHAN, orderMetadata } from './object-meta.ts';
import { type Answer, type RegistryRequest, success } from './request.ts';
import { emptied } from './update.ts';

const MOST_ATTEMPTS = 64;
/** Objects of a collection that are deleted at the same time. */
const COLLECTION_WORKERS = 16;

export async function remove(context: RegistryContext, request: RegistryRequest): Promise<Answer> {
  return removeOne(context, request, readDeleteOptions(request));
}

function readDeleteOptions(request: RegistryRequest): DeleteOptions {
  const { body } = request;
  const empty =
    body === undefined || (body.type === 'encoded' ? body.bytes.length === 0 : body.value === undefined);
  if (empty) return deleteOptions(request.query, undefined);
  const target = decodeTarget('meta.k8s.io', 'v1', 'DeleteOptions');
  return deleteOptions(request.query, decodeBody(request, target, 'Ignore'));
}

/** Kinds whose delete answers with the object itself, not with a Status. */
const RETURNS_OBJECT: ReadonlySet<string> = new Set([
  '/pods',
  '/services',
  '/serviceaccounts',
  '/persistentvolumes',
  '/persistentvolumeclaims',
  '/podtemplates',
  '/resourcequotas',
  'storage.k8s.io/csidrivers',
  'storage.k8s.io/csinodes',
  'storage.k8s.io/storageclasses',
  'storage.k8s.io/volumeattachments',
  'storage.k8s.io/volumeattributesclasses',
]);

/** What one attempt found is to be done. */
type Plan =
  /** It goes now. */
  | { readonly type: 'remove' }
  /** It is marked, and stays until its grace period and its finalizers are over. */
  | { readonly type: 'mark'; readonly object: MutableObject }
  /** It was marked before and there is nothing to add. */
  | { readonly type: 'pending' };

export async function removeOne(
  context: RegistryContext,
  request: RegistryRequest,
  options: DeleteOptions,
): Promise<Answer> {
  const { definition, namespace, name } = request;
  const { objects } = context;
  const stored = storageDefinition(context, definition);
  const resource = { group: definition.group, name: definition.resource };
  let current = await objects.newest(definition, namespace, name);
  for (let attempt = 1; attempt <= MOST_ATTEMPTS; attempt++) {
    if (current === undefined) throw notFound(resource, name);
    checkPreconditions(definition, options, current);
    const admission = new AdmissionRun(context, request, 'DELETE', options.value, options.dryRun);
    let committed = false;
    try {
      await admission.admit(undefined, current.object);
      await admission.validate(undefined, current.object);
      const plan = planRemoval(stored, current.object, options, context.clock.now());
      const outcome = await carryOut(context, request, stored, current, plan, options, admission);
      if (outcome.done) {
        committed = plan.type !== 'pending';
        return outcome.answer;
      }
      current = outcome.current;
    } finally {
      admission.settle(committed);
    }
  }
  throw serverTimeout(resource, 'delete', 1);
}

function checkPreconditions(
  definition: ResourceDefinition,
  { preconditions }: DeleteOptions,
  current: StoredObject,
): void {
  const resource = { group: definition.group, name: definition.resource };
  const uid = preconditions?.uid;
  if (uid !== undefined && uid !== current.uid)
    throw conflict(
      resource,
      current.name,
      `the UID in the precondition (${uid}) does not match the UID in record (${current.uid}). The object might have been deleted and then recreated`,
    );
  const version = preconditions?.resourceVersion;
  if (version !== undefined && version !== String(current.revision))
    throw conflict(
      resource,
      current.name,
      `the ResourceVersion in the precondition (${version}) does not match the ResourceVersion in record (${current.revision}). The object might have been modified`,
    );
}

function planRemoval(stored: ResourceDefinition, old: KubeObject, options: DeleteOptions, now: number): Plan {
  // The rest of the object is shared with the old one: only metadata and status are made anew.
  const object = { ...old, metadata: { ...old.metadata } } as unknown as MutableObject;
  const { metadata } = object;
  if (stored.group === '' && stored.resource === 'namespaces')
    return planNamespaceRemoval(stored, object, options, now);
  const graceful = graceOf(stored, old, object, options, now);
  if (graceful === 'pending') return { type: 'pending' };
  const finalizers = garbageCollectionFinalizers(stored, old, options);
  if (finalizers !== undefined) {
    if (finalizers.length > 0) metadata.finalizers = finalizers;
    else delete metadata.finalizers;
  }
  const held = (metadata.finalizers ?? []).length > 0;
  if (!graceful) {
    if (!held) return { type: 'remove' };
    markAsDeleting(object, now);
    return { type: 'mark', object };
  }
  if (held || (metadata.deletionGracePeriodSeconds ?? 0) > 0) return { type: 'mark', object };
  return { type: 'remove' };
}

/**
 * Marks an object whose kind has a grace period. True: it was marked (or its period shortened); false: the kind or
 * this object has none, or it is over; pending: it is on its way out already and the request asks for no less.
 */
function graceOf(
  stored: ResourceDefinition,
  old: KubeObject,
  object: MutableObject,
  options: DeleteOptions,
  now: number,
): boolean | 'pending' {
  const { gracePeriodSeconds } = stored.strategy;
  if (gracePeriodSeconds === undefined) return false;
  const { metadata } = object;
  const requested = options.gracePeriodSeconds;
  if (metadata.deletionTimestamp !== undefined) {
    const before = metadata.deletionGracePeriodSeconds ?? 0;
    if (before === 0) return false;
    if (requested === undefined) return 'pending';
    // A negative wish means as soon as possible, as strategies have it for a first delete.
    const period = requested < 0 ? 1 : requested;
    if (period >= before) return 'pending';
    const started = Date.parse(metadata.deletionTimestamp) - before * 1000;
    metadata.deletionTimestamp = timestamp(started + period * 1000);
    metadata.deletionGracePeriodSeconds = period;
    return true;
  }
  const period = gracePeriodSeconds.call(stored.strategy, old, requested);
  metadata.deletionTimestamp = timestamp(now + period * 1000);
  metadata.deletionGracePeriodSeconds = period;
  if ((metadata.generation ?? 0) > 0) metadata.generation = metadata.generation! + 1;
  return true;
}

function markAsDeleting(object: MutableObject, now: number): void {
  const { metadata } = object;
  if (metadata.deletionTimestamp === undefined && (metadata.generation ?? 0) > 0) metadata.generation! += 1;
  if (metadata.deletionTimestamp === undefined || Date.parse(metadata.deletionTimestamp) > now)
    metadata.deletionTimestamp = timestamp(now);
  metadata.deletionGracePeriodSeconds = 0;
}

/** The finalizers that the propagation policy asks for; undefined: as they are. */
function garbageCollectionFinalizers(
  stored: ResourceDefinition,
  old: KubeObject,
  options: DeleteOptions,
): string[] | undefined {
  const before = old.metadata.finalizers ?? [];
  const orphan = shouldOrphan(stored, before, options);
  const foreground = shouldWaitForDependents(before, options);
  const after = before.filter((one) => one !== FINALIZER_ORPHAN && one !== FINALIZER_FOREGROUND);
  if (orphan) after.push(FINALIZER_ORPHAN);
  if (foreground) after.push(FINALIZER_FOREGROUND);
  const same = after.length === before.length && after.every((one) => before.includes(one));
  return same ? undefined : after;
}

function shouldOrphan(
  stored: ResourceDefinition,
  before: readonly string[],
  { orphanDependents, propagationPolicy }: DeleteOptions,
): boolean {
  if (orphanDependents !== undefined) return orphanDependents;
  if (propagationPolicy !== undefined) return propagationPolicy === 'Orphan';
  if (before.includes(FINALIZER_ORPHAN)) return true;
  if (before.includes(FINALIZER_FOREGROUND)) return false;
  return stored.strategy.defaultGarbageCollection === 'orphan';
}

function shouldWaitForDependents(
  before: readonly string[],
  { orphanDependents, propagationPolicy }: DeleteOptions,
): boolean {
  if (orphanDependents !== undefined) return false;
  if (propagationPolicy !== undefined) return propagationPolicy === 'Foreground';
  return before.includes(FINALIZER_FOREGROUND) && !before.includes(FINALIZER_ORPHAN);
}

/** A namespace is first emptied by its controller, which then takes `kubernetes` out of spec.finalizers. */
function planNamespaceRemoval(
  stored: ResourceDefinition,
  object: MutableObject,
  options: DeleteOptions,
  now: number,
): Plan {
  const { metadata } = object;
  const spec = (object['spec'] ?? {}) as { readonly finalizers?: readonly string[] };
  if (metadata.deletionTimestamp === undefined) {
    metadata.deletionTimestamp = timestamp(now);
    object['status'] = { ...(object['status'] as object | undefined), phase: 'Terminating' };
    const orphan = shouldOrphan(stored, metadata.finalizers ?? [], options);
    const finalizers = (metadata.finalizers ?? []).filter((one) => one !== FINALIZER_ORPHAN);
    if (orphan) finalizers.push(FINALIZER_ORPHAN);
    if (finalizers.length > 0) metadata.finalizers = finalizers;
    else delete metadata.finalizers;
    return emptied(stored, object) ? { type: 'remove' } : { type: 'mark', object };
  }
  return (spec.finalizers ?? []).length > 0 || !emptied(stored, object)
    ? { type: 'pending' }
    : { type: 'remove' };
}

type CarriedOut =
  | { readonly done: true; readonly answer: Answer }
  | { readonly done: false; readonly current: StoredObject | undefined };

async function carryOut(
  context: RegistryContext,
  request: RegistryRequest,
  stored: ResourceDefinition,
  current: StoredObject,
  plan: Plan,
  options: DeleteOptions,
  admission: AdmissionRun,
): Promise<CarriedOut> {
  const { definition } = request;
  const { objects } = context;
  const format = objects.format(definition);
  const object = (value: StoredObject, status = 200): CarriedOut => ({
    done: true,
    answer: { type: 'object', status, object: value, format },
  });
  // Asked for a cascade and not gone at once: 202, as upstream answers for the old orphanDependents=false only.
  const accepted = options.orphanDependents === false ? 202 : 200;
  switch (plan.type) {
    case 'pending':
      return object(current, accepted);
    case 'mark': {
      orderMetadata(plan.object);
      if (options.dryRun) {
        const value = definition.conversion?.fromStorage(plan.object) ?? plan.object;
        value.metadata.resourceVersion = String(current.revision);
        return { done: true, answer: { type: 'value', status: accepted, value } };
      }
      const bytes = objects.encode(stored, plan.object);
      if (bytes.length === current.bytes.length && Buffer.compare(bytes, current.bytes) === 0)
        return object(current, accepted);
      const written = await objects.write(stored, plan.object, current, bytes);
      return written.done ? object(written.object, accepted) : written;
    }
    case 'remove': {
      let revision = current.revision;
      if (!options.dryRun) {
        const removed = await removeWithCompanions(context, stored, current, admission);
        if (!removed.done) return removed;
        revision = removed.revision;
      }
      if (RETURNS_OBJECT.has(`${stored.group}/${stored.resource}`)) return object(current.at(revision));
      return {
        done: true,
        answer: {
          type: 'value',
          status: 200,
          value: success({
            name: current.name,
            ...(definition.group === '' ? {} : { group: definition.group }),
            kind: definition.resource,
            uid: current.uid,
          }),
        },
      };
    }
  }
}

/** Deletes every object that the list options choose; answers with the list of what was there. */
export async function removeCollection(context: RegistryContext, request: RegistryRequest): Promise<Answer> {
  const options = readDeleteOptions(request);
  const chosen = await list(context, request);
  const queue = chosen.objects.values();
  let failure: unknown;
  const work = async (): Promise<void> => {
    for (const object of queue) {
      if (failure !== undefined || request.signal().aborted) return;
      const one: RegistryRequest = {
        ...request,
        verb: 'delete',
        namespace: object.namespace,
        name: object.name,
      };
      try {
        await removeOne(context, one, options);
      } catch (error) {
        const gone = error instanceof StatusError && error.reason === 'NotFound';
        if (!gone) failure ??= error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(COLLECTION_WORKERS, chosen.objects.length) }, work));
  if (failure !== undefined) throw failure;
  return chosen;
}
