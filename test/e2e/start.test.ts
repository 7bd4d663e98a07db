// `npm start` as a newcomer sees it, on a fresh state directory: what it says, twice.

import assert from 'node:assert/strict';
import { cpSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { kubectl } from './support/kubectl.ts';
import { command, type MachineCluster, machineCluster } from './support/machine.ts';

const skip = process.getuid?.() === 0 ? false : 'real containers need root';
const packages = fileURLToPath(new URL('../../.cache/packages', import.meta.url));
const example = fileURLToPath(new URL('../../examples/primes', import.meta.url));
/** The example's port may be taken at the machine's own address, by the example itself. */
const RANGE = '10.249.254.0/28';

describe('bulkhead start', { skip }, () => {
  let cluster: MachineCluster;
  const start = async (): Promise<string> => {
    const { code, stdout, stderr } = await command(
      ...['start', ...cluster.options, '--load-balancer-range', RANGE],
    );
    assert.equal(code, 0, stdout + stderr);
    return stderr + stdout;
  };

  before(async () => {
    cluster = await machineCluster(3);
    // What another test or a run before has downloaded.
    if (existsSync(packages)) cpSync(packages, join(cluster.state, 'packages'), { recursive: true });
  });
  after(() => cluster[Symbol.asyncDispose]());

  it('brings up the cluster and the example, shows its page, its names and a rolling update without a failure', async () => {
    const said = await start();
    assert.match(said, /✔ cluster ready at https:/);
    assert.match(said, /✔ image localhost\/demo\/web:debian made from nginx /);
    assert.match(said, /✔ web has a load balancer at http:\/\/10\.249\.254\.\d+:8080\//);
    assert.match(said, /Hello from web-.*, version 1\./);
    assert.match(said, /\$ kubectl .* -- wget -qO- http:\/\/web:8080\/\n +Hello from web-/);
    assert.match(said, /✔ web rolled in .* [1-9]\d* requests, 0 failed/);
    assert.match(said, /Welcome to version 2\./);
    assert.match(said, /^cache +Bound /m);
    if (!existsSync(packages)) cpSync(join(cluster.state, 'packages'), packages, { recursive: true });
  });

  it('goes on with what is there the second time, and rolls back', async () => {
    const said = await start();
    assert.match(said, /✔ the cluster runs already/);
    assert.match(said, /are here/);
    assert.match(said, /0 failed/);
    assert.match(said, /Hello from web-.*, version 1\./);
  });

  it('has applied the files as kubectl does, which finds nothing to change', async () => {
    const k = kubectl(cluster.kubeconfig);
    const { code, stdout, stderr } = await k.run(['apply', '-f', example]);
    assert.deepEqual([code, stderr], [0, '']);
    assert.deepEqual(
      stdout.split('\n').filter((line) => line !== '' && !line.endsWith(' unchanged')),
      [],
    );
  });
});
