// Which part of an object a write is about. A write through the object itself changes everything but the status, one
// through a subresource only that part; the rest is taken over from the old object, whatever the client sent.

import type { MutableObject, ResourceDefinition, Strategy } from '../../api/definition.ts';
import { type FieldError, fieldError } from '../../api/errors.ts';
import type { KubeObject } from '../../api/object.ts';
import type { CertificateSigningRequest } from '../../api/types/certificates-v1.ts';
import type { EphemeralContainer, PodSpec } from '../../api/types/core-v1.ts';
import { validateApproval } from '../../api/validation/certificates.ts';
import { Findings } from '../../api/validation/findings.ts';
import { sameFields, sameValue } from './same-value.ts';

export interface PartRules {
  /** True when a change counts in metadata.generation. */
  readonly generation: boolean;
  /** Takes over from `old` what this write may not change. Both are of the storage version. */
  prepare(stored: ResourceDefinition, object: MutableObject, old: KubeObject, now: number): void;
  validate(stored: ResourceDefinition, object: KubeObject, old: KubeObject): readonly FieldError[];
}

const whole: PartRules = {
  generation: true,
  prepare: ({ strategy }, object, old) => strategy.prepareForUpdate?.(object, old),
  validate: ({ strategy }, object, old) => [
    ...(strategy.validate?.(object) ?? []),
    ...(strategy.validateUpdate?.(object, old) ?? []),
  ],
};

const status: PartRules = {
  generation: false,
  prepare({ strategy }, object, old, now) {
    if (strategy.prepareForStatusUpdate) {
      strategy.prepareForStatusUpdate(object, old, now);
      return;
    }
    const { status: mine } = object;
    takeOverContent(object, old);
    object.metadata = { ...old.metadata } as MutableObject['metadata'];
    if (mine === undefined) delete object['status'];
    else object['status'] = mine;
  },
  validate: ({ strategy }, object, old) => [
    ...changedMetadataErrors(strategy, object, old),
    ...(strategy.validateStatusUpdate?.(object, old) ?? []),
  ],
};

/** The controllers' last word on a namespace: spec.finalizers and nothing else. */
const finalize: PartRules = {
  generation: false,
  prepare(_stored, object, old) {
    const spec = object['spec'];
    takeOverContent(object, old);
    if (spec !== undefined) object['spec'] = spec;
  },
  validate: ({ strategy }, object, old) => changedMetadataErrors(strategy, object, old),
};

/** A CertificateSigningRequest is approved or denied by its conditions. */
const approval: PartRules = {
  generation: false,
  prepare(_stored, object, old) {
    const { conditions } = (object['status'] ?? {}) as { readonly conditions?: unknown };
    takeOverContent(object, old);
    const before = (old as unknown as { readonly status?: object }).status;
    object['status'] = { ...before, ...(conditions === undefined ? {} : { conditions }) };
  },
  validate({ strategy }, object, old) {
    // The status subresource is for signers, who may not decide.
    const findings = new Findings();
    validateApproval(object as CertificateSigningRequest, old as CertificateSigningRequest, findings);
    return [...changedMetadataErrors(strategy, object, old), ...findings.errors];
  },
};

/** Containers for debugging may be added to a running pod, never changed or taken away (KEP-277). */
const ephemeralContainers: PartRules = {
  generation: true,
  prepare(_stored, object, old) {
    const { ephemeralContainers: mine } = (object['spec'] ?? {}) as Partial<PodSpec>;
    takeOverContent(object, old);
    const { ephemeralContainers: _before, ...spec } = podSpec(old);
    object['spec'] = mine === undefined ? spec : { ...spec, ephemeralContainers: mine };
  },
  validate({ strategy }, object, old) {
    const errors: FieldError[] = [];
    const field = 'spec.ephemeralContainers';
    const mine = new Map(ephemeralOf(object).map((container) => [container.name, container]));
    for (const before of ephemeralOf(old)) {
      const now = mine.get(before.name);
      if (now === undefined)
        errors.push(
          fieldError.forbidden(
            field,
            `existing ephemeral containers ${JSON.stringify(before.name)} may not be removed`,
          ),
        );
      else if (!sameValue(now, before))
        errors.push(
          fieldError.forbidden(
            field,
            `existing ephemeral containers ${JSON.stringify(before.name)} may not be changed`,
          ),
        );
    }
    return errors.length > 0 ? errors : (strategy.validate?.(object) ?? []);
  },
};

/** Resources of containers that may change while the pod runs (KEP-1287). */
const resize: PartRules = {
  generation: true,
  prepare(_stored, object, old) {
    const mine = (object['spec'] ?? {}) as Partial<PodSpec>;
    takeOverContent(object, old);
    const { initContainers, ...spec } = podSpec(old);
    object['spec'] = {
      ...spec,
      containers: resized(spec.containers, mine.containers),
      ...(initContainers === undefined
        ? {}
        : { initContainers: resized(initContainers, mine.initContainers) }),
    };
  },
  validate({ strategy }, object, old) {
    const errors: FieldError[] = [];
    const now = podSpec(object);
    const before = podSpec(old);
    now.containers.forEach((container, i) => {
      const was = before.containers[i];
      if (was === undefined) return;
      for (const part of ['requests', 'limits'] as const) {
        const gone = Object.keys(was.resources?.[part] ?? {}).filter(
          (name) => container.resources?.[part]?.[name] === undefined,
        );
        if (gone.length > 0)
          errors.push(
            fieldError.forbidden(
              `spec.containers[${i}].resources.${part}`,
              `resource ${part} cannot be removed`,
            ),
          );
        const others = new Set(['cpu', 'memory']);
        if (!sameFields(container.resources?.[part] ?? {}, was.resources?.[part] ?? {}, others))
          errors.push(
            fieldError.forbidden(
              `spec.containers[${i}].resources.${part}`,
              'only cpu and memory resources are mutable',
            ),
          );
      }
    });
    return errors.length > 0 ? errors : (strategy.validate?.(object) ?? []);
  },
};

/** Labels and the like may be changed through any part; they are held to the kind's rules all the same. */
function changedMetadataErrors(
  strategy: Strategy,
  object: KubeObject,
  old: KubeObject,
): readonly FieldError[] {
  if (sameFields(object.metadata, old.metadata, VERSION)) return [];
  return (strategy.validate?.(object) ?? []).filter(({ field }) => field.startsWith('metadata.'));
}

const VERSION: ReadonlySet<string> = new Set(['resourceVersion']);

type Container = PodSpec['containers'][number];

function resized(
  containers: readonly Container[],
  wanted: readonly Container[] | undefined,
): readonly Container[] {
  return containers.map((container) => {
    const other = wanted?.find(({ name }) => name === container.name);
    if (other === undefined) return container;
    const { resources: _resources, resizePolicy: _policy, ...rest } = container;
    return {
      ...rest,
      ...(other.resources === undefined ? {} : { resources: other.resources }),
      ...(other.resizePolicy === undefined ? {} : { resizePolicy: other.resizePolicy }),
    };
  });
}

function podSpec(object: KubeObject): PodSpec {
  return (object as unknown as { readonly spec: PodSpec }).spec;
}

function ephemeralOf(object: KubeObject): readonly EphemeralContainer[] {
  return podSpec(object).ephemeralContainers ?? [];
}

/** Everything but metadata from the old object. The values are shared with it: it is frozen. */
function takeOverContent(object: MutableObject, old: KubeObject): void {
  const { metadata } = object;
  for (const field of Object.keys(object)) delete object[field];
  Object.assign(object, old, { metadata });
}

const rules: Readonly<Record<string, PartRules>> = {
  '': whole,
  status,
  'namespaces/finalize': finalize,
  'certificatesigningrequests/approval': approval,
  'pods/ephemeralcontainers': ephemeralContainers,
  'pods/resize': resize,
};

/** The rules of a subresource that is a part of the object; '' is the object itself. */
export function partRules(definition: ResourceDefinition, subresource: string): PartRules {
  const found = rules[subresource] ?? rules[`${definition.resource}/${subresource}`];
  if (found === undefined)
    throw new Error(`${definition.resource}/${subresource} is not a part of the object that can be updated`);
  return found;
}

/** Whether get, update and patch of the subresource are those of the object. */
export function isPart(definition: ResourceDefinition, subresource: string): boolean {
  return subresource in rules || `${definition.resource}/${subresource}` in rules;
}
