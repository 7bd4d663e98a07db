// The scale subresource: autoscaling/v1 Scale as a view of an object's spec.replicas, status.replicas and selector.

import type { MutableObject } from '../../api/definition.ts';
import { badRequest, conflict, fieldError, invalid, OPTIMISTIC_LOCK } from '../../api/errors.ts';
import { labelSelectorMatcher, labelSetMatcher } from '../../api/labels.ts';
import type { KubeObject } from '../../api/object.ts';
import { applyPatch } from '../../api/patch/patch.ts';
import { type DecodeTarget, decodeTarget, decodeValue } from '../../api/schema/decode.ts';
import type { Scale } from '../../api/types/autoscaling-v1.ts';
import type { LabelSelector } from '../../api/types/meta-v1.ts';
import type { StoredObject } from '../cache/stored-object.ts';
import { writeOptions } from '../request/options.ts';
import { parsePatch } from '../request/patch-body.ts';
import { decodeBody, type RegistryContext } from './context.ts';
import type { Answer, RegistryRequest } from './request.ts';
import { partRules } from './subresource-rules.ts';
import { modify } from './update.ts';

interface Scalable extends KubeObject {
  readonly spec?: {
    readonly replicas?: number;
    readonly selector?: LabelSelector | Readonly<Record<string, string>>;
  };
  readonly status?: { readonly replicas?: number };
}

const scaleTarget = (): DecodeTarget => decodeTarget('autoscaling', 'v1', 'Scale');

export async function getScale(context: RegistryContext, request: RegistryRequest): Promise<Answer> {
  const object = await context.objects.find(request.definition, request.namespace, request.name);
  return { type: 'value', status: 200, value: scaleOf(object) };
}

export async function updateScale(context: RegistryContext, request: RegistryRequest): Promise<Answer> {
  const options = writeOptions('UpdateOptions', request.query);
  const scale = decodeBody(request, scaleTarget(), options.fieldValidation) as unknown as Scale;
  return write(context, request, options, () => scale);
}

export async function patchScale(context: RegistryContext, request: RegistryRequest): Promise<Answer> {
  const { type, patch, text, ...parsed } = parsePatch(request.body);
  const options = writeOptions('PatchOptions', request.query);
  const duplicates = parsed.duplicates(options.fieldValidation);
  const target = scaleTarget();
  return write(context, request, options, (current, attempt) => {
    const patched = applyPatch(type, scaleOf(current), patch, target.schema);
    const { object, warnings } = decodeValue(target, patched, {
      fieldValidation: options.fieldValidation,
      patch: text,
      duplicates,
    });
    if (attempt === 1) for (const warning of warnings) request.warn(warning);
    return object as unknown as Scale;
  });
}

async function write(
  context: RegistryContext,
  request: RegistryRequest,
  options: ReturnType<typeof writeOptions>,
  wanted: (current: StoredObject, attempt: number) => Scale,
): Promise<Answer> {
  const { definition, name, namespace } = request;
  const resource = { group: definition.group, name: definition.resource };
  const answer = await modify(
    context,
    request,
    options,
    { name, rules: partRules(definition, '') },
    (current, attempt) => {
      const scale = wanted(current, attempt);
      check(scale, name, namespace);
      const { uid, resourceVersion } = scale.metadata;
      if (uid && uid !== current.uid)
        throw conflict(
          resource,
          name,
          `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${current.uid}`,
        );
      if (resourceVersion && resourceVersion !== String(current.revision))
        throw conflict(resource, name, OPTIMISTIC_LOCK);
      const object = structuredClone(current.object) as unknown as MutableObject;
      object['spec'] = { ...(object['spec'] as object), replicas: scale.spec?.replicas ?? 0 };
      return object;
    },
  );
  if (answer.type === 'object') return { type: 'value', status: 200, value: scaleOf(answer.object) };
  if (answer.type === 'value')
    return { type: 'value', status: 200, value: scaleFrom(answer.value as Scalable) };
  return answer;
}

function check(scale: Scale, name: string, namespace: string): void {
  const errors = [];
  if (scale.metadata.name !== name)
    throw badRequest(
      `the name of the object (${scale.metadata.name}) does not match the name on the URL (${name})`,
    );
  if (scale.metadata.namespace && scale.metadata.namespace !== namespace)
    throw badRequest(
      `the namespace of the object (${scale.metadata.namespace}) does not match the namespace on the request (${namespace})`,
    );
  if ((scale.spec?.replicas ?? 0) < 0)
    errors.push(
      fieldError.invalid('spec.replicas', scale.spec?.replicas, 'must be greater than or equal to 0'),
    );
  if (errors.length > 0) throw invalid({ group: 'autoscaling', name: 'Scale' }, name, errors);
}

function scaleOf(stored: StoredObject): Scale {
  return scaleFrom(stored.peek() as Scalable);
}

function scaleFrom(object: Scalable): Scale {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const selector = selectorText(object.spec?.selector);
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      uid,
      resourceVersion,
      creationTimestamp,
    },
    spec: { ...(object.spec?.replicas === undefined ? {} : { replicas: object.spec.replicas }) },
    status: { replicas: object.status?.replicas ?? 0, ...(selector === '' ? {} : { selector }) },
  };
}

/** A ReplicationController's selector is a map of labels, everybody else's a LabelSelector. */
function selectorText(selector: NonNullable<Scalable['spec']>['selector']): string {
  if (selector === undefined) return '';
  const full = selector as LabelSelector;
  const isLabelSelector =
    typeof full.matchLabels === 'object' ||
    Array.isArray(full.matchExpressions) ||
    Object.keys(full).length === 0;
  return isLabelSelector
    ? labelSelectorMatcher(full).toString()
    : labelSetMatcher(selector as Readonly<Record<string, string>>).toString();
}
