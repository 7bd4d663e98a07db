// From the row that a kind has in its group's table to its Strategy: what nearly all kinds do alike (the status is
// not the client's to create, an update of one half leaves the other alone) is done here, once.

import type { MutableObject, Strategy } from '../definition.ts';
import type { FieldError } from '../errors.ts';
import type { KubeObject } from '../object.ts';
import { schemaOfKind } from '../schema/builtin.ts';
import { zeroValue } from '../schema/normalise.ts';
import type { FieldSchema } from '../schema/type-schema.ts';

/** A kind as its group's table has it. What is absent is as most kinds have it. */
export interface StrategyRow {
  /** Changes of this kind are counted in metadata.generation. Absent: no. */
  readonly generation?: boolean;
  readonly generationCountsAnnotations?: boolean;
  /** Absent: no. */
  readonly createOnUpdate?: boolean;
  /** Absent: yes. */
  readonly unconditionalUpdate?: boolean;
  readonly fields?: readonly string[];
  readonly orphansByDefault?: boolean;
  /** The client may set the status when it creates the object (a Node registers itself). */
  readonly keepsStatusOnCreate?: boolean;
  /** Beside the status: what else is set when an object is created. */
  readonly create?: (object: MutableObject) => void;
  /** Beside the status: what else an update through the main resource leaves alone or adjusts. */
  readonly update?: (object: MutableObject, old: KubeObject) => void;
  /** Beside the spec: what else an update through `status` leaves alone or adjusts. */
  readonly statusUpdate?: (object: MutableObject, old: KubeObject, now: number | undefined) => void;
  readonly gracePeriodSeconds?: Strategy['gracePeriodSeconds'];
}

/** What a kind's validation gives the strategy. */
export interface KindValidator {
  validate(object: KubeObject): FieldError[];
  validateNew(object: KubeObject): FieldError[];
  validateUpdate(object: KubeObject, old: KubeObject): FieldError[];
  validateStatusUpdate(object: KubeObject, old: KubeObject): FieldError[];
}

/** The fields of an object, whatever its kind, to be taken over from another. */
export function fieldsOf(object: KubeObject | MutableObject): Record<string, unknown> {
  return object as unknown as Record<string, unknown>;
}

/** Sets a field, or takes it away when there is no value. */
export function setOrDelete(object: MutableObject, field: string, value: unknown): void {
  if (value === undefined) delete object[field];
  else object[field] = value;
}

const identity: ReadonlySet<string> = new Set(['apiVersion', 'kind', 'metadata']);

/**
 * Everything but metadata and the named field becomes that of `old`. The values are shared, not copied: they are
 * frozen there and nobody changes them after this.
 */
export function keepAllBut(object: MutableObject, old: KubeObject, changing: string): void {
  const before = fieldsOf(old);
  for (const field of Object.keys(object))
    if (!identity.has(field) && field !== changing && before[field] === undefined) delete object[field];
  for (const field of Object.keys(before))
    if (!identity.has(field) && field !== changing) object[field] = before[field];
}

export function makeStrategy(
  kind: { readonly group: string; readonly version: string; readonly kind: string },
  row: StrategyRow,
  validator: KindValidator,
): Strategy {
  const status: FieldSchema | undefined = schemaOfKind(kind.group, kind.version, kind.kind)?.fields.get(
    'status',
  );
  return {
    generation: row.generation ?? false,
    generationCountsAnnotations: row.generationCountsAnnotations ?? false,
    allowCreateOnUpdate: row.createOnUpdate ?? false,
    allowUnconditionalUpdate: row.unconditionalUpdate ?? true,
    selectableFields: row.fields ?? [],
    defaultGarbageCollection: row.orphansByDefault === true ? 'orphan' : 'background',
    prepareForCreate(object) {
      if (status !== undefined && row.keepsStatusOnCreate !== true)
        setOrDelete(object, 'status', status.presence === 'always' ? zeroValue(status.schema) : undefined);
      row.create?.(object);
    },
    prepareForUpdate(object, old) {
      if (status !== undefined) setOrDelete(object, 'status', fieldsOf(old)['status']);
      row.update?.(object, old);
    },
    prepareForStatusUpdate(object, old, now) {
      keepAllBut(object, old, 'status');
      row.statusUpdate?.(object, old, now);
    },
    ...(row.gracePeriodSeconds && { gracePeriodSeconds: row.gracePeriodSeconds }),
    validate: (object) => validator.validate(object),
    validateNew: (object) => validator.validateNew(object),
    validateUpdate: (object, old) => validator.validateUpdate(object, old),
    validateStatusUpdate: (object, old) => validator.validateStatusUpdate(object, old),
  };
}
