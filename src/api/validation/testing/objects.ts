// For tests of validation: objects as the server has them when it validates, decoded, defaulted and prepared.

import { createCatalog } from '../../catalog.ts';
import { defaultObject } from '../../defaults/index.ts';
import type { MutableObject, ResourceDefinition } from '../../definition.ts';
import { fieldErrorText } from '../../errors.ts';
import { type KubeObject, parseGroupVersion } from '../../object.ts';
import { decodeValue } from '../../schema/decode.ts';

const catalog = createCatalog();
const NOW = '2026-03-01T10:00:00Z';

export type Manifest = Readonly<Record<string, unknown>> & {
  readonly apiVersion: string;
  readonly kind: string;
};

function definitionOf({ apiVersion, kind }: Manifest): ResourceDefinition {
  const { group, version } = parseGroupVersion(apiVersion);
  const definition = catalog.byKind(group, version, kind);
  if (definition === undefined) throw new Error(`${apiVersion} ${kind} is not served`);
  return definition;
}

/** The strategy and the object of the stored version. */
function stored(manifest: Manifest): { definition: ResourceDefinition; object: MutableObject } {
  const definition = definitionOf(manifest);
  const { object } = decodeValue(definition, manifest, { fieldValidation: 'Strict' });
  object.metadata.name ??= 'x';
  object.metadata.uid ??= 'u-1';
  object.metadata.creationTimestamp ??= NOW;
  if (definition.namespaced) object.metadata.namespace ??= 'default';
  defaultObject(definition, object, () => Date.parse(NOW));
  const whole = definition.conversion?.toStorage(object) ?? object;
  const target =
    definition.storage.version === definition.version && definition.storage.group === definition.group
      ? definition
      : catalog.byKind(definition.storage.group, definition.storage.version, definition.kind)!;
  return { definition: target, object: whole };
}

/** The object as it would be written if nothing were wrong with it. */
export function created(manifest: Manifest): KubeObject {
  const { definition, object } = stored(manifest);
  definition.strategy.prepareForCreate?.(object);
  return object as unknown as KubeObject;
}

/** What is wrong with a new object, one line each. */
export function createErrors(manifest: Manifest): string[] {
  const { strategy } = stored(manifest).definition;
  const object = created(manifest);
  return [...(strategy.validate?.(object) ?? []), ...(strategy.validateNew?.(object) ?? [])].map(
    fieldErrorText,
  );
}

/** What is wrong with changing one object into the other through the main resource. */
export function updateErrors(before: Manifest, after: Manifest): string[] {
  const old = created(before);
  const { definition, object } = stored(after);
  definition.strategy.prepareForUpdate?.(object, old);
  const now = object as unknown as KubeObject;
  return [
    ...(definition.strategy.validate?.(now) ?? []),
    ...(definition.strategy.validateUpdate?.(now, old) ?? []),
  ].map(fieldErrorText);
}

/** What is wrong with a change of the status; `before` may have one, too. */
export function statusErrors(before: Manifest, after: Manifest): string[] {
  const old = stored(before).object as unknown as KubeObject;
  const { definition, object } = stored(after);
  definition.strategy.prepareForStatusUpdate?.(object, old);
  return (definition.strategy.validateStatusUpdate?.(object as unknown as KubeObject, old) ?? []).map(
    fieldErrorText,
  );
}

/** A copy with other values at some paths (`spec.containers[0].image`); undefined takes the field away. */
export function changed(manifest: Manifest, changes: Readonly<Record<string, unknown>>): Manifest {
  const copy = structuredClone(manifest) as unknown as Record<string, unknown>;
  for (const [path, value] of Object.entries(changes)) {
    const steps = path.replaceAll(/\[(\d+)\]/g, '.$1').split('.');
    const last = steps.pop()!;
    let here = copy;
    for (const [i, step] of steps.entries()) {
      const next = steps[i + 1] ?? last;
      here[step] ??= /^\d+$/.test(next) ? [] : {};
      here = here[step] as Record<string, unknown>;
    }
    if (value === undefined) delete here[last];
    else here[last] = value;
  }
  return copy as Manifest;
}
