// Where the native programs are (build/native), whether this code runs from src/ or from the bundle in dist/.

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { HostError } from './host-error.ts';

export function nativeProgram(name: 'bulkhead-host' | 'bulkhead-layer'): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const candidate = join(directory, 'build/native', name);
    if (existsSync(candidate)) return candidate;
    const parent = dirname(directory);
    if (parent === directory) break;
    directory = parent;
  }
  throw new HostError(
    'ENOENT',
    `find the program ${name}`,
    'it is not built; "npm start" or "npm run build" builds it',
  );
}
