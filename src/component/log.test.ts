import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';
import { test } from 'node:test';

const skip = existsSync('/dev/full') ? false : 'needs /dev/full';

test('a log on a full disk does not end the process that writes it', { skip }, () => {
  const full = openSync('/dev/full', 'w');
  try {
    const program = `
      import { createLogger } from ${JSON.stringify(new URL('log.ts', import.meta.url).href)};
      const logger = createLogger();
      for (let line = 0; line < 3000; line++) logger.error({ filler: 'x'.repeat(1000) }, 'lost');
      setImmediate(() => process.stdout.write('alive'));
    `;
    const { status, stdout } = spawnSync(process.execPath, ['--input-type=module', '--eval', program], {
      stdio: ['ignore', 'pipe', full],
      encoding: 'utf8',
    });
    assert.deepEqual([status, stdout], [0, 'alive']);
  } finally {
    closeSync(full);
  }
});
