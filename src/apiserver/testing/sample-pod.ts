// A pod as tests of admission send it.

import type { Pod } from '../../api/types/core-v1.ts';

/** A pod `web` in `shop` with one container. */
export const samplePod = (
  spec: object = {},
  metadata: object = {},
): { metadata: { name: string } & Record<string, unknown>; spec: object } => ({
  metadata: { name: 'web', namespace: 'shop', ...metadata },
  spec: { containers: [{ name: 'app', image: 'x' }], ...spec },
});

export const specOf = (object: unknown): Pod['spec'] => (object as Pod).spec;
