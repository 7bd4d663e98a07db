// What each type and field means, for `kubectl explain`. The sentences are upstream's, so they are not part of this
// source: scripts/extract-descriptions.ts takes them from the development dependency @kubernetes/client-node into a
// build product, and this loader looks for it beside the bundle (or this file) and in the project's .cache folder.
// Where it is not found, documents simply have no descriptions.

import { readFileSync } from 'node:fs';

/** OpenAPI name → field name → description; the type's own stands under ''. */
export type Descriptions = Readonly<Record<string, Readonly<Record<string, string>>>>;

export const DESCRIPTIONS_FILE = 'descriptions.generated.json';

/** From dist/ and from src/api/openapi/. */
const PLACES = [
  `./${DESCRIPTIONS_FILE}`,
  `../.cache/${DESCRIPTIONS_FILE}`,
  `../../../.cache/${DESCRIPTIONS_FILE}`,
];

/** Reads the build product. Throws when a file is there and is not what it should be. */
export function loadDescriptions(): Descriptions {
  for (const place of PLACES) {
    let text: string;
    try {
      text = readFileSync(new URL(place, import.meta.url), 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
      throw error;
    }
    return JSON.parse(text) as Descriptions;
  }
  return {};
}
