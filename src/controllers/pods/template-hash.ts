// Short names for pod templates and other values: the hash that ReplicaSets and revisions carry in name and label.

import type { PodTemplateSpec } from '../../api/types/core-v1.ts';

/**
 * A short name for a template: FNV-1a over its JSON with sorted keys, in letters and digits that spell no words.
 * `collisions` makes another name when one was taken by a different template.
 */
export function templateHash(template: PodTemplateSpec, collisions: number | undefined): string {
  return valueHash(template, collisions);
}

/** The same for any JSON value. */
export function valueHash(value: unknown, collisions: number | undefined): string {
  let hash = 0x811c9dc5;
  const mix = (byte: number): void => {
    hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  };
  for (const byte of Buffer.from(canonical(value))) mix(byte);
  if (collisions !== undefined) for (const byte of Buffer.from(`#${collisions}`)) mix(byte);
  return safeEncode(String(hash));
}

const SAFE = 'bcdfghjklmnpqrstvwxz2456789';

function safeEncode(text: string): string {
  return [...text].map((character) => SAFE[character.charCodeAt(0) % SAFE.length]).join('');
}

/** JSON with sorted keys: equal for equal values. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}
