// The rules of one kind as its group's file lists them, and how they are put together: metadata first, then the
// kind's own rules, then the closed sets of the schema for whatever those did not speak of.

import type { FieldError } from '../errors.ts';
import type { KubeObject } from '../object.ts';
import type { TypeSchema } from '../schema/type-schema.ts';
import type { ObjectMeta } from '../types/meta-v1.ts';
import { validateEnums } from './enums.ts';
import { Findings } from './findings.ts';
import { type NameRule, subdomainName, validateObjectMeta } from './object-meta.ts';

export interface KindRules<T> {
  /** Absent: a DNS subdomain. */
  readonly name?: NameRule;
  validate?(object: T, findings: Findings): void;
  /** Beside `validate`: what only a new object may not have. */
  validateNew?(object: T, findings: Findings): void;
  /** Beside `validate`: what may not change. */
  validateUpdate?(object: T, old: T, findings: Findings): void;
  validateStatusUpdate?(object: T, old: T, findings: Findings): void;
}

/** Rules whose kind is known only where they are listed. */
export type AnyRules = KindRules<never>;

export class KindValidation {
  readonly #rules: KindRules<unknown>;
  readonly #namespaced: boolean;
  readonly #schema: TypeSchema | undefined;

  constructor(rules: AnyRules, namespaced: boolean, schema: TypeSchema | undefined) {
    this.#rules = rules as KindRules<unknown>;
    this.#namespaced = namespaced;
    this.#schema = schema;
  }

  validate(object: KubeObject): FieldError[] {
    const findings = new Findings();
    validateObjectMeta(
      object.metadata as Partial<ObjectMeta>,
      this.#namespaced,
      this.#rules.name ?? subdomainName,
      findings,
    );
    this.#rules.validate?.(object, findings);
    if (this.#schema === undefined) return findings.errors;
    const sets = new Findings();
    validateEnums(object, this.#schema, sets);
    if (sets.errors.length === 0) return findings.errors;
    const told = new Set(findings.errors.map((error) => error.field));
    const isNews = (field: string) => !told.has(field) && !told.has(field.replace(/\[\d+\]$/, ''));
    return [...findings.errors, ...sets.errors.filter((error) => isNews(error.field))];
  }

  validateNew(object: KubeObject): FieldError[] {
    const findings = new Findings();
    this.#rules.validateNew?.(object, findings);
    return findings.errors;
  }

  validateUpdate(object: KubeObject, old: KubeObject): FieldError[] {
    const findings = new Findings();
    this.#rules.validateUpdate?.(object, old, findings);
    return findings.errors;
  }

  validateStatusUpdate(object: KubeObject, old: KubeObject): FieldError[] {
    const findings = new Findings();
    this.#rules.validateStatusUpdate?.(object, old, findings);
    return findings.errors;
  }
}
