// Objects that come and go with another one (a Service's IPAddresses with the Service), in one transaction: after a
// crash there is never one without the other, and of two servers over one store only one gets what both wanted.

import type { MutableObject, ResourceDefinition } from '../../api/definition.ts';
import { serverTimeout } from '../../api/errors.ts';
import { type GroupVersionResource, groupVersion } from '../../api/object.ts';
import { type StoredObject, storageKey } from '../cache/stored-object.ts';
import type { Companions, CompanionWrite } from '../chain.ts';
import { type AdmissionRun, type RegistryContext, storageDefinition } from './context.ts';
import { orderMetadata, setSystemFields } from './object-meta.ts';
import type { JoinedWrite, RemoveResult, WriteResult } from './object-store.ts';

/** So many others may be faster before the client is asked to try again. */
const MOST_ATTEMPTS = 64;

/** As ObjectStore.write, with what admission wants written beside it. */
export async function writeWithCompanions(
  context: RegistryContext,
  stored: ResourceDefinition,
  object: MutableObject,
  previous: StoredObject | undefined,
  admission: AdmissionRun,
  bytes?: Uint8Array,
): Promise<WriteResult> {
  const { objects } = context;
  const { companions } = admission;
  if (companions.length === 0) return objects.write(stored, object, previous, bytes);
  let encoded = bytes;
  for (let attempt = 1; attempt <= MOST_ATTEMPTS; attempt++) {
    const asked = ask(context, companions, object);
    const joined = asked.map(({ write }) => write);
    const result = await objects.write(stored, object, previous, encoded, joined);
    if (result.done || result.joined === undefined) return result;
    await caughtUp(context);
    for (const lost of result.joined) {
      if (lost.put === undefined) continue;
      const { by } = asked.find(({ write }) => write === lost)!;
      by.taken(object, lost.put.object.metadata.name!);
      encoded = undefined;
    }
  }
  throw exhausted(stored, 'write');
}

/** As ObjectStore.remove, with what admission wants written beside it. */
export async function removeWithCompanions(
  context: RegistryContext,
  stored: ResourceDefinition,
  object: StoredObject,
  admission: AdmissionRun,
): Promise<RemoveResult> {
  const { objects } = context;
  for (let attempt = 1; attempt <= MOST_ATTEMPTS; attempt++) {
    const joined = ask(context, admission.companions, undefined).map(({ write }) => write);
    const result = await objects.remove(object, joined);
    if (result.done || result.joined === undefined) return result;
    await caughtUp(context);
  }
  throw exhausted(stored, 'delete');
}

interface Asked {
  readonly by: Companions;
  readonly write: JoinedWrite;
}

function ask(
  context: RegistryContext,
  companions: readonly Companions[],
  object: MutableObject | undefined,
): Asked[] {
  return companions.flatMap((by) =>
    by.writes(object).map((write) => ({ by, write: joinedWrite(context, write) })),
  );
}

function joinedWrite(context: RegistryContext, companion: CompanionWrite): JoinedWrite {
  const { objects } = context;
  const definition = definitionOf(context, companion.resource);
  const form = objects.form(definition);
  const { namespace = '', name } = companion.object.metadata;
  const key = storageKey(form, namespace, name);
  if (companion.type === 'delete')
    return { key, revision: Number(companion.object.metadata.resourceVersion) };
  const object: MutableObject = {
    kind: definition.kind,
    apiVersion: groupVersion(definition),
    ...companion.object,
    metadata: { ...companion.object.metadata } as MutableObject['metadata'],
  };
  setSystemFields(object, context.newUid(), context.clock.now());
  if (definition.strategy.generation) object.metadata.generation = 1;
  orderMetadata(object);
  return { key, revision: 0, put: { bytes: objects.encode(definition, object), object } };
}

function definitionOf(
  context: RegistryContext,
  { group, version, resource }: GroupVersionResource,
): ResourceDefinition {
  const definition = context.catalog.byResource(group, version, resource);
  if (definition === undefined) throw new Error(`no resource ${resource} is served in ${group}/${version}`);
  return storageDefinition(context, definition);
}

/** What another server has written meanwhile must be seen before the next try is made. */
async function caughtUp(context: RegistryContext): Promise<void> {
  await context.objects.cache.waitForStore();
}

function exhausted({ group, resource }: ResourceDefinition, verb: string): Error {
  return serverTimeout({ group, name: resource }, verb, 1);
}
