// pods/binding: the scheduler's word on which node a pod is to run. Written into the pod as spec.nodeName and the
// condition PodScheduled; a pod is bound once.

import type { MutableObject } from '../../api/definition.ts';
import {
  badRequest,
  conflict,
  type FieldError,
  fieldError,
  goQuote,
  invalid,
  serverTimeout,
} from '../../api/errors.ts';
import { timestamp, withCondition } from '../../api/meta.ts';
import { decodeTarget } from '../../api/schema/decode.ts';
import type { Binding, Pod, PodCondition } from '../../api/types/core-v1.ts';
import { writeOptions } from '../request/options.ts';
import { AdmissionRun, decodeBody, type RegistryContext } from './context.ts';
import { matchNamespace, orderMetadata } from './object-meta.ts';
import { type Answer, done, type RegistryRequest } from './request.ts';

const RESOURCE = { group: '', name: 'pods/binding' };
const MOST_ATTEMPTS = 64;

/** `request` is for pods; its name is that of the URL, '' for the old `bindings` resource. */
export async function bindPod(context: RegistryContext, request: RegistryRequest): Promise<Answer> {
  const { definition, namespace } = request;
  const options = writeOptions('CreateOptions', request.query);
  const decoded = decodeBody(request, decodeTarget('', 'v1', 'Binding'), options.fieldValidation);
  matchNamespace(definition, decoded, namespace);
  const name = request.name === '' ? (decoded.metadata.name ?? '') : request.name;
  if (decoded.metadata.name !== name) throw badRequest('name in URL does not match name in Binding object');
  const admission = new AdmissionRun(context, { ...request, name }, 'CREATE', options.value, options.dryRun);
  let committed = false;
  try {
    await admission.admit(decoded, undefined);
    const binding = decoded as unknown as Binding;
    const errors = bindingErrors(binding);
    if (errors.length > 0) throw invalid({ group: '', name: 'Binding' }, name, errors);
    await admission.validate(decoded, undefined);
    await assign(context, { ...request, name }, binding, options.dryRun);
    committed = true;
    return done();
  } finally {
    admission.settle(committed);
  }
}

function bindingErrors({ target }: Binding): FieldError[] {
  const errors: FieldError[] = [];
  if (target.kind !== undefined && target.kind !== '' && target.kind !== 'Node')
    errors.push(fieldError.notSupported('target.kind', target.kind, ['Node', '<empty>']));
  if (!target.name) errors.push(fieldError.required('target.name'));
  return errors;
}

async function assign(
  context: RegistryContext,
  { definition, namespace, name }: RegistryRequest,
  binding: Binding,
  dryRun: boolean,
): Promise<void> {
  const { objects } = context;
  let current = await objects.find(definition, namespace, name);
  for (let attempt = 0; attempt < MOST_ATTEMPTS; attempt++) {
    const pod = current.object as Pod;
    const { uid, resourceVersion } = binding.metadata;
    if (uid && uid !== pod.metadata.uid)
      throw conflict(
        RESOURCE,
        name,
        `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${pod.metadata.uid}`,
      );
    if (resourceVersion && resourceVersion !== pod.metadata.resourceVersion)
      throw conflict(
        RESOURCE,
        name,
        `Precondition failed: ResourceVersion in precondition: ${resourceVersion}, ResourceVersion in object meta: ${pod.metadata.resourceVersion}`,
      );
    if (pod.metadata.deletionTimestamp !== undefined)
      throw conflict(RESOURCE, name, `pod ${name} is being deleted, cannot be assigned to a host`);
    if (pod.spec.nodeName)
      throw conflict(RESOURCE, name, `pod ${name} is already assigned to node ${goQuote(pod.spec.nodeName)}`);
    if ((pod.spec.schedulingGates ?? []).length > 0)
      throw conflict(RESOURCE, name, `pod ${name} has non-empty .spec.schedulingGates`);
    if (dryRun) return;
    const bound = boundPod(pod, binding, context.clock.now());
    orderMetadata(bound);
    const written = await objects.write(definition, bound, current);
    if (written.done) return;
    current = written.current ?? (await objects.find(definition, namespace, name));
  }
  throw serverTimeout(RESOURCE, 'create', 1);
}

function boundPod(pod: Pod, binding: Binding, now: number): MutableObject {
  const { metadata } = binding;
  const conditions = withCondition<PodCondition>(
    pod.status?.conditions,
    {
      type: 'PodScheduled',
      status: 'True',
      ...(pod.metadata.generation === undefined ? {} : { observedGeneration: pod.metadata.generation }),
      lastTransitionTime: timestamp(now),
    },
    now,
  );
  const annotations = { ...pod.metadata.annotations, ...metadata.annotations };
  // Labels of the node's topology; what the pod says of itself stays.
  const labels = { ...metadata.labels, ...pod.metadata.labels };
  return {
    ...pod,
    metadata: {
      ...pod.metadata,
      ...(Object.keys(annotations).length > 0 ? { annotations } : {}),
      ...(Object.keys(labels).length > 0 ? { labels } : {}),
    },
    spec: { ...pod.spec, nodeName: binding.target.name },
    status: { ...pod.status, conditions: [...conditions] },
  } as unknown as MutableObject;
}
