// pods/eviction: a delete that asks the pod's disruption budget first (policy/v1 Eviction). After
// kubernetes/pkg/registry/core/pod/storage/eviction.go.

import type { MutableObject } from '../../api/definition.ts';
import {
  badRequest,
  forbidden,
  internalError,
  isConflict,
  StatusError,
  tooManyRequests,
} from '../../api/errors.ts';
import { labelSelectorMatcher } from '../../api/labels.ts';
import { isPodReady, timestamp } from '../../api/meta.ts';
import { decodeTarget } from '../../api/schema/decode.ts';
import type { Pod } from '../../api/types/core-v1.ts';
import type { Eviction, PodDisruptionBudget } from '../../api/types/policy-v1.ts';
import type { StoredObject } from '../cache/stored-object.ts';
import { type DeleteOptions, deleteOptions, writeOptions } from '../request/options.ts';
import { AdmissionRun, decodeBody, type RegistryContext } from './context.ts';
import { removeOne } from './delete.ts';
import { matchNamespace, orderMetadata } from './object-meta.ts';
import { type Answer, done, type RegistryRequest } from './request.ts';

/** More than this many evictions that the disruption controller has not seen yet are too many. */
const MOST_UNCONFIRMED = 2_000;
const MOST_ATTEMPTS = 20;
/** kubectl up to 1.21 drains nodes with these. */
const OTHER_VERSIONS = ['v1beta1'];

export async function evictPod(context: RegistryContext, request: RegistryRequest): Promise<Answer> {
  const { definition, namespace, name } = request;
  const options = writeOptions('CreateOptions', request.query);
  const target = { ...decodeTarget('policy', 'v1', 'Eviction'), otherVersions: OTHER_VERSIONS };
  const decoded = decodeBody(request, target, options.fieldValidation);
  matchNamespace(definition, decoded, namespace);
  if (decoded.metadata.name !== name) throw badRequest('name in URL does not match name in Eviction object');
  const wanted = ((decoded as unknown as Eviction).deleteOptions ?? {}) as Readonly<Record<string, unknown>>;
  const deletion = deleteOptions(new URLSearchParams(), {
    ...wanted,
    ...(options.dryRun ? { dryRun: ['All'] } : {}),
  });
  const admission = new AdmissionRun(context, request, 'CREATE', options.value, deletion.dryRun);
  let committed = false;
  try {
    await admission.admit(decoded, undefined);
    await admission.validate(decoded, undefined);
    await evict(context, request, deletion);
    committed = true;
    return done();
  } finally {
    admission.settle(committed);
  }
}

async function evict(
  context: RegistryContext,
  request: RegistryRequest,
  deletion: DeleteOptions,
): Promise<void> {
  const { definition, namespace, name } = request;
  for (let attempt = 1; ; attempt++) {
    const pod = await context.objects.find(definition, namespace, name);
    const budget = ignoresBudgets(pod.peek() as Pod) ? undefined : await budgetOf(context, pod);
    const free = budget === undefined || !(await spend(context, budget, pod, deletion.dryRun));
    // Who goes without asking a budget does so as the pod that was looked at, not as one that has become ready since.
    const guarded = free && deletion.preconditions?.resourceVersion === undefined;
    const options: DeleteOptions = guarded
      ? { ...deletion, preconditions: { ...deletion.preconditions, resourceVersion: String(pod.revision) } }
      : deletion;
    try {
      await removeOne(context, { ...request, subresource: '', verb: 'delete', body: undefined }, options);
      return;
    } catch (error) {
      if (!guarded || !isConflict(error) || attempt === MOST_ATTEMPTS) throw error;
      if (deletion.preconditions?.uid !== undefined && deletion.preconditions.uid !== pod.uid) throw error;
    }
  }
}

/** A pod that does no work, or is on its way out already, takes nothing from a budget. */
function ignoresBudgets(pod: Pod): boolean {
  const phase = pod.status?.phase;
  return (
    phase === 'Succeeded' ||
    phase === 'Failed' ||
    phase === 'Pending' ||
    pod.metadata.deletionTimestamp !== undefined
  );
}

async function budgetOf(context: RegistryContext, pod: StoredObject): Promise<StoredObject | undefined> {
  const definition = context.catalog.byResource('policy', 'v1', 'poddisruptionbudgets');
  if (definition === undefined) return undefined;
  const resource = await context.objects.resource(definition);
  await context.objects.cache.waitForStore();
  const { start, end } = resource.range(pod.namespace);
  const found: StoredObject[] = [];
  resource.scan(start, end, (budget) => {
    const { selector } = (budget.peek() as PodDisruptionBudget).spec ?? {};
    if (labelSelectorMatcher(selector).matches(pod.labels)) found.push(budget);
    return true;
  });
  if (found.length > 1)
    throw internalError(
      'This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.',
    );
  return found[0];
}

/** Takes one disruption from the budget, or refuses. False: the pod may go without one. */
async function spend(
  context: RegistryContext,
  budget: StoredObject,
  pod: StoredObject,
  dryRun: boolean,
): Promise<boolean> {
  const definition = context.catalog.byResource('policy', 'v1', 'poddisruptionbudgets')!;
  let current: StoredObject | undefined = budget;
  for (let attempt = 0; attempt < MOST_ATTEMPTS; attempt++) {
    // The budget went meanwhile: nothing protects the pod any more.
    if (current === undefined) return false;
    const old = current.object as PodDisruptionBudget;
    if (!isPodReady(pod.peek() as Pod) && unhealthyMayGo(old)) return false;
    const changed = spent(old, pod.name, context.clock.now());
    if (dryRun) return true;
    orderMetadata(changed);
    const written = await context.objects.write(definition, changed, current);
    if (written.done) return true;
    current = written.current;
  }
  throw tooManyRequests(
    `couldn't update PodDisruptionBudget ${JSON.stringify(budget.name)} due to conflicts`,
    10,
  );
}

function unhealthyMayGo(budget: PodDisruptionBudget): boolean {
  const { unhealthyPodEvictionPolicy } = budget.spec ?? {};
  if (unhealthyPodEvictionPolicy === 'AlwaysAllow') return true;
  const { currentHealthy = 0, desiredHealthy = 0 } = budget.status ?? {};
  return currentHealthy >= desiredHealthy && desiredHealthy > 0;
}

function spent(budget: PodDisruptionBudget, podName: string, now: number): MutableObject {
  const { name, generation = 0 } = budget.metadata;
  const status = budget.status;
  const allowed = status?.disruptionsAllowed ?? 0;
  const unconfirmed = status?.disruptedPods ?? {};
  if ((status?.observedGeneration ?? 0) < generation)
    throw violates(10, `The disruption budget ${name} is still being processed by the server.`);
  const resource = { group: 'policy', name: 'poddisruptionbudget' };
  if (allowed < 0) throw forbidden(resource, name, 'pdb disruptions allowed is negative');
  if (Object.keys(unconfirmed).length > MOST_UNCONFIRMED)
    throw forbidden(
      resource,
      name,
      'DisruptedPods map too big - too many evictions not confirmed by PDB controller',
    );
  if (allowed === 0)
    throw violates(
      0,
      `The disruption budget ${name} needs ${status?.desiredHealthy ?? 0} healthy pods and has ${status?.currentHealthy ?? 0} currently`,
    );
  return {
    ...budget,
    metadata: { ...budget.metadata },
    status: {
      ...status,
      disruptionsAllowed: allowed - 1,
      disruptedPods: { ...unconfirmed, [podName]: timestamp(now) },
    },
  } as unknown as MutableObject;
}

function violates(retryAfterSeconds: number, why: string): StatusError {
  return new StatusError({
    code: 429,
    reason: 'TooManyRequests',
    message: "Cannot evict pod as it would violate the pod's disruption budget.",
    details: {
      causes: [{ reason: 'DisruptionBudget', message: why }],
      ...(retryAfterSeconds > 0 ? { retryAfterSeconds } : {}),
    },
  });
}
