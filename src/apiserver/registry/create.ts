// create: decode → admission may change → defaults of the server → validation → admission judges → written where
// nothing was. The order is upstream's (endpoints/handlers/create.go, registry/generic/registry/store.go).

import type { MutableObject, ResourceDefinition } from '../../api/definition.ts';
import { alreadyExists, badRequest, generateNameConflict, invalid, StatusError } from '../../api/errors.ts';
import type { KubeObject } from '../../api/object.ts';
import { writeOptions } from '../request/options.ts';
import { writeWithCompanions } from './companions.ts';
import { AdmissionRun, decodeBody, type RegistryContext, storageDefinition } from './context.ts';
import { generateName, NAME_ATTEMPTS } from './names.ts';
import { matchNamespace, orderMetadata, setSystemFields } from './object-meta.ts';
import type { Answer, RegistryRequest } from './request.ts';

export async function create(context: RegistryContext, request: RegistryRequest): Promise<Answer> {
  const { definition, namespace } = request;
  const options = writeOptions('CreateOptions', request.query);
  const decoded = decodeBody(request, definition, options.fieldValidation);
  matchNamespace(definition, decoded, namespace);
  const object = definition.conversion?.toStorage(decoded) ?? decoded;
  return insert(context, request, object, options);
}

/** The part of a creation that follows decoding; `object` is of the storage version. */
export async function insert(
  context: RegistryContext,
  request: RegistryRequest,
  object: MutableObject,
  options: { readonly dryRun: boolean; readonly value: Readonly<Record<string, unknown>> },
): Promise<Answer> {
  const { definition } = request;
  const stored = storageDefinition(context, definition);
  const admission = new AdmissionRun(context, request, 'CREATE', options.value, options.dryRun);
  let committed = false;
  try {
    await admission.admit(object, undefined);
    refuseVersion(object);
    const prefix = object.metadata.generateName ?? '';
    const generated = prefix !== '' && (object.metadata.name ?? '') === '';
    for (let attempt = 1; ; attempt++) {
      // A kind may prepare itself by its name (a Job's labels hold it), so each name begins with the object as it came.
      const candidate = generated ? structuredClone(object) : object;
      if (generated) candidate.metadata.name = generateName(prefix, context.random);
      prepare(context, stored, candidate);
      validateNew(definition, stored, candidate);
      await admission.validate(candidate, undefined);
      orderMetadata(candidate);
      const outcome = await place(context, request, stored, candidate, options.dryRun, admission);
      if (outcome !== 'taken') {
        committed = true;
        return outcome;
      }
      if (!generated || attempt === NAME_ATTEMPTS) throw await taken(context, request, candidate, generated);
    }
  } finally {
    admission.settle(committed);
  }
}

/** Whoever sends a version means an object that is there already. */
function refuseVersion({ metadata }: MutableObject): void {
  const { resourceVersion = '' } = metadata;
  if (resourceVersion === '' || resourceVersion === '0') return;
  const message = 'resourceVersion should not be set on objects to be created';
  throw new StatusError({ code: 500, message });
}

/** What the server and the kind's strategy set before anything is judged. */
export function prepare(context: RegistryContext, stored: ResourceDefinition, object: MutableObject): void {
  setSystemFields(object, context.newUid(), context.clock.now());
  if (stored.strategy.generation) object.metadata.generation = 1;
  stored.strategy.prepareForCreate?.(object);
}

function validateNew(
  definition: ResourceDefinition,
  stored: ResourceDefinition,
  object: MutableObject,
): void {
  const whole = object as unknown as KubeObject;
  const errors = [
    ...(stored.strategy.validate?.(whole) ?? []),
    ...(stored.strategy.validateNew?.(whole) ?? []),
  ];
  if (errors.length > 0)
    throw invalid({ group: definition.group, name: definition.kind }, object.metadata.name ?? '', errors);
}

async function place(
  context: RegistryContext,
  request: RegistryRequest,
  stored: ResourceDefinition,
  object: MutableObject,
  dryRun: boolean,
  admission: AdmissionRun,
): Promise<Answer | 'taken'> {
  const format = context.objects.format(request.definition);
  if (dryRun) {
    const there = await context.objects.newest(
      stored,
      object.metadata.namespace ?? '',
      object.metadata.name!,
    );
    if (there !== undefined) return 'taken';
    return {
      type: 'value',
      status: 201,
      value: request.definition.conversion?.fromStorage(object) ?? object,
    };
  }
  const written = await writeWithCompanions(context, stored, object, undefined, admission);
  return written.done ? { type: 'object', status: 201, object: written.object, format } : 'taken';
}

async function taken(
  context: RegistryContext,
  request: RegistryRequest,
  object: MutableObject,
  generated: boolean,
): Promise<StatusError> {
  const { definition } = request;
  const resource = { group: definition.group, name: definition.resource };
  const name = object.metadata.name!;
  const there = await context.objects.newest(definition, object.metadata.namespace ?? '', name);
  const error = generated ? generateNameConflict(resource, name, 1) : alreadyExists(resource, name);
  if (there?.peek().metadata.deletionTimestamp === undefined) return error;
  const { metadata: _metadata, status: _status, ...status } = error.status;
  return new StatusError({ ...status, message: `object is being deleted: ${status.message}` });
}

/** A namespaced resource cannot be created outside of one. */
export function requireNamespace(definition: ResourceDefinition, namespace: string): void {
  if (definition.namespaced && namespace === '') throw badRequest('Namespace parameter required.');
}
