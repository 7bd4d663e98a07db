// Events are served in two shapes, the core group's and events.k8s.io's, and stored in the first. Every field of one
// has its counterpart in the other, so nothing is lost either way.

import type { MutableObject, ResourceDefinition } from '../definition.ts';
import { typeSchema } from '../schema/builtin.ts';
import { normalise } from '../schema/normalise.ts';

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

/** Both shapes have their own idea of what is there without a value: the result is put into normal form. */
function inForm(type: string, object: MutableObject): MutableObject {
  const out: MutableObject = { kind: '', apiVersion: '', metadata: {} };
  normalise(typeSchema(type), object, out, { strict: false });
  return out;
}

export const eventConversion: NonNullable<ResourceDefinition['conversion']> = {
  toStorage(object: MutableObject): MutableObject {
    const out: MutableObject = { kind: 'Event', apiVersion: 'v1', metadata: object.metadata };
    for (const [from, to] of FIELDS) out[to] = object[from];
    return inForm('io.k8s.api.core.v1.Event', out);
  },

  fromStorage(object: MutableObject): MutableObject {
    const out: MutableObject = { kind: 'Event', apiVersion: 'events.k8s.io/v1', metadata: object.metadata };
    for (const [to, from] of FIELDS) out[to] = object[from];
    return inForm('io.k8s.api.events.v1.Event', out);
  },
};
