// LimitRanger: fills in the requests and limits that a namespace's LimitRanges give as defaults, then holds pods,
// containers and claims to their minimum, maximum and limit-to-request ratio.

import {
  addQuantities,
  compareQuantities,
  formatQuantity,
  parseQuantity,
  type Quantity,
  quantityToFloat,
} from '../../api/index.ts';
import type {
  Container,
  LimitRange,
  LimitRangeItem,
  PersistentVolumeClaim,
  Pod,
} from '../../api/types/core-v1.ts';
import type { AdmissionAttributes, AdmissionPlugin, ObjectReader } from '../chain.ts';
import { isFor, objectAs, oldObjectAs, refusal } from './refusal.ts';

const ANNOTATION = 'kubernetes.io/limit-ranger';

type Amounts = Readonly<Record<string, string>>;

export function limitRangerPlugin(reader: ObjectReader): AdmissionPlugin {
  const rangesOf = (attributes: AdmissionAttributes): LimitRange[] => [
    ...reader.list<LimitRange>('', 'limitranges', attributes.namespace),
  ];
  return {
    name: 'LimitRanger',
    handles: (operation) => operation === 'CREATE' || operation === 'UPDATE',
    admit(attributes) {
      if (attributes.operation !== 'CREATE' || !isFor(attributes, '', 'pods')) return;
      const pod = objectAs<Pod>(attributes);
      for (const range of rangesOf(attributes)) applyDefaults(range, pod);
    },
    validate(attributes) {
      const { operation } = attributes;
      if (oldObjectAs(attributes)?.metadata.deletionTimestamp !== undefined) return;
      const pods =
        (operation === 'CREATE' && isFor(attributes, '', 'pods')) || isFor(attributes, '', 'pods', 'resize');
      const claims = isFor(attributes, '', 'persistentvolumeclaims');
      if (!pods && !claims) return;
      for (const range of rangesOf(attributes)) {
        const problems = pods
          ? podProblems(range, objectAs<Pod>(attributes))
          : claimProblems(range, objectAs<PersistentVolumeClaim>(attributes));
        if (problems.length > 0)
          throw refusal(attributes, problems.length === 1 ? problems[0]! : `[${problems.join(', ')}]`);
      }
    },
  };
}

const itemsOf = (range: LimitRange, type: string): LimitRangeItem[] =>
  (range.spec?.limits ?? []).filter((item) => item.type === type);

function applyDefaults(range: LimitRange, pod: Pod): void {
  const limits: Record<string, string> = {};
  const requests: Record<string, string> = {};
  for (const item of itemsOf(range, 'Container')) {
    Object.assign(limits, item.default);
    Object.assign(requests, item.defaultRequest);
  }
  const notes: string[] = [];
  const fill = (container: Container, kind: string): void => {
    const resources = container.resources ?? {};
    const add = (field: 'limits' | 'requests', defaults: Amounts, word: string): void => {
      const missing = Object.keys(defaults).filter((name) => resources[field]?.[name] === undefined);
      if (missing.length === 0) return;
      resources[field] = { ...resources[field] };
      for (const name of missing) resources[field][name] = defaults[name]!;
      notes.push(`${missing.sort().join(', ')} ${word} for ${kind} ${container.name}`);
    };
    add('requests', requests, 'request');
    add('limits', limits, 'limit');
    container.resources = resources;
  };
  for (const container of pod.spec.containers) fill(container, 'container');
  for (const container of pod.spec.initContainers ?? []) fill(container, 'init container');
  if (notes.length > 0)
    pod.metadata.annotations = {
      ...pod.metadata.annotations,
      [ANNOTATION]: `LimitRanger plugin set: ${notes.join('; ')}`,
    };
}

interface Used {
  readonly requests: ReadonlyMap<string, Quantity>;
  readonly limits: ReadonlyMap<string, Quantity>;
}

const quantities = (amounts: Amounts | undefined): Map<string, Quantity> =>
  new Map(Object.entries(amounts ?? {}).map(([name, text]) => [name, parseQuantity(text)]));

const usedBy = (container: Container): Used => ({
  requests: quantities(container.resources?.requests),
  limits: quantities(container.resources?.limits),
});

/** A pod needs the sum of its containers, or its largest init container; sidecars count with what runs beside them. */
function usedByPod(pod: Pod): Used {
  const total = (field: 'requests' | 'limits'): Map<string, Quantity> => {
    const sum = new Map<string, Quantity>();
    const sidecars = new Map<string, Quantity>();
    const peak = new Map<string, Quantity>();
    const add = (to: Map<string, Quantity>, amounts: ReadonlyMap<string, Quantity>): void => {
      for (const [name, amount] of amounts) to.set(name, addQuantities(to.get(name) ?? '0', amount));
    };
    const raise = (to: Map<string, Quantity>, amounts: ReadonlyMap<string, Quantity>): void => {
      for (const [name, amount] of amounts)
        if (compareQuantities(amount, to.get(name) ?? '0') > 0) to.set(name, amount);
    };
    for (const container of pod.spec.containers) add(sum, usedBy(container)[field]);
    for (const container of pod.spec.initContainers ?? []) {
      const used = usedBy(container)[field];
      if (container.restartPolicy === 'Always') {
        add(sum, used);
        add(sidecars, used);
        raise(peak, sidecars);
      } else {
        const beside = new Map(sidecars);
        add(beside, used);
        raise(peak, beside);
      }
    }
    raise(sum, peak);
    for (const [name, amount] of quantities(pod.spec.resources?.[field])) sum.set(name, amount);
    if (field === 'requests' || sum.size > 0) add(sum, quantities(pod.spec.overhead));
    return sum;
  };
  return { requests: total('requests'), limits: total('limits') };
}

function podProblems(range: LimitRange, pod: Pod): string[] {
  const problems: string[] = [];
  const containers = [...pod.spec.containers, ...(pod.spec.initContainers ?? [])].map(usedBy);
  for (const item of range.spec?.limits ?? []) {
    if (item.type === 'Container') for (const used of containers) problems.push(...itemProblems(item, used));
    else if (item.type === 'Pod') problems.push(...itemProblems(item, usedByPod(pod)));
  }
  return problems;
}

function itemProblems(item: LimitRangeItem, used: Used): string[] {
  const problems: (string | undefined)[] = [];
  for (const [name, bound] of Object.entries(item.min ?? {}))
    problems.push(belowMinimum(item.type, name, bound, used));
  for (const [name, bound] of Object.entries(item.max ?? {}))
    problems.push(aboveMaximum(item.type, name, bound, used));
  for (const [name, bound] of Object.entries(item.maxLimitRequestRatio ?? {}))
    problems.push(aboveRatio(item.type, name, bound, used));
  return problems.filter((problem) => problem !== undefined);
}

const printed = (quantity: Quantity): string => formatQuantity(quantity);

function belowMinimum(type: string, name: string, bound: string, used: Used): string | undefined {
  const request = used.requests.get(name);
  const limit = used.limits.get(name);
  const rule = `minimum ${name} usage per ${type} is ${bound}`;
  if (!request) return `${rule}.  No request is specified`;
  if (compareQuantities(request, bound) < 0) return `${rule}, but request is ${printed(request)}`;
  if (limit && compareQuantities(limit, bound) < 0) return `${rule}, but limit is ${printed(limit)}`;
  return undefined;
}

function aboveMaximum(type: string, name: string, bound: string, used: Used): string | undefined {
  const request = used.requests.get(name);
  const limit = used.limits.get(name);
  const rule = `maximum ${name} usage per ${type} is ${bound}`;
  if (!limit) return `${rule}.  No limit is specified`;
  if (compareQuantities(limit, bound) > 0) return `${rule}, but limit is ${printed(limit)}`;
  if (request && compareQuantities(request, bound) > 0) return `${rule}, but request is ${printed(request)}`;
  return undefined;
}

function aboveRatio(type: string, name: string, bound: string, used: Used): string | undefined {
  const request = quantityToFloat(used.requests.get(name) ?? '0');
  const limit = quantityToFloat(used.limits.get(name) ?? '0');
  const rule = `${name} max limit to request ratio per ${type} is ${bound}`;
  if (request === 0) return `${rule}, but no request is specified or request is 0`;
  if (limit === 0) return `${rule}, but no limit is specified or limit is 0`;
  return limit / request > quantityToFloat(bound)
    ? `${rule}, but provided ratio is ${(limit / request).toFixed(6)}`
    : undefined;
}

function claimProblems(range: LimitRange, claim: PersistentVolumeClaim): string[] {
  const requests = quantities(claim.spec?.resources?.requests);
  const problems: (string | undefined)[] = [];
  for (const item of itemsOf(range, 'PersistentVolumeClaim')) {
    for (const [name, bound] of Object.entries(item.min ?? {}))
      problems.push(belowMinimum(item.type, name, bound, { requests, limits: new Map() }));
    for (const [name, bound] of Object.entries(item.max ?? {})) {
      const request = requests.get(name);
      const rule = `maximum ${name} usage per ${item.type} is ${bound}`;
      if (!request) problems.push(`${rule}.  No request is specified`);
      else if (compareQuantities(request, bound) > 0)
        problems.push(`${rule}, but request is ${printed(request)}`);
    }
  }
  return problems.filter((problem) => problem !== undefined);
}
