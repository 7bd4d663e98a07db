// Which objects of a resource a list or a watch is about: a namespace, a label selector and a field selector, made
// ready to be asked for every event. `route` says under which key a watcher can wait, so that thousands of watchers
// (each kubelet watches the pods of its own node, each pod's kubelet its own ConfigMaps) cost an event nothing.

import { everyField, type FieldMatcher, fieldValue } from '../../api/fields.ts';
import { everyLabel, type LabelMatcher } from '../../api/labels.ts';
import type { Change } from './event-ring.ts';
import type { StoredObject } from './stored-object.ts';

/** Where a watcher waits: the narrowest thing that every matching object must have. */
export type FilterRoute =
  | { readonly type: 'all' }
  | { readonly type: 'namespace'; readonly namespace: string }
  | { readonly type: 'field'; readonly field: string; readonly value: string };

export class ObjectFilter {
  /** '' for all namespaces (and for cluster-scoped resources). */
  readonly namespace: string;
  readonly labels: LabelMatcher;
  readonly fields: FieldMatcher;
  /** The only name that can match, when there is one. */
  readonly name: string | undefined;
  /** True when every object of the namespace matches. */
  readonly open: boolean;
  readonly route: FilterRoute;

  constructor(namespace = '', labels: LabelMatcher = everyLabel, fields: FieldMatcher = everyField) {
    const inNamespace = fields.requiredValue('metadata.namespace');
    this.namespace = namespace !== '' ? namespace : (inNamespace ?? '');
    this.labels = labels;
    this.fields = fields;
    this.name = fields.requiredValue('metadata.name');
    this.open = labels.empty && fields.empty;
    this.route = this.#chooseRoute();
  }

  /** What the label and field selectors say; the namespace too. */
  matches(object: StoredObject): boolean {
    if (this.namespace !== '' && object.namespace !== this.namespace) return false;
    return this.open || this.matchesSelectors(object);
  }

  /** For objects that are known to stand in the namespace. */
  matchesSelectors(object: StoredObject): boolean {
    if (this.name !== undefined && object.name !== this.name) return false;
    if (!this.labels.empty && !this.labels.matches(object.labels)) return false;
    return this.fields.empty || this.fields.matchesObject(object.peek());
  }

  /** What a watcher with this filter is told of the change; undefined: nothing. */
  classify(change: Change): 'ADDED' | 'MODIFIED' | 'DELETED' | undefined {
    const { current, previous } = change;
    if (this.open) {
      const object = current ?? previous;
      return this.namespace === '' || object?.namespace === this.namespace ? change.type : undefined;
    }
    const now = current !== undefined && this.matches(current);
    // An update whose past was compacted away is told as a change: a client takes MODIFIED for an object that it
    // does not know as an addition, and what is told is never less than the truth.
    const before = previous !== undefined ? this.matches(previous) : change.type === 'MODIFIED' && now;
    if (now) return before ? 'MODIFIED' : 'ADDED';
    return before ? 'DELETED' : undefined;
  }

  #chooseRoute(): FilterRoute {
    if (this.name !== undefined) return { type: 'field', field: 'metadata.name', value: this.name };
    for (const { field, operator, value } of this.fields.requirements)
      if (operator === '=' && field !== 'metadata.namespace') return { type: 'field', field, value };
    return this.namespace === '' ? { type: 'all' } : { type: 'namespace', namespace: this.namespace };
  }
}

/** The value by which watchers on `field` are found. */
export function routeValue(object: StoredObject, field: string): string {
  return field === 'metadata.name' ? object.name : fieldValue(object.peek(), field);
}
