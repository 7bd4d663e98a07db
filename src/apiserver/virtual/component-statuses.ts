// componentstatuses (`kubectl get cs`): a fresh check of each component at every request. Deprecated upstream since
// 1.19, still asked for by old clients.

import { notFound, parseLabelSelector } from '../../api/index.ts';
import type { ComponentStatus } from '../../api/types/core-v1.ts';
import type { HandlerContext, VirtualResource } from '../chain.ts';

export interface ComponentCheck {
  readonly name: string;
  /** Resolves with what the component says of itself (`ok`); rejects when it is not well. */
  check(signal: AbortSignal): Promise<string>;
}

const LONGEST_CHECK_MS = 5000;

async function statusOf(
  component: ComponentCheck,
  signal: AbortSignal,
): Promise<Omit<ComponentStatus, 'metadata'> & { metadata: object }> {
  const base = { metadata: { name: component.name } };
  try {
    const message = await component.check(AbortSignal.any([signal, AbortSignal.timeout(LONGEST_CHECK_MS)]));
    return { ...base, conditions: [{ type: 'Healthy', status: 'True', message }] };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { ...base, conditions: [{ type: 'Healthy', status: 'False', message, error: message }] };
  }
}

export function componentStatuses(components: readonly ComponentCheck[]): VirtualResource {
  const one = async (context: HandlerContext): Promise<object> => {
    const component = components.find(({ name }) => name === context.name);
    if (!component) throw notFound({ group: '', name: 'componentstatuses' }, context.name);
    return { kind: 'ComponentStatus', apiVersion: 'v1', ...(await statusOf(component, context.signal)) };
  };
  const all = async (context: HandlerContext): Promise<object> => {
    const selector = parseLabelSelector(context.query.get('labelSelector') ?? '');
    // Component statuses have no labels.
    const chosen = selector.matches({}) ? components : [];
    return {
      kind: 'ComponentStatusList',
      apiVersion: 'v1',
      metadata: {},
      items: await Promise.all(chosen.map((component) => statusOf(component, context.signal))),
    };
  };
  return {
    group: '',
    resource: 'componentstatuses',
    subresource: '',
    verbs: ['get', 'list'],
    async handle(context) {
      context.warn('v1 ComponentStatus is deprecated in v1.19+');
      return { status: 200, object: await (context.name === '' ? all(context) : one(context)) };
    },
  };
}
