// update and patch, of whole objects and of subresources that are a part of the object: read the current state, make
// the new one out of it, judge it, and write it only if the current state is still the same; otherwise start over
// from what is there now. A write that would change nothing is not done.

import type { MutableObject, ResourceDefinition } from '../../api/definition.ts';
import {
  conflict,
  type FieldError,
  fieldError,
  invalid,
  notFound,
  OPTIMISTIC_LOCK,
  serverTimeout,
} from '../../api/errors.ts';
import type { KubeObject } from '../../api/object.ts';
import { applyPatch, patchTypes } from '../../api/patch/patch.ts';
import { decodeValue } from '../../api/schema/decode.ts';
import type { PatchType } from '../../api/transport.ts';
import type { StoredObject } from '../cache/stored-object.ts';
import { type WriteOptions, writeOptions } from '../request/options.ts';
import { parsePatch } from '../request/patch-body.ts';
import { removeWithCompanions, writeWithCompanions } from './companions.ts';
import { AdmissionRun, decodeBody, type RegistryContext, storageDefinition } from './context.ts';
import { insert } from './create.ts';
import { keepSystemFields, matchName, metadataUpdateErrors, orderMetadata } from './object-meta.ts';
import type { Answer, RegistryRequest } from './request.ts';
import { sameFields, sameValue } from './same-value.ts';
import { type PartRules, partRules } from './subresource-rules.ts';

/** How often a write that loses against others starts over before the client is asked to try again. */
const MOST_ATTEMPTS = 64;

/** Makes the new state (of the storage version) from the current one; called anew after each lost race. */
export type Transform = (current: StoredObject, attempt: number) => MutableObject | Promise<MutableObject>;

export async function update(context: RegistryContext, request: RegistryRequest): Promise<Answer> {
  const { definition, namespace, name } = request;
  const options = writeOptions('UpdateOptions', request.query);
  const decodeOnce = (attempt: number): MutableObject => {
    // Admission changes the object in place, so each attempt starts from the body again; warnings are given once.
    const asked = attempt === 1 ? request : { ...request, warn: ignore };
    const decoded = decodeBody(asked, definition, options.fieldValidation);
    matchName(definition, decoded, namespace, name);
    return definition.conversion?.toStorage(decoded) ?? decoded;
  };
  const first = decodeOnce(1);
  const { strategy } = storageDefinition(context, definition);
  const target: UpdateTarget = {
    name,
    uid: first.metadata.uid,
    createMissing:
      strategy.allowCreateOnUpdate && request.subresource === ''
        ? async () => {
            await request.authorize('create');
            delete first.metadata.resourceVersion;
            return insert(context, { ...request, verb: 'create' }, first, options);
          }
        : undefined,
  };
  return modify(context, request, options, target, (_current, attempt) =>
    attempt === 1 ? first : decodeOnce(attempt),
  );
}

export async function patch(context: RegistryContext, request: RegistryRequest): Promise<Answer> {
  const { definition, namespace, name } = request;
  // The kind of patch first: what the options may say depends on it.
  const { type, patch: document, text, ...parsed } = parsePatch(request.body);
  const options = writeOptions('PatchOptions', request.query);
  const duplicates = parsed.duplicates(options.fieldValidation);
  return modify(context, request, options, { name }, (current, attempt) => {
    const patched = patchObject(context, definition, current, type, document);
    const decoded = decodeValue(definition, patched, {
      fieldValidation: options.fieldValidation,
      patch: text,
      duplicates,
    });
    if (attempt === 1) for (const warning of decoded.warnings) request.warn(warning);
    matchName(definition, decoded.object, namespace, name);
    return definition.conversion?.toStorage(decoded.object) ?? decoded.object;
  });
}

function patchObject(
  context: RegistryContext,
  definition: ResourceDefinition,
  current: StoredObject,
  type: PatchType,
  document: unknown,
): object {
  return applyPatch(type, context.objects.format(definition).object(current), document, definition.schema);
}

export { patchTypes };

export interface UpdateTarget {
  readonly name: string;
  /** The uid that the object must have, when the client said so. */
  readonly uid?: string | undefined;
  /** What to do when there is no such object; absent: 404. */
  readonly createMissing?: (() => Promise<Answer>) | undefined;
  /** What of the object this write is about, when it is not the request's own subresource. */
  readonly rules?: PartRules;
}

/** Runs `transform` over the current object and everything that an update goes through. */
export async function modify(
  context: RegistryContext,
  request: RegistryRequest,
  options: WriteOptions,
  target: UpdateTarget,
  transform: Transform,
): Promise<Answer> {
  const { definition, namespace } = request;
  const { objects } = context;
  const resource = { group: definition.group, name: definition.resource };
  const stored = storageDefinition(context, definition);
  const rules = target.rules ?? partRules(definition, request.subresource);
  let current = await objects.newest(definition, namespace, target.name);
  for (let attempt = 1; attempt <= MOST_ATTEMPTS; attempt++) {
    if (current === undefined) {
      if (target.createMissing !== undefined) return target.createMissing();
      throw notFound(resource, target.name);
    }
    const admission = new AdmissionRun(context, request, 'UPDATE', options.value, options.dryRun);
    let committed = false;
    try {
      const old = current.object;
      const object = await transform(current, attempt);
      if (target.uid !== undefined && target.uid !== '' && target.uid !== old.metadata.uid)
        throw conflict(
          resource,
          target.name,
          `Precondition failed: UID in precondition: ${target.uid}, UID in object meta: ${old.metadata.uid}`,
        );
      await admission.admit(object, old);
      checkVersion(definition, stored, object, current, target.name);
      prepareUpdate(stored, rules, object, old, context.clock.now());
      validateUpdate(definition, stored, rules, object, old);
      await admission.validate(object, old);
      orderMetadata(object);
      const outcome = await replace(context, request, stored, object, current, options.dryRun, admission);
      if (outcome.done) {
        committed = true;
        return outcome.answer;
      }
      current = outcome.current;
    } finally {
      admission.settle(committed);
    }
  }
  throw serverTimeout(resource, request.verb, 1);
}

/** An object with a resourceVersion replaces that version only. */
function checkVersion(
  definition: ResourceDefinition,
  stored: ResourceDefinition,
  object: MutableObject,
  current: StoredObject,
  name: string,
): void {
  const asked = object.metadata.resourceVersion ?? '';
  if (asked === '' || asked === '0') {
    if (stored.strategy.allowUnconditionalUpdate) return;
    throw invalid({ group: definition.group, name: definition.kind }, name, [
      fieldError.invalid(
        'metadata.resourceVersion',
        asked === '' ? 0 : asked,
        'must be specified for an update',
      ),
    ]);
  }
  if (asked !== String(current.revision))
    throw conflict({ group: definition.group, name: definition.resource }, name, OPTIMISTIC_LOCK);
}

function prepareUpdate(
  stored: ResourceDefinition,
  rules: PartRules,
  object: MutableObject,
  old: KubeObject,
  now: number,
): void {
  keepSystemFields(object, old);
  rules.prepare(stored, object, old, now);
  if (!stored.strategy.generation) return;
  const before = old.metadata.generation ?? 0;
  const counts =
    !sameFields(object, old, BESIDE_SPEC) ||
    (stored.strategy.generationCountsAnnotations === true &&
      !sameValue(object.metadata.annotations ?? {}, old.metadata.annotations ?? {}));
  if (rules.generation && counts) object.metadata.generation = before + 1;
  else if (before > 0) object.metadata.generation = before;
}

const BESIDE_SPEC: ReadonlySet<string> = new Set(['metadata', 'status', 'kind', 'apiVersion']);

function validateUpdate(
  definition: ResourceDefinition,
  stored: ResourceDefinition,
  rules: PartRules,
  object: MutableObject,
  old: KubeObject,
): void {
  const whole = object as unknown as KubeObject;
  let errors: readonly FieldError[] = metadataUpdateErrors(whole, old);
  if (errors.length === 0) errors = rules.validate(stored, whole, old);
  if (errors.length > 0)
    throw invalid({ group: definition.group, name: definition.kind }, object.metadata.name ?? '', errors);
}

type Replaced =
  | { readonly done: true; readonly answer: Answer }
  | { readonly done: false; readonly current: StoredObject | undefined };

async function replace(
  context: RegistryContext,
  request: RegistryRequest,
  stored: ResourceDefinition,
  object: MutableObject,
  current: StoredObject,
  dryRun: boolean,
  admission: AdmissionRun,
): Promise<Replaced> {
  const { objects } = context;
  const format = objects.format(request.definition);
  const unchanged: Replaced = {
    done: true,
    answer: { type: 'object', status: 200, object: current, format },
  };
  const bytes = objects.encode(stored, object);
  const gone = emptied(stored, object);
  if (!gone && isSame(bytes, object, current)) return unchanged;
  if (dryRun) {
    object.metadata.resourceVersion = String(current.revision);
    const value = request.definition.conversion?.fromStorage(object) ?? object;
    return { done: true, answer: { type: 'value', status: 200, value } };
  }
  if (gone) {
    // The last finalizer of an object on its way out is gone, and so is the object.
    const removed = await removeWithCompanions(context, stored, current, admission);
    if (!removed.done) return removed;
    object.metadata.resourceVersion = String(removed.revision);
    const value = request.definition.conversion?.fromStorage(object) ?? object;
    return { done: true, answer: { type: 'value', status: 200, value } };
  }
  const written = await writeWithCompanions(context, stored, object, current, admission, bytes);
  if (!written.done) return written;
  return { done: true, answer: { type: 'object', status: 200, object: written.object, format } };
}

/** Admission may have put fields in another order: equal length is then looked at field by field. */
function isSame(bytes: Uint8Array, object: MutableObject, current: StoredObject): boolean {
  if (bytes.length !== current.bytes.length) return false;
  if (Buffer.compare(bytes, current.bytes) === 0) return true;
  return (
    sameFields(object.metadata, current.object.metadata, VERSION) &&
    sameFields(object, current.object, METADATA)
  );
}

const VERSION: ReadonlySet<string> = new Set(['resourceVersion']);
const METADATA: ReadonlySet<string> = new Set(['metadata']);

/** On its way out, its grace period over, and nothing holds it any more. */
export function emptied(stored: ResourceDefinition, object: MutableObject): boolean {
  const { deletionTimestamp, deletionGracePeriodSeconds, finalizers } = object.metadata;
  if (deletionTimestamp === undefined || (deletionGracePeriodSeconds ?? 0) > 0) return false;
  if (finalizers !== undefined && finalizers.length > 0) return false;
  if (stored.group === '' && stored.resource === 'namespaces') {
    const spec = object['spec'] as { readonly finalizers?: readonly string[] } | undefined;
    return (spec?.finalizers ?? []).length === 0;
  }
  return true;
}

function ignore(): void {
  // The warning was given at the first attempt.
}
