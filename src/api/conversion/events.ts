// Events are served in two shapes, the core group's and events.k8s.io's, and stored in the first. Every field of one
// has its counterpart in the other, so nothing is lost either way.

import type { MutableObject, ResourceDefinition } from '../definition.ts';

/** events.k8s.io/v1 name → v1 name. */
const FIELDS: readonly (readonly [events: string, core: string])[] = [
  ['regarding', 'involvedObject'],
  ['reason', 'reason'],
  ['note', 'message'],
  ['deprecatedSource', 'source'],
  ['deprecatedFirstTimestamp', 'firstTimestamp'],
  ['deprecatedLastTimestamp', 'lastTimestamp'],
  ['deprecatedCount', 'count'],
  ['type', 'type'],
  ['eventTime', 'eventTime'],
  ['series', 'series'],
  ['action', 'action'],
  ['related', 'related'],
  ['reportingController', 'reportingComponent'],
  ['reportingInstance', 'reportingInstance'],
];

/** Present in every object of the shape, whether the client gave it or not. */
const ALWAYS = new Map<string, () => unknown>([
  ['involvedObject', () => ({})],
  ['source', () => ({})],
  ['reportingComponent', () => ''],
  ['reportingInstance', () => ''],
]);

export const eventConversion: NonNullable<ResourceDefinition['conversion']> = {
  toStorage(object: MutableObject): MutableObject {
    const out: MutableObject = { kind: 'Event', apiVersion: 'v1', metadata: object.metadata };
    for (const [from, to] of FIELDS) {
      const value = object[from] ?? ALWAYS.get(to)?.();
      if (value !== undefined) out[to] = value;
    }
    return out;
  },

  fromStorage(object: MutableObject): MutableObject {
    const out: MutableObject = { kind: 'Event', apiVersion: 'events.k8s.io/v1', metadata: object.metadata };
    for (const [to, from] of FIELDS) {
      const value = object[from];
      // Always there in the core shape, omitempty in this one.
      if (value !== undefined && value !== '') out[to] = value;
    }
    return out;
  },
};
