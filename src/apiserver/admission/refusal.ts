// What admission plugins have in common: refusing in the words of upstream's admission errors, and reading an
// attribute's object as the type that its definition promises.

import { forbidden, type GroupAndName, type KubeObject, type StatusError } from '../../api/index.ts';
import type { AdmissionAttributes } from '../chain.ts';

export function resourceOf({ definition }: AdmissionAttributes): GroupAndName {
  return { group: definition.group, name: definition.resource };
}

/** The object's name, or what it will be made from. */
export function nameOf(attributes: AdmissionAttributes): string {
  if (attributes.name !== '') return attributes.name;
  const metadata = attributes.object?.metadata;
  return metadata?.name || metadata?.generateName || '';
}

/** `pods "x" is forbidden: …`, 403. */
export function refusal(attributes: AdmissionAttributes, why: string): StatusError {
  return forbidden(resourceOf(attributes), nameOf(attributes), why);
}

export function isFor(
  attributes: AdmissionAttributes,
  group: string,
  resource: string,
  subresource = '',
): boolean {
  return (
    attributes.definition.group === group &&
    attributes.definition.resource === resource &&
    attributes.subresource === subresource
  );
}

/**
 * The object as a mutable T. The registry decoded it by the definition's schema before admission, so that a plugin
 * that has checked the resource may rely on the fields' types.
 */
export function objectAs<T>(attributes: AdmissionAttributes): T {
  return attributes.object as unknown as T;
}

export function oldObjectAs<T>(attributes: AdmissionAttributes): (T & KubeObject) | undefined {
  return attributes.oldObject as unknown as (T & KubeObject) | undefined;
}
