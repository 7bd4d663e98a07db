// What the rest of the product may know of the sandbox: where its runtime command is.

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * The path of bin/bulkhead-sandbox, an OCI runtime, whether this code runs from src/ or from the bundle in dist/.
 * undefined: this machine's processor has no sandbox, or it is not built.
 */
export function sandboxRuntime(): string | undefined {
  if (process.arch !== 'x64' || process.platform !== 'linux') return undefined;
  let directory = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const command = join(directory, 'bin/bulkhead-sandbox');
    if (existsSync(command))
      return existsSync(join(directory, 'dist/bulkhead-sandbox/start.cjs')) ? command : undefined;
    const above = dirname(directory);
    if (above === directory) return undefined;
    directory = above;
  }
}
