// Real programs print the same bytes and end with the same status in the sandbox as under runc, which runs them on the
// host's kernel.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeBundle, type RunResult, runBundle } from './support/bundle.ts';
import { type ProgramCase, programCases } from './support/programs.ts';
import { debianRoot } from './support/roots.ts';

const sandbox = join(import.meta.dirname, '../../bin/bulkhead-sandbox');
const runc = '/usr/sbin/runc';
const reason =
  process.getuid?.() !== 0
    ? 'needs root'
    : existsSync(runc)
      ? false
      : 'needs runc, which is what programs are compared with';

/** Cases that are known to differ, and why. They are run all the same; one that passes must leave the list. */
const known: Readonly<Record<string, string>> = {
  'strace and gdb': "gdb says that it cannot read the vDSO's image; all else is the same",
};

describe('programs in the sandbox', { skip: reason }, () => {
  let root = '';
  let state = '';

  before(async () => {
    root = await debianRoot();
    state = await mkdtemp(join(tmpdir(), 'bulkhead-programs-'));
  });
  after(() => rm(state, { recursive: true, force: true }));

  async function run(one: ProgramCase, command: readonly [string, ...string[]]): Promise<RunResult> {
    await using bundle = await makeBundle({
      root,
      args: ['/bin/bash', '-c', one.script],
      ...(one.user === undefined ? {} : { user: one.user }),
    });
    return await runBundle(command, bundle, one.timeout ?? 120);
  }

  const only = process.env['PROGRAM'];
  for (const one of programCases.filter(
    ({ name, heavy }) =>
      (only === undefined || name.includes(only)) && (!heavy || process.env['HEAVY'] === '1'),
  )) {
    test(one.name, async (context) => {
      const expected = await run(one, [runc, '--root', join(state, 'runc')]);
      const actual = await run(one, [sandbox, '--root', join(state, 'sandbox')]);
      const why = known[one.name];
      const same = actual.status === expected.status && actual.stdout === expected.stdout;
      if (why !== undefined) {
        context.diagnostic(`known to differ: ${why}`);
        assert.ok(!same, 'it is the same now: take it off the list');
        return;
      }
      assert.equal(actual.stdout, expected.stdout, actual.stderr);
      assert.equal(actual.status, expected.status, actual.stderr);
      assert.ok(!actual.timedOut, 'it took too long');
      context.diagnostic(
        `runc ${expected.milliseconds.toFixed()} ms, sandbox ${actual.milliseconds.toFixed()} ms`,
      );
    });
  }
});
