// Closed sets of values, as the schema declares them: whatever a kind's own rules do not look at is held against
// these. Only the parts of a schema that hold such a set are walked.

import type { TypeSchema } from '../schema/type-schema.ts';
import type { Findings } from './findings.ts';

type Walk = (value: unknown, field: string, findings: Findings) => void;

const walks = new WeakMap<TypeSchema, Walk | null>();

/** The walk of a schema; null when nothing in it is a closed set. Recursive types are looked at once. */
function walkOf(schema: TypeSchema, open: Set<TypeSchema>): Walk | null {
  const known = walks.get(schema);
  if (known !== undefined) return known;
  if (open.has(schema)) return null;
  open.add(schema);
  const walk = compile(schema, open);
  open.delete(schema);
  walks.set(schema, walk);
  return walk;
}

function compile(schema: TypeSchema, open: Set<TypeSchema>): Walk | null {
  switch (schema.type) {
    case 'string': {
      const values = schema.enum;
      if (values === undefined || values.length === 0) return null;
      const sorted = values.toSorted();
      return (value, field, findings) => {
        if (typeof value === 'string' && value !== '' && !values.includes(value))
          findings.notSupported(field, value, sorted);
      };
    }
    case 'object': {
      const fields: (readonly [string, Walk])[] = [];
      for (const [name, field] of schema.fields) {
        const walk = walkOf(field.schema, open);
        if (walk !== null) fields.push([name, walk]);
      }
      if (fields.length === 0) return null;
      return (value, at, findings) => {
        if (typeof value !== 'object' || value === null) return;
        for (const [name, walk] of fields) {
          const inner = (value as Readonly<Record<string, unknown>>)[name];
          if (inner !== undefined) walk(inner, at === '' ? name : `${at}.${name}`, findings);
        }
      };
    }
    case 'list': {
      const walk = walkOf(schema.items, open);
      if (walk === null) return null;
      return (value, field, findings) => {
        if (Array.isArray(value))
          for (const [i, item] of value.entries()) walk(item, `${field}[${i}]`, findings);
      };
    }
    case 'map': {
      const walk = walkOf(schema.values, open);
      if (walk === null) return null;
      return (value, field, findings) => {
        if (typeof value !== 'object' || value === null) return;
        for (const [key, item] of Object.entries(value)) walk(item, `${field}[${key}]`, findings);
      };
    }
    default:
      return null;
  }
}

/** Holds everything but metadata and status against the closed sets of the schema. */
export function validateEnums(object: object, schema: TypeSchema, findings: Findings): void {
  if (schema.type !== 'object') return;
  for (const [name, value] of Object.entries(object)) {
    if (name === 'metadata' || name === 'status') continue;
    const field = schema.fields.get(name);
    const walk = field === undefined ? null : walkOf(field.schema, new Set());
    walk?.(value, name, findings);
  }
}
