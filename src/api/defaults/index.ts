// Defaults that a schema cannot declare: upstream's hand-written ones (pkg/apis/*/*/defaults.go), one file a group.
// They run on an object in normal form, right after decoding, on every write.

import type { MutableObject, ResourceDefinition } from '../definition.ts';

export function defaultObject(
  target: Pick<ResourceDefinition, 'group' | 'version' | 'kind'>,
  object: MutableObject,
): void {
  void target;
  void object;
}
